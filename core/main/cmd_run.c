/* run: the work that is there, then the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/main/bar.h"
#include "core/main/worker.h"

#define SLICE_NS 200000000LL /* five times a second */

struct outcome {
    exj_engine_counts counts;
    double seconds;
    bool interrupted;
    bool healthy;
    char sick[EXJ_ERR_TEXT_BYTES]; /* when not healthy: the part that fails */
};

/* Log lines would tear the bar: only what needs attention, unless one asked for more. */
static void quiet_logs(const exj_settings *s)
{
    if (s->at[EXJ_SET_LOG_LEVEL].origin == EXJ_FROM_DEFAULT)
        exj_log_setup(EXJ_LOG_WARN, strcmp(exj_settings_text(s, EXJ_SET_LOG_JSON), "true") == 0 ||
                                        !isatty(STDERR_FILENO));
}

static void work(exj_cli *c, exj_worker *w, int signals, struct outcome *ret)
{
    exj_nsec started = exj_clock_mono_ns(), now = started;
    const char *none = getenv("NO_COLOR");
    exj_bar bar;
    bool idle = false;

    exj_bar_init(&bar, !c->json, !c->flags[EXJ_CLI_NO_COLOR] && !(none && *none), started);
    while (!idle && !ret->interrupted && !ret->counts.store_failed) {
        idle = exj_engine_wait_idle(w->wiring.engine, now + SLICE_NS);
        ret->interrupted = !idle && exj_signals_wait(signals, 0) != 0;
        exj_engine_get_counts(w->wiring.engine, &ret->counts);
        now = exj_clock_mono_ns();
        exj_bar_draw(&bar, &ret->counts, now);
    }
    ret->healthy = exj_engine_health(w->wiring.engine, ret->sick, sizeof(ret->sick));
    ret->seconds = (double)(now - started) / 1e9;
    exj_bar_clear(&bar);
}

static void print_summary(exj_cli *c, const exj_worker *w, const struct outcome *o)
{
    const exj_engine_counts *n = &o->counts;
    uint64_t done = exj_bar_done(n);
    double rate = o->seconds > 0 ? (double)done / o->seconds : 0;
    json_t *body;

    if (!c->json) {
        printf("%s: %" PRIu64 " scanned, %" PRIu64 " new rows, %" PRIu64 " completed, %" PRIu64
               " failed, %" PRIu64 " blocked, %" PRIu64 " retried in %.2f s (%.0f rows/s); "
               "store %s\n",
               o->interrupted ? "interrupted" : "done", n->scanned, n->materialized,
               n->completed, n->failed, n->blocked, n->retried, o->seconds, rate,
               w->wiring.health.where);
        return;
    }
    body = json_pack("{s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:s}",
                     "interrupted", (int)o->interrupted, "scanned", (json_int_t)n->scanned,
                     "materialized", (json_int_t)n->materialized, "claimed",
                     (json_int_t)n->claimed, "completed", (json_int_t)n->completed, "failed",
                     (json_int_t)n->failed, "blocked", (json_int_t)n->blocked, "suspended",
                     (json_int_t)n->suspended, "retried", (json_int_t)n->retried, "fenced",
                     (json_int_t)n->fenced, "cycleErrors", (json_int_t)n->cycle_errors, "open",
                     (json_int_t)n->open, "seconds", o->seconds, "rowsPerSecond", rate,
                     "store", w->wiring.health.where);
    exj_out_json(c, body, false);
    json_decref(body);
}

static exj_exit verdict(exj_cli *c, const struct outcome *o)
{
    const exj_engine_counts *n = &o->counts;

    if (n->store_failed)
        return exj_fail(c, EXJ_EXIT_FAILED, "the store failed; what it took is safe, run again");
    if (o->interrupted)
        return EXJ_EXIT_INTERRUPTED;
    if (!o->healthy)
        return exj_fail(c, EXJ_EXIT_FAILED, "%s; its rows wait", o->sick);
    if (n->cycle_errors)
        return exj_fail(c, EXJ_EXIT_FAILED,
                        "%" PRIu64 " cycles could not read their source; the log says why",
                        n->cycle_errors);
    if (n->failed)
        return EXJ_EXIT_PARTIAL;
    return EXJ_EXIT_OK;
}

exj_exit exj_cmd_run(exj_cli *c)
{
    exj_worker_options o = { .command = "run", .one_cycle = true };
    struct outcome end = { 0 };
    exj_err err = { 0 };
    exj_worker w;
    exj_exit status;
    exj_code rc;
    int64_t max;
    int signals;

    if (exj_cli_number(c, EXJ_CLI_MAX, 1, INT64_MAX, 0, &max, &err) != EXJ_OK)
        return exj_fail(c, EXJ_EXIT_USAGE, "%s", err.text);
    if (max && c->flags[EXJ_CLI_UNTIL_IDLE])
        return exj_fail(c, EXJ_EXIT_USAGE, "--until-idle and --max exclude each other");
    o.max_rows = (uint64_t)max;
    o.only_matrix = c->flags[EXJ_CLI_MATRIX];
    signals = exj_signals_open();
    if (signals < 0)
        return exj_fail(c, EXJ_EXIT_FAILED, "cannot watch signals");
    quiet_logs(&c->settings);
    rc = exj_worker_open(&w, &c->settings, &o, &err);
    if (rc != EXJ_OK) {
        close(signals);
        if (rc == EXJ_BUSY)
            return exj_fail(c, EXJ_EXIT_UNREACHABLE,
                            "%s; whoever holds it does the work: 'exellix-jobs status' shows "
                            "it",
                            err.text);
        return exj_fail_err(c, &err);
    }
    work(c, &w, signals, &end);
    exj_signals_arm_exit();
    if (end.interrupted)
        exj_tell(c, "stopping; again to stop at once");
    print_summary(c, &w, &end);
    status = exj_out_finish(c, verdict(c, &end));
    if (exj_worker_close(&w)) {
        fflush(NULL);
        _exit((int)status); /* executions outlasted the grace: nothing may go on under them */
    }
    close(signals);
    return status;
}
