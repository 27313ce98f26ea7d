/* Decks and executors: how many instances are made, what a pinned plugin runs, and that nothing
 * is left behind when there is no memory. Plugins and shelf are the test's. */
#include "tests/support/fault.h"
#include "tests/unit/run/hand_plugins.h"

static exj_engine e;
static exj_guest a = { .i = { .id = "acme.a", .version = "1", .sha256 = SHA_A, .path = "/p/a.so",
                              .copy = "/run/1.so" } };
static exj_guest b = { .i = { .id = "acme.a", .version = "2", .sha256 = SHA_B, .path = "/p/a.so",
                              .copy = "/run/2.so" } };
static exj_err err;
static unsigned first;

/* Of other files of core/run. */
void exj_run_record_ready(const exj_engine *engine, const struct deck *d)
{
    (void)engine, (void)d;
}

void exj_run_record_gone(void *engine, const exj_guest_info *i)
{
    (void)engine, (void)i;
}

void exj_run_note_first(exj_engine *engine, const struct executor *x)
{
    (void)engine, (void)x;
    first++;
}

static void make(void)
{
    pthread_mutex_init(&e.mu, NULL);
    e.workers_len = 3;
    e.o.shelf = HAND_SHELF;
    plug.found = &a;
    plug.candidate = &b;
    exj_log_divert(hand_plugins_log);
}

static void end(void)
{
    cr_expect_eq(plug.instances, 0);
    cr_expect_eq(a.held, 0);
    cr_expect_eq(b.held, 0);
    cr_expect_null(e.executors);
}

TestSuite(deck, .init = make, .fini = end);

static struct deck *deck_of(exj_guest *g)
{
    struct deck *d = NULL;

    g->held++;
    cr_assert_eq(exj_deck_new(&e, g, &d, &err), EXJ_OK, "%s", err.text);
    return d;
}

/* ---- decks ----------------------------------------------------------------------------------- */

static void expect_instances(exj_lane lane, uint32_t flags, uint32_t wanted, bool own_control)
{
    struct deck *d;

    a.i.lane = lane;
    a.i.flags = flags;
    plug.created = 0;
    d = deck_of(&a);
    cr_expect_eq(d->instances_len, wanted);
    cr_expect_eq(plug.created, wanted + own_control);
    cr_expect_eq(d->control != d->instances[0], own_control);
    cr_expect_eq(d->remote, lane != EXJ_LANE_IN_PROCESS);
    cr_expect_str_eq(d->label, "acme.a 1");
    exj_deck_free(d);
    cr_expect_eq(plug.instances, 0);
}

Test(deck, what_is_concurrent_shares_one_instance)
{
    uint32_t both = EXJ_FLAG_CONCURRENT | EXJ_FLAG_ASYNC;

    expect_instances(EXJ_LANE_IN_PROCESS, 0, 3, true);
    expect_instances(EXJ_LANE_IN_PROCESS, EXJ_FLAG_CONCURRENT, 1, false);
    expect_instances(EXJ_LANE_IN_PROCESS, EXJ_FLAG_ASYNC, 3, true);
    expect_instances(EXJ_LANE_HOST, EXJ_FLAG_CONCURRENT, 3, true); /* a host each */
    expect_instances(EXJ_LANE_HOST, both, 1, false);
}

Test(deck, without_workers_there_is_one_for_models)
{
    struct deck *d;

    e.workers_len = 0;
    d = deck_of(&a);
    cr_expect_eq(d->instances_len, 0);
    cr_expect_not_null(d->control);
    exj_deck_free(d);
}

/* Three for the workers, then one for models. */
Test(deck, an_instance_that_cannot_be_made_takes_the_others_along)
{
    struct deck *d = NULL;

    for (unsigned most = 0; most < 4; most++) {
        plug.instances_most = most;
        a.held = 1;
        cr_expect_eq(exj_deck_new(&e, &a, &d, &err), EXJ_INVALID);
        cr_expect_str_eq(err.text, "create failed");
        cr_expect_null(d);
        cr_expect_eq(plug.instances, 0);
        cr_expect_eq(a.held, 0);
        exj_err_clear(&err);
    }
    exj_deck_free(NULL);
}

