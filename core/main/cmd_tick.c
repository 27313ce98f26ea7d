/* tick: once, what time brings about: leases that are over, rows that are due, schedules, ended
 * rows whose time is over, events for the sinks. For cron jobs and functions, beside `run`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/main/oneshot.h"
#include "core/main/worker.h"
#include "core/run/retire.h"
#include "core/run/schedules.h"

#define AT_ONCE 500u
#define SHARED_GRACE_MS 2000 /* a renewal may be on its way to the store */
#define FIRE_TIMES 100 /* looks at the schedules: a tick may come while we fire */
#define DELIVER_NS (30 * (exj_nsec)1000000000)

/* ---- leases and times ---------------------------------------------------------------------- */

static exj_code reap(exj_store *s, const char *worker, exj_kept *ret, exj_err *err)
{
    exj_reaped *rows = malloc(AT_ONCE * sizeof(*rows));
    exj_op op = { .kind = EXJ_OP_REAP };
    exj_code rc = EXJ_OK;

    if (!rows)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    do {
        op = (exj_op){ .kind = EXJ_OP_REAP };
        op.u.reap.all_but = s->v->shared ? NULL : worker;
        op.u.reap.grace_ms = s->v->shared ? SHARED_GRACE_MS : 0;
        op.u.reap.ret = rows;
        op.u.reap.limit = AT_ONCE;
        rc = exj_store_do(s, &op, err);
        for (size_t i = 0; rc == EXJ_OK && i < op.u.reap.ret_len; i++)
            ret->dead += rows[i].to == EXJ_FAILED;
        ret->reaped += rc == EXJ_OK ? op.u.reap.ret_len : 0;
    } while (rc == EXJ_OK && op.u.reap.ret_len == AT_ONCE);
    free(rows);
    return rc;
}

exj_code exj_oneshot_keep(exj_store *s, const char *worker, exj_kept *ret, exj_err *err)
{
    exj_op op;
    exj_code rc;

    *ret = (exj_kept){ 0 };
    rc = reap(s, worker, ret, err);
    if (rc != EXJ_OK)
        return rc;
    do {
        op = (exj_op){ .kind = EXJ_OP_PROMOTE };
        op.u.promote.limit = AT_ONCE;
        rc = exj_store_do(s, &op, err);
        ret->queued += rc == EXJ_OK ? op.u.promote.ret_promoted : 0;
    } while (rc == EXJ_OK && op.u.promote.ret_promoted == AT_ONCE);
    ret->next_due = op.u.promote.ret_next_due;
    return rc;
}

/* ---- the rest -------------------------------------------------------------------------------- */

struct done {
    exj_kept kept;
    exj_fired fired;
    exj_msec next_tick;
    exj_retired retired;
    uint64_t delivered;
};

static exj_code fire(exj_store *s, struct done *d, exj_err *err)
{
    exj_code rc = EXJ_OK;

    for (int i = 0; i < FIRE_TIMES && rc == EXJ_OK; i++) {
        exj_fired now = { 0 };

        rc = exj_schedules_fire(s, NULL, &now, &d->next_tick, err);
        d->fired.ticks += now.ticks;
        d->fired.rows += now.rows;
        d->fired.runs += now.runs;
        d->fired.skipped += now.skipped;
        d->fired.failed = now.failed > d->fired.failed ? now.failed : d->fired.failed;
        if (!d->next_tick || d->next_tick > s->v->now(s))
            break;
    }
    return rc;
}

static exj_code deliver(exj_worker *w, struct done *d, exj_err *err)
{
    exj_sinks *sinks = NULL;
    exj_code rc;

    if (!w->sinks.n)
        return EXJ_OK;
    rc = exj_sinks_open(w->wiring.store, w->wiring.plugins, exj_buf_slice(&w->sinks), &sinks,
                        err);
    if (rc != EXJ_OK)
        return exj_err_prefix(err, "event sinks");
    d->delivered = exj_sinks_flush(sinks, exj_clock_mono_ns() + DELIVER_NS);
    w->wiring.left += exj_sinks_stop(sinks, 0);
    return EXJ_OK;
}

