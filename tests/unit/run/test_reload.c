/* The reloader turn by turn: what it does with a content, with what it watches, and with what
 * fails on the way. Plugins, shelf, watch, trials and decks are the test's. */
#include "core/base/clock.h"
#include "core/plugin/remote.h"
#include "core/run/reload.h"
#include "tests/unit/run/hand_plugins.h"

#define LONG_AGO ((exj_nsec)20 * 1000 * 1000 * 1000)

static exj_engine e;
static exj_guest a = { .i = { .id = "acme.a", .version = "1", .sha256 = SHA_A, .path = "/p/a.so",
                              .lane = EXJ_LANE_IN_PROCESS } };
static exj_guest b = { .i = { .id = "acme.a", .version = "2", .sha256 = SHA_B, .path = "/p/a.so",
                              .flags = EXJ_FLAG_REPLAYABLE } };
static char name[] = "a.so";
static struct executor x = { .name = name };
static exj_err err;
static json_t *report;

/* What is done, and asked. */
static struct {
    exj_code history_rc, trial_rc, deck_rc, may_rc, save_rc, load_rc, watch_rc;
    exj_code after_trial; /* why a candidate is not loaded once more after its trial */
    bool no_report, hosts, saves;
    unsigned rows, trials, decks, turns, instances, carried, retired, held;
    char told[400], config[100], again[100], loaded[8];
    const char *changed; /* this file, in the first turn */
    int ms;              /* how long it would have slept first */
} did;

/* ---- plugins, beside hand_plugins.h ---------------------------------------------------------- */

const char *exj_plugin_event_word(exj_plugin_event event)
{
    static const char *const words[] = { "loaded", "refused", "trial", "canary", "current",
                                         "rolled-back", "drained", "retired" };

    return words[event];
}

exj_code exj_shelf_history_add(exj_shelf *s, const exj_shelf_event *event, exj_err *ret_err)
{
    size_t n = strlen(did.told);

    (void)s;
    snprintf(did.told + n, sizeof(did.told) - n, "%s%s%s;", exj_plugin_event_word(event->event),
             event->why ? " " : "", event->why ? event->why : "");
    return did.history_rc ? exj_err_set(ret_err, did.history_rc, "disk full") : EXJ_OK;
}

exj_code exj_shelf_prune(exj_shelf *s, unsigned newest, size_t *ret_removed, exj_err *ret_err)
{
    (void)s, (void)newest, (void)ret_removed, (void)ret_err;
    return EXJ_OK;
}

bool exj_registry_has_hosts(const exj_registry *r)
{
    (void)r;
    return did.hosts;
}

size_t exj_registry_hold_current(exj_registry *r, const char *path, exj_guest **ret, size_t room)
{
    (void)r, (void)path;
    cr_assert_gt(room, 0);
    if (!did.held)
        return 0;
    a.held++;
    ret[0] = &a;
    return 1;
}

exj_code exj_guest_may_start(const exj_guest *g, exj_err *ret_err)
{
    (void)g;
    return did.may_rc ? exj_err_set(ret_err, did.may_rc, "in quarantine") : EXJ_OK;
}

bool exj_guest_saves_state(const exj_guest *g)
{
    (void)g;
    return did.saves;
}

uint32_t exj_guest_state_version(const exj_guest *g)
{
    (void)g;
    return 1;
}

exj_code exj_instance_save_state(exj_instance *i, exj_buf *ret, exj_err *ret_err)
{
    (void)i, (void)ret;
    return did.save_rc ? exj_err_set(ret_err, did.save_rc, "not saved") : EXJ_OK;
}

exj_code exj_instance_load_state(exj_instance *i, uint32_t from_version, exj_slice state,
                                 exj_err *ret_err)
{
    (void)i, (void)from_version, (void)state;
    did.carried++;
    return did.load_rc ? exj_err_set(ret_err, did.load_rc, "not loaded") : EXJ_OK;
}

void exj_remote_retire(exj_instance *i)
{
    (void)i;
    did.retired++;
}

char *exj_plugin_source(const char *path)
{
    return strcmp(path, "/gone") ? strdup(path) : NULL;
}

