/* core/plugin/call.c - one door to a guest: calls, and what a guest may ask during one.
 *
 * A call is a slot of a table of fixed size; its id is a generation and the slot's index.
 * One atomic word per slot tells everything about its life:
 *
 *     generation (52 bits, odd: a call is in it) | pins (12 bits: who is inside right now)
 *
 * A host function pins the call it is given: the pin fails when the generation is not the
 * slot's, so an id that is stale, made up or somebody else's touches nothing. The one who
 * runs execute holds a pin as well. A call is ended by moving the generation on; whoever
 * drops the last pin after that closes it. So complete() may come from any thread, also
 * from inside the cancel hint or before execute returned, and nobody waits for himself.
 *
 * Slots are never given back to the system (a stale id must find something to be compared
 * with); their buffers are.
 */
#include "core/plugin/call_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/base/log.h"

#define SLOT_BITS 12
#define SLOTS (1u << SLOT_BITS)
#define PINS (SLOTS - 1) /* mask; 4095 threads at once inside one call are enough */
#define GENERATION ((uint64_t)1 << SLOT_BITS)
#define KEEP_BYTES (256u * 1024u) /* a slot gives back a buffer that one call made larger */

static exj_call_slot table[SLOTS]; /* untouched pages cost nothing */
static pthread_mutex_t table_mu = PTHREAD_MUTEX_INITIALIZER; /* making and freeing slots */
static exj_call_slot *table_free;
static uint32_t table_used;

static _Atomic uint64_t misdeeds;

/* ---- texts and misdeeds --------------------------------------------------------------- */

size_t exj_clean_text(const char *p, uint64_t n, char *ret, size_t cap)
{
    size_t at = 0, out = 0;

    if (!p)
        n = 0;
    while (at < n && out + 1 < cap) {
        unsigned char c = (unsigned char)p[at];
        size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

        if (c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f)) {
            ret[out++] = c == '\n' || c == '\t' ? ' ' : (char)c;
            at++;
        } else if (c < 0x20 || c == 0x7f) {
            ret[out++] = ' ';
            at++;
        } else if (c >= 0xc2 && len <= n - at &&
                   exj_utf8_is_valid((exj_slice){ p + at, len })) {
            if (out + len >= cap)
                break;
            memcpy(ret + out, p + at, len);
            out += len;
            at += len;
        } else {
            ret[out++] = '?';
            at++;
        }
    }
    if (cap)
        ret[out] = 0;
    return out;
}

static void (*diverted)(const char *text); /* set before threads start */
void exj_misdeed_divert(void (*to)(const char *text))
{
    diverted = to;
}

void exj_misdeed(exj_instance *i, const char *format, ...)
{
    char text[256];
    unsigned nth = i ? atomic_fetch_add(&i->misdeeds, 1) + 1 : 1;
    va_list ap;

    atomic_fetch_add(&misdeeds, 1);
    if (nth > 8 && (nth & (nth - 1)) != 0)
        return; /* a plugin must not fill the log: 1 to 8, then 16, 32, … */
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (diverted)
        diverted(text);
    else if (i)
        exj_log(EXJ_LOG_WARN, "plugin", "plugin-misbehaves: %s %s: %s (%u so far)",
                i->guest->id, i->guest->version, text, nth);
    else
        exj_log(EXJ_LOG_WARN, "plugin", "plugin-misbehaves: %s", text);
}

uint64_t exj_plugin_misdeeds(void)
{
    return atomic_load(&misdeeds);
}

/* ---- the life of a call --------------------------------------------------------------- */

static exj_call id_of(const exj_call_slot *s, uint64_t life)
{
    return (life & ~(uint64_t)PINS) | (uint64_t)(s - table);
}

