/* core/plugin/remote_pump.c - the thread that serves one remote instance: it starts
 * hosts, listens to them, watches the clock, and buries them. */
#include "core/plugin/remote_inside.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"

#define HOSTS_MAX 16u
#define FRAMES_A_TURN 512u
#define FAR_NS ((exj_nsec)3600 * 1000000000)
#define BACK_OFF_MAX_MS 5000
#define FAILURES_MAX 3u
#define BUSY 2u /* calls that a host has, so that waking up for each would cost more */
#define TEXT_BYTES 2048

void exj_remote_wake_locked(exj_remote *r)
{
    uint64_t one = 1;

    if (r->wakes_at) {
        r->wakes_at = 0;
        while (write(r->wake, &one, sizeof one) < 0 && errno == EINTR)
            ;
    }
}

static exj_nsec grace_ns(const exj_remote *r)
{
    return (exj_nsec)(r->settings->grace_ms ? r->settings->grace_ms : 1) * 1000000;
}

/* 0, 10, 20, … 5000 ms after 1, 2, 3, … failures in a row. */
static exj_nsec back_off_ns(unsigned in_row)
{
    exj_nsec ms = in_row < 2    ? 0
                  : in_row > 12 ? BACK_OFF_MAX_MS
                                : (exj_nsec)10 << (in_row - 2);

    return (ms < BACK_OFF_MAX_MS ? ms : BACK_OFF_MAX_MS) * 1000000;
}

/* ---- ends ------------------------------------------------------------------------- */

static void load_is_over_locked(exj_remote *r, exj_result result)
{
    r->load_over = true;
    r->load_result = result;
    pthread_cond_broadcast(&r->loaded);
}

void exj_remote_end(exj_remote *r, exj_rcall *c, exj_result result, const char *code,
                    const char *text)
{
    const exj_host *t = r->table;
    exj_call id = c->id;
    bool own = c->kind == EXJ_RCALL_LOAD;

    pthread_mutex_lock(&r->mu);
    if (own)
        load_is_over_locked(r, result);
    c->next = r->spare;
    r->spare = c;
    pthread_mutex_unlock(&r->mu);
    if (own)
        return;
    t->error(t->ctx, id, result, (exj_str){ code, strlen(code) },
             (exj_str){ text, strlen(text) });
    t->complete(t->ctx, id, result);
}

static void end_all(exj_remote *r, exj_rcalls *l, exj_result result, const char *code,
                    const char *text)
{
    while (l->first) {
        exj_rcall *c = l->first;

        exj_rcalls_drop(l, c);
        exj_remote_end(r, c, result, code, text);
    }
}

/* No host can be had: everybody who waits for one is told why. */
static void end_waiting_locked(exj_remote *r, exj_result result, const char *code,
                               const char *text)
{
    exj_rcalls all = r->waiting;

    r->waiting = (exj_rcalls){ 0 };
    r->warm = false;
    if (!r->load_over)
        load_is_over_locked(r, result);
    pthread_mutex_unlock(&r->mu);
    end_all(r, &all, result, code, text);
    pthread_mutex_lock(&r->mu);
}

static void start_failed_locked(exj_remote *r, const char *why)
{
    char text[TEXT_BYTES];

    r->failures_in_row++;
    r->start_at = exj_clock_mono_ns() + back_off_ns(r->failures_in_row);
    snprintf(text, sizeof text, "plugin %s %s cannot be started in a plugin host: %s",
             r->guest->id, r->guest->version, why);
    exj_log(EXJ_LOG_WARN, "plugin", "%s", text);
    end_waiting_locked(
        r, r->failures_in_row < FAILURES_MAX ? EXJ_R_RETRY : EXJ_R_NOT_STARTED,
        "HostStart", text);
}

/* ---- hosts come and go ------------------------------------------------------------ */

