#include "core/run/sinks_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define ANSWER_MAX ((size_t)256 * 1024)
#define BATCH_NS ((exj_nsec)120 * 1000000000)
#define OPEN_AGAIN_MS 60000
#define SAVE_AGAIN_MS 1000

/* ---- what is shown ------------------------------------------------------------------------- */

/* `error` NULL or empty: all is well. Says so once for each change. */
static void show(struct sink *s, const char *error, uint64_t delivered, uint64_t failed,
                 uint64_t dead)
{
    bool was_well, is_well = !error || !*error;

    pthread_mutex_lock(&s->mu);
    was_well = !s->error[0];
    snprintf(s->error, sizeof(s->error), "%s", is_well ? "" : error);
    s->delivered += delivered;
    s->failed += failed;
    s->dead += dead;
    s->held_shown = s->held_len;
    s->position_shown = s->position;
    pthread_mutex_unlock(&s->mu);
    if (was_well && !is_well)
        exj_log(EXJ_LOG_WARN, "sinks", "sink %s: %s; it is tried again", s->name, error);
    else if (!was_well && is_well && delivered)
        exj_log(EXJ_LOG_INFO, "sinks", "sink %s takes events again", s->name);
    if (dead)
        exj_log(EXJ_LOG_ERROR, "sinks",
                "sink %s: %" PRIu64 " events are dead letters after %u tries (%s); "
                "`exellix-jobs dead-letters list` shows them",
                s->name, dead, s->retry.max_attempts, error ? error : "");
}

static bool is_stopping(struct sink *s)
{
    bool is;

    pthread_mutex_lock(&s->mu);
    is = s->stopping;
    pthread_mutex_unlock(&s->mu);
    return is;
}

/* ---- the plugin ------------------------------------------------------------------------------ */

static exj_code open_plugin(struct sink *s, exj_err *err)
{
    exj_call_slot *slot = NULL;
    exj_code rc = EXJ_OK;

    if (!s->guest)
        rc = exj_registry_find_lane(s->all->plugins, s->plugin, EXJ_KIND_EVENT_SINK, s->lane,
                                    &s->guest, err);
    if (!rc && !atomic_load(&s->slot)) {
        rc = exj_call_slot_new(ANSWER_MAX, &slot, err);
        if (!rc)
            atomic_store(&s->slot, slot);
    }
    if (!rc && !s->instance)
        rc = exj_instance_new(s->guest, exj_slice_of(s->config), &s->instance, err);
    if (rc && s->guest && !s->instance) { /* another file may lie there next time */
        exj_guest_release(s->guest);
        s->guest = NULL;
    }
    return rc;
}

struct asked {
    struct sink *s;
    exj_nsec until;
};

static int32_t cancelled(void *user)
{
    struct asked *a = user;

    if (is_stopping(a->s))
        return EXJ_R_CANCELLED;
    return exj_clock_mono_ns() > a->until ? EXJ_R_DEADLINE : 0;
}

/* EXJ_OK: each event has its fate. Else the batch failed as a whole, and `err` says how. */
static exj_code call(struct sink *s, exj_err *err)
{
    struct asked asked = { s, exj_clock_mono_ns() + BATCH_NS };
    exj_call_ports ports = { .user = &asked, .cancelled = cancelled };
    exj_call_slot *slot = atomic_load(&s->slot);
    exj_call_end end = { 0 };
    exj_args a = { .size_of = EXJ_SIZE(exj_args, token), .attempt = s->events[0].tries + 1,
                   .deadline_ns = (uint64_t)asked.until,
                   .model = { "", 0 }, .runtime = { s->runtime.p, s->runtime.n },
                   .token = (uint64_t)s->events[0].number };
    exj_nsec began = exj_clock_mono_ns();
    char job[100];

    snprintf(job, sizeof(job), "sink:%s:%" PRId64, s->name, s->events[0].number);
    a.job_id = a.record_id = (exj_str){ job, strlen(job) };
    atomic_store(&s->calling, true);
    exj_call_run(s->instance, slot, &a, &ports, &end, NULL);
    atomic_store(&s->calling, false);
    exj_guest_count(s->guest, exj_clock_mono_ns() - began, end.result != EXJ_R_OK,
                    end.result == EXJ_R_CRASHED);
    if (end.result == EXJ_R_OK)
        return exj_sink_judge(s, end.answer, err);
    return exj_err_set(err, EXJ_BUSY, "%.*s%s%.*s",
                       end.error_code.n > 60 ? 60 : (int)end.error_code.n,
                       end.error_code.n ? end.error_code.p : "", end.error_code.n ? ": " : "",
                       end.error_text.n > 200 ? 200 : (int)end.error_text.n,
                       end.error_text.n ? end.error_text.p : "the plugin answered with a failure");
}