static exj_code do_all(exj_worker *w, struct done *d, exj_err *err)
{
    exj_store *s = w->wiring.store;
    exj_code rc = exj_oneshot_keep(s, w->wiring.o.worker_id, &d->kept, err);

    if (rc == EXJ_OK)
        rc = fire(s, d, err);
    if (rc == EXJ_OK)
        rc = exj_retire_rows(s, NULL, NULL, &d->retired, err);
    if (rc == EXJ_OK && d->retired.rows)
        rc = exj_retire_entries(s, NULL, NULL, &d->retired, err);
    if (rc == EXJ_OK)
        rc = deliver(w, d, err);
    return rc;
}

static json_t *time_json(exj_msec at)
{
    char text[EXJ_TIME_TEXT_BYTES];

    if (!at)
        return json_null();
    exj_clock_format(at, text);
    return json_string(text);
}

static void print(exj_cli *c, const exj_worker *w, const struct done *d)
{
    exj_msec rows = d->kept.next_due, ticks = d->next_tick;
    exj_msec next = !rows || (ticks && ticks < rows) ? ticks : rows;
    json_t *body;

    if (!c->json) {
        printf("done: %" PRIu64 " leases taken back (%" PRIu64 " rows dead), %" PRIu64
               " rows due, %" PRIu64 " ticks (%" PRIu64 " rows, %" PRIu64 " cycles, %" PRIu64
               " skipped), %zu rows over, %" PRIu64 " events delivered; store %s\n",
               d->kept.reaped, d->kept.dead, d->kept.queued, d->fired.ticks, d->fired.rows,
               d->fired.runs, d->fired.skipped, d->retired.rows, d->delivered,
               w->wiring.health.where);
        return;
    }
    body = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:s}", "reaped",
                     (json_int_t)d->kept.reaped, "dead", (json_int_t)d->kept.dead, "due",
                     (json_int_t)d->kept.queued, "ticks", (json_int_t)d->fired.ticks, "rows",
                     (json_int_t)d->fired.rows, "cycles", (json_int_t)d->fired.runs, "skipped",
                     (json_int_t)d->fired.skipped, "schedulesFailed",
                     (json_int_t)d->fired.failed, "removed", (json_int_t)d->retired.rows,
                     "delivered", (json_int_t)d->delivered, "nextDue", time_json(next), "store",
                     w->wiring.health.where);
    exj_out_json(c, body, false);
    json_decref(body);
}

exj_exit exj_cmd_tick(exj_cli *c)
{
    exj_worker_options o = { .command = "tick", .no_engine = true, .one_cycle = true };
    struct done d = { 0 };
    exj_err err = { 0 };
    exj_worker w;
    exj_exit status = EXJ_EXIT_OK;
    exj_code rc;

    rc = exj_worker_open(&w, &c->settings, &o, &err);
    if (rc == EXJ_BUSY)
        return exj_fail(c, EXJ_EXIT_UNREACHABLE,
                        "%s; whoever holds it does this by itself: 'exellix-jobs status' shows "
                        "it",
                        err.text);
    if (rc != EXJ_OK)
        return exj_fail_err(c, &err);
    if (do_all(&w, &d, &err) != EXJ_OK)
        status = exj_fail_err(c, &err);
    print(c, &w, &d);
    if (status == EXJ_EXIT_OK && d.fired.failed)
        status = exj_fail(c, EXJ_EXIT_FAILED,
                          "%" PRIu64 " schedules could not start what they name; 'exellix-jobs "
                          "schedules list' says why",
                          d.fired.failed);
    status = exj_out_finish(c, status);
    if (exj_worker_close(&w)) {
        fflush(NULL);
        _exit((int)status); /* a sink's call outlasted the time: nothing may go on under it */
    }
    return status;
}
