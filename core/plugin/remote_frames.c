/* core/plugin/remote_frames.c - what is said to a plugin host, and what it says. */
#include "core/plugin/remote_inside.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "exellix/ext/kv.h"
#include "exellix/ext/metrics.h"

#define WINDOW 256u /* calls sent and not answered */
#define SCRATCH_KEEP (256u * 1024u)
#define SOME_BYTES (64u * 1024u) /* queued before they are flushed */
#define PLUGINS_MAX 64u

static exj_str str_of(exj_slice s)
{
    return (exj_str){ s.p, s.n };
}

static exj_slice slice_of(exj_str s)
{
    return (exj_slice){ s.p, (size_t)s.n };
}

/* ---- sending ---------------------------------------------------------------------- */

/* [send_mu] */
static void flush(exj_rhost *h)
{
    exj_code rc = exj_wire_flush(h->wire, NULL);

    atomic_store(&h->has_unsent, rc == EXJ_BUSY);
    if (rc && rc != EXJ_BUSY)
        atomic_store(&h->broken, true);
}

static void say_with(exj_rhost *h, exj_frame_type type, uint64_t call, exj_slice body)
{
    exj_code rc = exj_wire_queue(h->wire, type, call, body, NULL);

    if (rc) { /* it would wait for this for ever */
        atomic_store(&h->our_fault, rc != EXJ_IO);
        atomic_store(&h->broken, true);
    } else {
        flush(h);
    }
}

void exj_remote_say(exj_remote *r, exj_rhost *h, exj_frame_type type, uint64_t call,
                    exj_slice body)
{
    pthread_mutex_lock(&r->send_mu);
    say_with(h, type, call, body);
    pthread_mutex_unlock(&r->send_mu);
}

/* Into r->scratch. True: the model went without saying. */
static bool encode(exj_remote *r, const exj_rhost *h, const exj_rcall *c)
{
    exj_buf *b = &r->scratch;
    const exj_args *a = c->args;
    bool same = false;

    if (b->cap > SCRATCH_KEEP)
        exj_buf_release(b);
    exj_buf_reset(b);
    switch (c->kind) {
    case EXJ_RCALL_EXECUTE:
        same =
            h->has_model && exj_slice_equal(exj_buf_slice(&h->model), slice_of(a->model));
        exj_wire_u32(b, a->attempt);
        exj_wire_u64(b, (uint64_t)c->timeout);
        exj_wire_u64(b, a->token);
        exj_wire_u32(b, same);
        exj_wire_text(b, same ? (exj_slice){ "", 0 } : slice_of(a->model));
        exj_wire_text(b, slice_of(a->runtime));
        exj_wire_text(b, slice_of(a->job_id));
        exj_wire_text(b, slice_of(a->record_id));
        break;
    case EXJ_RCALL_MODEL:
        exj_wire_text(b, slice_of(c->text));
        break;
    case EXJ_RCALL_LOAD:
        exj_wire_u32(b, r->state_version);
        exj_wire_text(b, exj_buf_slice(&r->state));
        break;
    case EXJ_RCALL_TEST:
    case EXJ_RCALL_SAVE:
        break;
    }
    return same;
}

/* [send_mu] EXJ_OK: it will be in the host's hands. */
static exj_code queue_call(exj_remote *r, exj_rhost *h, exj_rcall *c)
{
    static const exj_frame_type types[] = { EXJ_F_CALL, EXJ_F_MODEL, EXJ_F_TEST,
                                            EXJ_F_SAVE, EXJ_F_LOAD };
    bool same = encode(r, h, c);
    exj_slice body;
    exj_code rc;

    if (r->scratch.failed)
        return EXJ_NOMEM;
    body = exj_buf_slice(&r->scratch);
    rc = exj_wire_queue(h->wire, types[c->kind], c->id, body, NULL);
    if (!rc && c->kind == EXJ_RCALL_EXECUTE && !same) {
        exj_buf_reset(&h->model);
        h->has_model = exj_buf_add_slice(&h->model, slice_of(c->args->model));
    }
    return rc;
}

void exj_remote_begin_locked(exj_remote *r, exj_rcall *c)
{
    exj_nsec due = EXJ_TICK_NS;

    c->begun = r->used_at = exj_clock_mono_ns();
    if (c->timeout && c->timeout < due)
        due = c->timeout;
    due += c->begun;
    if (!r->check_at || due < r->check_at)
        r->check_at = due;
}

