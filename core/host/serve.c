#include "core/host/serve.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/host/crash.h"
#include "core/host/job.h"

#define OTHER_MAX (8u * 1024u * 1024u) /* a model, a state: as in the core */

static exj_plugin_file *file;
static exj_instance *instance;
static exj_guest *guest;
static uint32_t answer_max;
static exj_recorder *record; /* set before the first order; NULL: none */
/* The model of the last call that brought one; the next may use it again. */
static exj_mem *last_model;
static exj_str last_model_text;

/* ---- what the core logs ---------------------------------------------------------------- */

static void log_to_core(exj_log_level level, const char *area, const char *message)
{
    exj_buf b = EXJ_BUF_INIT;
    size_t n = guest ? strlen(guest->id) : 0;

    (void)area;
    /* the core puts the plugin's id in front again */
    if (n && strncmp(message, guest->id, n) == 0 && strncmp(message + n, ": ", 2) == 0)
        message += n + 2;
    exj_wire_u32(&b, level);
    exj_wire_text(&b, exj_slice_of(message));
    if (!b.failed)
        exj_link_say(EXJ_F_LOG, exj_crash_call(), exj_buf_slice(&b));
    exj_buf_release(&b);
}

static void misdeed_to_core(const char *text)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_wire_text(&b, exj_slice_of(text));
    if (!b.failed)
        exj_link_say(EXJ_F_MISDEED, exj_crash_call(), exj_buf_slice(&b));
    exj_buf_release(&b);
}

void exj_serve_divert(void)
{
    exj_log_setup(EXJ_LOG_DEBUG, true); /* the core decides what it shows */
    exj_log_divert(log_to_core);
    exj_misdeed_divert(misdeed_to_core);
}

/* ---- cancelled calls -------------------------------------------------------------------- */

static void *listen_for_cancels(void *none)
{
    char bytes[16];
    size_t n = 0;

    (void)none;
    exj_crash_thread(); /* the cancel hint is the plugin's code */
    for (;;) {
        ssize_t got = read(EXJ_HOST_FD_CANCEL, bytes + n, sizeof bytes - n);
        exj_wire_reader r = { .left = { bytes, sizeof bytes } };
        uint64_t call, reason;
        exj_job *j;

        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            _exit(0); /* the core is gone; the plugin may never come back to see it */
        if (got < 0)
            return NULL; /* the plugin closed it */
        n += (size_t)got;
        if (n < sizeof bytes)
            continue;
        n = 0;
        call = exj_wire_get_u64(&r);
        reason = exj_wire_get_u64(&r);
        j = exj_job_cancel(call, reason == EXJ_R_DEADLINE ? EXJ_R_DEADLINE : EXJ_R_CANCELLED);
        if (!j)
            continue;
        exj_crash_in_call(call);
        exj_call_cancel(j->slot);
        exj_crash_in_call(0);
        exj_job_drop(j);
    }
}

void exj_serve_cancels(void)
{
    pthread_t id;
    int failed = pthread_create(&id, NULL, listen_for_cancels, NULL);

    if (failed)
        exj_die("cannot start the thread that listens for cancelled calls: %s",
                strerror(failed));
    pthread_detach(id);
}

/* ---- results ---------------------------------------------------------------------------- */

/* Which row and which generation it is only the core knows: its name and token say it too. */
static void record_call(const exj_job *j, exj_hist_phase phase)
{
    exj_hist_event e = { .op = EXJ_HIST_EXECUTE, .phase = phase, .id = j->call };

    if (!record || !j->args.job_id.n)
        return;
    e.token = (int64_t)j->args.token;
    e.attempt = j->args.attempt;
    e.job = (exj_slice){ j->args.job_id.p, j->args.job_id.n };
    exj_recorder_write(record, &e);
}