void exj_remote_leave_locked(exj_remote *r, exj_rhost *h)
{
    if (r->now == h)
        r->now = NULL;
    if (r->ahead == h)
        r->ahead = NULL;
    h->state = EXJ_RHOST_LEAVES;
    h->until = exj_clock_mono_ns() + grace_ns(r);
    h->ending = true;
    h->bye_due = true;
    h->next = r->leaving;
    r->leaving = h;
    if (++r->leaving_n > EXJ_LEAVING_MAX) { /* the oldest has had its time */
        exj_rhost *oldest = r->leaving;

        while (oldest->next)
            oldest = oldest->next;
        oldest->until = 0;
        exj_child_signal(&oldest->child, SIGKILL);
    }
}

static void set_now_locked(exj_remote *r, exj_rhost *h)
{
    r->now = h;
    r->warm = false;
    if (r->has_state && !(r->waiting.first && r->waiting.first->kind == EXJ_RCALL_LOAD)) {
        exj_rcall *c = r->spare ? r->spare : calloc(1, sizeof *c);

        if (!c)
            return; /* it begins without its state, as a new plugin would */
        if (c == r->spare)
            r->spare = c->next;
        *c = (exj_rcall){ .id = EXJ_RCALL_OWN,
                          .kind = EXJ_RCALL_LOAD,
                          .timeout = exj_rhost_start_ns(r->settings) };
        exj_rcalls_add_first(&r->waiting, c);
    }
}

static void start_host_locked(exj_remote *r, bool ahead)
{
    const exj_guest *g = r->guest;
    const exj_remote_settings *s = r->settings;
    exj_err err = { 0 };
    exj_rhost *h = NULL;
    bool may;
    exj_code rc = EXJ_OK;

    pthread_mutex_unlock(&r->mu);
    may = !s->may_start || s->may_start(s->user, g, &err);
    if (may)
        rc = exj_rhost_start(s, g->lane, g->copy, g->path, g->id, &h, &err);
    pthread_mutex_lock(&r->mu);
    if (may && !rc) {
        r->starts++;
        r->used_at = exj_clock_mono_ns();
        if (ahead)
            r->ahead = h;
        else
            set_now_locked(r, h);
    } else if (ahead) {
        r->start_at =
            exj_clock_mono_ns() + EXJ_TICK_NS; /* who needs it will say what is wrong */
    } else if (!may) {
        end_waiting_locked(r, EXJ_R_NOT_STARTED, "Quarantined", err.text);
    } else {
        start_failed_locked(r, err.text);
    }
}

static bool is_busy_locked(const exj_remote *r)
{
    return r->waiting.first || r->sent.first || r->pending.first;
}

/* Start and dismiss as is needed. False: there is nothing left to do. */
static bool arrange_hosts_locked(exj_remote *r)
{
    exj_nsec now = exj_clock_mono_ns();
    bool idle = !is_busy_locked(r) && !r->warm;

    if (r->stop ||
        (idle && now >= r->used_at + (exj_nsec)r->settings->idle_ms * 1000000)) {
        if (r->now)
            exj_remote_leave_locked(r, r->now);
        if (r->ahead)
            exj_remote_leave_locked(r, r->ahead);
        if (idle || r->stop)
            return r->leaving != NULL;
    }
    if (!r->now && r->ahead) {
        exj_rhost *h = r->ahead;

        r->ahead = NULL;
        set_now_locked(r, h);
    }
    if (!r->now && (r->waiting.first || r->warm) && now >= r->start_at)
        start_host_locked(r, false);
    if (r->one_call && r->now && !r->ahead && (r->sent.first || r->pending.first) &&
        exj_clock_mono_ns() >= r->start_at)
        start_host_locked(r, true);
    if (r->waiting.first && !r->check_at)
        r->check_at = exj_clock_mono_ns() + EXJ_TICK_NS;
    return r->now || r->ahead || r->leaving || is_busy_locked(r) || r->warm;
}

/* ---- death ------------------------------------------------------------------------ */

static const char *function_name(exj_rcall_kind k)
{
    static const char *const names[] = { "execute", "resolve_model", "self_test",
                                         "save_state", "load_state" };

    return names[k];
}

