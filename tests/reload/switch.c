/* reload_switch SCENARIO LANE - one part of the life of a plugin's version at a time. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/job/canary.h"
#include "tests/reload/rig.h"

static rig r;
static exj_err err;

/* ---- 1: canary --------------------------------------------------------------------------------- */

static void canary(const char *lane)
{
    size_t n, to_new = 0, in_share = 0, was = 0;
    ended *e;

    rig_begin(&r, lane, "plain1", 2000);
    rig_start_done(&r, 2000);
    rig_drop(&r, "plain2", "sw", 0);
    rig_reload(&r);
    rig_wait_state(&r, "canary");
    rig_feed(&r, 2300); /* some 30 for the share: not proven */
    rig_wait_done(&r, 2300);
    n = rig_rows(&r, "m", &e);
    for (size_t k = 0; k < n; k++) {
        bool takes = exj_canary_takes(exj_slice_of(e[k].id), 10);
        bool is_new = !strcmp(e[k].version, "2.0.0");

        if (!is_new && was == 0 && k < 2000)
            continue;
        in_share += takes;
        to_new += is_new;
        CHECK(is_new == takes);
    }
    free(e);
    printf("%zu rows of the share, %zu on the new version\n", in_share, to_new);
    CHECK(to_new > 10 && to_new < 60);
    rig_feed(&r, 4000);
    rig_wait_done(&r, 4000);
    rig_wait_version(&r, "2.0.0");
    rig_wait_calm(&r);
    rig_check_all_good(&r, 4000);
    CHECK(rig_has_event(&r, "canary", "2.0.0", NULL) && rig_has_event(&r, "current", "2.0.0", NULL));
    WAIT(rig_has_event(&r, "drained", "1.0.0", NULL) &&
         rig_has_event(&r, "retired", "1.0.0", NULL));
    WAIT(rig_generations(&r) == 1);
    CHECK(exj_registry_pinned(r.o.plugins) == 0);
    rig_end(&r);
}

/* The window in which calls are counted ended just now: there is traffic all the same. */
static void canary_window(const char *lane)
{
    json_t *report = NULL;

    rig_begin(&r, lane, "plain1", 0);
    r.o.trial_rows = 0;
    rig_start(&r);
    rig_drop(&r, "plain1", "sw", 1); /* current at once: its window begins now */
    rig_reload(&r);
    {
        exj_nsec began = exj_clock_mono_ns();
        uint64_t rows = 0;

        while (exj_clock_mono_ns() - began < (exj_nsec)10300 * 1000000) {
            rig_feed(&r, rows += 20);
            rig_wait_done(&r, rows);
            poll(NULL, 0, 100);
        }
    }
    rig_drop(&r, "plain2", "sw", 0);
    CHECK(rig_order(&r, EXJ_ORDER_RELOAD, NULL, &report, &err) == EXJ_OK);
    CHECK(!strcmp(json_string_value(json_object_get(report, "state")), "canary"));
    json_decref(report);
    rig_end(&r);
}

/* The file is what runs again before the canary was judged. */
static void canary_taken_away(const char *lane)
{
    exj_err why;
    json_t *x;

    rig_begin(&r, lane, "plain1", 2000);
    rig_start_done(&r, 2000);
    rig_drop(&r, "plain2", "sw", 0);
    rig_reload(&r);
    rig_wait_state(&r, "canary");
    CHECK(rig_refused(&r, &why) == EXJ_CONFLICT); /* the same content: it has its share already */
    CHECK(rig_count_events(&r, "canary") == 1);
    rig_drop(&r, "plain1", "sw", 0);
    CHECK(rig_refused(&r, &why) == EXJ_CONFLICT);
    rig_feed(&r, 3000);
    rig_wait_done(&r, 3000);
    rig_wait_calm(&r);
    x = rig_executor(&r);
    CHECK(!strcmp(json_string_value(json_object_get(json_object_get(x, "current"), "version")),
                  "1.0.0"));
    json_decref(x);
    rig_check_all_good(&r, 3000);
    WAIT(rig_generations(&r) == 1);
    rig_end(&r);
}

/* ---- 2: roll back by itself --------------------------------------------------------------------- */

