/* --record: what a daemon did is in its history, whole, and each operation has an end. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/history/event.h"
#include "tests/support/support.h"

static exj_daemon d;
static char path[300];

static void setup(void)
{
    exj_daemon_init(&d);
    snprintf(path, sizeof(path), "%s", exj_tmp_path(&d.tmp, "history.jsonl"));
    exj_daemon_set(&d, "EXELLIX_JOBS_RECORD", "%s", path);
    exj_daemon_set(&d, "EXELLIX_PLUGIN_RECORD", "%s", path);
}

static void teardown(void)
{
    exj_daemon_release(&d);
    exj_support_clean();
}

TestSuite(record, .init = setup, .fini = teardown, .timeout = 100);

#define IDS 100000

struct seen {
    size_t lines, ok[EXJ_HIST_OP_COUNT], effects;
    size_t executed, started, gone; /* by plugin hosts; hosts, as the worker says */
    int64_t completed;
    uint64_t incarnation;    /* of the worker that began last */
    unsigned char open[IDS]; /* operations of the worker that have begun and not ended */
};

static void look(struct seen *s, const exj_hist_event *e)
{
    s->lines++;
    cr_assert_gt(e->t, 0);
    if (exj_slice_is(e->actor, "host")) {
        cr_assert(e->op == EXJ_HIST_HOST || e->op == EXJ_HIST_EXECUTE);
        cr_assert(e->op == EXJ_HIST_HOST || (e->job.n > 4 && e->token == 1));
        s->executed += e->op == EXJ_HIST_EXECUTE && e->phase == EXJ_HIST_OK;
        return;
    }
    if (exj_slice_is(e->actor, "executor")) {
        cr_assert_eq(e->op, EXJ_HIST_EFFECT);
        cr_assert_eq(e->job.n, strlen("m||g|rN") + (e->job.n > strlen("m||g|rN")));
        cr_assert_eq(e->token, 1);
        cr_assert_eq(e->attempt, 1);
        s->effects += e->phase == EXJ_HIST_OK;
        return;
    }
    cr_assert(exj_slice_is(e->actor, "worker"));
    if (s->incarnation != e->incarnation)
        memset(s->open, 0, sizeof(s->open));
    s->incarnation = e->incarnation;
    cr_assert_lt(e->id, IDS);
    if (e->phase == EXJ_HIST_OK)
        s->ok[e->op]++;
    if (e->id)
        s->open[e->id] = e->phase == EXJ_HIST_INVOKE;
    if (e->op == EXJ_HIST_COMPLETE && e->phase == EXJ_HIST_OK) {
        s->completed += exj_slice_is(e->to, "completed");
        cr_assert_eq(e->digest.n, EXJ_HIST_DIGEST_BYTES - 1);
    }
    if (e->op == EXJ_HIST_HOST) {
        cr_assert_gt(e->value, 0);
        s->started += exj_slice_is(e->outcome, "start");
        s->gone += exj_slice_is(e->outcome, "exit");
    }
    if (e->op == EXJ_HIST_EXECUTE) {
        cr_assert_gt(e->row, 0);
        cr_assert_gt(e->token, 0);
        cr_assert_gt(e->generation, 0);
    }
}

static void read_history(struct seen *ret)
{
    char texts[EXJ_HIST_LINE_MAX];
    size_t n, from = 0;
    char *all = exj_slurp(path, &n);
    exj_err err = { 0 };

    memset(ret, 0, sizeof(*ret));
    while (from < n) {
        const char *end = memchr(all + from, '\n', n - from);
        exj_hist_event e;

        cr_assert_not_null(end, "the last line has no end: %s", all + from);
        cr_assert_eq(exj_hist_parse((exj_slice){ all + from, (size_t)(end - all) - from }, &e,
                                    texts, &err), EXJ_OK, "%s: %s", err.text, all + from);
        look(ret, &e);
        from = (size_t)(end - all) + 1;
    }
    free(all);
}

static struct seen seen;

static void work(int records)
{
    char body[200];

    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "event", "{}", "");
    for (int i = 0; i < records; i++) {
        snprintf(body, sizeof(body), "{\"id\":\"r%d\",\"record\":{\"x\":%d}}", i, i);
        cr_assert_lt(exj_daemon_call(&d, "POST", "/v1/matrices/m/events", body, NULL), 300);
    }
    cr_assert(exj_daemon_wait_done(&d, "m", records, 30000));
}

Test(record, has_each_operation_from_its_beginning_to_its_end)
{
    cr_assert(exj_daemon_start(&d));
    work(20);
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    read_history(&seen);
    cr_expect_eq(seen.ok[EXJ_HIST_CORE], 2, "start and stop");
    cr_expect_eq(seen.ok[EXJ_HIST_ENQUEUE], 20);
    cr_expect_geq(seen.ok[EXJ_HIST_CLAIM], 20);
    cr_expect_eq(seen.ok[EXJ_HIST_EXECUTE], 20);
    cr_expect_eq(seen.completed, 20);
    cr_expect_eq(seen.effects, 20);
    cr_expect_geq(seen.ok[EXJ_HIST_GENERATION], 1);
    for (size_t id = 0; id < IDS; id++)
        cr_assert_not(seen.open[id], "operation %zu has no end", id);
}

Test(record, goes_on_in_the_same_file_after_a_kill)
{
    size_t before;

    cr_assert(exj_daemon_start(&d));
    work(5);
    exj_prog_signal(&d.prog, 9);
    exj_prog_wait(&d.prog, 10000);
    read_history(&seen);
    before = seen.lines;
    cr_expect_eq(seen.completed, 5);
    cr_expect_eq(seen.ok[EXJ_HIST_CORE], 1);
    cr_assert(exj_daemon_start(&d));
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    read_history(&seen);
    cr_expect_gt(seen.lines, before);
    cr_expect_eq(seen.ok[EXJ_HIST_CORE], 3);
}

/* On each lane a plugin host adds what it executed, by its own account. */
static void expect_host(const char *lane)
{
    exj_daemon_set(&d, "EXELLIX_JOBS_PLUGINS_ISOLATION", "%s", lane);
    cr_assert(exj_daemon_start(&d));
    work(10);
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    read_history(&seen);
    cr_expect_eq(seen.completed, 10);
    cr_expect_eq(seen.executed, 10, "%s: the hosts executed %zu rows", lane, seen.executed);
    cr_expect_geq(seen.started, 1);
    cr_expect_eq(seen.started, seen.gone, "%s: a host has no end", lane);
}

Test(record, has_what_a_plugin_host_executed)
{
    expect_host("host");
}

Test(record, has_what_a_sandboxed_plugin_host_executed)
{
    expect_host("sandbox");
}

/* A history that cannot be written costs no row; one that cannot be opened ends the start. */
Test(record, never_stops_the_work)
{
    char *said;

    exj_daemon_set(&d, "EXELLIX_JOBS_RECORD", "/dev/full");
    cr_assert(exj_daemon_start(&d));
    work(5);
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    said = exj_slurp(d.prog.err, NULL);
    cr_expect(strstr(said, "the history has holes"), "%s", said);
    free(said);
    exj_daemon_set(&d, "EXELLIX_JOBS_RECORD", "/nowhere/at/all");
    exj_daemon_spawn(&d);
    cr_expect_neq(exj_prog_wait(&d.prog, 20000), 0);
    said = exj_slurp(d.prog.err, NULL);
    cr_expect(strstr(said, "/nowhere/at/all"), "%s", said);
    free(said);
}