static void write_death(const exj_remote *r, const exj_death *d, const char *where,
                        char *ret, size_t cap)
{
    const exj_guest *g = r->guest;

    snprintf(ret, cap, "plugin %s %s %s in %s (sha256 %.12s…)%s%s", g->id, g->version,
             d->what, where, g->sha256 ? g->sha256 : "", d->trace_n ? ": " : "",
             d->trace);
}

static void tell_crash(exj_remote *r, const exj_death *d)
{
    if (r->settings->crashed)
        r->settings->crashed(r->settings->user, r->guest, d->name,
                             (exj_slice){ d->trace, d->trace_n });
}

/* It died before it was ready. `why` not NULL: it said so, or was too slow. */
static void died_in_start(exj_remote *r, exj_rhost *h, bool ahead, const char *why,
                          const char *rule)
{
    char text[TEXT_BYTES];
    exj_death d;

    if (!why) {
        exj_rhost_autopsy(h, r->guest->id, rule, &d);
        snprintf(text, sizeof text, "it %s%s%.1700s", d.what, d.trace_n ? ": " : "",
                 d.trace);
        tell_crash(r, &d);
    } else {
        exj_rhost_print(h, r->guest->id);
        snprintf(text, sizeof text, "%s", why);
    }
    exj_rhost_free(h);
    pthread_mutex_lock(&r->mu);
    r->crashes += !why;
    if (ahead)
        r->start_at = exj_clock_mono_ns() + EXJ_TICK_NS;
    else
        start_failed_locked(r, text);
    pthread_mutex_unlock(&r->mu);
}

/* Whose fault it was; NULL: nobody's. */
static exj_rcall *find_guilty_locked(exj_remote *r, const exj_rhost *h,
                                     const exj_death *d)
{
    exj_rcall *head = r->sent.first;

    if (h->ending || atomic_load(&h->our_fault)) {
        if (head && head->stop >= EXJ_STOP_TERM)
            return head;
        for (exj_rcall *c = r->pending.first; c; c = c->next)
            if (c->stop >= EXJ_STOP_TERM)
                return c;
        return NULL;
    }
    if (d->call) {
        for (exj_rcall *c = r->pending.first; c; c = c->next)
            if (c->id == d->call)
                return c;
        if (head && head->id == d->call)
            return head;
    }
    if (head)
        return head;
    return r->pending.n == 1 ? r->pending.first : NULL;
}

/* Calls behind the first were not begun: they wait again, in their order. */
static void take_back_locked(exj_remote *r)
{
    while (r->sent.last) {
        exj_rcall *c = r->sent.last;

        exj_rcalls_drop(&r->sent, c);
        if (c->kind == EXJ_RCALL_LOAD) { /* the next host is given it anyway */
            c->next = r->spare;
            r->spare = c;
            continue;
        }
        c->begun = 0;
        c->stop = EXJ_STOP_NOT;
        exj_rcalls_add_first(&r->waiting, c);
    }
}

/* A host that was started before this crash put its plugin into quarantine runs no call. */
static void dismiss_ahead(exj_remote *r)
{
    const exj_remote_settings *s = r->settings;
    exj_err why = { 0 };
    bool has;

    pthread_mutex_lock(&r->mu);
    has = r->ahead != NULL;
    pthread_mutex_unlock(&r->mu);
    if (!has || !s->may_start || s->may_start(s->user, r->guest, &why))
        return;
    pthread_mutex_lock(&r->mu);
    if (r->ahead)
        exj_remote_leave_locked(r, r->ahead);
    pthread_mutex_unlock(&r->mu);
}