void exj_watch_again(exj_watch *w, const char *path)
{
    (void)w;
    snprintf(did.again, sizeof(did.again), "%s", path);
}

void exj_file_changes_release(exj_file_changes *c)
{
    free(c->items);
}

/* In the last turn the engine stops. */
exj_code exj_watch_wait(exj_watch *w, int timeout_ms, exj_file_changes *ret, exj_err *ret_err)
{
    (void)w;
    if (!did.turns--) {
        e.stopping = true;
        return EXJ_OK;
    }
    did.ms = timeout_ms;
    if (did.changed) {
        ret->items = calloc(1, sizeof(*ret->items));
        ret->items[0] = (exj_file_change){ .news = EXJ_FILE_CHANGED,
                                           .path = (char *)(uintptr_t)did.changed };
        ret->len = 1;
        did.changed = NULL;
    }
    return did.watch_rc ? exj_err_set(ret_err, did.watch_rc, "no descriptors") : EXJ_OK;
}

/* ---- the rest of core/run -------------------------------------------------------------------- */

exj_series *exj_metric_series(exj_metrics *m, exj_metric which, exj_slice l1, exj_slice l2)
{
    (void)m, (void)l1, (void)l2;
    cr_expect_eq(which, EXJ_M_RELOADS);
    return NULL;
}

void exj_series_add(exj_series *s, double by)
{
    (void)s, (void)by;
}

void exj_run_record_draining(const exj_engine *engine, const struct deck *d)
{
    (void)engine, (void)d;
}

void exj_run_record_gone(void *engine, const exj_guest_info *i)
{
    (void)engine, (void)i;
}

void exj_run_look_again_locked(exj_engine *engine)
{
    engine->look_now = true;
}

bool exj_run_wait_locked(exj_engine *engine, pthread_cond_t *c, exj_nsec until)
{
    (void)engine, (void)c, (void)until;
    return false; /* the time is over */
}

void exj_reload_obey(exj_engine *engine, bool stopping)
{
    (void)engine, (void)stopping;
}

exj_code exj_run_trial(exj_engine *engine, struct executor *who, exj_guest *guest,
                       exj_slice config, unsigned rows, json_t **ret_report, exj_err *ret_err)
{
    (void)engine, (void)who, (void)guest;
    did.trials++;
    did.rows = rows;
    snprintf(did.config, sizeof(did.config), "%.*s", (int)config.n, config.p);
    *ret_report = did.no_report ? NULL : json_object();
    if (did.after_trial)
        plug.candidate_rc = did.after_trial;
    return did.trial_rc ? exj_err_set(ret_err, did.trial_rc, "it fails") : EXJ_OK;
}

exj_code exj_deck_new(exj_engine *engine, exj_guest *guest, struct deck **ret, exj_err *ret_err)
{
    struct deck *d;

    (void)engine;
    if (did.deck_rc) {
        exj_guest_release(guest);
        return exj_err_set(ret_err, did.deck_rc, "no deck");
    }
    d = calloc(1, sizeof(*d));
    d->guest = guest;
    d->instances_len = did.instances;
    d->instances = calloc(8, sizeof(*d->instances));
    did.decks++;
    *ret = d;
    return EXJ_OK;
}

void exj_deck_free(struct deck *d)
{
    if (!d)
        return;
    exj_guest_release(d->guest);
    free(d->instances);
    free(d);
    did.decks--;
}

exj_code exj_run_find_guest(exj_engine *engine, const struct executor *who, exj_guest **ret,
                            exj_err *ret_err)
{
    return exj_registry_find_lane(engine->o.plugins, who->name, EXJ_KIND_GRAPH_ENGINE, who->lane,
                                  ret, ret_err);
}

/* ---- fixture --------------------------------------------------------------------------------- */

static struct deck *deck_of(exj_guest *g)
{
    struct deck *d = NULL;

    g->held++;
    cr_assert_eq(exj_deck_new(&e, g, &d, NULL), EXJ_OK);
    return d;
}