static void check_rolled_back(uint64_t rows, uint64_t from)
{
    size_t n, again = 0;
    ended *e;
    json_t *x;

    rig_wait_version(&r, "1.0.0");
    rig_wait_done(&r, rows);
    rig_wait_calm(&r);
    n = rig_rows(&r, "m", &e);
    CHECK(n == rows);
    for (size_t k = 0; k < n; k++) {
        CHECK(e[k].status == EXJ_COMPLETED && !strcmp(e[k].version, "1.0.0"));
        again += e[k].attempts > 1;
        CHECK(k >= from || e[k].attempts == 1);
    }
    printf("%zu rows were tried again\n", again);
    CHECK(again >= 3);
    free(e);
    x = rig_executor(&r);
    CHECK(strstr(json_string_value(json_object_get(x, "refusal")), "rows failed"));
    json_decref(x);
    CHECK(rig_has_event(&r, "rolled-back", "3.0.0", "rows failed"));
    WAIT(rig_generations(&r) == 1);
}

static void back_canary(const char *lane)
{
    rig_begin(&r, lane, "plain1", 2000);
    r.o.trial_rows = 0;
    rig_start_done(&r, 2000);
    rig_drop(&r, "fails_rows", "sw", 0);
    rig_reload(&r);
    rig_wait_state(&r, "canary");
    rig_feed(&r, 2200);
    check_rolled_back(2200, 2000);
    rig_end(&r);
}

static void back_idle(const char *lane)
{
    exj_err why;
    json_t *x;

    rig_begin(&r, lane, "plain1", 30);
    r.o.trial_rows = 0;
    rig_start_done(&r, 30);
    rig_drop(&r, "fails_rows", "sw", 0);
    rig_reload(&r);
    rig_wait_state(&r, "watched");
    rig_feed(&r, 60);
    check_rolled_back(60, 30);
    /* What was there is there again: nothing is refused any more. */
    rig_drop(&r, "plain1", "sw", 0);
    CHECK(rig_refused(&r, &why) == EXJ_CONFLICT);
    x = rig_executor(&r);
    CHECK(json_is_null(json_object_get(x, "refusal")));
    json_decref(x);
    rig_end(&r);
}

/* ---- 3: state ------------------------------------------------------------------------------------ */

static int by_who(const void *a, const void *b)
{
    const ended *x = a, *y = b;

    if (x->who != y->who)
        return x->who < y->who ? -1 : 1;
    return (x->count > y->count) - (x->count < y->count);
}

/* Every instance counted its rows without a gap: none began anew. */
static void check_counts(uint64_t rows)
{
    ended *e;
    size_t n = rig_rows(&r, "m", &e);

    CHECK(n == rows);
    qsort(e, n, sizeof(*e), by_who);
    for (size_t k = 0; k < n; k++)
        CHECK(e[k].status == EXJ_COMPLETED && e[k].attempts == 1 &&
              e[k].count == (k && e[k - 1].who == e[k].who ? e[k - 1].count + 1 : 1));
    CHECK(n && e[0].who != e[n - 1].who); /* or it proves little */
    free(e);
}

static void state(const char *lane)
{
    static const char *const files[] = { "state1", "state2" };
    uint64_t rows = 500;
    exj_err why;
    json_t *x;

    rig_begin(&r, lane, "state1", rows);
    rig_start_done(&r, 100);
    for (unsigned n = 1; n <= 8; n++) {
        rig_drop(&r, files[n > 3], "sw", n);
        rig_reload(&r);
        rig_feed(&r, rows += 300);
    }
    rig_wait_done(&r, rows);
    rig_wait_version(&r, "2.0.0");
    /* One that cannot take the state is refused, and nothing is lost. */
    rig_drop(&r, "state_refuses", "sw", 0);
    CHECK(rig_refused(&r, &why) == EXJ_INVALID && strstr(why.text, "load_state"));
    rig_feed(&r, rows += 200);
    rig_wait_done(&r, rows);
    x = rig_executor(&r);
    CHECK(strstr(json_string_value(json_object_get(x, "refusal")), "load_state"));
    CHECK(!strcmp(json_string_value(json_object_get(x, "state")), "watched") ||
          !strcmp(json_string_value(json_object_get(x, "state")), "current"));
    json_decref(x);
    rig_wait_calm(&r);
    check_counts(rows);
    WAIT(rig_generations(&r) == 1);
    rig_end(&r);
}

