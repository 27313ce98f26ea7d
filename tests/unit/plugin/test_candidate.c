/* Candidates: a content is loaded beside what runs, once, or refused and nothing stays of it.
 * The linker takes the functions below for those that read, load and free a file. */
#include "core/plugin/registry.h"
#include "tests/support/fault.h"
#include "tests/unit/plugin/folder.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static exj_registry r;
static exj_plugin_file running, other;
static exj_guest current, guests[3];
static char a[] = "a", b[] = "b";
static exj_err err;
/* What the file holds, and what comes of loading it. */
static const char *content = SHA_B;
static exj_code load_rc;
static size_t holds;
static const char *copy;
static unsigned loads, freed;

exj_code exj_probe_file(const char *path, exj_probe *ret, exj_err *e)
{
    (void)path, (void)e;
    *ret = (exj_probe){ .bytes = 1 };
    snprintf(ret->sha256, sizeof(ret->sha256), "%s", content);
    return EXJ_OK;
}

exj_code exj_registry_load(exj_registry *reg, exj_plugin_file *f, const char *from, exj_err *e)
{
    (void)reg, (void)from;
    loads++;
    f->copy = copy ? strdup(copy) : NULL;
    if (load_rc)
        return exj_err_set(e, load_rc, "it is not loaded");
    f->loaded = true;
    f->guests = guests;
    f->guests_len = holds;
    snprintf(f->probe.sha256, sizeof(f->probe.sha256), "%s", content);
    return EXJ_OK;
}

void exj_plugin_file_free(exj_plugin_file *f)
{
    if (!f)
        return;
    freed++;
    free(f->source);
    free(f->copy);
    free(f);
}

const char *exj_kind_name(uint32_t kind)
{
    return kind == EXJ_KIND_GRAPH_ENGINE ? "engine" : "another";
}

void exj_guest_describe(const exj_guest *g, exj_guest_info *ret)
{
    *ret = (exj_guest_info){ .id = g->id };
}

static void make(void)
{
    pthread_mutex_init(&r.mu, NULL);
    pthread_mutex_init(&r.loading, NULL);
    running = (exj_plugin_file){ .source = strdup("/p/a.so"), .loaded = true, .guests = &current,
                                 .guests_len = 1, .lane = EXJ_LANE_IN_PROCESS, .number = 7,
                                 .state = EXJ_GEN_CURRENT };
    current = (exj_guest){ .registry = &r, .file = &running, .id = a, .path = "/p/a.so",
                           .sha256 = SHA_A, .lane = EXJ_LANE_IN_PROCESS,
                           .vt.kind = EXJ_KIND_GRAPH_ENGINE };
    r.files = &running;
    /* Of the same id but another kind; of another id; the one that is looked for. */
    guests[0] = guests[1] = guests[2] = current;
    guests[0].vt.kind = EXJ_KIND_GRAPH_ENGINE + 1;
    guests[1].id = b;
    holds = 3;
}

static void end(void)
{
    free(running.source);
    free(other.source);
}

TestSuite(candidate, .init = make, .fini = end);

static exj_code load(exj_lane lane, exj_guest **ret)
{
    *ret = NULL;
    exj_err_clear(&err);
    return exj_guest_candidate(&current, NULL, lane, ret, &err);
}

static void drop_newest(void)
{
    exj_plugin_file *f = r.files;

    r.files = f->next;
    exj_plugin_file_free(f);
}

Test(candidate, the_same_plugin_of_the_new_content_is_held)
{
    exj_guest *g, *again;

    cr_assert_eq(load(EXJ_LANE_DEFAULT, &g), EXJ_OK, "%s", err.text);
    cr_expect_eq(g, &guests[2]);
    cr_assert_eq(r.files->next, &running);
    cr_expect_eq(r.files->state, EXJ_GEN_TRIAL);
    cr_expect_eq(r.files->lane, EXJ_LANE_IN_PROCESS);
    cr_expect_eq(r.files->holds, 1);
    cr_assert_eq(load(EXJ_LANE_DEFAULT, &again), EXJ_OK); /* it is there already */
    cr_expect_eq(again, g);
    cr_expect_eq(r.files->holds, 2);
    cr_expect_eq(loads, 1);
    drop_newest();
}

Test(candidate, the_running_content_is_none_on_the_same_lane)
{
    exj_guest *g;

    content = SHA_A;
    cr_expect_eq(load(EXJ_LANE_IN_PROCESS, &g), EXJ_CONFLICT);
    cr_expect_str_eq(err.text, "/p/a.so: the content is that of generation 7");
    cr_expect_null(g);
    cr_expect_eq(loads, 0);
    cr_assert_eq(load(EXJ_LANE_HOST, &g), EXJ_OK, "%s", err.text);
    cr_expect_eq(r.files->lane, EXJ_LANE_HOST);
    drop_newest();
}