static void make(void)
{
    pthread_mutex_init(&e.mu, NULL);
    e.o.shelf = HAND_SHELF;
    e.o.trial_rows = 7;
    e.o.drain_ms = 1000;
    did.instances = 2;
    plug.found = &a;
    plug.candidate = &b;
    plug.files[0] = (struct hand_file){ "/p/a.so", SHA_B };
    plug.files[1] = (struct hand_file){ "/p/same.so", SHA_A };
    x.current = deck_of(&a);
    x.traffic_next_at = exj_clock_mono_ns();
    e.executors = &x;
    exj_log_divert(hand_plugins_log);
}

static void end(void)
{
    struct deck *all[] = { x.current, x.canary, x.before };

    for (int k = 0; k < 3; k++)
        exj_deck_free(all[k]);
    while (x.old) {
        struct deck *next = x.old->next;

        exj_deck_free(x.old);
        x.old = next;
    }
    cr_expect_eq(did.decks, 0);
    cr_expect_eq(a.held, 0);
    cr_expect_eq(b.held, 0);
    cr_expect_not(x.held); /* its rows go on whatever came of it */
    json_decref(report);
}

TestSuite(reload, .init = make, .fini = end);

static exj_code take(const char *path)
{
    exj_code rc;

    json_decref(report);
    report = NULL;
    exj_err_clear(&err);
    did.told[0] = '\0';
    rc = exj_reload_take(&e, &x, path, false, &report, &err);
    cr_expect_eq(rc, err.code);
    return rc;
}

static void turn(void)
{
    did.told[0] = plug.said[0] = '\0';
    e.stopping = false;
    did.turns = 1;
    cr_assert_null(exj_run_reloader(&e));
}

/* ---- a new content --------------------------------------------------------------------------- */

Test(reload, a_new_content_takes_all_rows_and_what_was_before_waits)
{
    cr_expect_eq(take(NULL), EXJ_OK, "%s", err.text);
    cr_expect_eq(x.current->guest, &b);
    cr_expect_eq(x.before->guest, &a);
    cr_expect_eq(did.rows, 7); /* it is REPLAYABLE */
    cr_expect_str_eq(did.told, "trial passed;current;");
    cr_expect_str_eq(json_string_value(json_object_get(report, "version")), "2");
    cr_expect_eq(plug.keeps, 1);
}

Test(reload, nothing_stops_a_switch_that_cannot_be_written_down)
{
    static const exj_code codes[] = { EXJ_IO, EXJ_UNSUPPORTED, EXJ_CONFLICT };

    did.no_report = true;
    b.i.flags = 0;
    for (int k = 0; k < 3; k++) {
        plug.keep_rc = codes[k];
        plug.said[0] = '\0';
        cr_expect_eq(take(NULL), EXJ_OK, "%s", err.text);
        cr_expect_eq(did.rows, 0);
        cr_expect_null(report);
        cr_expect_eq(strstr(plug.said, "no copy is kept for a roll back: no room") != NULL, k == 0,
                     "%s", plug.said);
        exj_deck_free(x.current);
        x.current = x.before;
        x.before = NULL;
    }
    did.history_rc = EXJ_IO;
    exj_reload_tell(&e, &a, EXJ_PE_REFUSED, "no", NULL);
    cr_expect_str_eq(plug.said, "history of acme.a: disk full");
}

Test(reload, a_refusal_is_told_and_remembered)
{
    plug.candidate_rc = EXJ_INVALID;
    cr_expect_eq(take(NULL), EXJ_INVALID);
    cr_expect_str_eq(did.told, "refused cannot be loaded;");
    cr_expect_str_eq(x.refusal.text, "cannot be loaded");
    cr_expect_eq(take("/p/none.so"), EXJ_IO); /* it cannot even be read */
    cr_expect_str_eq(did.told, "refused /p/none.so: no such file;");
    cr_expect_eq(x.current->guest, &a);
    cr_expect_null(x.before);
}

Test(reload, the_content_that_runs_is_no_news)
{
    exj_err_set(&x.refusal, EXJ_INVALID, "of before");
    cr_expect_eq(take("/p/same.so"), EXJ_CONFLICT);
    cr_expect_eq(x.refusal.code, EXJ_INVALID); /* its own file still holds what was refused */
    plug.files[0].sha256 = SHA_A;
    cr_expect_eq(take(NULL), EXJ_CONFLICT);
    cr_expect_eq(x.refusal.code, EXJ_OK);
    cr_expect_eq(did.trials, 0);
}

