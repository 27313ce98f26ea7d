/* core/plugin/remote.c - the table of functions of a remote guest; see remote.h. */
#include "core/plugin/remote_inside.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define OTHER_FIELDS 128u /* of a CALL, beside its texts */
#define ENOUGH 2u /* calls that a host has, so that it does not wait for the next */

static exj_str str_of(const char *text)
{
    return (exj_str){ text, strlen(text) };
}

/* ---- the pump's thread ------------------------------------------------------------ */

/* It runs, or is started. Returns an errno. */
static int have_pump_locked(exj_remote *r)
{
    sigset_t all, before;
    int failed;

    if (r->pumping && !r->over)
        return 0;
    if (r->pumping)
        pthread_join(r->thread,
                     NULL); /* it has let go of mu for the last time, or soon will */
    r->over = false;
    r->wakes_at = 0;
    r->used_at = exj_clock_mono_ns();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for others */
    failed = pthread_create(&r->thread, NULL, exj_remote_pump, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    r->pumping = !failed;
    return failed;
}

static exj_rcall *new_call_locked(exj_remote *r)
{
    exj_rcall *c = r->spare;

    if (c)
        r->spare = c->next;
    else
        c = malloc(sizeof *c);
    return c;
}

/* Put `what` into the queue. *ret_push: it is the caller's to send. */
static exj_result submit_locked(exj_remote *r, const exj_rcall *what, bool *ret_push)
{
    exj_rcall *c = new_call_locked(r);

    *ret_push = false;
    if (!c || have_pump_locked(r)) {
        if (c) {
            c->next = r->spare;
            r->spare = c;
        }
        return EXJ_R_RETRY;
    }
    *c = *what;
    exj_rcalls_add(&r->waiting, c);
    if (!r->wakes_at)
        return EXJ_R_PENDING; /* the pump is awake: it sends all that has gathered at once
                               */
    if (!r->now)
        exj_remote_wake_locked(r);
    else /* a host that has enough to do says so with its next RESULT, which wakes the
            pump */
        *ret_push = r->sent.n < ENOUGH && exj_remote_can_send_locked(r);
    return EXJ_R_PENDING;
}

static void push(exj_remote *r)
{
    exj_remote_push(r);
    pthread_mutex_lock(&r->mu);
    if (r->check_at && r->check_at < r->wakes_at)
        exj_remote_wake_locked(r); /* it must look at this call sooner than it would */
    pthread_mutex_unlock(&r->mu);
}

static exj_result submit(exj_remote *r, const exj_rcall *what)
{
    const exj_host *t = r->table;
    exj_result result;
    bool mine;

    pthread_mutex_lock(&r->mu);
    result = submit_locked(r, what, &mine);
    pthread_mutex_unlock(&r->mu);
    if (mine)
        push(r);
    if (result == EXJ_R_RETRY)
        t->error(t->ctx, what->id, result, str_of("HostStart"),
                 str_of("out of memory or threads for a plugin host"));
    return result;
}

/* ---- the functions ---------------------------------------------------------------- */

static void destroy(void *self)
{
    exj_remote *r = self;

    pthread_mutex_lock(&r->mu);
    r->stop = true;
    exj_remote_wake_locked(r);
    pthread_mutex_unlock(&r->mu);
    if (r->pumping)
        pthread_join(r->thread,
                     NULL); /* says BYE and waits for the end, at most for grace_ms */
    while (r->spare) {
        exj_rcall *c = r->spare;

        r->spare = c->next;
        free(c);
    }
    exj_buf_release(&r->config);
    exj_buf_release(&r->scratch);
    exj_buf_release(&r->state);
    pthread_cond_destroy(&r->loaded);
    pthread_mutex_destroy(&r->mu);
    pthread_mutex_destroy(&r->send_mu);
    close(r->wake);
    free(r);
}

static exj_result create(const exj_host *t, exj_str config, void **ret)
{
    exj_instance *i = t->ctx;
    exj_remote *r = calloc(1, sizeof *r);

    if (!r || (r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
        t->error(
            t->ctx, 0, EXJ_R_RETRY, str_of("HostStart"),
            str_of(
                r ? "no descriptor left for a plugin host (raise the limit of open files)"
                  : "out of memory"));
        free(r);
        return EXJ_R_RETRY;
    }
    r->instance = i;
    r->guest = i->guest;
    r->table = t;
    r->settings = i->guest->remote;
    r->one_call = i->guest->lane == EXJ_LANE_SANDBOX;
    r->load_over = true;
    pthread_mutex_init(&r->mu, NULL);
    pthread_mutex_init(&r->send_mu, NULL);
    pthread_cond_init(&r->loaded, NULL);
    if (!r->settings || !r->settings->host_exe) {
        t->error(t->ctx, 0, EXJ_R_UNSUPPORTED, str_of("HostStart"),
                 str_of("there is no plugin host program to run it in"));
        destroy(r);
        return EXJ_R_UNSUPPORTED;
    }
    if (config.n && !exj_buf_add(&r->config, config.p, (size_t)config.n)) {
        destroy(r);
        return EXJ_R_RETRY;
    }
    *ret = r;
    return EXJ_R_OK;
}

static exj_result execute(void *self, exj_call c, const exj_args *a)
{
    exj_remote *r = self;
    exj_rcall call = { .id = c, .kind = EXJ_RCALL_EXECUTE, .args = a };

    if (a->model.n > EXJ_WIRE_MAX || a->runtime.n > EXJ_WIRE_MAX ||
        a->job_id.n > EXJ_WIRE_MAX || a->record_id.n > EXJ_WIRE_MAX ||
        a->model.n + a->runtime.n + a->job_id.n + a->record_id.n + OTHER_FIELDS >
            EXJ_WIRE_MAX) {
        r->table->error(
            r->table->ctx, c, EXJ_R_INPUT, str_of("RecordTooLarge"),
            str_of("model and record have more than the 32 MiB that a plugin host "
                   "can be given; make them smaller"));
        return EXJ_R_INPUT;
    }
    if (a->deadline_ns != UINT64_MAX) {
        exj_nsec left = (exj_nsec)(a->deadline_ns & INT64_MAX) - exj_clock_mono_ns();

        call.timeout = left > 0 ? left : 1;
    }
    return submit(r, &call);
}

static void cancel(void *self, exj_call c)
{
    exj_remote *r = self;
    uint64_t words[2] = { c, EXJ_R_CANCELLED };

    pthread_mutex_lock(&r->mu);
    if (r->now && r->now->child.cancel >= 0) {
        send(r->now->child.cancel, words, sizeof words, MSG_DONTWAIT | MSG_NOSIGNAL);
        r->check_at = 1; /* it may be that force is needed: the pump asks at once */
        exj_remote_wake_locked(r);
    }
    pthread_mutex_unlock(&r->mu);
}

static exj_result self_test(void *self, exj_call c)
{
    exj_rcall call = { .id = c, .kind = EXJ_RCALL_TEST };

    return submit(self, &call);
}

static exj_result save_state(void *self, exj_call c)
{
    exj_rcall call = { .id = c, .kind = EXJ_RCALL_SAVE };

    return submit(self, &call);
}

static exj_result resolve_model(void *self, exj_call c, exj_str graph_id)
{
    exj_rcall call = { .id = c, .kind = EXJ_RCALL_MODEL, .text = graph_id };

    return submit(self, &call);
}

/* Waits: this function has no call to be PENDING. Each later host is given the state too.
 */
static exj_result load_state(void *self, uint32_t from_version, exj_str state)
{
    exj_remote *r = self;
    exj_result result = EXJ_R_RETRY;

    if (state.n > EXJ_WIRE_MAX - OTHER_FIELDS)
        return EXJ_R_INPUT;
    pthread_mutex_lock(&r->mu);
    exj_buf_reset(&r->state);
    if (state.n && !exj_buf_add(&r->state, state.p, (size_t)state.n))
        goto out;
    r->state_version = from_version;
    r->has_state = true;
    r->load_over = false;
    if (r->now) {
        exj_rcall call = { .id = EXJ_RCALL_OWN,
                           .kind = EXJ_RCALL_LOAD,
                           .timeout = exj_rhost_start_ns(r->settings) };

        bool mine;

        result = submit_locked(r, &call, &mine);
        exj_remote_wake_locked(r);
    } else {
        r->warm = true; /* what starts will be given it */
        result = have_pump_locked(r) ? EXJ_R_RETRY : EXJ_R_PENDING;
        exj_remote_wake_locked(r);
    }
    if (result == EXJ_R_PENDING) {
        while (!r->load_over)
            pthread_cond_wait(&r->loaded, &r->mu);
        result = r->load_result;
    }
    r->load_over = true;
out:
    if (result != EXJ_R_OK)
        r->has_state = false;
    pthread_mutex_unlock(&r->mu);
    return result;
}

void exj_remote_vt(uint32_t has, exj_plugin *ret)
{
    ret->create = create;
    ret->execute = execute;
    ret->destroy = destroy;
    ret->cancel =
        cancel; /* also without EXJ_VT_CANCEL: its cancelled() hears of it sooner */
    ret->self_test = has & EXJ_VT_SELF_TEST ? self_test : NULL;
    ret->save_state = has & EXJ_VT_SAVE_STATE ? save_state : NULL;
    ret->load_state = has & EXJ_VT_LOAD_STATE ? load_state : NULL;
    ret->resolve_model = has & EXJ_VT_RESOLVE_MODEL ? resolve_model : NULL;
    ret->extension = NULL;
}

/* ---- from outside ----------------------------------------------------------------- */

void exj_remote_look(exj_instance *i, exj_remote_view *ret)
{
    exj_remote *r = i->self;

    memset(ret, 0, sizeof *ret);
    if (i->guest->lane == EXJ_LANE_IN_PROCESS || !i->guest->remote || !r)
        return;
    pthread_mutex_lock(&r->mu);
    ret->pid = r->now ? r->now->child.pid : 0;
    ret->cage = r->cage;
    ret->starts = r->starts;
    ret->crashes = r->crashes;
    ret->open = r->sent.n + r->pending.n;
    pthread_mutex_unlock(&r->mu);
}

void exj_remote_kill(exj_instance *i)
{
    exj_remote *r = i->self;

    if (i->guest->lane == EXJ_LANE_IN_PROCESS || !i->guest->remote || !r)
        return;
    pthread_mutex_lock(&r->mu);
    if (r->now)
        exj_child_signal(&r->now->child, SIGKILL);
    pthread_mutex_unlock(&r->mu);
}

void exj_remote_retire(exj_instance *i)
{
    exj_remote *r = i->self;

    if (i->guest->lane == EXJ_LANE_IN_PROCESS || !i->guest->remote || !r)
        return;
    pthread_mutex_lock(&r->mu);
    if (r->now) {
        atomic_store(&r->now->our_fault, true);
        exj_child_signal(&r->now->child, SIGKILL);
    }
    pthread_mutex_unlock(&r->mu);
}

void exj_remote_warm(exj_instance *i)
{
    exj_remote *r = i->self;

    if (i->guest->lane == EXJ_LANE_IN_PROCESS || !i->guest->remote || !r)
        return;
    pthread_mutex_lock(&r->mu);
    if (!r->now && !r->stop) {
        r->warm = true;
        have_pump_locked(r); /* when it cannot be had, a call will say so */
        exj_remote_wake_locked(r);
    }
    pthread_mutex_unlock(&r->mu);
}

void exj_remote_plugins_free(exj_remote_plugin *p, size_t n)
{
    for (size_t k = 0; p && k < n; k++) {
        free(p[k].id);
        free(p[k].version);
        exj_buf_release(&p[k].describe);
    }
    free(p);
}

/* Wait for its first frame. */
static exj_code hear_hello(exj_rhost *h, const exj_remote_settings *s, const char *shown,
                           exj_remote_plugin **ret, size_t *ret_len, exj_err *err)
{
    for (;;) {
        exj_frame f = { 0 };
        exj_err broken = { 0 };
        exj_code rc = exj_wire_receive(h->wire, &f, &broken);
        exj_nsec left = h->until - exj_clock_mono_ns();
        struct pollfd p[2] = { { .fd = exj_wire_fd(h->wire), .events = POLLIN },
                               { .fd = h->child.log, .events = POLLIN } };

        if (rc == EXJ_OK && f.type == EXJ_F_REFUSED) {
            exj_wire_reader w = { .left = f.body };
            exj_slice text = exj_wire_get_text(&w);
            char said[400];

            exj_clean_text(text.p, text.n, said, sizeof said);
            exj_frame_release(&f);
            return exj_err_set(err, EXJ_INVALID, "%s", said);
        }
        if (rc == EXJ_OK && f.type == EXJ_F_HOST_HELLO) {
            rc = exj_remote_read_hello(&f, &h->cage, ret, ret_len, &broken) ? EXJ_OK
                                                                            : EXJ_INVALID;
            exj_frame_release(&f);
            return rc ? exj_err_set(err, rc, "%s: its plugin host: %s", shown,
                                    broken.text)
                      : rc;
        }
        if (rc == EXJ_OK && (f.type == EXJ_F_LOG || f.type == EXJ_F_MISDEED)) {
            exj_frame_release(&f);
            continue;
        }
        if (rc == EXJ_OK) {
            exj_err_set(&broken, EXJ_INVALID, "a frame of type %d before HELLO",
                        (int)f.type);
            exj_frame_release(&f);
            rc = EXJ_INVALID;
        }
        if (rc != EXJ_BUSY) {
            exj_death d;

            exj_rhost_autopsy(h, shown, rc == EXJ_INVALID ? broken.text : "", &d);
            return exj_err_set(err, EXJ_INVALID,
                               "%s: while it was loaded in a plugin host it %s%s%s",
                               shown, d.what, d.trace_n ? ": " : "", d.trace);
        }
        if (left <= 0)
            return exj_err_set(err, EXJ_INVALID,
                               "%s: its plugin host was not ready after %lld ms", shown,
                               (long long)(exj_rhost_start_ns(s) / 1000000));
        if (poll(p, 2, (int)(left / 1000000 + 1)) > 0 && p[1].revents)
            exj_rhost_print(h, shown);
    }
}

exj_code exj_remote_describe(const exj_remote_settings *s, exj_lane lane,
                             const char *copy, const char *shown, exj_remote_plugin **ret,
                             size_t *ret_len, exj_err *err)
{
    exj_rhost *h = NULL;
    exj_code rc = exj_rhost_start(s, lane, copy, shown, "", &h, err);

    if (rc)
        return rc;
    rc = hear_hello(h, s, shown, ret, ret_len, err);
    exj_rhost_print(h, shown);
    exj_rhost_free(h);
    return rc;
}