/* ---- one turn ---------------------------------------------------------------------------------- */

static bool of_one_row(const struct sink *s)
{
    for (size_t k = 1; k < s->events_len; k++)
        if (s->events[k].seq != s->events[0].seq)
            return false;
    return true;
}

/* Nothing was delivered. That a single row fails says nothing of the sink; that one after the
 * other fails does. */
static void rest(struct sink *s, exj_msec now)
{
    bool one = of_one_row(s);
    exj_retry_policy p = s->retry;

    if (!one || s->events[0].seq != s->failed_seq)
        s->failures++;
    s->failed_seq = one ? s->events[0].seq : 0;
    s->width = 1;
    if (one && s->failures < 3)
        return;
    p.max_attempts = UINT32_MAX;
    s->rests_until = exj_retry_decide(&p, s->failures, true, now, exj_random_u64()).run_after;
}

static void recover(struct sink *s)
{
    s->failures = 0;
    s->failed_seq = 0;
    s->width = s->width >= EXJ_SINK_EVENTS / 2 ? EXJ_SINK_EVENTS : s->width * 2;
}

/* True: something was done, there may be more to do. False: nothing to do, or not now. */
static bool take_turn(struct sink *s, uint64_t *delivered_sum)
{
    exj_msec now = s->all->store->v->now(s->all->store);
    uint64_t delivered = 0, failed = 0, dead = 0;
    const char *why = NULL;
    exj_err err = { 0 };
    exj_code rc = EXJ_OK;

    if (now < s->rests_until)
        return false;
    if (!s->loaded)
        rc = exj_sink_load(s, &err);
    if (!rc && !s->instance && (rc = open_plugin(s, &err)) != EXJ_OK) {
        s->rests_until = now + OPEN_AGAIN_MS;
        show(s, err.text, 0, 0, 0);
        return false;
    }
    if (!rc)
        rc = exj_sink_gather(s, now, &err);
    if (rc) {
        s->rests_until = now + SAVE_AGAIN_MS;
        show(s, err.text, 0, 0, 0);
        return false;
    }
    if (!s->events_len && s->read_to == s->position)
        return false;
    if (s->events_len && call(s, &err) != EXJ_OK) {
        if (is_stopping(s))
            return false;
        if (!of_one_row(s)) { /* whose fault it is will be seen */
            rest(s, now);
            show(s, err.text, 0, s->events_len, 0);
            return true;
        }
        for (size_t k = 0; k < s->events_len; k++)
            s->events[k].fate = k ? AGAIN : FAILED;
        s->events[0].retry_after = 0;
        snprintf(s->events[0].error, sizeof(s->events[0].error), "%s", err.text);
    }
    exj_sink_hold_rows(s);
    for (size_t k = 0; k < s->events_len; k++) {
        delivered += s->events[k].fate == DELIVERED;
        failed += s->events[k].fate == FAILED;
        if (s->events[k].fate == FAILED)
            why = s->events[k].error;
    }
    now = s->all->store->v->now(s->all->store);
    if (s->events_len && !delivered)
        rest(s, now);
    else if (delivered)
        recover(s);
    exj_err_clear(&err);
    if (exj_sink_save(s, now, &dead, &err) != EXJ_OK) { /* it comes again */
        s->rests_until = now + SAVE_AGAIN_MS;
        s->placed = s->loaded = false; /* nobody knows what was saved */
        why = err.text;
        dead = 0;
    } else if (!s->loaded) {
        exj_sink_load(s, NULL); /* if not now, then with the next turn */
    }
    show(s, why, delivered, failed, dead);
    *delivered_sum += delivered;
    return true;
}

/* ---- its thread ---------------------------------------------------------------------------------- */

/* Until there is news, something is due, or it is to stop. */
static void wait_for_work(struct sink *s)
{
    exj_msec now = s->all->store->v->now(s->all->store), due = exj_sink_next_due(s);
    struct timespec until;
    bool timed = due || s->rests_until > now;
    exj_msec ms;

    if (s->rests_until > now && (!due || due < s->rests_until))
        due = s->rests_until;
    ms = due > now ? due - now : 0;
    if (ms > 60000)
        ms = 60000;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&s->mu);
    while (!s->stopping && !s->reread && (!s->woken || s->rests_until > now))
        if (!timed)
            pthread_cond_wait(&s->news, &s->mu);
        else if (pthread_cond_timedwait(&s->news, &s->mu, &until) == ETIMEDOUT)
            break;
    s->woken = false;
    if (s->reread)
        s->loaded = s->reread = false;
    pthread_mutex_unlock(&s->mu);
}