bool exj_remote_can_send_locked(const exj_remote *r)
{
    const exj_rhost *h = r->now;

    return r->waiting.first && h && h->state == EXJ_RHOST_READY && !h->ending &&
           !atomic_load(&h->broken) && !atomic_load(&h->has_unsent) &&
           r->sent.n + r->pending.n < (r->one_call ? 1 : WINDOW);
}

/* [send_mu] Queue some of those that wait. Returns how many. */
static unsigned queue_some_locked(exj_remote *r)
{
    size_t bytes = 0;
    unsigned n = 0;

    while (bytes < SOME_BYTES && exj_remote_can_send_locked(r)) {
        exj_rcall *c = r->waiting.first;
        exj_code rc = queue_call(r, r->now, c);

        if (rc == EXJ_IO)
            atomic_store(&r->now->broken,
                         true); /* what is left waits for the next host */
        if (rc)
            break;
        bytes += r->scratch.n;
        n++;
        exj_rcalls_drop(&r->waiting, c);
        if (r->sent.n == 0)
            exj_remote_begin_locked(r, c);
        exj_rcalls_add(&r->sent, c);
    }
    return n;
}

bool exj_remote_push(exj_remote *r)
{
    bool more = true;
    unsigned n = 1;

    while (more && n) {
        exj_rhost *h;

        if (pthread_mutex_trylock(&r->send_mu))
            return true; /* who has it looks again when he has let it go */
        pthread_mutex_lock(&r->mu);
        h = r->now;
        n = queue_some_locked(r);
        pthread_mutex_unlock(&r->mu);
        if (n)
            flush(h);
        pthread_mutex_unlock(&r->send_mu);
        pthread_mutex_lock(&r->mu);
        if (r->now && (atomic_load(&r->now->has_unsent) || atomic_load(&r->now->broken)))
            exj_remote_wake_locked(r); /* the pump goes on with it */
        more = exj_remote_can_send_locked(r);
        pthread_mutex_unlock(&r->mu);
    }
    return !more;
}

/* ---- HELLO ------------------------------------------------------------------------ */

static bool read_plugin(exj_wire_reader *w, exj_remote_plugin *p)
{
    exj_slice id = exj_wire_get_text(w), version = exj_wire_get_text(w), describe;

    p->kind = exj_wire_get_u32(w);
    p->flags = exj_wire_get_u32(w);
    p->state_version = exj_wire_get_u32(w);
    p->has = exj_wire_get_u32(w);
    describe = exj_wire_get_text(w);
    if (w->failed)
        return false;
    p->id = exj_slice_dup(id);
    p->version = exj_slice_dup(version);
    return p->id && p->version && exj_buf_add_slice(&p->describe, describe);
}

bool exj_remote_read_hello(const exj_frame *f, uint32_t *ret_cage,
                           exj_remote_plugin **ret, size_t *ret_len, exj_err *err)
{
    exj_wire_reader w = { .left = f->body };
    uint32_t version = exj_wire_get_u32(&w), n;
    exj_remote_plugin *plugins;
    bool good = true;

    *ret_cage = exj_wire_get_u32(&w);
    n = exj_wire_get_u32(&w);
    if (w.failed || version != EXJ_WIRE_VERSION || n > PLUGINS_MAX) {
        exj_err_set(err, EXJ_INVALID,
                    "it speaks version %u and has %u plugins; wanted version "
                    "%u and at most %u",
                    version, n, EXJ_WIRE_VERSION, PLUGINS_MAX);
        return false;
    }
    if (!ret)
        return true;
    plugins = calloc(n ? n : 1, sizeof *plugins);
    for (uint32_t k = 0; plugins && good && k < n; k++)
        good = read_plugin(&w, &plugins[k]);
    if (!plugins || !good || !exj_wire_done(&w)) {
        exj_remote_plugins_free(plugins, n);
        exj_err_set(err, EXJ_INVALID, "its HELLO is cut short");
        return false;
    }
    *ret = plugins;
    *ret_len = n;
    return true;
}

/* ---- questions -------------------------------------------------------------------- */

static exj_code code_of(exj_result r)
{
    switch (r) {
    case EXJ_R_OK:
        return EXJ_OK;
    case EXJ_R_MISS:
        return EXJ_NOT_FOUND;
    case EXJ_R_CANCELLED:
        return EXJ_CANCELLED;
    case EXJ_R_UNSUPPORTED:
        return EXJ_UNSUPPORTED;
    case EXJ_R_INPUT:
        return EXJ_INVALID;
    case EXJ_R_RETRY:
        return EXJ_BUSY;
    case EXJ_R_FAILED:
        return EXJ_REFUSED;
    default:
        return EXJ_IO;
    }
}