static void died_in_service(exj_remote *r, exj_rhost *h, const char *rule)
{
    exj_rcalls others = { 0 };
    char text[TEXT_BYTES], other_text[TEXT_BYTES];
    exj_result result = EXJ_R_CRASHED;
    const char *code = "PluginCrashed";
    exj_rcall *guilty;
    bool crashed;
    exj_death d;

    exj_rhost_autopsy(h, r->guest->id, rule, &d);
    pthread_mutex_lock(&r->mu);
    guilty = find_guilty_locked(r, h, &d);
    crashed = !h->ending && !atomic_load(&h->our_fault);
    if (r->sent.first) {
        exj_rcall *head = r->sent.first;

        exj_rcalls_drop(&r->sent, head);
        if (head != guilty)
            exj_rcalls_add(&others, head);
    }
    while (r->pending.first) {
        exj_rcall *c = r->pending.first;

        exj_rcalls_drop(&r->pending, c);
        if (c != guilty)
            exj_rcalls_add(&others, c);
    }
    take_back_locked(r);
    if (guilty && guilty->kind == EXJ_RCALL_LOAD)
        r->has_state = false; /* the next one shall not die of it too */
    if (crashed) {
        r->crashes++;
        if (guilty || others.n)
            r->crashes_in_row++;
        r->start_at = exj_clock_mono_ns() + back_off_ns(r->crashes_in_row);
    }
    pthread_mutex_unlock(&r->mu);

    if (guilty && !crashed) {
        result = guilty->why;
        code = result == EXJ_R_DEADLINE ? "DeadlineExceeded" : "Cancelled";
        snprintf(text, sizeof text,
                 "plugin %s %s did not stop within %u ms %s; its host was ended",
                 r->guest->id, r->guest->version, r->settings->grace_ms,
                 result == EXJ_R_DEADLINE ? "of its deadline" : "after it was cancelled");
    } else {
        write_death(r, &d, guilty ? function_name(guilty->kind) : "its host", text,
                    sizeof text);
    }
    exj_log(EXJ_LOG_WARN, "plugin", "%s", text);
    if (crashed && (guilty || others.n)) {
        tell_crash(r, &d);
        dismiss_ahead(r);
    }
    if (guilty)
        exj_remote_end(r, guilty, result, code, text);
    snprintf(other_text, sizeof other_text, "ended because of another call: %.1900s",
             text);
    end_all(r, &others, EXJ_R_RETRY, "HostDied", other_text);
    exj_rhost_free(h);
}

/* The pump found that `h` is dead or must be. */
static void bury(exj_remote *r, exj_rhost *h, const char *why, const char *rule)
{
    bool ahead;

    pthread_mutex_lock(&r->send_mu); /* nobody is in its wire */
    pthread_mutex_lock(&r->mu);
    ahead = h == r->ahead;
    if (h->state == EXJ_RHOST_LEAVES) {
        exj_rhost **link = &r->leaving;

        while (*link != h)
            link = &(*link)->next;
        *link = h->next;
        r->leaving_n--;
    } else if (ahead) {
        r->ahead = NULL;
    } else {
        r->now = NULL; /* from here on nobody sends to it */
    }
    pthread_mutex_unlock(&r->mu);
    pthread_mutex_unlock(&r->send_mu);
    if (h->state == EXJ_RHOST_LEAVES) {
        exj_rhost_print(h, r->guest->id);
        exj_rhost_free(h);
    } else if (h->state != EXJ_RHOST_READY) {
        died_in_start(r, h, ahead, why, rule);
    } else if (ahead) { /* it died of idleness: nobody misses it */
        exj_log(EXJ_LOG_WARN, "plugin",
                "plugin %s %s: a host that waited for a call ended", r->guest->id,
                r->guest->version);
        exj_rhost_free(h);
    } else {
        died_in_service(r, h, rule);
    }
}

/* ---- time ------------------------------------------------------------------------- */

/* One step further towards the end of `c`, if it is time. Returns when the next is due.
 */