Test(reload, a_pin_holds_new_contents_back)
{
    plug.pinned = SHA_A;
    cr_expect_eq(take(NULL), EXJ_REFUSED);
    cr_expect(strstr(err.text, "`plugin unpin acme.a`"), "%s", err.text);
    plug.pinned_rc = EXJ_IO;
    cr_expect_eq(take(NULL), EXJ_IO);
    cr_expect_eq(did.trials, 0);
    plug.pinned_rc = EXJ_OK;
    plug.pinned = SHA_B;
    cr_expect_eq(take(NULL), EXJ_OK, "%s", err.text);
}

Test(reload, what_fails_after_its_trial_is_not_installed)
{
    did.after_trial = EXJ_INVALID;
    cr_expect_eq(take(NULL), EXJ_INVALID);
    did.after_trial = plug.candidate_rc = EXJ_OK;
    did.deck_rc = EXJ_NOMEM;
    cr_expect_eq(take(NULL), EXJ_NOMEM);
    cr_expect_eq(x.current->guest, &a);
    cr_expect_eq(did.trials, 2);
}

Test(reload, a_newer_content_takes_the_share_of_one_not_judged_yet)
{
    x.canary = deck_of(&b);
    plug.files[0].sha256 = SHA_C;
    x.traffic_at = exj_clock_mono_ns();
    x.current->count.calls = 1000;
    e.o.canary_percent = 10;
    cr_expect_eq(take(NULL), EXJ_OK, "%s", err.text);
    cr_expect_not_null(x.old);
    cr_expect_not_null(x.canary);
    cr_expect_neq(x.canary, x.old);
    cr_expect_eq(x.share, 10);
    e.o.canary_percent = 100; /* all rows are no share */
    cr_expect_eq(take("/p/a.so"), EXJ_OK, "%s", err.text);
    cr_expect_null(x.canary);
    cr_expect_eq(x.current->guest, &b);
}

/* ---- state ----------------------------------------------------------------------------------- */

Test(reload, state_is_carried_from_each_instance_or_nothing_is_switched)
{
    did.saves = true;
    did.save_rc = EXJ_INVALID;
    cr_expect_eq(take(NULL), EXJ_INVALID);
    cr_expect_eq(did.carried, 0);
    did.save_rc = EXJ_OK;
    did.load_rc = EXJ_INVALID;
    cr_expect_eq(take(NULL), EXJ_INVALID);
    cr_expect_eq(did.carried, 1);
    did.load_rc = EXJ_OK;
    did.instances = 1;
    cr_expect_eq(take(NULL), EXJ_INVALID);
    cr_expect(strstr(err.text, "2 instances have one"), "%s", err.text);
    x.current->users = 1;
    cr_expect_eq(take(NULL), EXJ_BUSY);
    x.current->users = 0;
    cr_expect_eq(x.current->guest, &a);
    cr_expect_eq(did.carried, 1);
    did.instances = 3; /* more than had one: the others begin anew */
    cr_expect_eq(take(NULL), EXJ_OK, "%s", err.text);
    cr_expect_eq(did.carried, 3);
}

/* ---- changed files --------------------------------------------------------------------------- */

Test(reload, what_is_busy_is_taken_again)
{
    did.saves = true;
    x.current->users = 1;
    did.changed = "/p/a.so";
    turn();
    cr_expect(strstr(plug.said, "it is tried again"), "%s", plug.said);
    cr_expect_eq(x.refusal.code, EXJ_BUSY);
    cr_expect_gt(x.again_at, exj_clock_mono_ns());
    x.current->users = 0;
    turn();
    cr_expect_eq(did.ms, 1000);
    cr_expect_eq(x.current->guest, &a); /* not before its time */
    x.again_at = 1;
    turn();
    cr_expect_eq(x.current->guest, &b);
    cr_expect_eq(x.again_at, 0);
}