/* A row that does not end while rows are held. */
static void state_busy(const char *lane)
{
    char payload[400];
    exj_err why;
    exj_nsec began;

    rig_begin(&r, lane, "state1", 40);
    r.o.drain_ms = 400;
    r.o.trial_rows = 0; /* the long one would be done again */
    rig_start_done(&r, 40);
    snprintf(payload, sizeof(payload), "\"count\":1,\"prefix\":\"long\",\"record\":{\"hold\":\"%s\"}",
             rig_fifo(&r, "gate"));
    rig_matrix(&r, "long", "g", payload);
    rig_wait_running(&r, 1);
    rig_drop(&r, "state2", "sw", 0);
    began = exj_clock_mono_ns();
    CHECK(rig_refused(&r, &why) == EXJ_BUSY);
    printf("%s, after %lld ms\n", why.text, (long long)((exj_clock_mono_ns() - began) / 1000000));
    CHECK(strstr(why.text, "state cannot be carried over") && strstr(why.text, "400 ms"));
    rig_feed(&r, 80); /* rows go on */
    rig_wait_done(&r, 80);
    rig_let(&r, "gate", 1);
    rig_wait_done(&r, 81);
    rig_reload(&r);
    rig_feed(&r, 120);
    rig_wait_done(&r, 121);
    rig_wait_version(&r, "2.0.0");
    {
        ended *e;
        size_t n = rig_rows(&r, "m", &e);

        CHECK(n == 120);
        for (size_t k = 0; k < n; k++)
            CHECK(e[k].status == EXJ_COMPLETED && e[k].attempts == 1);
        free(e);
    }
    rig_end(&r);
}

/* ---- 4: kept copies ------------------------------------------------------------------------------ */

static void copy(const char *lane)
{
    char first[65], pinned[65];
    exj_err why;

    rig_begin(&r, lane, "plain1", 20);
    r.o.canary_percent = 0;
    rig_start_done(&r, 20);
    rig_sha(&r, "sw", first);
    rig_drop(&r, "plain2", "sw", 0);
    rig_reload(&r);
    rig_drop(&r, "other_answer", "sw", 0);
    rig_reload(&r);
    rig_wait_version(&r, "5.0.0");
    rig_feed(&r, 200); /* proven, so that kept copies are what leads back */
    rig_wait_done(&r, 200);
    rig_wait_calm(&r);
    CHECK(rig_order(&r, EXJ_ORDER_ROLL_BACK, NULL, NULL, &err) == EXJ_OK);
    rig_wait_version(&r, "2.0.0");
    CHECK(rig_refused(&r, &why) == EXJ_REFUSED && strstr(why.text, "pinned"));
    rig_feed(&r, 260);
    rig_wait_done(&r, 260);
    rig_wait_calm(&r);
    CHECK(rig_order(&r, EXJ_ORDER_ROLL_BACK, NULL, NULL, &err) == EXJ_OK);
    rig_wait_version(&r, "1.0.0");
    CHECK(exj_shelf_pinned(r.o.shelf, "sw", pinned, &err) == EXJ_OK && !strcmp(pinned, first));
    rig_wait_calm(&r);
    CHECK(rig_order(&r, EXJ_ORDER_ROLL_BACK, NULL, NULL, &why) == EXJ_CONFLICT);
    CHECK(exj_shelf_pinned(r.o.shelf, "sw", pinned, &err) == EXJ_OK && !strcmp(pinned, first));

    /* The folder holds 5.0.0; what is pinned runs also after a restart. */
    rig_end_engine(&r);
    rig_feed(&r, 300);
    rig_start(&r);
    rig_wait_version(&r, "1.0.0");
    rig_wait_done(&r, 40);
    WAIT(rig_generations(&r) == 1);
    CHECK(rig_refused(&r, &why) == EXJ_REFUSED && strstr(why.text, "pinned"));
    CHECK(exj_shelf_unpin(r.o.shelf, "sw", &err) == EXJ_OK);
    rig_reload(&r);
    rig_wait_version(&r, "5.0.0");
    rig_end_engine(&r);

    /* And the way back is known to the next one. */
    rig_feed(&r, 340);
    rig_start(&r);
    rig_wait_version(&r, "5.0.0");
    CHECK(rig_order(&r, EXJ_ORDER_ROLL_BACK, NULL, NULL, &err) == EXJ_OK);
    rig_wait_version(&r, "1.0.0");
    rig_wait_done(&r, 40);
    rig_end_engine(&r);
    {
        ended *e;
        size_t n = rig_rows(&r, "m", &e);

        CHECK(n == 340);
        for (size_t k = 0; k < n; k++)
            CHECK(e[k].status == EXJ_COMPLETED && e[k].attempts == 1);
        for (size_t k = 260; k < 300; k++) /* of the restart with a pin */
            CHECK(!strcmp(e[k].version, "1.0.0"));
        free(e);
    }
    rig_end(&r);
}