Test(deck, is_not_made_without_memory)
{
    for (long n = 1;; n++) {
        struct deck *d = NULL;
        exj_code rc;

        a.held = 1;
        exj_err_clear(&err);
        exj_fault_arm(n);
        rc = exj_deck_new(&e, &a, &d, &err);
        if (exj_fault_disarm() < n) {
            cr_expect_gt(n, 3);
            exj_deck_free(d);
            break;
        }
        cr_expect_eq(rc, EXJ_NOMEM, "allocation %ld", n);
        cr_expect_eq(err.code, EXJ_NOMEM);
        cr_expect_null(d);
        cr_expect_eq(plug.instances, 0);
        cr_expect_eq(a.held, 0);
    }
}

Test(deck, rows_are_counted_on_it_and_the_last_one_is_told)
{
    struct executor x = { .name = NULL };

    pthread_cond_init(&e.calm, NULL);
    cr_expect_null(exj_deck_take_locked(&x, EXJ_SLICE_LITERAL("r")));
    x.current = deck_of(&a);
    x.canary = deck_of(&b);
    cr_expect_eq(exj_deck_take_locked(&x, EXJ_SLICE_LITERAL("r")), x.current); /* share 0 */
    x.share = 100;
    cr_expect_eq(exj_deck_take_locked(&x, EXJ_SLICE_LITERAL("r")), x.canary);
    cr_expect_eq(exj_deck_take_locked(&x, EXJ_SLICE_LITERAL("s")), x.canary);
    cr_expect_eq(x.canary->users, 2);
    exj_deck_leave_locked(&e, x.canary);
    exj_deck_leave_locked(&e, x.canary);
    cr_expect_eq(x.canary->users, 0);
    cr_expect_eq(x.current->users, 1);
    exj_deck_free(x.current);
    exj_deck_free(x.canary);
}

/* ---- executors --------------------------------------------------------------------------- */

Test(deck, an_executor_takes_all_its_decks_along)
{
    struct executor *x = calloc(1, sizeof(*x));

    x->name = strdup("a");
    x->current = deck_of(&a);
    x->canary = deck_of(&b);
    x->before = deck_of(&a);
    x->old = deck_of(&a);
    x->old->next = deck_of(&b);
    exj_executor_free(x);
    exj_executor_free(NULL);
}

static void drop(void)
{
    while (e.executors) {
        struct executor *x = e.executors;

        e.executors = x->next;
        exj_executor_free(x);
    }
}

Test(deck, there_is_one_executor_a_name_and_lane)
{
    struct executor *x = exj_run_executor(&e, "a", EXJ_LANE_HOST);

    cr_assert_not_null(x);
    cr_expect(x->found);
    cr_expect_not_null(x->current);
    cr_expect_eq(first, 1);
    cr_expect_eq(exj_run_executor(&e, "a", EXJ_LANE_HOST), x);
    cr_expect_neq(exj_run_executor(&e, "a", EXJ_LANE_IN_PROCESS), x);
    cr_expect_neq(exj_run_executor(&e, "b", EXJ_LANE_HOST), x);
    cr_expect_eq(exj_run_executor(&e, "a", EXJ_LANE_HOST), x);
    cr_expect_eq(first, 3);
    drop();
}

Test(deck, an_executor_without_a_plugin_says_why)
{
    struct executor *x;

    plug.find_rc = EXJ_NOT_FOUND;
    x = exj_run_executor(&e, "a", EXJ_LANE_DEFAULT);
    cr_assert_not_null(x);
    cr_expect_not(x->found);
    cr_expect_null(x->current);
    cr_expect_eq(x->error.code, EXJ_NOT_FOUND);
    cr_expect_str_eq(plug.said, "executor a: no plugin a");
    drop();
}

Test(deck, lack_of_memory_is_no_judgement_of_a_plugin)
{
    for (long n = 1;; n++) {
        struct executor *x;

        exj_fault_arm(n);
        x = exj_run_executor(&e, "a", EXJ_LANE_DEFAULT);
        if (exj_fault_disarm() < n) {
            cr_expect_gt(n, 5);
            cr_assert_not_null(x);
            cr_expect_eq(x->error.code, EXJ_OK);
            break;
        }
        cr_expect_null(x, "allocation %ld", n);
        cr_expect_null(e.executors);
        cr_expect_eq(plug.instances, 0);
        cr_expect_eq(a.held, 0);
    }
    drop();
}

