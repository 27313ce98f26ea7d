/* core/store/mongo/store.c - opening, health, closing. */
#include "core/store/mongo/mongo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/store/mongo/inside.h"
#include "core/store/mongo/probe.h"

#define READERS 4u

static exj_code look_at_server(exj_mstore *s, exj_err *err)
{
    exj_mongo_probed p;
    exj_code rc = exj_mongo_probe(s->c, s->exec_db, s->config_db, &p, err);

    if (rc)
        return rc;
    s->clock = p.clock;
    snprintf(s->version, sizeof(s->version), "MongoDB %s", p.version);
    return EXJ_OK;
}

static exj_code health(exj_store *base, exj_store_health *ret)
{
    exj_mstore *s = exj_mstore_of(base);
    bson_t ping = BSON_INITIALIZER, reply;
    exj_mongo_client *c = NULL;
    exj_err err = { 0 };
    exj_code rc;

    *ret = (exj_store_health){ .schema_version = EXJ_MSTORE_SCHEMA };
    snprintf(ret->where, sizeof(ret->where), "%s", exj_mongo_settings(s->m)->shown);
    snprintf(ret->backend, sizeof(ret->backend), "%s", s->version);
    BSON_APPEND_INT32(&ping, "ping", 1);
    rc = exj_mongo_client_take(s->m, &c, &err);
    if (!rc) {
        rc = exj_mongo_read(c, s->exec_db, &ping, &reply, &err);
        bson_destroy(&reply);
        exj_mongo_client_give(c);
    }
    bson_destroy(&ping);
    ret->config_ok = ret->execution_ok = rc == EXJ_OK;
    snprintf(ret->text, sizeof(ret->text), "%.*s", (int)sizeof(ret->text) - 1,
             rc ? err.text : "ok");
    ret->ops = atomic_load(&s->ops);
    return rc;
}

static void release(exj_mstore *s)
{
    if (s->c)
        exj_mongo_client_give(s->c);
    exj_mongo_close(s->m);
    for (size_t i = 0; i < s->pools_len; i++) {
        free(s->pools[i].matrix);
        free(s->pools[i].run);
        free(s->pools[i].graph);
    }
    free(s->pools);
    free(s->exec_db);
    free(s->config_db);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->mu);
    pthread_mutex_destroy(&s->clock_mu);
    pthread_mutex_destroy(&s->pools_mu);
    pthread_mutex_destroy(&s->drain_mu);
    pthread_mutex_destroy(&s->listen_mu);
    free(s);
}

static void close_store(exj_store *base)
{
    exj_mstore *s = exj_mstore_of(base);

    if (!base)
        return;
    if (s->thread_runs) {
        pthread_mutex_lock(&s->mu);
        s->closing = true;
        pthread_cond_signal(&s->work);
        pthread_mutex_unlock(&s->mu);
        pthread_join(s->thread, NULL);
    }
    release(s);
}

static const exj_store_vtable table = {
    .name = "mongodb",
    .shared = true,
    .submit = exj_mstore_submit,
    .now = exj_mstore_now,
    .load = exj_mstore_load,
    .pools = exj_mstore_pools,
    .row_get = exj_mstore_row_get,
    .row_page = exj_mstore_row_page,
    .row_recent = exj_mstore_row_recent,
    .row_by_seq = exj_mstore_row_by_seq,
    .failure_each = exj_mstore_failure_each,
    .journal = exj_mstore_journal,
    .events = exj_mstore_events,
    .events_span = exj_mstore_events_span,
    .listen = exj_mstore_listen,
    .health = health,
    .close = close_store,
};

exj_code exj_mstore_open(const exj_mstore_options *o, const exj_mstore_seam *seam,
                         exj_store **ret, exj_err *err)
{
    exj_mstore *s = calloc(1, sizeof(*s));
    exj_code rc;
    int failed;

    if (!s)
        return exj_err_set(err, EXJ_NOMEM, "no memory for a store");
    s->base.v = &table;
    s->tail = &s->head;
    if (seam)
        s->seam = *seam;
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_mutex_init(&s->clock_mu, NULL);
    pthread_mutex_init(&s->pools_mu, NULL);
    pthread_mutex_init(&s->drain_mu, NULL);
    pthread_mutex_init(&s->listen_mu, NULL);
    s->exec_db = strdup(o->execution_db ? o->execution_db : "exellix-runtime");
    s->config_db = strdup(o->config_db ? o->config_db : "exellix");
    rc = s->exec_db && s->config_db ? EXJ_OK : exj_err_set(err, EXJ_NOMEM, "no memory for a store");
    if (!rc)
        rc = exj_mongo_open(o->uri, o->lease_ms, 1 + 2 * (o->readers ? o->readers : READERS), &s->m,
                            err);
    if (!rc)
        rc = exj_mongo_client_take(s->m, &s->c, err);
    if (!rc)
        rc = look_at_server(s, err);
    if (!rc && o->init)
        rc = exj_mstore_init(s, s->c, err);
    if (!rc) {
        failed = pthread_create(&s->thread, NULL, exj_mstore_writer, s);
        if (failed)
            rc = exj_err_set(err, EXJ_NOMEM, "cannot start the writer: %s", strerror(failed));
        else
            s->thread_runs = true;
    }
    if (rc) {
        release(s);
        return rc;
    }
    *ret = &s->base;
    return EXJ_OK;
}