static void reply(exj_remote *r, exj_rhost *h, uint64_t call, uint32_t code, exj_str text)
{
    exj_buf *b = &r->scratch;

    pthread_mutex_lock(&r->send_mu);
    exj_buf_reset(b);
    exj_wire_u32(b, code);
    exj_wire_text(b, slice_of(text));
    if (b->failed) { /* no room for the text: it is told that, not left waiting */
        char le[8] = { EXJ_NOMEM };

        say_with(h, EXJ_F_REPLY, call, (exj_slice){ le, sizeof le });
    } else {
        say_with(h, EXJ_F_REPLY, call, exj_buf_slice(b));
    }
    if (b->cap > SCRATCH_KEEP)
        exj_buf_release(b);
    pthread_mutex_unlock(&r->send_mu);
}

static void answer_question(exj_remote *r, exj_rhost *h, const exj_frame *f,
                            exj_slice key, exj_slice body, int64_t delta)
{
    const exj_host *t = r->table;
    const exj_ext_kv *kv = NULL;
    exj_str text = { "", 0 };
    exj_result result = EXJ_R_UNSUPPORTED;
    int64_t sum = 0;
    char le[8];

    if (f->type != EXJ_F_STEP_GET && f->type != EXJ_F_STEP_PUT && f->type != EXJ_F_STEP_BEGIN)
        kv = t->extension(t->ctx, EXJ_EXT_KV);
    switch ((int)f->type) {
    case EXJ_F_STEP_GET:
        result = t->journal_lookup(t->ctx, f->call, str_of(key), &text);
        break;
    case EXJ_F_STEP_BEGIN:
        result = t->journal_intent(t->ctx, f->call, str_of(key));
        break;
    case EXJ_F_STEP_PUT:
        result = t->journal_commit(t->ctx, f->call, str_of(key), str_of(body));
        break;
    case EXJ_F_KV_GET:
        if (kv)
            result = kv->get(t->ctx, f->call, str_of(key), &text);
        break;
    case EXJ_F_KV_PUT:
        if (kv)
            result = kv->put(t->ctx, f->call, str_of(key), str_of(body));
        break;
    case EXJ_F_KV_REMOVE:
        if (kv)
            result = kv->remove(t->ctx, f->call, str_of(key));
        break;
    default:
        if (kv && EXJ_HAS(kv, exj_ext_kv, add))
            result = kv->add(t->ctx, f->call, str_of(key), delta, &sum);
        for (size_t k = 0; k < sizeof le; k++)
            le[k] = (char)(unsigned char)((uint64_t)sum >> (8 * k));
        text = (exj_str){ le, sizeof le };
        break;
    }
    if (result != EXJ_R_OK)
        text = (exj_str){ "", 0 };
    reply(r, h, f->call, (uint32_t)code_of(result), text);
}

static void take_metric(exj_remote *r, uint64_t call, uint32_t kind, exj_slice name,
                        double value)
{
    const exj_host *t = r->table;
    const exj_ext_metrics *m = t->extension(t->ctx, EXJ_EXT_METRICS);

    if (!m)
        return;
    if (kind == EXJ_SAMPLE_COUNTER)
        m->counter_add(t->ctx, call, str_of(name), value);
    else if (kind == EXJ_SAMPLE_GAUGE)
        m->gauge_set(t->ctx, call, str_of(name), value);
    else if (kind == EXJ_SAMPLE_SECONDS)
        m->observe_seconds(t->ctx, call, str_of(name), value);
}

/* ---- ends of calls ---------------------------------------------------------------- */

/* The call that has begun and is not over; NULL: none of that id. */
static exj_rcall *find_begun_locked(exj_remote *r, uint64_t id)
{
    if (r->sent.first && r->sent.first->id == id)
        return r->sent.first;
    for (exj_rcall *c = r->pending.first; c; c = c->next)
        if (c->id == id)
            return c;
    return NULL;
}

static bool is_begun(exj_remote *r, uint64_t id)
{
    bool is;

    pthread_mutex_lock(&r->mu);
    is = find_begun_locked(r, id) != NULL;
    pthread_mutex_unlock(&r->mu);
    return is;
}

static exj_code take_pending(exj_remote *r, const exj_frame *f, exj_err *err)
{
    exj_rcall *c;
    bool good;

    pthread_mutex_lock(&r->mu);
    c = r->sent.first;
    good = c && c->id == f->call && (r->guest->vt.flags & EXJ_FLAG_ASYNC);
    if (good) {
        exj_rcalls_drop(&r->sent, c);
        exj_rcalls_add(&r->pending, c);
        if (r->sent.first)
            exj_remote_begin_locked(r, r->sent.first);
    }
    pthread_mutex_unlock(&r->mu);
    if (good)
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID,
                       "PENDING of a call that does not run, or without "
                       "EXJ_FLAG_ASYNC");
}

