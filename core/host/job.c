#include "core/host/job.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/base/clock.h"

#define EARLY 64u

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
/* guarded by mu */
static exj_job *open_jobs, *free_jobs;
/* Cancels that came before their call; the oldest gives way. */
static struct {
    uint64_t call;
    int reason;
} early[EARLY];
static unsigned early_next;
static bool early_any; /* some entry has been made */

/* ---- life ----------------------------------------------------------------------------- */

exj_job *exj_job_open(uint64_t call, size_t answer_max)
{
    exj_err err = { 0 };
    exj_job **at = &free_jobs, *j;

    pthread_mutex_lock(&mu);
    while (*at && (*at)->answer_max != answer_max)
        at = &(*at)->next;
    j = *at;
    if (j)
        *at = j->next;
    pthread_mutex_unlock(&mu);
    if (!j) {
        j = calloc(1, sizeof *j);
        if (!j || exj_call_slot_new(answer_max, &j->slot, &err))
            exj_die("no place for a call: %s", j ? err.text : "out of memory");
        j->answer_max = answer_max;
    }
    j->call = call;
    j->mem = j->model = NULL;
    j->args = (exj_args){ 0 };
    j->begun = exj_clock_mono_ns();
    j->deadline = UINT64_MAX;
    j->answered = false;
    j->emitted_at = j->emitted_n = 0;
    j->refused = EXJ_R_OK;
    atomic_store(&j->reason, 0);
    atomic_store(&j->refs, 1);

    pthread_mutex_lock(&mu);
    for (unsigned k = 0; early_any && k < EARLY; k++)
        if (early[k].reason && early[k].call == call) {
            atomic_store(&j->reason, early[k].reason);
            early[k].reason = 0;
        }
    j->next = open_jobs;
    open_jobs = j;
    pthread_mutex_unlock(&mu);
    return j;
}

void exj_job_hold(exj_job *j)
{
    atomic_fetch_add(&j->refs, 1);
}

void exj_job_drop(exj_job *j)
{
    if (atomic_fetch_sub(&j->refs, 1) != 1)
        return;
    exj_mem_unref(j->mem);
    exj_mem_unref(j->model);
    pthread_mutex_lock(&mu);
    j->next = free_jobs;
    free_jobs = j;
    pthread_mutex_unlock(&mu);
}

void exj_job_close(exj_job *j)
{
    exj_job **at = &open_jobs;

    pthread_mutex_lock(&mu);
    while (*at && *at != j)
        at = &(*at)->next;
    if (*at)
        *at = j->next;
    pthread_mutex_unlock(&mu);
}

exj_job *exj_job_cancel(uint64_t call, int reason)
{
    exj_job *j;

    pthread_mutex_lock(&mu);
    j = open_jobs;
    while (j && j->call != call)
        j = j->next;
    if (j) {
        exj_job_hold(j);
        atomic_store(&j->reason, reason);
    } else {
        early[early_next].call = call;
        early[early_next].reason = reason;
        early_next = (early_next + 1) % EARLY;
        early_any = true;
    }
    pthread_mutex_unlock(&mu);
    return j;
}

/* ---- ports ---------------------------------------------------------------------------- */

static int32_t is_cancelled(void *user)
{
    exj_job *j = user;
    int reason = atomic_load(&j->reason);

    if (reason)
        return reason;
    return j->deadline != UINT64_MAX && (uint64_t)exj_clock_mono_ns() >= j->deadline
               ? EXJ_R_DEADLINE
               : 0;
}

static exj_code out_of_memory(exj_buf *b, exj_err *err)
{
    exj_buf_release(b);
    return exj_err_set(err, EXJ_NOMEM, "out of memory for a frame");
}

/* A question made of one or two texts. */
static exj_code ask(exj_job *j, exj_frame_type type, exj_slice key, const exj_slice *more,
                    exj_buf *ret, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    uint32_t code;

    exj_wire_text(&b, key);
    if (more)
        exj_wire_text(&b, *more);
    if (b.failed)
        return out_of_memory(&b, err);
    code = exj_link_ask(type, j->call, exj_buf_slice(&b), ret, err);
    exj_buf_release(&b);
    return code <= EXJ_BUG ? (exj_code)code : EXJ_IO;
}

/* The verdict about the oldest of what is on its way. */
static void take_verdict(exj_job *j)
{
    exj_ask *a = &j->emitted[j->emitted_at];
    uint32_t r = exj_link_wait(a);

    exj_buf_release(&a->text);
    if (j->refused == EXJ_R_OK && r != EXJ_R_OK)
        j->refused = r <= EXJ_R_INTERNAL ? (exj_result)r : EXJ_R_INTERNAL;
    j->emitted_at = (j->emitted_at + 1) % EXJ_EMITS_AHEAD;
    j->emitted_n--;
}