/* By its name, or as another name of the same file. */
Test(reload, a_change_is_that_of_the_file_an_executor_runs)
{
    static const struct {
        const char *runs, *changed;
        bool same;
    } cases[] = { { "/dev/null", "/dev/null", true },  { "/dev/null", "/dev/./null", true },
                  { "/dev/null", "/dev/zero", false }, { "/", "/proc", false },
                  { "/none.so", "/dev/null", false },  { "/dev/null", "/none.so", false },
                  { "/none.so", "/gone", false } };

    plug.candidate_rc = EXJ_INVALID;
    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        a.i.path = cases[k].runs;
        plug.files[0] = (struct hand_file){ cases[k].runs, SHA_B };
        did.changed = cases[k].changed;
        turn();
        cr_expect_eq(strcmp(did.told, "refused cannot be loaded;") == 0, cases[k].same, "%zu: %s",
                     k, did.told);
    }
}

/* ---- executors that cannot be used ----------------------------------------------------------- */

static void lose(exj_code code, const char *text)
{
    exj_deck_free(x.current);
    x.current = NULL;
    exj_err_clear(&x.error);
    exj_err_set(&x.error, code, "%s", text);
    x.traffic_at = x.traffic_next_at = exj_clock_mono_ns() - LONG_AGO;
}

Test(reload, a_refused_plugin_is_looked_at_every_second)
{
    lose(EXJ_REFUSED, "no plugin a.so");
    plug.find_rc = EXJ_REFUSED;
    turn();
    cr_expect_eq(did.ms, 1000);
    cr_expect_eq(x.turn, 0); /* the same as before: nobody is told */
    plug.find_rc = EXJ_OK;
    turn();
    cr_expect_null(x.current); /* it was looked at just now */
    x.traffic_at -= LONG_AGO;
    did.deck_rc = EXJ_INVALID;
    turn();
    cr_expect_str_eq(x.error.text, "no deck");
    cr_expect_eq(x.turn, 1);
    turn(); /* of another kind: only its file can help */
    cr_expect_eq(x.turn, 1);
    did.deck_rc = EXJ_OK;
    turn();
    cr_expect_null(x.current);
    did.changed = "/anything";
    turn();
    cr_assert_not_null(x.current);
    cr_expect_eq(x.error.code, EXJ_OK);
}

Test(reload, a_stopped_plugin_runs_again_when_it_may)
{
    x.stopped = true;
    did.may_rc = EXJ_REFUSED;
    turn();
    cr_expect_eq(did.ms, 100);
    cr_expect_str_eq(x.error.text, "in quarantine");
    cr_expect_eq(x.turn, 1);
    turn();
    cr_expect_eq(x.turn, 1);
    did.may_rc = EXJ_OK;
    turn();
    cr_expect_not(x.stopped);
    cr_expect_eq(x.error.code, EXJ_OK);
    cr_expect_eq(x.turn, 2);
}

/* ---- watching -------------------------------------------------------------------------------- */

Test(reload, a_share_that_is_good_gets_all_rows_unless_another_content_is_pinned)
{
    for (int k = 0; k < 4; k++) {
        plug.pinned = k == 1 ? SHA_A : k == 2 ? SHA_B : NULL;
        plug.pinned_rc = k == 3 ? EXJ_IO : EXJ_OK;
        x.canary = deck_of(&b);
        x.canary->count.calls = 60;
        x.canary_at = exj_clock_mono_ns();
        turn();
        cr_expect_null(x.canary);
        cr_expect_eq(x.current->guest, k == 1 ? &a : &b, "%d", k);
        cr_expect_eq(strstr(did.told, "the plugin was pinned meanwhile") != NULL, k == 1);
        exj_deck_free(x.current);
        x.current = deck_of(&a);
    }
}

Test(reload, a_share_that_is_bad_or_may_not_run_ends)
{
    x.canary = deck_of(&b);
    x.canary->count = (exj_canary_count){ 20, 20 };
    x.canary_at = exj_clock_mono_ns();
    x.current->count.calls = 100;
    x.traffic_next_at -= LONG_AGO;
    turn();
    cr_expect(strstr(did.told, "20 of 20 rows failed; before: 0 of 100"), "%s", did.told);
    cr_expect_null(x.canary);
    cr_expect_eq(x.traffic_next.calls, 100);
    x.canary = deck_of(&b);
    x.canary_at = exj_clock_mono_ns();
    turn();
    cr_expect_not_null(x.canary); /* nothing is known yet */
    did.may_rc = EXJ_REFUSED;
    turn();
    cr_expect(strstr(did.told, "rolled-back in quarantine;"), "%s", did.told);
    cr_expect_null(x.canary);
}