/* The copy of what is pinned is lost: nothing else runs in its place. */
static void copy_lost(const char *lane)
{
    char sha[65], *path;
    json_t *x;

    rig_begin(&r, lane, "plain1", 20);
    rig_start_done(&r, 20);
    rig_sha(&r, "sw", sha);
    CHECK(exj_shelf_pin(r.o.shelf, "sw", sha, exj_clock_wall_ms(), &err) == EXJ_OK);
    path = exj_shelf_path_of(r.o.shelf, sha);
    CHECK(path && unlink(path) == 0);
    free(path);
    rig_end_engine(&r);
    rig_drop(&r, "plain2", "sw", 0);
    rig_start(&r);
    x = rig_executor(&r);
    CHECK(strstr(json_string_value(json_object_get(x, "error")), "pinned"));
    json_decref(x);
    rig_drop(&r, "plain1", "sw", 0); /* in place again */
    rig_reload(&r);
    rig_wait_version(&r, "1.0.0");
    rig_end(&r);
}

/* ---- 5: trial ------------------------------------------------------------------------------------ */

static json_int_t number(const json_t *report, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(report, "trial"), name));
}

static void trial(const char *lane)
{
    json_t *report = NULL, *shown;
    exj_engine_counts c;
    exj_err why;

    rig_begin(&r, lane, "plain1", 50);
    rig_start_done(&r, 50);
    rig_drop(&r, "plain2", "sw", 0);
    CHECK(rig_order(&r, EXJ_ORDER_TRIAL, NULL, &report, &err) == EXJ_OK);
    CHECK(number(report, "rows") == 3 && number(report, "same") == 3 &&
          number(report, "different") == 0);
    json_decref(report);
    rig_drop(&r, "other_answer", "sw", 0);
    CHECK(rig_order(&r, EXJ_ORDER_TRIAL, NULL, &report, &err) == EXJ_OK);
    CHECK(number(report, "different") == 3);
    shown = json_array_get(json_object_get(json_object_get(report, "trial"), "differences"), 0);
    CHECK(strstr(json_string_value(json_object_get(shown, "before")), "same") &&
          strstr(json_string_value(json_object_get(shown, "after")), "other"));
    json_decref(report);
    rig_wait_version(&r, "1.0.0"); /* only tried */

    rig_drop(&r, "picky", "sw", 0);
    CHECK(rig_refused(&r, &why) == EXJ_INVALID);
    CHECK(strstr(why.text, "was completed before and fails now"));
    if (r.ro.lane == EXJ_LANE_HOST || r.ro.remote) {
        rig_drop(&r, "crashes", "sw", 0);
        CHECK(rig_refused(&r, &why) == EXJ_INVALID && strstr(why.text, "SIGSEGV"));
    }
    CHECK(rig_count_events(&r, "refused") == 2);
    rig_feed(&r, 100);
    rig_wait_done(&r, 100);
    rig_check_all_good(&r, 100);
    exj_engine_get_counts(r.engine, &c);
    CHECK(c.retried == 0 && c.claimed == 100);
    WAIT(rig_generations(&r) == 1);
    rig_end(&r);
}

/* ---- 6: a resolver -------------------------------------------------------------------------------- */

static bool has_row(const char *id)
{
    ended *e;
    size_t n = rig_rows(&r, "of", &e);
    bool has = false;

    for (size_t k = 0; k < n; k++)
        has |= !strcmp(e[k].id, id);
    free(e);
    return has;
}

static bool source_refused(const char *why)
{
    json_t *list = NULL, *e;
    bool has = false;
    size_t i;

    CHECK(exj_shelf_history(r.o.shelf, "sw-source", 0, &list, &err) == EXJ_OK);
    json_array_foreach(list, i, e)
        has |= !strcmp(json_string_value(json_object_get(e, "event")), "refused") &&
               strstr(json_string_value(json_object_get(e, "why")), why);
    json_decref(list);
    return has;
}

static bool count_source(void *user, const exj_guest_info *i)
{
    *(unsigned *)user += i->loaded && !strcmp(i->id, "sw-source");
    return true;
}

static unsigned sources(void)
{
    unsigned n = 0;

    exj_registry_each(r.o.plugins, false, count_source, &n, NULL);
    return n;
}