exj_result exj_job_settle(exj_job *j)
{
    while (j->emitted_n)
        take_verdict(j);
    return j->refused;
}

static exj_result emit(void *user, exj_slice json)
{
    exj_job *j = user;
    exj_buf b = EXJ_BUF_INIT;

    if (j->emitted_n == EXJ_EMITS_AHEAD)
        take_verdict(j);
    if (j->refused != EXJ_R_OK)
        return j->refused;
    exj_wire_text(&b, json);
    if (b.failed) {
        exj_buf_release(&b);
        return EXJ_R_RETRY;
    }
    exj_link_post(&j->emitted[(j->emitted_at + j->emitted_n++) % EXJ_EMITS_AHEAD], EXJ_F_EMIT,
                  j->call, exj_buf_slice(&b));
    exj_buf_release(&b);
    return EXJ_R_OK;
}

static void progress(void *user, double at, exj_slice note)
{
    exj_job *j = user;
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_f64(&b, at);
    exj_wire_text(&b, note);
    if (!b.failed)
        exj_link_say(EXJ_F_PROGRESS, j->call, exj_buf_slice(&b));
    exj_buf_release(&b);
}

static exj_code step_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    return ask(user, EXJ_F_STEP_GET, key, NULL, ret, err);
}

static exj_code step_put(void *user, exj_slice key, exj_slice body, exj_err *err)
{
    return ask(user, EXJ_F_STEP_PUT, key, &body, NULL, err);
}

static exj_code step_begin(void *user, exj_slice key, exj_err *err)
{
    return ask(user, EXJ_F_STEP_BEGIN, key, NULL, NULL, err);
}

static exj_code kv_get(void *user, exj_slice key, exj_buf *ret, exj_err *err)
{
    return ask(user, EXJ_F_KV_GET, key, NULL, ret, err);
}

static exj_code kv_put(void *user, exj_slice key, exj_slice json, exj_err *err)
{
    return ask(user, EXJ_F_KV_PUT, key, &json, NULL, err);
}

static exj_code kv_remove(void *user, exj_slice key, exj_err *err)
{
    return ask(user, EXJ_F_KV_REMOVE, key, NULL, NULL, err);
}

static exj_code kv_add(void *user, exj_slice key, int64_t delta, int64_t *ret, exj_err *err)
{
    exj_job *j = user;
    exj_buf b = EXJ_BUF_INIT, sum = EXJ_BUF_INIT;
    exj_wire_reader r;
    uint32_t code;

    exj_wire_text(&b, key);
    exj_wire_u64(&b, (uint64_t)delta);
    if (b.failed)
        return out_of_memory(&b, err);
    code = exj_link_ask(EXJ_F_KV_ADD, j->call, exj_buf_slice(&b), &sum, err);
    if (!code) {
        r = (exj_wire_reader){ .left = exj_buf_slice(&sum) };
        *ret = (int64_t)exj_wire_get_u64(&r);
        if (!exj_wire_done(&r))
            exj_die("the core answered KV_ADD with %zu bytes; it has 8", sum.n);
    }
    exj_buf_release(&b);
    exj_buf_release(&sum);
    return code <= EXJ_BUG ? (exj_code)code : EXJ_IO;
}

/* Not a question: the core judges it again and keeps the verdict to itself. */
static exj_code metric(void *user, const exj_plugin_sample *m, exj_err *err)
{
    exj_job *j = user;
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_u32(&b, m->kind);
    exj_wire_text(&b, m->series);
    exj_wire_f64(&b, m->value);
    if (b.failed)
        return out_of_memory(&b, err);
    exj_link_say(EXJ_F_METRIC, j->call, exj_buf_slice(&b));
    exj_buf_release(&b);
    return EXJ_OK;
}

void exj_job_ports(exj_job *j, bool is_resolver)
{
    j->ports = (exj_call_ports){ .user = j,
                                 .emit = is_resolver ? emit : NULL,
                                 .cancelled = is_cancelled,
                                 .progress = progress,
                                 .step_get = step_get,
                                 .step_put = step_put,
                                 .step_begin = step_begin,
                                 .kv_get = kv_get,
                                 .kv_put = kv_put,
                                 .kv_remove = kv_remove,
                                 .kv_add = kv_add,
                                 .metric = metric };
}

void exj_job_no_ports(exj_job *j)
{
    j->ports = (exj_call_ports){ .user = j, .cancelled = is_cancelled };
}