Test(reload, what_is_gone_is_told_with_what_stays_of_it)
{
    plug.swept = &b;
    b.i.state = EXJ_GEN_PINNED;
    turn();
    cr_expect_str_eq(did.told, "retired stays mapped: it cannot be closed;");
    b.i.state = EXJ_GEN_RETIRED;
    turn();
    cr_expect_str_eq(did.told, "retired;");
    plug.swept = NULL;
    did.watch_rc = EXJ_IO;
    turn();
    cr_expect_str_eq(plug.said, "plugin folders: no descriptors");
}

/* ---- resolvers ------------------------------------------------------------------------------- */

static char config_own[] = "{\"own\":1}", config_other[] = "{\"other\":1}";
static char by_id[] = "acme.a", by_path[] = "/p/a.so", by_file[] = "a.so", by_stem[] = "a",
            other[] = "b", longer[] = "a.s", file_only[] = "a.so";

static void source_changes(void)
{
    did.config[0] = did.again[0] = '\0';
    did.held = 1;
    did.changed = "/p/other.so"; /* no executor's */
    turn();
}

Test(reload, a_resolver_is_tried_with_the_config_of_its_matrix)
{
    static const struct {
        char *called;
        bool meant;
    } cases[] = { { by_id, true },  { by_path, true }, { by_file, true },
                  { by_stem, true }, { other, false },  { longer, false } };
    struct matrix m[4] = { { .next = &m[1] }, { .next = &m[2] }, { .next = &m[3] } };

    e.matrices = &m[0];
    m[1].config.resolver = by_id; /* without a config */
    m[3].config.resolver = by_id;
    m[3].config.resolver_config = config_other;
    m[2].config.resolver_config = config_own;
    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        m[2].config.resolver = cases[k].called;
        source_changes();
        cr_expect_str_eq(did.config, cases[k].meant ? config_own : config_other, "%zu", k);
        cr_expect_str_eq(did.told, "current;");
    }
    e.matrices = NULL;
    source_changes();
    cr_expect_str_eq(did.config, "{}");
    a.i.path = "a.so"; /* without a folder */
    plug.files[2] = (struct hand_file){ file_only, SHA_B };
    m[2].config.resolver = by_stem;
    m[3].config.resolver_config = NULL;
    e.matrices = &m[0];
    source_changes();
    cr_expect_str_eq(did.config, "{}");
    e.matrices = NULL;
}

Test(reload, a_resolver_proves_itself_in_a_host_first)
{
    did.hosts = true;
    source_changes();
    cr_expect_eq(did.trials, 2);
    cr_expect_str_eq(did.told, "current;");
    a.i.lane = EXJ_LANE_HOST; /* it runs in one anyhow */
    source_changes();
    cr_expect_eq(did.trials, 3);
    did.trial_rc = EXJ_INVALID;
    a.i.lane = EXJ_LANE_IN_PROCESS;
    source_changes();
    cr_expect_eq(did.trials, 4);
    cr_expect_str_eq(did.told, "refused it fails;");
}

Test(reload, a_resolver_that_is_not_taken_says_why_or_comes_again)
{
    static const exj_code silent[] = { EXJ_BUSY, EXJ_CONFLICT, EXJ_CANCELLED };

    for (int k = 0; k < 3; k++) {
        plug.candidate_rc = silent[k];
        source_changes();
        cr_expect_str_empty(did.told);
        cr_expect_str_eq(did.again, k == 0 ? "/p/other.so" : "");
    }
    plug.candidate_rc = EXJ_INVALID;
    source_changes();
    cr_expect_str_eq(did.told, "refused cannot be loaded;");
    plug.pinned = SHA_A;
    plug.files[0].path = NULL; /* and the file is gone */
    source_changes();
    cr_expect_str_eq(did.told, "refused /p/a.so: no such file;");
    cr_expect_eq(did.trials, 0);
}
