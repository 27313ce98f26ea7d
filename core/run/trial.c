/* A candidate proves itself before any row of the day is given to it: it is made, it tests
 * itself, and it does again what was done before. It runs in a plugin host wherever there is
 * one, so a crash costs nothing; what it writes to the journal or to its keys is not kept. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/job/outcome.h"
#include "core/run/inside.h"

/* The self-test, and a row without a time limit of its own. */
#define ROW_NS ((exj_nsec)30 * 1000 * 1000 * 1000)
#define SHOWN_MAX 5u
#define SHOWN_BYTES 300u

struct trial {
    exj_engine *engine;
    exj_instance *instance;
    exj_call_slot *slot;
    const struct pool *pool;
    struct spec *spec;
    int64_t seq;         /* of the row that is being done again */
    exj_nsec until;
    exj_buf name, runtime;
    json_t *differences; /* borrowed from the report */
    unsigned rows, same, different;
    exj_err err;
};

/* ---- ports: reads are real, writes go nowhere ----------------------------------------------- */

static bool is_stopping(exj_engine *e)
{
    bool stopping;

    pthread_mutex_lock(&e->mu);
    stopping = e->stopping;
    pthread_mutex_unlock(&e->mu);
    return stopping;
}

static int32_t is_over(void *user)
{
    struct trial *t = user;

    if (is_stopping(t->engine))
        return EXJ_R_CANCELLED;
    return exj_clock_mono_ns() >= t->until ? EXJ_R_DEADLINE : 0;
}

static exj_code get_step(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    const struct trial *t = user;
    exj_store *s = t->engine->o.store;

    return s->v->step_get(s, t->seq, key, ret, err);
}

static exj_code drop_step(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    (void)user, (void)key, (void)body, (void)err;
    return EXJ_OK;
}

static exj_code get_key(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    const struct trial *t = user;
    exj_store *s = t->engine->o.store;

    return s->v->kv_get(s, exj_slice_of(t->pool->graph_id), key, ret, err);
}

static exj_code drop_put(void *user, exj_slice key, exj_slice json, exj_err *err)
{
    (void)user, (void)key, (void)json, (void)err;
    return EXJ_OK;
}

static exj_code drop_remove(void *user, exj_slice key, exj_err *err)
{
    (void)user, (void)key, (void)err;
    return EXJ_OK;
}

static exj_code drop_add(void *user, exj_slice key, int64_t delta, int64_t *ret, exj_err *err)
{
    (void)user, (void)key, (void)err;
    *ret = delta;
    return EXJ_OK;
}

static exj_code drop_metric(void *user, const exj_plugin_sample *m, exj_err *err)
{
    (void)user, (void)m, (void)err;
    return EXJ_OK;
}

/* ---- one row --------------------------------------------------------------------------------- */

/* What of an answer must stay: how it ended, and what it found. */
static json_t *kept_part(exj_slice answer)
{
    json_t *whole = NULL, *part;

    if (exj_json_parse(answer, &whole, NULL) != EXJ_OK)
        return NULL;
    part = json_pack("{s:O?, s:O?}", "status", json_object_get(whole, "status"),
                     "outputsByNodeId", json_object_get(whole, "outputsByNodeId"));
    json_decref(whole);
    return part;
}

static json_t *shortened(exj_slice s)
{
    if (s.n > SHOWN_BYTES)
        for (s.n = SHOWN_BYTES; s.n && ((unsigned char)s.p[s.n] & 0xc0) == 0x80; s.n--)
            ; /* not within a character */
    return exj_json_text(s);
}

static void compare(struct trial *t, const exj_row_view *r, exj_slice after)
{
    json_t *was = kept_part(r->result), *is = kept_part(after);

    if (was && is && json_equal(was, is)) {
        t->same++;
    } else {
        t->different++;
        if (json_array_size(t->differences) < SHOWN_MAX)
            json_array_append_new(
                t->differences,
                json_pack("{s:s%, s:o, s:o}", "matrixRowId", t->name.p, t->name.n, "before",
                          shortened(r->result), "after", shortened(after)));
    }
    json_decref(was);
    json_decref(is);
}