static void write_error(exj_call_slot *s, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Our own words about a call, with the name of who is to blame in front. */
static void write_error(exj_call_slot *s, const char *code, const char *format, ...)
{
    const exj_guest *g = s->instance->guest;
    va_list ap;
    int n;

    pthread_mutex_lock(&s->mu);
    s->code_n = (size_t)snprintf(s->code, sizeof s->code, "%s", code);
    n = snprintf(s->text, sizeof s->text, "plugin %s %s: ", g->id, g->version);
    va_start(ap, format);
    if (n >= 0 && (size_t)n < sizeof s->text)
        n += vsnprintf(s->text + n, sizeof s->text - (size_t)n, format, ap);
    va_end(ap);
    s->text_n = n < 0 ? 0 : (size_t)n < sizeof s->text ? (size_t)n : sizeof s->text - 1;
    pthread_mutex_unlock(&s->mu);
}

static void serial_enter(exj_guest *g)
{
    if (!(g->vt.flags & EXJ_FLAG_SERIAL_ALL))
        return;
    pthread_mutex_lock(&g->serial_mu);
    while (g->serial_busy)
        pthread_cond_wait(&g->serial_free, &g->serial_mu);
    g->serial_busy = true;
    pthread_mutex_unlock(&g->serial_mu);
}

static void serial_leave(exj_guest *g)
{
    if (!(g->vt.flags & EXJ_FLAG_SERIAL_ALL))
        return;
    pthread_mutex_lock(&g->serial_mu);
    g->serial_busy = false;
    pthread_cond_signal(&g->serial_free);
    pthread_mutex_unlock(&g->serial_mu);
}

/* One more or less of what exj_instance_free waits for. After the last the instance may
 * be gone. */
static void count(exj_instance *i, unsigned *what, int by)
{
    pthread_mutex_lock(&i->mu);
    *what = by > 0 ? *what + 1 : *what - 1;
    if (*what == 0)
        pthread_cond_broadcast(&i->calm);
    pthread_mutex_unlock(&i->mu);
}

/* The call is over and no thread is inside: judge it. */
static void fill_end(exj_call_slot *s, exj_call_end *ret)
{
    exj_instance *i = s->instance;

    if (s->too_large) {
        s->result = EXJ_R_FAILED;
        write_error(s, "AnswerTooLarge", "an answer may have %zu bytes at most", s->answer_max);
    } else if (s->result == EXJ_R_OK && s->answer_due && s->emits == 0) {
        s->result = EXJ_R_INTERNAL;
        write_error(s, "NoAnswer", "execute returned OK and emitted no answer");
        exj_misdeed(i, "returned OK and emitted no answer");
    }
    *ret = (exj_call_end){ .result = s->result,
                           .answer = exj_buf_slice(&s->answer),
                           .emits = s->emits,
                           .error_code = { s->code, s->code_n },
                           .error_text = { s->text, s->text_n } };
}

/* Drop a pin. True: it was the last of a call that is over. */
static bool unpin(exj_call_slot *s)
{
    uint64_t before = atomic_fetch_sub(&s->life, 1);

    return (before & PINS) == 1 && !(before & GENERATION);
}

/* Drop the pin of a host function. */
static void leave_call(exj_call_slot *s)
{
    void (*done)(void *user, exj_call_slot *s, const exj_call_end *end);
    void *user;
    exj_instance *i;
    exj_call_end end;

    if (!unpin(s))
        return;
    if (!atomic_load(&s->detached)) {
        pthread_mutex_lock(&s->mu);
        s->quiet = true;
        pthread_cond_broadcast(&s->over);
        pthread_mutex_unlock(&s->mu);
        return;
    }
    fill_end(s, &end);
    done = s->done;
    user = s->ports->user;
    i = s->instance;
    serial_leave(i->guest);
    count(i, &i->pending, -1);
    done(user, s, &end); /* slot and instance are the caller's again */
}

/* The slot of call `c` of this instance, pinned; NULL and a misdeed when there is none. */
static exj_call_slot *enter_call(exj_instance *i, exj_call c, const char *function)
{
    exj_call_slot *s = &table[c & PINS];
    uint64_t life = atomic_load(&s->life);

    do {
        if (((life ^ c) & ~(uint64_t)PINS) || !(life & GENERATION) || (life & PINS) == PINS) {
            exj_misdeed(i, "%s for a call that is over or never was (%llx)", function,
                        (unsigned long long)c);
            return NULL;
        }
    } while (!atomic_compare_exchange_weak(&s->life, &life, life + 1));
    if (s->instance == i)
        return s;
    leave_call(s);
    exj_misdeed(i, "%s for a call of another instance", function);
    return NULL;
}

exj_call_slot *exj_call_enter(exj_instance *i, exj_call c, const char *function)
{
    return enter_call(i, c, function);
}

void exj_call_leave(exj_call_slot *s)
{
    leave_call(s);
}

const exj_call_ports *exj_call_ports_of(const exj_call_slot *s)
{
    return s->ports;
}

exj_buf *exj_call_lock(exj_call_slot *s)
{
    pthread_mutex_lock(&s->mu);
    return &s->kv;
}

void exj_call_unlock(exj_call_slot *s)
{
    pthread_mutex_unlock(&s->mu);
}

/* Move the generation on. False: somebody did already. */
static bool end_call(exj_call_slot *s, exj_result r)
{
    if (atomic_exchange(&s->ended, true))
        return false;
    s->result = r;
    atomic_fetch_add(&s->life, GENERATION);
    return true;
}

/* Its functions are ours (core/plugin/remote.c), and its calls end on another thread. */
static bool is_remote(const exj_instance *i)
{
    return i->guest->lane == EXJ_LANE_HOST || i->guest->lane == EXJ_LANE_SANDBOX;
}

static exj_result judge_result(exj_call_slot *s, exj_result r)
{
    if (r >= EXJ_R_OK && r <= EXJ_R_INTERNAL && r != EXJ_R_PENDING)
        return r;
    if (r == EXJ_R_MISS && s->may_miss)
        return r;
    if ((r == EXJ_R_CRASHED || r == EXJ_R_NOT_STARTED) && is_remote(s->instance))
        return r; /* core/plugin/remote_pump.c's words, not the plugin's */
    write_error(s, "UnknownResult", "answered with the result %d", (int)r);
    exj_misdeed(s->instance, "answered with the result %d", (int)r);
    return EXJ_R_INTERNAL;
}

static exj_call begin(exj_instance *i, exj_call_slot *s, const exj_call_ports *ports)
{
    uint64_t life;

    if (s->answer.cap > KEEP_BYTES)
        exj_buf_release(&s->answer);
    if (s->step.cap > KEEP_BYTES)
        exj_buf_release(&s->step);
    exj_buf_reset(&s->answer);
    exj_buf_reset(&s->step);
    exj_buf_reset(&s->kv); /* never larger than one value */
    s->instance = i;
    s->ports = ports;
    s->single = i->guest->vt.kind != EXJ_KIND_SOURCE_RESOLVER || !ports->emit;
    s->quiet = s->too_large = false;
    s->emits = 0;
    s->code_n = s->text_n = 0;
    s->code[0] = s->text[0] = 0;
    s->result = EXJ_R_INTERNAL;
    atomic_store(&s->ended, false);
    atomic_store(&s->detached, false);
    serial_enter(i->guest);
    life = atomic_fetch_add(&s->life, GENERATION | 1) + (GENERATION | 1);
    return id_of(s, life);
}

/* The body returned `r`; false: it goes on. */
static bool settle(exj_call_slot *s, exj_result r, exj_call_end *ret)
{
    exj_instance *i = s->instance;
    bool pending = r == EXJ_R_PENDING, twice = false, detach;

    if (pending && !(i->guest->vt.flags & EXJ_FLAG_ASYNC) && !is_remote(i)) {
        write_error(s, "PendingNotFlagged", "returned PENDING without EXJ_FLAG_ASYNC");
        exj_misdeed(i, "returned PENDING without EXJ_FLAG_ASYNC");
        r = EXJ_R_INTERNAL;
        pending = false;
    }
    if (!pending) {
        r = judge_result(s, r);
        twice = !end_call(s, r); /* complete() came first */
    } else if (s->done) {
        count(i, &i->pending, 1);
        atomic_store(&s->detached, true);
    }
    detach = pending && s->done;
    if (!unpin(s)) {
        if (detach)
            return false; /* from here on the slot is whoever drops the last pin's */
        pthread_mutex_lock(&s->mu);
        while (!s->quiet)
            pthread_cond_wait(&s->over, &s->mu);
        pthread_mutex_unlock(&s->mu);
    }
    if (twice) {
        write_error(s, "DoubleCompletion", "completed the call and returned %d as well", (int)r);
        exj_misdeed(i, "completed a call and returned %d as well", (int)r);
        s->result = EXJ_R_INTERNAL;
    }
    fill_end(s, ret);
    if (detach)
        count(i, &i->pending, -1);
    serial_leave(i->guest);
    return true;
}

bool exj_call_run(exj_instance *i, exj_call_slot *s, const exj_args *args,
                  const exj_call_ports *ports, exj_call_end *ret,
                  void (*done)(void *user, exj_call_slot *s, const exj_call_end *end))
{
    exj_call c;

    s->args = *args;
    s->args.size_of = EXJ_SIZE(exj_args, token);
    s->done = done;
    s->answer_due = i->guest->vt.kind == EXJ_KIND_GRAPH_ENGINE;
    s->may_miss = false;
    c = begin(i, s, ports);
    return settle(s, i->guest->vt.execute(i->self, c, &s->args), ret);
}

void exj_call_other(exj_instance *i, exj_call_slot *s, const exj_call_ports *ports,
                    exj_call_body body, const void *user, exj_call_end *ret)
{
    exj_call c;

    s->done = NULL;
    s->answer_due = false;
    s->may_miss = true;
    c = begin(i, s, ports);
    settle(s, body(i, c, user), ret);
}

void exj_call_cancel(exj_call_slot *s)
{
    uint64_t life = atomic_load(&s->life);
    exj_instance *i;

    do {
        if (!(life & GENERATION) || (life & PINS) == PINS)
            return;
    } while (!atomic_compare_exchange_weak(&s->life, &life, life + 1));
    i = s->instance;
    if (i->guest->vt.cancel)
        i->guest->vt.cancel(i->self, id_of(s, life));
    leave_call(s);
}

/* ---- slots ---------------------------------------------------------------------------- */

exj_code exj_call_slot_new(size_t answer_max, exj_call_slot **ret, exj_err *err)
{
    exj_call_slot *s = NULL;

    pthread_mutex_lock(&table_mu);
    if (table_free) {
        s = table_free;
        table_free = s->free_next;
    } else if (table_used < SLOTS) {
        s = &table[table_used++];
    }
    if (s && !s->made) {
        pthread_mutex_init(&s->mu, NULL);
        pthread_cond_init(&s->over, NULL);
        /* a random start makes a made-up id miss */
        atomic_store(&s->life, exj_random_u64() >> 8 << (SLOT_BITS + 1));
        s->made = true;
    }
    pthread_mutex_unlock(&table_mu);
    if (!s)
        return exj_err_set(err, EXJ_FULL, "all %u call slots are in use", SLOTS);
    s->answer_max = answer_max;
    *ret = s;
    return EXJ_OK;
}

void exj_call_slot_free(exj_call_slot *s)
{
    if (!s)
        return;
    exj_buf_release(&s->answer);
    exj_buf_release(&s->step);
    exj_buf_release(&s->kv);
    pthread_mutex_lock(&table_mu);
    s->free_next = table_free;
    table_free = s;
    pthread_mutex_unlock(&table_mu);
}

/* ---- the host table ------------------------------------------------------------------- */

static void host_log(void *ctx, exj_call c, int32_t level, exj_str message)
{
    static const exj_log_level of[] = { EXJ_LOG_DEBUG, EXJ_LOG_INFO, EXJ_LOG_WARN,
                                        EXJ_LOG_ERROR, EXJ_LOG_ERROR, EXJ_LOG_WARN };
    exj_instance *i = ctx;
    exj_call_slot *s = NULL;
    char text[1024];

    if (!exj_call_text_is_sane(message)) {
        exj_misdeed(i, "log with a text of %llu bytes at NULL", (unsigned long long)message.n);
        return;
    }
    if (c && !(s = enter_call(i, c, "log")))
        return;
    if (level < EXJ_LOG_LEVEL_DEBUG || level > EXJ_LOG_LEVEL_PLUGIN_MISBEHAVES)
        level = EXJ_LOG_LEVEL_WARN;
    exj_clean_text(message.p, message.n, text, sizeof text);
    exj_log(of[level], "plugin", "%s: %s", i->guest->id, text);
    if (s)
        leave_call(s);
}

static void host_error(void *ctx, exj_call c, exj_result r, exj_str code, exj_str message)
{
    exj_instance *i = ctx;
    exj_call_slot *s;

    (void)r; /* what execute returns decides */
    if (!exj_call_text_is_sane(code) || !exj_call_text_is_sane(message)) {
        exj_misdeed(i, "error with a text at NULL");
        return;
    }
    if (c == 0) {
        pthread_mutex_lock(&i->mu);
        if (i->creating) {
            size_t n = exj_clean_text(code.p, code.n, i->error, EXJ_CALL_CODE_BYTES);

            if (n && message.n) {
                memcpy(i->error + n, ": ", 3);
                n += 2;
            }
            exj_clean_text(message.p, message.n, i->error + n, sizeof i->error - n);
        }
        pthread_mutex_unlock(&i->mu);
        return;
    }
    s = enter_call(i, c, "error");
    if (!s)
        return;
    pthread_mutex_lock(&s->mu);
    s->code_n = exj_clean_text(code.p, code.n, s->code, sizeof s->code);
    s->text_n = exj_clean_text(message.p, message.n, s->text, sizeof s->text);
    pthread_mutex_unlock(&s->mu);
    leave_call(s);
}

static int32_t host_cancelled(void *ctx, exj_call c)
{
    exj_call_slot *s = enter_call(ctx, c, "cancelled");
    int32_t r;

    if (!s)
        return EXJ_R_CANCELLED;
    r = s->ports->cancelled ? s->ports->cancelled(s->ports->user) : 0;
    leave_call(s);
    return r;
}

static void host_progress(void *ctx, exj_call c, double at, exj_str note)
{
    exj_call_slot *s = enter_call(ctx, c, "progress");
    char text[256];

    if (!s)
        return;
    if (s->ports->progress && exj_call_text_is_sane(note)) {
        size_t n = exj_clean_text(note.p, note.n, text, sizeof text);

        at = at >= 0.0 ? at : 0.0; /* also of NaN */
        s->ports->progress(s->ports->user, at <= 1.0 ? at : 1.0, (exj_slice){ text, n });
    }
    leave_call(s);
}

static exj_result emit_locked(exj_call_slot *s, exj_str json)
{
    exj_instance *i = s->instance;

    if (!exj_call_text_is_sane(json)) {
        exj_misdeed(i, "emit with a text at NULL");
        return EXJ_R_INPUT;
    }
    s->emits++;
    if (s->single && s->emits > 1) {
        exj_misdeed(i, "emitted a second answer; the first stands");
        return EXJ_R_INTERNAL;
    }
    if (json.n > s->answer_max) {
        s->too_large = true;
        exj_misdeed(i, "emitted %llu bytes where %zu are the most",
                    (unsigned long long)json.n, s->answer_max);
        return EXJ_R_INPUT;
    }
    if (s->ports->emit)
        return s->ports->emit(s->ports->user, exj_call_slice(json));
    if (exj_buf_add(&s->answer, json.p, (size_t)json.n))
        return EXJ_R_OK;
    exj_buf_reset(&s->answer);
    s->emits--; /* no memory: it may try again */
    return EXJ_R_RETRY;
}

static exj_result host_emit(void *ctx, exj_call c, exj_str json)
{
    exj_call_slot *s = enter_call(ctx, c, "emit");
    exj_result r;

    if (!s)
        return EXJ_R_INTERNAL;
    pthread_mutex_lock(&s->mu); /* emissions of several threads come one after the other */
    r = emit_locked(s, json);
    pthread_mutex_unlock(&s->mu);
    leave_call(s);
    return r;
}

static exj_result host_complete(void *ctx, exj_call c, exj_result r)
{
    exj_instance *i = ctx;
    exj_call_slot *s = enter_call(i, c, "complete");
    exj_result ret = EXJ_R_OK;

    if (!s)
        return EXJ_R_INTERNAL;
    if (!(i->guest->vt.flags & EXJ_FLAG_ASYNC) && !is_remote(i)) {
        exj_misdeed(i, "complete without EXJ_FLAG_ASYNC");
        ret = EXJ_R_UNSUPPORTED;
    } else {
        r = judge_result(s, r);
        if (!end_call(s, r)) { /* lost a race with another complete */
            exj_misdeed(i, "completed a call twice");
            ret = EXJ_R_INTERNAL;
        }
    }
    leave_call(s);
    return ret;
}

struct thread_of_plugin {
    exj_instance *instance;
    void (*fn)(void *);
    void *arg;
};

static void *run_thread(void *p)
{
    struct thread_of_plugin t = *(struct thread_of_plugin *)p;

    free(p);
    t.fn(t.arg);
    count(t.instance, &t.instance->threads, -1);
    return NULL;
}

static exj_result host_thread_start(void *ctx, void (*fn)(void *), void *arg)
{
    exj_instance *i = ctx;
    struct thread_of_plugin *t = fn ? malloc(sizeof *t) : NULL;
    pthread_attr_t attr;
    pthread_t id;
    int failed;

    if (!t)
        return fn ? EXJ_R_RETRY : EXJ_R_INPUT;
    *t = (struct thread_of_plugin){ i, fn, arg };
    count(i, &i->threads, 1);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    failed = pthread_create(&id, &attr, run_thread, t);
    pthread_attr_destroy(&attr);
    if (failed) {
        count(i, &i->threads, -1);
        free(t);
        return EXJ_R_RETRY;
    }
    return EXJ_R_OK;
}

static const void *host_extension(void *ctx, const char *id)
{
    (void)ctx;
    return exj_extension_find(id);
}

void exj_host_fill(exj_instance *i)
{
    i->host = (exj_host){
        .size_of = EXJ_SIZE(exj_host, extension),
        .abi_minor = EXJ_ABI_MINOR,
        .ctx = i,
        .log = host_log,
        .error = host_error,
        .cancelled = host_cancelled,
        .progress = host_progress,
        .emit = host_emit,
        .journal_lookup = exj_call_journal_lookup,
        .journal_intent = exj_call_journal_intent,
        .journal_commit = exj_call_journal_commit,
        .complete = host_complete,
        .thread_start = host_thread_start,
        .extension = host_extension,
    };
}