static void say_result(exj_job *j, const exj_call_end *end)
{
    exj_result refused = exj_job_settle(j), result = end->result;
    exj_buf b = EXJ_BUF_INIT;

    /* What the plugin could not know any more: its last records were refused. */
    if (result == EXJ_R_OK && refused != EXJ_R_CANCELLED)
        result = refused;
    exj_wire_u32(&b, (uint32_t)result);
    exj_wire_u32(&b, end->emits);
    exj_wire_text(&b, end->error_code);
    exj_wire_text(&b, end->error_text);
    exj_wire_text(&b, end->answer);
    exj_wire_u64(&b, (uint64_t)(exj_clock_mono_ns() - j->begun));
    if (b.failed)
        exj_die("out of memory for an answer of %zu bytes", end->answer.n);
    record_call(j, EXJ_HIST_OK);
    exj_job_close(j);
    exj_link_lock();
    j->answered = true;
    exj_link_say_locked(EXJ_F_RESULT, j->call, exj_buf_slice(&b));
    exj_link_unlock();
    exj_buf_release(&b);
}

/* A PENDING call ended, on a thread of the plugin's. */
static void done(void *user, exj_call_slot *s, const exj_call_end *end)
{
    exj_job *j = user;

    (void)s;
    say_result(j, end);
    exj_job_drop(j);
}

/* ---- orders ----------------------------------------------------------------------------- */

static exj_str str_of(exj_slice s)
{
    return (exj_str){ s.p, s.n };
}

static void do_call(exj_order *o)
{
    exj_wire_reader r = { .left = o->mem->body };
    exj_job *j = exj_job_open(o->call, answer_max);
    uint64_t timeout;
    uint32_t same;
    exj_call_end end;
    exj_str model;

    j->args.size_of = EXJ_SIZE(exj_args, token);
    j->args.attempt = exj_wire_get_u32(&r);
    timeout = exj_wire_get_u64(&r);
    j->args.token = exj_wire_get_u64(&r);
    same = exj_wire_get_u32(&r);
    model = str_of(exj_wire_get_text(&r));
    j->args.runtime = str_of(exj_wire_get_text(&r));
    j->args.job_id = str_of(exj_wire_get_text(&r));
    j->args.record_id = str_of(exj_wire_get_text(&r));
    if (!exj_wire_done(&r) || same > 1 || (same && (model.n || !last_model)))
        exj_die("the core sent a malformed CALL of %zu bytes", o->mem->body.n);
    j->mem = exj_mem_ref(o->mem);
    if (!same) {
        exj_mem_unref(last_model);
        last_model = exj_mem_ref(o->mem);
        last_model_text = model;
    }
    j->model = exj_mem_ref(last_model);
    j->args.model = last_model_text;
    if (timeout && timeout < UINT64_MAX - (uint64_t)j->begun)
        j->deadline = (uint64_t)j->begun + timeout;
    j->args.deadline_ns = j->deadline;
    exj_job_ports(j, guest->vt.kind == EXJ_KIND_SOURCE_RESOLVER);

    exj_job_hold(j); /* until it is answered */
    record_call(j, EXJ_HIST_INVOKE);
    exj_crash_in_call(o->call);
    if (exj_call_run(instance, j->slot, &j->args, &j->ports, &end, done)) {
        say_result(j, &end);
        exj_job_drop(j);
    } else {
        exj_link_lock();
        if (!j->answered)
            exj_link_say_locked(EXJ_F_PENDING, j->call, (exj_slice){ 0 });
        exj_link_unlock();
    }
    exj_crash_in_call(0);
    exj_job_drop(j);
}

struct other {
    exj_frame_type type;
    exj_str text;
    uint32_t from;
};

static exj_result call_other(exj_instance *i, exj_call c, const void *user)
{
    const exj_plugin *vt = &i->guest->vt;
    const struct other *o = user;

    switch (o->type) {
    case EXJ_F_MODEL:
        return vt->resolve_model ? vt->resolve_model(i->self, c, o->text) : EXJ_R_UNSUPPORTED;
    case EXJ_F_TEST:
        return vt->self_test ? vt->self_test(i->self, c) : EXJ_R_UNSUPPORTED;
    case EXJ_F_SAVE:
        return vt->save_state ? vt->save_state(i->self, c) : EXJ_R_UNSUPPORTED;
    default:
        return vt->load_state ? vt->load_state(i->self, o->from, o->text) : EXJ_R_UNSUPPORTED;
    }
}

