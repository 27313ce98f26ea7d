/* exec: one queued row, here and now. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/record.h"
#include "core/main/oneshot.h"
#include "core/main/worker.h"

#define SLICE_NS 100000000LL /* how often we look whether it can run at all */

struct target {
    const char *id;    /* as given */
    exj_row_name name;
    int64_t seq;
    exj_status status;
    bool found, over;  /* over: it has ended; its receipt is the answer */
    bool refused;      /* the table's reason is in the error */
};

static bool take_row(void *user, const exj_row_view *v)
{
    struct target *t = user;

    t->found = true;
    t->seq = v->seq;
    t->status = v->status;
    return false;
}

/* Before the engine starts: is it there, and may it be claimed? */
static exj_code prepare(struct exj_worker *w, void *user, exj_err *err)
{
    struct target *t = user;
    exj_store *s = w->wiring.store;
    exj_err why = { 0 };
    exj_status to;
    exj_kept kept;
    exj_code rc = exj_oneshot_keep(s, w->wiring.o.worker_id, &kept, err);

    if (rc == EXJ_OK)
        rc = s->v->row_get(s, exj_slice_of(t->name.matrix), exj_slice_of(t->name.run),
                           exj_slice_of(t->name.graph), exj_slice_of(t->name.record), take_row, t,
                           &why);
    if (why.code)
        return exj_err_set(err, why.code, "%s", why.text);
    if (rc != EXJ_OK)
        return rc;
    t->over = exj_status_is_terminal(t->status);
    if (!t->over && exj_state_move(t->status, EXJ_EV_CLAIM, &to, &why) != EXJ_OK) {
        t->refused = true;
        return exj_err_set(err, EXJ_CONFLICT, "row %s is %s: %s", t->id,
                           exj_status_name(t->status), why.text);
    }
    w->wiring.o.only_seq = t->seq;
    w->wiring.o.only_run = t->name.run;
    w->wiring.o.only_matrix = t->name.matrix;
    w->wiring.o.max_rows = 1;
    w->wiring.o.max_concurrent = 1;
    /* What has ended needs no engine: there is nothing to claim. */
    return t->over ? EXJ_CANCELLED : EXJ_OK;
}

/* Why the row's graph cannot run; "": it can. */
static void find_reason(exj_engine *e, const struct target *t, char *ret, size_t cap)
{
    json_t *status = exj_engine_status(e, exj_slice_of(t->name.matrix)), *pool;
    bool known = false;
    size_t i;

    ret[0] = '\0';
    json_array_foreach (json_object_get(status, "graphs"), i, pool) {
        const char *graph = json_string_value(json_object_get(pool, "graphId"));
        const char *run = json_string_value(json_object_get(pool, "matrixRunId"));
        const char *reason = json_string_value(json_object_get(pool, "reason"));

        if (!graph || strcmp(graph, t->name.graph) || strcmp(run ? run : "", t->name.run))
            continue;
        known = true;
        if (reason)
            snprintf(ret, cap, "%s", reason);
    }
    if (!known)
        snprintf(ret, cap, "no matrix \"%.80s\" names graph \"%.80s\" any more", t->name.matrix,
                 t->name.graph);
    json_decref(status);
}

/* Until it was executed, cannot be, or somebody interrupts. */
static void work(exj_worker *w, const struct target *t, int signals, exj_engine_counts *n,
                 bool *ret_interrupted, char *ret_reason, size_t cap)
{
    exj_engine *e = w->wiring.engine;
    bool idle = false;

    *ret_interrupted = false;
    ret_reason[0] = '\0';
    while (!idle && !*ret_interrupted && !ret_reason[0]) {
        idle = exj_engine_wait_idle(e, exj_clock_mono_ns() + SLICE_NS);
        *ret_interrupted = !idle && exj_signals_wait(signals, 0) != 0;
        exj_engine_get_counts(e, n);
        if (n->store_failed)
            break;
        if (!n->claimed && !n->scanning)
            find_reason(e, t, ret_reason, cap);
    }
}

/* The row as it is now; NULL: it cannot be read. */
static json_t *row_json(exj_worker *w, const struct target *t, bool terminal)
{
    exj_response answer = { 0 };
    exj_buf path = EXJ_BUF_INIT;
    json_t *row = NULL;
    exj_err err = { 0 };

    exj_buf_add_text(&path, "/rows/");
    exj_add_encoded(&path, t->id);
    if (terminal)
        exj_buf_add_text(&path, "/run"); /* with its receipt */
    if (!path.failed && exj_wiring_call(&w->wiring, terminal ? "POST" : "GET", path.p, NULL,
                                        (exj_slice){ 0 }, &answer, &err) == EXJ_OK) {
        if (answer.status == 200)
            exj_json_parse(exj_buf_slice(&answer.body), &row, &err);
        exj_response_release(&answer);
    }
    exj_buf_release(&path);
    return row;
}

