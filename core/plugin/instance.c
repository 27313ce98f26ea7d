/* core/plugin/instance.c - what create makes, and its end. */
#include "core/plugin/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/base/log.h"

#define MODEL_MAX_BYTES (8u * 1024u * 1024u)
#define THREADS_WAIT_S 10

static const char *name_of_result(exj_result r)
{
    static const char *const names[] = { "OK", "PENDING", "FAILED", "RETRY", "CANCELLED",
                                         "DEADLINE", "INPUT", "UNSUPPORTED", "INTERNAL",
                                         "MISS" };

    if (r < 0 || r >= (exj_result)(sizeof names / sizeof *names))
        return "an unknown result";
    return names[r];
}

exj_code exj_instance_new(exj_guest *g, exj_slice config, exj_instance **ret, exj_err *err)
{
    exj_instance *i = calloc(1, sizeof *i);
    exj_result r;
    exj_code rc;

    if (!i)
        return exj_err_set(err, EXJ_NOMEM, "plugin %s %s: out of memory", g->id, g->version);
    i->guest = g;
    i->creating = true;
    pthread_mutex_init(&i->mu, NULL);
    pthread_cond_init(&i->calm, NULL);
    exj_host_fill(i);
    exj_registry_add_instance(g->registry, i);
    r = g->vt.create(&i->host, (exj_str){ config.p ? config.p : "", config.n }, &i->self);
    pthread_mutex_lock(&i->mu);
    i->creating = false;
    pthread_mutex_unlock(&i->mu);
    if (r == EXJ_R_OK) {
        *ret = i;
        return EXJ_OK;
    }
    exj_registry_drop_instance(g->registry, i);
    rc = r == EXJ_R_UNSUPPORTED ? EXJ_UNSUPPORTED : r == EXJ_R_RETRY ? EXJ_BUSY : EXJ_INVALID;
    exj_err_set(err, rc, "plugin %s %s: create answered %s%s%s", g->id, g->version,
                name_of_result(r), i->error[0] ? ": " : "", i->error);
    if (i->threads == 0) { /* a thread it left behind still uses the table: it stays in use */
        exj_registry_end_use(g);
        pthread_cond_destroy(&i->calm);
        pthread_mutex_destroy(&i->mu);
        free(i);
    }
    return rc;
}

void exj_instance_free(exj_instance *i)
{
    struct timespec until;
    bool left;

    if (!i)
        return;
    exj_registry_drop_instance(i->guest->registry, i);
    pthread_mutex_lock(&i->mu);
    while (i->pending)
        pthread_cond_wait(&i->calm, &i->mu);
    pthread_mutex_unlock(&i->mu);

    i->guest->vt.destroy(i->self); /* also tells its threads to end */

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += THREADS_WAIT_S;
    pthread_mutex_lock(&i->mu);
    while (i->threads && pthread_cond_timedwait(&i->calm, &i->mu, &until) != ETIMEDOUT)
        ;
    left = i->threads != 0;
    pthread_mutex_unlock(&i->mu);
    if (left) { /* the table stays for them */
        exj_misdeed(i, "threads go on %d s after destroy", THREADS_WAIT_S);
        return; /* still in use: its generation is never unmapped */
    }
    exj_registry_end_use(i->guest);
    pthread_cond_destroy(&i->calm);
    pthread_mutex_destroy(&i->mu);
    free(i);
}

exj_guest *exj_instance_guest(exj_instance *i)
{
    return i->guest;
}

static exj_result resolve(exj_instance *i, exj_call c, const void *user)
{
    const exj_slice *id = user;

    return i->guest->vt.resolve_model(i->self, c, (exj_str){ id->p, id->n });
}

exj_code exj_instance_model(exj_instance *i, exj_slice graph_id, exj_buf *ret, exj_err *err)
{
    static const exj_call_ports ports = { 0 };
    const exj_guest *g = i->guest;
    exj_call_slot *s = NULL;
    exj_call_end end;
    exj_json_kind kind;
    exj_code rc;

    if (!g->vt.resolve_model)
        return exj_err_set(err, EXJ_NOT_FOUND, "plugin %s %s resolves no models", g->id,
                           g->version);
    rc = exj_call_slot_new(MODEL_MAX_BYTES, &s, err);
    if (rc)
        return rc;
    exj_call_other(i, s, &ports, resolve, &graph_id, &end);
    if (end.result == EXJ_R_MISS) {
        rc = exj_err_set(err, EXJ_NOT_FOUND, "plugin %s %s has no model of graph '%.*s'", g->id,
                         g->version, (int)graph_id.n, graph_id.p);
    } else if (end.result != EXJ_R_OK || end.emits == 0) {
        rc = exj_err_set(err, EXJ_INVALID,
                         "plugin %s %s: model of graph '%.*s': %s%s%.*s%s%.*s", g->id, g->version,
                         (int)graph_id.n, graph_id.p,
                         end.result == EXJ_R_OK ? "nothing was emitted"
                                                : name_of_result(end.result),
                         end.error_code.n ? ": " : "", (int)end.error_code.n, end.error_code.p,
                         end.error_text.n ? ": " : "", (int)end.error_text.n, end.error_text.p);
    } else {
        rc = exj_json_check(end.answer, EXJ_JSON_MAX_DEPTH, &kind, err);
        if (!rc && kind != EXJ_JSON_OBJECT)
            rc = exj_err_set(err, EXJ_INVALID, "wanted an object");
        if (rc)
            exj_err_prefix(err, "plugin %s %s: model of graph '%.*s'", g->id, g->version,
                           (int)graph_id.n, graph_id.p);
        else if (!exj_buf_add_slice(ret, end.answer))
            rc = exj_err_set(err, EXJ_NOMEM, "plugin %s: out of memory", g->id);
    }
    exj_call_slot_free(s);
    return rc;
}