static void do_other(exj_order *o)
{
    exj_wire_reader r = { .left = o->mem->body };
    struct other other = { .type = o->type };
    exj_job *j = exj_job_open(o->call, answer_max > OTHER_MAX ? answer_max : OTHER_MAX);
    exj_call_end end;

    if (o->type == EXJ_F_LOAD)
        other.from = exj_wire_get_u32(&r);
    if (o->type == EXJ_F_LOAD || o->type == EXJ_F_MODEL)
        other.text = str_of(exj_wire_get_text(&r));
    if (!exj_wire_done(&r))
        exj_die("the core sent a malformed frame of type %u and %zu bytes", o->type,
                o->mem->body.n);
    exj_job_no_ports(j);
    exj_crash_in_call(o->call);
    exj_call_other(instance, j->slot, &j->ports, call_other, &other, &end);
    exj_crash_in_call(0);
    say_result(j, &end);
    exj_job_drop(j);
}

/* ---- create ----------------------------------------------------------------------------- */

/* What create answered, and what it said; exj_instance_new makes one sentence of both. */
static exj_result (*real_create)(const exj_host *h, exj_str config, void **ret);
static exj_result created;
static char created_text[EXJ_ERR_TEXT_BYTES];

/* Threads that the plugin starts through its host get a stack for the crash handler. */
static exj_result (*real_thread_start)(void *ctx, void (*fn)(void *), void *arg);

struct start {
    void (*fn)(void *);
    void *arg;
};

static void run_with_stack(void *p)
{
    struct start s = *(struct start *)p;

    free(p);
    exj_crash_thread();
    s.fn(s.arg);
    exj_crash_thread_end();
}

static exj_result thread_start(void *ctx, void (*fn)(void *), void *arg)
{
    struct start *s = fn ? malloc(sizeof *s) : NULL;
    exj_result r;

    if (!s)
        return fn ? EXJ_R_RETRY : EXJ_R_INPUT;
    *s = (struct start){ fn, arg };
    r = real_thread_start(ctx, run_with_stack, s);
    if (r)
        free(s);
    return r;
}

static exj_result create_and_listen(const exj_host *h, exj_str config, void **ret)
{
    exj_instance *i = h->ctx;

    real_thread_start = i->host.thread_start;
    i->host.thread_start = thread_start;
    created = real_create(h, config, ret);
    pthread_mutex_lock(&i->mu);
    snprintf(created_text, sizeof created_text, "%s", i->error);
    pthread_mutex_unlock(&i->mu);
    return created;
}

static void do_create(exj_order *o)
{
    exj_wire_reader r = { .left = o->mem->body };
    uint32_t index = exj_wire_get_u32(&r);
    exj_slice config = exj_wire_get_text(&r);
    exj_buf b = EXJ_BUF_INIT;
    exj_err err = { 0 };

    if (!exj_wire_done(&r) || index >= file->guests_len || instance)
        exj_die("the core sent a malformed CREATE: plugin %u of %zu%s", index, file->guests_len,
                instance ? ", and one was created before" : "");
    guest = &file->guests[index];
    real_create = guest->vt.create;
    guest->vt.create = create_and_listen;
    created = EXJ_R_RETRY; /* it may not even have been asked: out of memory */
    if (exj_instance_new(guest, config, &instance, &err) == EXJ_OK)
        created = EXJ_R_OK;
    else if (created == EXJ_R_RETRY && !created_text[0])
        snprintf(created_text, sizeof created_text, "%s", err.text);
    exj_wire_u32(&b, (uint32_t)created);
    exj_wire_text(&b, exj_slice_of(created_text));
    if (b.failed)
        exj_die("out of memory");
    exj_link_say(EXJ_F_CREATED, o->call, exj_buf_slice(&b));
    exj_buf_release(&b);
}

void exj_serve(exj_plugin_file *f, uint32_t max, exj_recorder *r)
{
    file = f;
    record = r;
    answer_max = max;
    for (;;) {
        exj_order *o = exj_link_next();

        if (o->type != EXJ_F_CREATE && o->type != EXJ_F_BYE && !instance)
            exj_die("the core sent a frame of type %u and no plugin was created", o->type);
        switch (o->type) {
        case EXJ_F_CREATE:
            do_create(o);
            break;
        case EXJ_F_CALL:
            do_call(o);
            break;
        case EXJ_F_BYE:
            exj_order_free(o);
            exj_instance_free(instance);
            return;
        default:
            do_other(o);
            break;
        }
        exj_order_free(o);
    }
}