static exj_exit print(exj_cli *c, exj_worker *w, struct target *t, const exj_engine_counts *n,
                      double seconds)
{
    exj_store *s = w->wiring.store;
    const char *word, *message;
    json_t *row, *body;
    exj_exit status;

    s->v->row_by_seq(s, t->seq, take_row, t, NULL);
    row = row_json(w, t, exj_status_is_terminal(t->status));
    status = t->status == EXJ_COMPLETED || t->status == EXJ_SUSPENDED ? EXJ_EXIT_OK
                                                                     : EXJ_EXIT_PARTIAL;
    word = exj_status_word(t->status);
    message = json_string_value(json_object_get(json_object_get(row, "error"), "message"));
    if (!c->json) {
        printf("%s: %s%s%s%s\n", t->id, word, t->over ? " before; nothing was run" : "",
               message ? ": " : "", message ? message : "");
        json_decref(row);
        return status;
    }
    json_object_set_new(row, "replayed", json_boolean(t->over));
    body = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:o,s:s}", "claimed",
                     (json_int_t)n->claimed, "completed", (json_int_t)n->completed, "failed",
                     (json_int_t)n->failed, "blocked", (json_int_t)n->blocked, "suspended",
                     (json_int_t)n->suspended, "canceled", (json_int_t)n->canceled, "retried",
                     (json_int_t)n->retried, "seconds", seconds, "row",
                     row ? row : json_null(), "store", w->wiring.health.where);
    exj_out_json(c, body, false);
    json_decref(body);
    return status;
}

/* One that has ended: its receipt (spec 2.3). */
static exj_exit replay(exj_cli *c, struct target *t)
{
    exj_worker_options o = { .command = "exec", .no_engine = true };
    exj_engine_counts none = { 0 };
    exj_err err = { 0 };
    exj_worker w;
    exj_exit status;

    if (exj_worker_open(&w, &c->settings, &o, &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    status = exj_out_finish(c, print(c, &w, t, &none, 0));
    exj_worker_close(&w);
    return status;
}

static exj_exit execute(exj_cli *c, struct target *t, int signals)
{
    exj_worker_options o = { .command = "exec", .one_cycle = true, .prepare = prepare,
                             .user = t };
    exj_engine_counts n = { 0 };
    char reason[EXJ_ERR_TEXT_BYTES];
    exj_err err = { 0 };
    exj_worker w;
    exj_exit status;
    bool interrupted;
    exj_nsec began;
    exj_code rc = exj_worker_open(&w, &c->settings, &o, &err);

    if (rc == EXJ_CANCELLED && t->over)
        return replay(c, t);
    if (rc == EXJ_BUSY)
        return exj_fail(c, EXJ_EXIT_UNREACHABLE,
                        "%s; whoever holds it executes its rows: 'exellix-jobs rows show' shows "
                        "them",
                        err.text);
    if (rc != EXJ_OK)
        return exj_fail_err(c, &err);
    began = exj_clock_mono_ns();
    work(&w, t, signals, &n, &interrupted, reason, sizeof(reason));
    exj_signals_arm_exit();
    if (n.store_failed)
        status = exj_fail(c, EXJ_EXIT_FAILED, "the store failed; what it took is safe");
    else if (interrupted)
        status = EXJ_EXIT_INTERRUPTED;
    else if (!n.claimed)
        status = exj_fail(c, EXJ_EXIT_FAILED, "row %s was not executed: %s", t->id,
                          reason[0] ? reason : "somebody else took it, or a limit of its graph "
                                               "holds it back");
    else
        status = print(c, &w, t, &n, (double)(exj_clock_mono_ns() - began) / 1e9);
    status = exj_out_finish(c, status);
    if (exj_worker_close(&w)) {
        fflush(NULL);
        _exit((int)status); /* the execution outlasted the grace: nothing may go on under it */
    }
    return status;
}

exj_exit exj_cmd_exec(exj_cli *c)
{
    struct target t = { .id = c->args[0] };
    exj_err err = { 0 };
    exj_exit status;
    int signals;

    if (exj_row_name_parse(exj_slice_of(t.id), &t.name, &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    signals = exj_signals_open();
    if (signals < 0) {
        exj_row_name_release(&t.name);
        return exj_fail(c, EXJ_EXIT_FAILED, "cannot watch signals");
    }
    if (c->settings.at[EXJ_SET_LOG_LEVEL].origin == EXJ_FROM_DEFAULT)
        exj_log_setup(EXJ_LOG_WARN,
                      strcmp(exj_settings_text(&c->settings, EXJ_SET_LOG_JSON), "true") == 0 ||
                          !isatty(STDERR_FILENO));
    status = execute(c, &t, signals);
    close(signals);
    exj_row_name_release(&t.name);
    return status;
}