static void resolver(const char *lane)
{
    rig_begin(&r, lane, "plain1", 0);
    r.o.manual_reload = false;
    rig_drop(&r, "src1", "source", 0);
    put(r.store, EXJ_DOC_MATRIX, "of",
        "{\"matrixCatalogId\":\"of\",\"payload\":{\"graphs\":[\"g\"],\"maxAttempts\":3,"
        "\"pollWhenEmptySeconds\":0.1,\"dataSource\":{\"kind\":\"record\","
        "\"resolver\":\"sw-source\",\"config\":{\"key\":1}}}}");
    rig_start(&r);
    WAIT(has_row("of-1"));
    rig_drop(&r, "src2", "source", 0);
    WAIT(has_row("of-2"));
    WAIT(sources() == 1); /* the old one is gone */
    rig_drop(&r, "src_bad_test", "source", 0);
    WAIT(source_refused("self-test"));
    rig_drop(&r, "src_no_create", "source", 0);
    WAIT(source_refused("create"));
    rig_drop(&r, "src_crashes_test", "source", 0);
    WAIT(source_refused("SIGSEGV"));
    rig_drop(&r, "src3", "source", 0);
    WAIT(has_row("of-3"));
    WAIT(sources() == 1);
    rig_end(&r);
}

/* ---- 7: draining ---------------------------------------------------------------------------------- */

static void drain(const char *lane)
{
    bool remote = !strcmp(lane, "host");
    char payload[400];
    json_t *list = NULL;
    ended *e;
    size_t n;

    rig_begin(&r, lane, "plain1", 20);
    r.o.drain_ms = 600;
    r.o.canary_percent = 0;
    rig_start_done(&r, 20);
    snprintf(payload, sizeof(payload), "\"count\":1,\"prefix\":\"long\",\"record\":{\"hold\":\"%s\"}",
             rig_fifo(&r, "gate"));
    rig_matrix(&r, "long", "g", payload);
    rig_wait_running(&r, 1);
    rig_drop(&r, "plain2", "sw", 0);
    rig_reload(&r);
    rig_wait_version(&r, "2.0.0");
    for (uint64_t rows = 40; rows < 100; rows += 20) {
        rig_feed(&r, rows);
        rig_wait_done(&r, rows);
    }
    CHECK(!rig_has_event(&r, "drained", "1.0.0", NULL));
    if (remote) {
        /* Its host is ended, and the row begins again on the new version. */
        rig_wait_running(&r, 1);
        rig_wait_calm(&r);
        CHECK(rig_has_event(&r, "drained", "1.0.0", NULL));
        CHECK(exj_shelf_quarantine_list(r.o.shelf, &list, &err) == EXJ_OK);
        CHECK(json_array_size(list) == 0); /* it was we who ended it: no crash of the plugin's */
        json_decref(list);
        rig_let(&r, "gate", 1);
    } else {
        json_t *x;

        rig_feed(&r, 200);
        rig_wait_done(&r, 200);
        rig_wait_state(&r, "current");
        poll(NULL, 0, 900); /* longer than drain_ms: it stays */
        x = rig_executor(&r);
        CHECK(json_array_size(json_object_get(x, "draining")) == 1);
        json_decref(x);
        rig_let(&r, "gate", 1);
        rig_wait_calm(&r);
    }
    rig_wait_done(&r, remote ? 81 : 201);
    n = rig_rows(&r, "long", &e);
    CHECK(n == 1 && e[0].status == EXJ_COMPLETED);
    CHECK(!strcmp(e[0].version, remote ? "2.0.0" : "1.0.0"));
    CHECK(e[0].attempts == (remote ? 2u : 1u));
    free(e);
    WAIT(rig_generations(&r) == 1);
    rig_end(&r);
}

/* -------------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(const char *lane);
    } scenarios[] = {
        { "canary", canary },           { "canary_window", canary_window },
        { "canary_taken_away", canary_taken_away },
        { "back_canary", back_canary }, { "back_idle", back_idle },
        { "state", state },             { "state_busy", state_busy },
        { "copy", copy },               { "copy_lost", copy_lost },
        { "trial", trial },             { "resolver", resolver },
        { "drain", drain },             { "stop_trial", rig_stop_trial },
        { "stop_replay", rig_stop_replay }, { "stop_hold", rig_stop_hold },
        { "stop_canary", rig_stop_canary }, { "gone", rig_gone },
        { "watch", rig_watch },             { "config_map", rig_config_map },
    };

    for (size_t k = 0; argc == 3 && k < sizeof(scenarios) / sizeof(*scenarios); k++)
        if (!strcmp(argv[1], scenarios[k].name)) {
            scenarios[k].run(argv[2]);
            return 0;
        }
    fprintf(stderr, "usage: reload_switch SCENARIO in-process|host\n");
    return 2;
}