static void *run(void *arg)
{
    struct sink *s = arg;
    uint64_t delivered = 0;

    while (!is_stopping(s))
        if (!take_turn(s, &delivered) && !is_stopping(s))
            wait_for_work(s);
    pthread_mutex_lock(&s->mu);
    s->ended = true;
    pthread_cond_broadcast(&s->news);
    pthread_mutex_unlock(&s->mu);
    return NULL;
}

static void heard(void *user, int64_t last)
{
    exj_sinks *all = user;

    (void)last;
    for (size_t k = 0; k < all->len; k++) {
        struct sink *s = &all->sinks[k];

        pthread_mutex_lock(&s->mu);
        s->woken = true;
        pthread_cond_broadcast(&s->news);
        pthread_mutex_unlock(&s->mu);
    }
}

/* ---- all of them ---------------------------------------------------------------------------------- */

exj_code exj_sinks_open(exj_store *store, exj_registry *plugins, exj_slice config,
                        exj_sinks **ret, exj_err *err)
{
    exj_sinks *all = calloc(1, sizeof(*all));
    exj_code rc;

    if (!all)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    all->store = store;
    all->plugins = plugins;
    rc = exj_sinks_read(all, config, err);
    if (rc)
        exj_sinks_release(all);
    else
        *ret = all;
    return rc;
}

exj_code exj_sinks_start(exj_sinks *all, exj_news *news, exj_err *err)
{
    for (size_t k = 0; k < all->len; k++) {
        struct sink *s = &all->sinks[k];
        int failed = pthread_create(&s->thread, NULL, run, s);

        if (failed)
            return exj_err_set(err, EXJ_IO, "sink %s: no thread: %s", s->name, strerror(failed));
        s->runs = true;
    }
    all->ear = (exj_news_ear){ .heard = heard, .user = all };
    all->told = news;
    exj_news_add(news, &all->ear);
    heard(all, 0); /* what came before it listened */
    return EXJ_OK;
}

uint64_t exj_sinks_flush(exj_sinks *all, exj_nsec until)
{
    uint64_t delivered = 0;

    for (size_t k = 0; k < all->len; k++)
        while (take_turn(&all->sinks[k], &delivered))
            if (until && exj_clock_mono_ns() > until)
                return delivered;
    return delivered;
}

void exj_sinks_wake(exj_sinks *all)
{
    for (size_t k = 0; all && k < all->len; k++) {
        struct sink *s = &all->sinks[k];

        pthread_mutex_lock(&s->mu);
        s->reread = true;
        pthread_cond_broadcast(&s->news);
        pthread_mutex_unlock(&s->mu);
    }
}

json_t *exj_sinks_status(exj_sinks *all)
{
    json_t *list = json_array();

    for (size_t k = 0; list && all && k < all->len; k++) {
        struct sink *s = &all->sinks[k];
        json_t *o;

        pthread_mutex_lock(&s->mu);
        o = json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:o}", "name", s->name, "plugin", s->plugin,
                      "position", (json_int_t)s->position_shown, "delivered",
                      (json_int_t)s->delivered, "failures", (json_int_t)s->failed, "dead",
                      (json_int_t)s->dead, "held", (json_int_t)s->held_shown, "error",
                      s->error[0] ? exj_json_text(exj_slice_of(s->error)) : json_null());
        pthread_mutex_unlock(&s->mu);
        if (json_array_append_new(list, o)) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* False: its call goes on beyond `until`. */
static bool end_thread(struct sink *s, const struct timespec *until)
{
    int late = 0;

    if (!s->runs)
        return true;
    pthread_mutex_lock(&s->mu);
    while (!s->ended && !late)
        late = pthread_cond_timedwait(&s->news, &s->mu, until);
    late = !s->ended;
    pthread_mutex_unlock(&s->mu);
    if (late) {
        exj_log(EXJ_LOG_ERROR, "sinks", "sink %s does not come back from its plugin", s->name);
        pthread_detach(s->thread);
        return false;
    }
    pthread_join(s->thread, NULL);
    s->runs = false;
    return true;
}

uint32_t exj_sinks_stop(exj_sinks *all, exj_msec grace_ms)
{
    struct timespec until;
    uint32_t left = 0;

    if (!all)
        return 0;
    if (all->told)
        exj_news_remove(all->told, &all->ear);
    for (size_t k = 0; k < all->len; k++) {
        struct sink *s = &all->sinks[k];
        exj_call_slot *slot = atomic_load(&s->slot);

        pthread_mutex_lock(&s->mu);
        s->stopping = true;
        pthread_cond_broadcast(&s->news);
        pthread_mutex_unlock(&s->mu);
        if (slot && s->runs && atomic_load(&s->calling))
            exj_call_cancel(slot);
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(grace_ms / 1000) + 1;
    for (size_t k = 0; k < all->len; k++)
        left += !end_thread(&all->sinks[k], &until);
    if (!left)
        exj_sinks_release(all);
    return left;
}