/* ---- self-test and state ------------------------------------------------------------------- */

#define STATE_MAX_BYTES (16u * 1024u * 1024u)
#define SAVE_NS ((exj_nsec)10 * 1000 * 1000 * 1000)

static exj_result self_test(exj_instance *i, exj_call c, const void *user)
{
    (void)user;
    return i->guest->vt.self_test(i->self, c);
}

static exj_result save_state(exj_instance *i, exj_call c, const void *user)
{
    (void)user;
    return i->guest->vt.save_state(i->self, c);
}

/* Call `body` and say in words how it failed. `ret`: where what it emits goes; may be NULL. */
static exj_code ask(exj_instance *i, const char *what, exj_call_body body,
                    const exj_call_ports *ports, exj_buf *ret, exj_err *err)
{
    const exj_guest *g = i->guest;
    exj_call_slot *s = NULL;
    exj_call_end end;
    exj_code rc = exj_call_slot_new(STATE_MAX_BYTES, &s, err);

    if (rc)
        return rc;
    exj_call_other(i, s, ports, body, NULL, &end);
    if (end.result != EXJ_R_OK)
        rc = exj_err_set(err, EXJ_INVALID, "plugin %s %s: %s: %s%s%.*s%s%.*s", g->id, g->version,
                         what, name_of_result(end.result), end.error_code.n ? ": " : "",
                         (int)end.error_code.n, end.error_code.p, end.error_text.n ? ": " : "",
                         (int)end.error_text.n, end.error_text.p);
    else if (ret && !exj_buf_add_slice(ret, end.answer))
        rc = exj_err_set(err, EXJ_NOMEM, "plugin %s: out of memory", g->id);
    exj_call_slot_free(s);
    return rc;
}

exj_code exj_instance_self_test_until(exj_instance *i, int32_t (*cancelled)(void *user),
                                      void *user, exj_err *err)
{
    const exj_call_ports ports = { .user = user, .cancelled = cancelled };

    if (!i->guest->vt.self_test)
        return exj_err_set(err, EXJ_NOT_FOUND, "plugin %s %s has no self-test", i->guest->id,
                           i->guest->version);
    return ask(i, "self-test", self_test, &ports, NULL, err);
}

exj_code exj_instance_self_test(exj_instance *i, exj_err *err)
{
    return exj_instance_self_test_until(i, NULL, NULL, err);
}

static int32_t is_late(void *until)
{
    return exj_clock_mono_ns() >= *(const exj_nsec *)until ? EXJ_R_DEADLINE : 0;
}

exj_code exj_instance_save_state(exj_instance *i, exj_buf *ret, exj_err *err)
{
    exj_nsec until = exj_clock_mono_ns() + SAVE_NS;
    const exj_call_ports ports = { .user = &until, .cancelled = is_late };

    if (!i->guest->vt.save_state)
        return exj_err_set(err, EXJ_NOT_FOUND, "plugin %s %s saves no state", i->guest->id,
                           i->guest->version);
    return ask(i, "save_state", save_state, &ports, ret, err);
}

exj_code exj_instance_load_state(exj_instance *i, uint32_t from_version, exj_slice state,
                                 exj_err *err)
{
    const exj_guest *g = i->guest;
    exj_result r;

    if (!g->vt.load_state)
        return exj_err_set(err, EXJ_NOT_FOUND, "plugin %s %s loads no state", g->id, g->version);
    r = g->vt.load_state(i->self, from_version, (exj_str){ state.p ? state.p : "", state.n });
    if (r == EXJ_R_OK)
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID, "plugin %s %s: load_state of version %u: %s", g->id,
                       g->version, from_version, name_of_result(r));
}

uint32_t exj_guest_state_version(const exj_guest *g)
{
    return g->vt.state_version;
}

bool exj_guest_saves_state(const exj_guest *g)
{
    return g->vt.save_state != NULL;
}

exj_code exj_guest_may_start(const exj_guest *g, exj_err *err)
{
    exj_err why = { 0 };

    if (!g->remote || !g->remote->may_start || g->remote->may_start(g->remote->user, g, &why))
        return EXJ_OK;
    return exj_err_set(err, EXJ_REFUSED, "%s", why.text);
}