static exj_nsec press(exj_remote *r, exj_rhost *h, exj_rcall *c, exj_nsec now)
{
    const exj_host *t = r->table;
    exj_result why = 0;

    if (c->stop == EXJ_STOP_NOT) {
        if (c->timeout && now >= c->begun + c->timeout)
            why = EXJ_R_DEADLINE;
        else if (c->kind != EXJ_RCALL_LOAD)
            why = t->cancelled(t->ctx, c->id);
        if (!why) {
            exj_nsec due = c->timeout ? c->begun + c->timeout : now + FAR_NS;

            return due < now + EXJ_TICK_NS ? due : now + EXJ_TICK_NS;
        }
        c->why = why == EXJ_R_DEADLINE ? EXJ_R_DEADLINE : EXJ_R_CANCELLED;
    } else if (now < c->stop_at) {
        return c->stop_at;
    }
    c->stop_at = now + grace_ns(r);
    if (c->stop == EXJ_STOP_NOT) {
        uint64_t words[2] = { c->id, (uint64_t)c->why };

        c->stop = EXJ_STOP_ASKED;
        if (send(h->child.cancel, words, sizeof words, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            c->stop_at = now; /* full or closed: it does not listen */
    } else {
        pthread_mutex_lock(&r->mu);
        h->ending = true;
        h->until = c->stop_at;
        pthread_mutex_unlock(&r->mu);
        exj_child_signal(&h->child, c->stop == EXJ_STOP_ASKED ? SIGTERM : SIGKILL);
        c->stop = c->stop == EXJ_STOP_ASKED ? EXJ_STOP_TERM : EXJ_STOP_KILL;
    }
    return c->stop_at;
}

/* Calls that were not sent yet and that nobody wants any more end here. */
static void watch_waiting(exj_remote *r)
{
    const exj_host *t = r->table;
    exj_rcalls all, unwanted = { 0 };

    pthread_mutex_lock(&r->mu);
    all = r->waiting;
    r->waiting = (exj_rcalls){ 0 };
    pthread_mutex_unlock(&r->mu);
    for (exj_rcall *c = all.first, *next; c; c = next) {
        next = c->next;
        if (c->kind == EXJ_RCALL_LOAD || !t->cancelled(t->ctx, c->id))
            continue;
        exj_rcalls_drop(&all, c);
        exj_rcalls_add(&unwanted, c);
    }
    pthread_mutex_lock(&r->mu);
    while (all.last) {
        exj_rcall *c = all.last;

        exj_rcalls_drop(&all, c);
        exj_rcalls_add_first(&r->waiting, c);
    }
    pthread_mutex_unlock(&r->mu);
    end_all(r, &unwanted, EXJ_R_CANCELLED, "Cancelled",
            "it was cancelled before it began");
}

/* Look at the calls that run. Only the pump takes calls off these lists, so they may be
 * walked without the lock. */
static void watch_calls(exj_remote *r)
{
    exj_nsec now = exj_clock_mono_ns(), next = now + FAR_NS, due;
    exj_rcall *head, *first;
    bool used, waiting;
    exj_rhost *h;

    pthread_mutex_lock(&r->mu);
    h = r->now;
    head = r->sent.first;
    first = r->pending.first;
    r->check_at = 0;
    used = now < r->used_at + EXJ_TICK_NS;
    waiting = r->waiting.first != NULL;
    pthread_mutex_unlock(&r->mu);
    if (waiting)
        watch_waiting(r);
    if (!h)
        return;
    if (head)
        next = press(r, h, head, now);
    for (exj_rcall *c = first; c; c = c->next) {
        due = press(r, h, c, now);
        next = due < next ? due : next;
    }
    if (!head && !first && !used)
        return;
    pthread_mutex_lock(&r->mu);
    if (next > now + EXJ_TICK_NS)
        next = now + EXJ_TICK_NS;
    if (!r->check_at || next < r->check_at)
        r->check_at = next;
    pthread_mutex_unlock(&r->mu);
}

static void earlier(exj_nsec *t, exj_nsec than)
{
    if (than < *t)
        *t = than;
}

static exj_nsec next_time_locked(const exj_remote *r)
{
    exj_nsec now = exj_clock_mono_ns(), t = now + FAR_NS;

    if (r->now && (r->now->state != EXJ_RHOST_READY || r->now->ending))
        earlier(&t, r->now->until);
    if (r->ahead && r->ahead->state != EXJ_RHOST_READY)
        earlier(&t, r->ahead->until);
    for (const exj_rhost *h = r->leaving; h; h = h->next)
        earlier(&t, h->until);
    if (!r->now && (r->waiting.first || r->warm))
        earlier(&t, r->start_at);
    if (r->one_call && !r->ahead && r->start_at > now && r->now)
        earlier(&t, r->start_at);
    if (r->waiting.first && r->now && r->now->state == EXJ_RHOST_READY)
        earlier(&t, now + EXJ_TICK_NS); /* memory was short when it was to be sent */
    if (r->check_at)
        earlier(&t, r->check_at);
    if (!is_busy_locked(r) && (r->now || r->ahead)) /* else there is none to dismiss */
        earlier(&t, r->used_at + (exj_nsec)r->settings->idle_ms * 1000000);
    if ((r->now && r->now->more) || (r->ahead && r->ahead->more))
        t = now;
    return t;
}

/* ---- listening -------------------------------------------------------------------- */

/* False: it is to be buried; `why` or `rule` say of what. */
static bool listen_to(exj_remote *r, exj_rhost *h, exj_err *why, exj_err *rule)
{
    h->more = false;
    for (unsigned n = 0; n < FRAMES_A_TURN; n++) {
        bool left = h->state == EXJ_RHOST_LEAVES;
        exj_frame f = { 0 };
        exj_err err = { 0 };
        exj_code rc = exj_wire_receive(h->wire, &f, &err);

        if (rc == EXJ_BUSY)
            return true;
        if (!rc) {
            rc = exj_remote_take(r, h, &f, &err);
            exj_frame_release(&f);
            if (!rc && !left && h->state == EXJ_RHOST_LEAVES)
                return true; /* sandbox: that was its call */
            if (rc == EXJ_REFUSED)
                *why = err;
            else if (rc)
                *rule = err;
        } else if (rc == EXJ_INVALID) {
            *rule = err;
        } else if (rc == EXJ_NOMEM) {
            atomic_store(&h->our_fault, true);
        }
        if (rc) {
            h->deaf = true;
            return false;
        }
    }
    h->more = true;
    return true;
}

struct watch {
    exj_rhost *h;
    size_t at; /* of three pollfds: wire, log, pidfd */
};

static void add_watch(struct watch *w, size_t *n, struct pollfd *fds, size_t *fds_n,
                      exj_rhost *h)
{
    if (!h || *n == HOSTS_MAX)
        return;
    w[(*n)++] = (struct watch){ h, *fds_n };
    fds[(*fds_n)++] = (struct pollfd){
        .fd = h->deaf ? -1 : exj_wire_fd(h->wire),
        .events = (short)(POLLIN | (atomic_load(&h->has_unsent) ? POLLOUT : 0))
    };
    fds[(*fds_n)++] = (struct pollfd){ .fd = h->child.log, .events = POLLIN };
    fds[(*fds_n)++] = (struct pollfd){ .fd = h->child.pidfd, .events = POLLIN };
}

static void serve(exj_remote *r, exj_rhost *h, const struct pollfd *fds)
{
    exj_err why = { 0 }, rule = { 0 };
    bool alive = true, dead = fds[2].revents != 0, broken, ending;
    exj_nsec now = exj_clock_mono_ns();

    if (fds[1].revents)
        exj_rhost_print(h, r->guest->id);
    if (fds[0].revents & POLLOUT) {
        pthread_mutex_lock(&r->send_mu);
        atomic_store(&h->has_unsent, exj_wire_flush(h->wire, NULL) == EXJ_BUSY);
        pthread_mutex_unlock(&r->send_mu);
    }
    broken = atomic_load(&h->broken);
    pthread_mutex_lock(&r->mu);
    ending = h->ending;
    pthread_mutex_unlock(&r->mu);
    if (!h->deaf &&
        (fds[0].revents & (POLLIN | POLLHUP | POLLERR) || dead || broken || h->more)) {
        do
            alive = listen_to(r, h, &why, &rule);
        while (alive && (dead || broken) && h->more); /* all it said counts */
    }
    if (h->state == EXJ_RHOST_LEAVES) {
        if (dead || now >= h->until)
            bury(r, h, NULL, "");
        return;
    }
    if (alive && !dead && now >= h->until) {
        if (h->state != EXJ_RHOST_READY) {
            exj_err_set(&why, EXJ_IO, "it was not ready after %u ms",
                        (unsigned)(exj_rhost_start_ns(r->settings) / 1000000));
            alive = false;
        } else if (ending) { /* the call is over, the host does not go */
            alive = false;
        }
    }
    if (!alive || dead || broken)
        bury(r, h, why.code ? why.text : NULL, rule.text);
}

/* Hosts that leave are told so, calls that wait are sent. Without mu. */
static bool say_what_is_due(exj_remote *r)
{
    for (exj_rhost *h = r->leaving; h; h = h->next) { /* the pump's own list */
        if (!h->bye_due)
            continue;
        h->bye_due = false;
        exj_remote_say(r, h, EXJ_F_BYE, 0, (exj_slice){ "", 0 });
    }
    return exj_remote_push(r);
}

/* Sleep until there is something to do. Returns how many hosts `watches` and `fds` hold.
 */
static size_t wait_for_hosts(exj_remote *r, struct watch *watches, struct pollfd *fds,
                             bool stuck)
{
    size_t n = 0, fds_n = 1;
    exj_nsec wait = 0, now;

    fds[0] = (struct pollfd){ .fd = r->wake, .events = POLLIN };
    pthread_mutex_lock(&r->mu);
    add_watch(watches, &n, fds, &fds_n, r->now);
    add_watch(watches, &n, fds, &fds_n, r->ahead);
    for (exj_rhost *h = r->leaving; h; h = h->next)
        add_watch(watches, &n, fds, &fds_n, h);
    if (stuck || !exj_remote_can_send_locked(r)) {
        r->wakes_at = next_time_locked(r);
        now = exj_clock_mono_ns();
        wait = r->wakes_at > now ? (r->wakes_at - now + 999999) / 1000000 : 0;
    }
    pthread_mutex_unlock(&r->mu);

    if (poll(fds, (nfds_t)fds_n, (int)wait) < 0) /* EINTR: the time is looked at anyway */
        for (size_t k = 0; k < fds_n; k++)
            fds[k].revents = 0;

    pthread_mutex_lock(&r->mu);
    r->wakes_at = 0;
    pthread_mutex_unlock(&r->mu);
    if (fds[0].revents) {
        uint64_t count;

        while (read(r->wake, &count, sizeof count) < 0 && errno == EINTR)
            ;
    }
    return n;
}

void *exj_remote_pump(void *remote)
{
    exj_remote *r = remote;
    struct pollfd fds[1 + 3 * HOSTS_MAX];
    struct watch watches[HOSTS_MAX];

    pthread_setname_np(pthread_self(), "exj-host");
    pthread_mutex_lock(&r->mu);
    while (arrange_hosts_locked(r)) {
        bool sent, check, busy;
        size_t n;

        busy = r->sent.n >= BUSY;
        pthread_mutex_unlock(&r->mu);
        sent = say_what_is_due(r);
        if (busy)
            sched_yield(); /* the host has enough to do: let answers and calls gather */
        n = wait_for_hosts(r, watches, fds, !sent);
        pthread_mutex_lock(&r->mu);
        check = r->check_at && exj_clock_mono_ns() >= r->check_at;
        pthread_mutex_unlock(&r->mu);
        for (size_t k = 0; k < n; k++)
            serve(r, watches[k].h, &fds[watches[k].at]);
        if (check)
            watch_calls(r);
        pthread_mutex_lock(&r->mu);
    }
    r->over = true;
    pthread_mutex_unlock(&r->mu);
    return NULL;
}