/* False: the trial failed. */
static bool do_again(void *user, const exj_row_view *r)
{
    struct trial *t = user;
    exj_call_ports ports = { .user = t, .cancelled = is_over, .step_get = get_step,
                             .step_put = drop_step, .kv_get = get_key, .kv_put = drop_put,
                             .kv_remove = drop_remove, .kv_add = drop_add,
                             .metric = drop_metric };
    exj_args args = { .size_of = EXJ_SIZE(exj_args, token), .attempt = r->attempts,
                      .record_id = { r->record_id.p, r->record_id.n },
                      .token = (uint64_t)r->token };
    exj_msec limit = t->spec->eff.timeout_ms;
    exj_call_end end = { 0 };
    exj_answer answer;
    exj_slice code, text;
    exj_err why = { 0 };

    if (!exj_run_request(t->spec, t->pool, r->record_id, r->input, r->attempts, &t->name,
                         &t->runtime)) {
        exj_err_set(&t->err, EXJ_NOMEM, "out of memory");
        return false;
    }
    t->seq = r->seq;
    t->until = exj_clock_mono_ns() + (limit ? limit * 1000000 : ROW_NS);
    args.deadline_ns = (uint64_t)t->until;
    args.model = (exj_str){ t->spec->model, strlen(t->spec->model) };
    args.runtime = (exj_str){ t->runtime.p, t->runtime.n };
    args.job_id = (exj_str){ t->name.p, t->name.n };
    exj_call_run(t->instance, t->slot, &args, &ports, &end, NULL);
    t->rows++;
    if (end.result != EXJ_R_OK)
        exj_err_set(&t->err, EXJ_INVALID, "row %.*s was completed before and fails now: %.*s: %.*s",
                    (int)t->name.n, t->name.p, (int)end.error_code.n, end.error_code.p,
                    (int)end.error_text.n, end.error_text.p);
    else if (exj_answer_check(end.answer, &answer, &code, &text, NULL, &why) != EXJ_OK)
        exj_err_set(&t->err, EXJ_INVALID, "row %.*s: its answer is refused: %s", (int)t->name.n,
                    t->name.p, why.text);
    else if (answer != EXJ_ANSWER_COMPLETED)
        exj_err_set(&t->err, EXJ_INVALID, "row %.*s was completed before and is not now: %.*s",
                    (int)t->name.n, t->name.p, (int)(end.answer.n < 200 ? end.answer.n : 200),
                    end.answer.p);
    else
        compare(t, r, end.answer);
    return t->err.code == EXJ_OK;
}

/* ---- all -------------------------------------------------------------------------------------- */

/* Pools never go while the engine runs; their specs are counted. */
static exj_code do_rows(struct trial *t, struct executor *x, unsigned rows)
{
    exj_engine *e = t->engine;
    struct pool *p;
    unsigned left = rows;
    exj_err err = { 0 };

    pthread_mutex_lock(&e->mu);
    p = e->pools;
    pthread_mutex_unlock(&e->mu);
    while (p && left && t->err.code == EXJ_OK) {
        struct pool *next;
        unsigned before = t->rows;

        pthread_mutex_lock(&e->mu);
        t->spec = p->spec && p->spec->executor == x && p->spec->model ? exj_spec_ref(p->spec)
                                                                      : NULL;
        next = p->next;
        pthread_mutex_unlock(&e->mu);
        t->pool = p;
        if (t->spec && e->o.store->v->row_recent(e->o.store, p->id, EXJ_COMPLETED, left, do_again,
                                                 t, &err) != EXJ_OK &&
            t->err.code == EXJ_OK)
            exj_err_set(&t->err, err.code, "recorded rows could not be read: %s", err.text);
        left -= t->rows - before;
        exj_spec_unref(t->spec);
        p = next;
    }
    return t->err.code;
}

exj_code exj_run_trial(exj_engine *e, struct executor *x, exj_guest *guest, exj_slice config,
                       unsigned rows, json_t **ret_report, exj_err *err)
{
    struct trial t = { .engine = e };
    const char *tested = "none";
    exj_code rc;

    *ret_report = NULL;
    t.differences = json_array();
    rc = t.differences ? exj_instance_new(guest, config, &t.instance, err)
                       : exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (rc)
        goto out;
    t.until = exj_clock_mono_ns() + ROW_NS;
    rc = exj_instance_self_test_until(t.instance, is_over, &t, err);
    tested = rc == EXJ_OK ? "passed" : rc == EXJ_NOT_FOUND ? "none" : "failed";
    if (rc == EXJ_NOT_FOUND) {
        exj_err_clear(err);
        rc = EXJ_OK;
    }
    if (!rc && rows)
        rc = exj_call_slot_new(ANSWER_MAX, &t.slot, err);
    if (!rc && rows && (rc = do_rows(&t, x, rows)) != EXJ_OK)
        exj_err_set(err, rc, "%s", t.err.text);
out:
    if (rc && is_stopping(e)) { /* no fault of the plugin's */
        exj_err_clear(err);
        rc = exj_err_set(err, EXJ_CANCELLED, "the worker stops");
    }
    exj_call_slot_free(t.slot);
    exj_instance_free(t.instance);
    exj_buf_release(&t.name);
    exj_buf_release(&t.runtime);
    *ret_report = json_pack("{s:s, s:i, s:i, s:i, s:O?}", "selfTest", tested, "rows", (int)t.rows,
                            "same", (int)t.same, "different", (int)t.different, "differences",
                            t.differences);
    json_decref(t.differences);
    return rc;
}