/* A generation is taken once more only if it is this content, of this source, on this lane, and
 * alive. */
Test(candidate, another_generation_is_not_taken_for_it)
{
    exj_guest *g;

    for (unsigned odd = 0; odd < 5; odd++) {
        other = (exj_plugin_file){ .source = strdup(odd == 0 ? "/p/b.so" : "/p/a.so"),
                                   .loaded = odd != 1, .guests = guests, .guests_len = 3,
                                   .lane = odd == 2 ? EXJ_LANE_HOST : EXJ_LANE_IN_PROCESS,
                                   .state = odd == 3 ? EXJ_GEN_PINNED : EXJ_GEN_DRAINING };
        snprintf(other.probe.sha256, sizeof(other.probe.sha256), "%s", odd == 4 ? SHA_A : SHA_B);
        other.next = &running;
        r.files = &other;
        cr_assert_eq(load(EXJ_LANE_DEFAULT, &g), EXJ_OK, "%s", err.text);
        cr_expect_eq(other.holds, 0, "%u", odd);
        cr_expect_eq(loads, odd + 1);
        drop_newest();
        free(other.source);
    }
    other.source = NULL;
}

Test(candidate, a_file_without_the_plugin_is_dropped_with_its_copy)
{
    struct folder f = folder_make();
    char copied[200];
    exj_guest *g;

    snprintf(copied, sizeof(copied), "%s", in(&f, "copy.so"));
    put(copied, "x");
    copy = copied;
    holds = 2;
    cr_expect_eq(load(EXJ_LANE_DEFAULT, &g), EXJ_INVALID);
    cr_expect_str_eq(err.text, "/p/a.so: no longer holds the plugin a (engine)");
    cr_expect_null(g);
    cr_expect_eq(r.files, &running);
    cr_expect_eq(freed, 1);
    cr_expect_neq(access(copied, F_OK), 0);
    folder_drop(&f);
}

/* What is alive already has lost the plugin, too: nothing of it is dropped. */
Test(candidate, a_living_file_without_the_plugin_stays)
{
    exj_guest *g;

    other = (exj_plugin_file){ .source = strdup("/p/a.so"), .loaded = true, .guests = guests,
                               .guests_len = 2, .lane = EXJ_LANE_IN_PROCESS };
    snprintf(other.probe.sha256, sizeof(other.probe.sha256), "%s", SHA_B);
    other.next = &running;
    r.files = &other;
    cr_expect_eq(load(EXJ_LANE_DEFAULT, &g), EXJ_INVALID);
    cr_expect_eq(other.holds, 0);
    cr_expect_eq(r.files, &other);
    cr_expect_eq(freed, 0);
}

Test(candidate, a_file_that_is_refused_leaves_nothing)
{
    exj_guest *g;

    load_rc = EXJ_REFUSED; /* before it was copied */
    cr_expect_eq(load(EXJ_LANE_DEFAULT, &g), EXJ_REFUSED);
    cr_expect_str_eq(err.text, "it is not loaded");
    cr_expect_null(g);
    cr_expect_eq(r.files, &running);
    cr_expect_eq(freed, 1);
}

Test(candidate, no_more_are_mapped_than_may_stay_so)
{
    exj_guest *g;

    r.pinned = EXJ_PINNED_MAX;
    cr_expect_eq(load(EXJ_LANE_DEFAULT, &g), EXJ_FULL);
    cr_expect(strstr(err.text, "32 old versions stay mapped"), "%s", err.text);
    cr_expect(strstr(err.text, "restart the worker"), "%s", err.text);
    cr_expect_eq(loads, 0);
    cr_expect_eq(load(EXJ_LANE_HOST, &g), EXJ_OK, "%s", err.text); /* that maps nothing here */
    drop_newest();
    r.pinned--;
    cr_expect_eq(load(EXJ_LANE_DEFAULT, &g), EXJ_OK, "%s", err.text);
    drop_newest();
}

Test(candidate, lack_of_memory_leaves_nothing)
{
    exj_guest *g;

    for (long n = 1;; n++) {
        exj_code rc;

        loads = 0;
        exj_fault_arm(n);
        rc = load(EXJ_LANE_DEFAULT, &g);
        if (exj_fault_disarm() < n) {
            cr_expect_eq(rc, EXJ_OK);
            cr_expect_eq(n, 3); /* the file, its name */
            break;
        }
        cr_expect_eq(rc, EXJ_NOMEM);
        cr_expect_str_eq(err.text, "/p/a.so: out of memory");
        cr_expect_null(g);
        cr_expect_eq(loads, 0);
        cr_expect_eq(r.files, &running);
    }
    drop_newest();
}