static exj_code take_result(exj_remote *r, exj_rhost *h, const exj_frame *f, exj_err *err)
{
    exj_wire_reader w = { .left = f->body };
    exj_result result = (exj_result)exj_wire_get_u32(&w);
    uint32_t emits = exj_wire_get_u32(&w);
    exj_slice code = exj_wire_get_text(&w), text = exj_wire_get_text(&w);
    exj_slice answer = exj_wire_get_text(&w);
    const exj_host *t = r->table;
    exj_rcall_kind kind = EXJ_RCALL_EXECUTE;
    exj_call id = f->call;
    exj_rcall *c;

    exj_wire_get_u64(&w); /* how long it took */
    if (!exj_wire_done(&w))
        return exj_err_set(err, EXJ_INVALID, "a RESULT is cut short or too long");
    pthread_mutex_lock(&r->mu);
    c = find_begun_locked(r, id);
    if (c) {
        bool head = c == r->sent.first;

        kind = c->kind;
        exj_rcalls_drop(head ? &r->sent : &r->pending, c);
        if (head && r->sent.first)
            exj_remote_begin_locked(r, r->sent.first);
        else
            r->used_at = exj_clock_mono_ns();
        r->crashes_in_row = 0;
        if (kind == EXJ_RCALL_LOAD) {
            r->load_over = true;
            r->load_result = result;
            pthread_cond_broadcast(&r->loaded);
        }
        c->next = r->spare;
        r->spare = c;
        if (r->one_call && kind != EXJ_RCALL_LOAD)
            exj_remote_leave_locked(r, h);
    }
    pthread_mutex_unlock(&r->mu);
    if (!c)
        return exj_err_set(err, EXJ_INVALID, "a RESULT of a call that does not run");
    if (kind == EXJ_RCALL_LOAD)
        return EXJ_OK;
    if (result >= EXJ_R_CRASHED)
        result = -1; /* these are ours to give; call.c says that it is unknown */
    if (emits &&
        !(kind == EXJ_RCALL_EXECUTE && r->guest->vt.kind == EXJ_KIND_SOURCE_RESOLVER) &&
        t->emit(t->ctx, id, str_of(answer)) == EXJ_R_RETRY)
        result = EXJ_R_RETRY; /* no memory for it */
    if (code.n || text.n)
        t->error(t->ctx, id, result, str_of(code), str_of(text));
    t->complete(t->ctx, id, result);
    return EXJ_OK;
}

/* ---- all frames ------------------------------------------------------------------- */

static exj_code take_start(exj_remote *r, exj_rhost *h, const exj_frame *f, exj_err *err)
{
    exj_wire_reader w = { .left = f->body };
    char said[400];
    exj_result result;
    exj_slice text;

    if (f->type == EXJ_F_REFUSED) {
        text = exj_wire_get_text(&w);
        exj_clean_text(text.p, text.n, said, sizeof said);
        return exj_err_set(err, EXJ_REFUSED, "%s", said[0] ? said : "it did not say why");
    }
    if (h->state == EXJ_RHOST_HELLO && f->type == EXJ_F_HOST_HELLO) {
        exj_buf create = EXJ_BUF_INIT;

        if (!exj_remote_read_hello(f, &h->cage, NULL, NULL, err))
            return EXJ_INVALID;
        exj_wire_u32(&create, r->guest->index);
        exj_wire_text(&create, exj_buf_slice(&r->config));
        if (create.failed) {
            exj_buf_release(&create);
            return exj_err_set(err, EXJ_REFUSED, "out of memory");
        }
        exj_remote_say(r, h, EXJ_F_CREATE, 0, exj_buf_slice(&create));
        pthread_mutex_lock(&r->mu);
        r->cage = h->cage;
        h->state = EXJ_RHOST_CREATE;
        pthread_mutex_unlock(&r->mu);
        exj_buf_release(&create);
        return EXJ_OK;
    }
    if (h->state == EXJ_RHOST_CREATE && f->type == EXJ_F_CREATED) {
        result = (exj_result)exj_wire_get_u32(&w);
        text = exj_wire_get_text(&w);
        if (!exj_wire_done(&w))
            return exj_err_set(err, EXJ_INVALID, "CREATED is cut short");
        exj_clean_text(text.p, text.n, said, sizeof said);
        if (result != EXJ_R_OK)
            return exj_err_set(err, EXJ_REFUSED, "create answered %d%s%s", (int)result,
                               said[0] ? ": " : "", said);
        pthread_mutex_lock(&r->mu);
        h->state = EXJ_RHOST_READY;
        r->failures_in_row = 0;
        r->used_at = exj_clock_mono_ns();
        pthread_mutex_unlock(&r->mu);
        return EXJ_OK;
    }
    return exj_err_set(err, EXJ_INVALID, "a frame of type %d while it is started",
                       (int)f->type);
}