/* ---- pins ------------------------------------------------------------------------------------ */

static exj_code find(exj_guest **ret)
{
    static char name[] = "a";
    struct executor x = { .name = name };

    *ret = NULL;
    exj_err_clear(&err);
    plug.candidate_path[0] = '\0';
    return exj_run_find_guest(&e, &x, ret, &err);
}

Test(deck, what_is_not_pinned_runs_as_its_file_is)
{
    exj_guest *g;

    cr_expect_eq(find(&g), EXJ_OK);
    cr_expect_eq(g, &a);
    plug.pinned = SHA_A;
    cr_expect_eq(find(&g), EXJ_OK);
    cr_expect_eq(g, &a);
    plug.pinned = SHA_B;
    e.o.shelf = NULL; /* nothing is pinned where nothing is remembered */
    cr_expect_eq(find(&g), EXJ_OK);
    cr_expect_eq(g, &a);
    e.o.shelf = HAND_SHELF;
    a.i.copy = NULL; /* part of the program */
    cr_expect_eq(find(&g), EXJ_OK);
    cr_expect_eq(g, &a);
    cr_expect_str_empty(plug.candidate_path);
    a.held -= 4;
    plug.find_rc = EXJ_NOT_FOUND;
    cr_expect_eq(find(&g), EXJ_NOT_FOUND);
    cr_expect_null(g);
}

Test(deck, what_is_pinned_runs_from_its_copy)
{
    exj_guest *g;

    plug.pinned = SHA_B;
    plug.kept = "/kept/b.so";
    plug.files[0] = (struct hand_file){ "/kept/b.so", SHA_B };
    cr_expect_eq(find(&g), EXJ_OK, "%s", err.text);
    cr_expect_eq(g, &b);
    cr_expect_str_eq(plug.candidate_path, "/kept/b.so");
    cr_expect_eq(b.i.state, EXJ_GEN_CURRENT);
    cr_expect_eq(a.held, 0);
    cr_expect_eq(plug.sweeps, 1);
    b.held--;
}

/* The file was put in place after what was found had been loaded. */
Test(deck, what_is_pinned_runs_from_its_file_when_the_copy_is_damaged)
{
    exj_guest *g;

    plug.pinned = SHA_B;
    plug.kept = "/kept/b.so";
    plug.files[0] = (struct hand_file){ "/kept/b.so", SHA_C };
    plug.files[1] = (struct hand_file){ "/p/a.so", SHA_B };
    cr_expect_eq(find(&g), EXJ_OK, "%s", err.text);
    cr_expect_eq(g, &b);
    cr_expect_str_eq(plug.candidate_path, "/p/a.so");
    b.held--;
}

static void expect_refusal(const char *text)
{
    exj_guest *g;

    cr_expect_eq(find(&g), EXJ_REFUSED);
    cr_expect(strstr(err.text, text), "%s", err.text);
    cr_expect_eq(a.held, 0);
    cr_expect_eq(b.held, 0);
}

Test(deck, nothing_runs_in_place_of_what_is_pinned)
{
    plug.pinned = SHA_B;
    expect_refusal("plugin acme.a is pinned to the content bbbbbbbbbbbb");
    cr_expect(strstr(err.text, "`plugin unpin acme.a`"), "%s", err.text);
    plug.kept = "/kept/b.so"; /* and no such file */
    expect_refusal("no whole copy is kept");
    cr_expect_str_empty(plug.candidate_path);
    plug.files[0] = (struct hand_file){ "/kept/b.so", SHA_B };
    plug.candidate_rc = EXJ_REFUSED;
    expect_refusal("plugin acme.a is pinned: cannot be loaded");
    plug.candidate_rc = EXJ_OK;
    plug.pinned_rc = EXJ_IO;
    expect_refusal("plugin acme.a is pinned: the pin of acme.a cannot be read");
}