static exj_code take_note(exj_remote *r, const exj_frame *f, exj_err *err)
{
    exj_wire_reader w = { .left = f->body };
    const exj_host *t = r->table;
    uint32_t level = f->type == EXJ_F_LOG ? exj_wire_get_u32(&w) : 0;
    exj_slice text = exj_wire_get_text(&w);
    char said[200];

    if (!exj_wire_done(&w))
        return exj_err_set(err, EXJ_INVALID, "a note is cut short or too long");
    if (f->type == EXJ_F_LOG) {
        t->log(t->ctx, 0, (int32_t)(level & 0xff), str_of(text));
    } else {
        exj_clean_text(text.p, text.n, said, sizeof said);
        exj_misdeed(r->instance, "%s", said);
    }
    return EXJ_OK;
}

static exj_result take_record(exj_remote *r, exj_rhost *h, exj_call call, exj_slice json)
{
    if (h->refused != EXJ_R_OK && h->refused_call == call)
        return h->refused;
    h->refused = r->table->emit(r->table->ctx, call, str_of(json));
    h->refused_call = call;
    return h->refused;
}

exj_code exj_remote_take(exj_remote *r, exj_rhost *h, const exj_frame *f, exj_err *err)
{
    exj_wire_reader w = { .left = f->body };
    const exj_host *t = r->table;
    exj_slice key = { "", 0 }, body = { "", 0 };
    uint32_t kind = 0;
    int64_t delta = 0;
    double value = 0.0;

    if (f->type == EXJ_F_LOG || f->type == EXJ_F_MISDEED)
        return take_note(r, f, err);
    if (h->state == EXJ_RHOST_LEAVES)
        return EXJ_OK; /* nobody is interested any more */
    if (h->state != EXJ_RHOST_READY)
        return take_start(r, h, f, err);
    if (f->type == EXJ_F_RESULT)
        return take_result(r, h, f, err);
    if (f->type == EXJ_F_PENDING)
        return take_pending(r, f, err);

    switch ((int)f->type) {
    case EXJ_F_EMIT:
    case EXJ_F_STEP_GET:
    case EXJ_F_STEP_BEGIN:
    case EXJ_F_KV_GET:
    case EXJ_F_KV_REMOVE:
        key = exj_wire_get_text(&w);
        break;
    case EXJ_F_STEP_PUT:
    case EXJ_F_KV_PUT:
        key = exj_wire_get_text(&w);
        body = exj_wire_get_text(&w);
        break;
    case EXJ_F_KV_ADD:
        key = exj_wire_get_text(&w);
        delta = (int64_t)exj_wire_get_u64(&w);
        break;
    case EXJ_F_PROGRESS:
        value = exj_wire_get_f64(&w);
        key = exj_wire_get_text(&w);
        break;
    case EXJ_F_METRIC:
        kind = exj_wire_get_u32(&w);
        key = exj_wire_get_text(&w);
        value = exj_wire_get_f64(&w);
        break;
    default:
        return exj_err_set(err, EXJ_INVALID,
                           "a frame of type %d is not a plugin host's to send",
                           (int)f->type);
    }
    if (!exj_wire_done(&w))
        return exj_err_set(err, EXJ_INVALID,
                           "a frame of type %d is cut short or too long", (int)f->type);
    if (h != r->now || !is_begun(r, f->call))
        return exj_err_set(err, EXJ_INVALID,
                           "a frame of type %d for a call that does not run",
                           (int)f->type);
    if (f->call == EXJ_RCALL_OWN)
        return EXJ_OK; /* load_state has nobody to talk to */
    if (f->type == EXJ_F_PROGRESS)
        t->progress(t->ctx, f->call, value, str_of(key));
    else if (f->type == EXJ_F_METRIC)
        take_metric(r, f->call, kind, key, value);
    else if (f->type == EXJ_F_EMIT)
        reply(r, h, f->call, (uint32_t)take_record(r, h, f->call, key), (exj_str){ "", 0 });
    else
        answer_question(r, h, f, key, body, delta);
    return EXJ_OK;
}
