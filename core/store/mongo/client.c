#include "core/store/mongo/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "core/store/mongo/client_inside.h"
#include "core/store/mongo/driver.h"

/* ---- open, take, give ------------------------------------------------------------------ */

exj_code exj_mongo_open(const char *uri, exj_msec lease_ms, uint32_t clients, exj_mongo **ret,
                        exj_err *err)
{
    exj_mongo *m = calloc(1, sizeof(*m));
    bson_error_t why = { 0 };
    exj_code rc;

    if (!m)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    exj_mongo_driver_start();
    rc = exj_mongo_uri_judge(uri, lease_ms, clients, &m->uri, err);
    if (rc != EXJ_OK)
        goto fail;
    m->pool = mongoc_client_pool_new_with_error(m->uri.uri, &why);
    if (!m->pool) {
        rc = exj_err_set(err, EXJ_IO, "%.200s: %s", m->uri.shown, why.message);
        goto fail;
    }
    mongoc_client_pool_set_error_api(m->pool, 2);
    exj_mongo_count_commands(m);
    m->pid = getpid();
    *ret = m;
    return EXJ_OK;
fail:
    exj_mongo_uri_release(&m->uri);
    free(m);
    return rc;
}

void exj_mongo_close(exj_mongo *m)
{
    if (!m)
        return;
    if (m->pid == getpid()) /* its threads and sockets are not a child's */
        mongoc_client_pool_destroy(m->pool);
    exj_mongo_uri_release(&m->uri);
    free(m);
}

const exj_mongo_uri *exj_mongo_settings(const exj_mongo *m)
{
    return &m->uri;
}

exj_code exj_mongo_client_take(exj_mongo *m, exj_mongo_client **ret, exj_err *err)
{
    exj_mongo_client *c;

    if (m->pid != getpid())
        return exj_err_set(err, EXJ_BUG, "a connection to MongoDB does not survive a fork");
    c = calloc(1, sizeof(*c));
    if (!c)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    c->m = m;
    c->driver = mongoc_client_pool_pop(m->pool);
    if (!c->driver) {
        free(c);
        return exj_err_set(err, EXJ_BUSY,
                           "all %" PRIu32 " connections to %s are in use; raise maxPoolSize",
                           m->uri.clients, m->uri.hosts);
    }
    *ret = c;
    return EXJ_OK;
}

void exj_mongo_client_give(exj_mongo_client *c)
{
    if (!c)
        return;
    if (c->m->pid == getpid())
        mongoc_client_pool_push(c->m->pool, c->driver);
    free(c);
}

const exj_mongo_uri *exj_mongo_client_settings(const exj_mongo_client *c)
{
    return &c->m->uri;
}

uint32_t exj_mongo_client_code(const exj_mongo_client *c)
{
    return c->code;
}

const char *exj_mongo_client_server(const exj_mongo_client *c)
{
    return c->server;
}

/* ---- errors ------------------------------------------------------------------------------ */

static bool is_of_labels(const bson_t *reply, const char *label)
{
    return reply && mongoc_error_has_label(reply, label);
}

exj_code exj_mongo_explain(exj_mongo_client *c, const char *what, const char *db,
                           const char *collection, exj_mongo_kind kind,
                           const bson_error_t *why, const bson_t *reply, exj_err *err)
{
    bool of_server = why->domain == MONGOC_ERROR_SERVER ||
                     why->domain == MONGOC_ERROR_WRITE_CONCERN;
    char said[sizeof(why->message)], number[24] = "";
    uint32_t labels = 0;
    const char *advice;
    exj_code rc;

    snprintf(said, sizeof(said), "%s", why->message);
    for (char *p = said; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    if (is_of_labels(reply, "RetryableWriteError"))
        labels |= EXJ_MONGO_LABEL_RETRYABLE;
    if (is_of_labels(reply, "NoWritesPerformed"))
        labels |= EXJ_MONGO_LABEL_NO_WRITES;
    if (strcasestr(said, "hint"))
        labels |= EXJ_MONGO_LABEL_HINT;
    rc = exj_mongo_verdict(why->domain, why->code, labels, kind);
    advice = exj_mongo_advice(why->domain, why->code, labels);
    c->code = of_server ? why->code : 0;
    if (of_server)
        snprintf(number, sizeof(number), " (code %" PRIu32 ")", why->code);
    /* What is to be done comes before what may be cut. */
    exj_err_set(err, rc, "%s %s%s%s at %s: %.*s%s%s%s%s", what, db, *collection ? "." : "",
                collection, *c->server ? c->server : c->m->uri.hosts, advice ? 220 : 340, said,
                number, rc == EXJ_UNKNOWN ? "; it may have been applied" : "",
                advice ? "; " : "", advice ? advice : "");
    return rc;
}

exj_code exj_mongo_failed(exj_mongo_client *c, const char *what, const char *db,
                          const char *collection, exj_mongo_kind kind,
                          const bson_error_t *why, const bson_t *reply, exj_err *err)
{
    exj_code rc = exj_mongo_explain(c, what, db, collection, kind, why, reply, err);

    if (rc == EXJ_UNKNOWN)
        exj_mongo_count_unknown(c->m, what);
    return rc;
}

/* The collection that a command names, "" where it names none. */
static void name_command(const bson_t *command, const char **ret_what,
                         const char **ret_collection)
{
    bson_iter_t it;

    *ret_what = *ret_collection = "";
    if (!bson_iter_init(&it, command) || !bson_iter_next(&it))
        return;
    *ret_what = bson_iter_key(&it);
    if (BSON_ITER_HOLDS_UTF8(&it))
        *ret_collection = bson_iter_utf8(&it, NULL);
}

/* ---- reading ----------------------------------------------------------------------------- */

exj_code exj_mongo_read(exj_mongo_client *c, const char *db, const bson_t *command,
                        bson_t *ret_reply, exj_err *err)
{
    const char *what, *collection;
    bson_error_t why = { 0 };
    bool ok;

    name_command(command, &what, &collection);
    c->code = 0;
    exj_mongo_begin(c);
    ok = mongoc_client_read_command_with_opts(c->driver, db, command, NULL, NULL, ret_reply,
                                              &why);
    exj_mongo_end();
    return ok ? EXJ_OK
              : exj_mongo_failed(c, what, db, collection, EXJ_MONGO_READ, &why, ret_reply, err);
}

static exj_code show_all(exj_mongo_client *c, mongoc_cursor_t *cursor, const char *what,
                         const char *db, const char *collection, exj_mongo_visit visit,
                         void *user, exj_err *err)
{
    bson_error_t why = { 0 };
    const bson_t *doc;
    exj_code rc = EXJ_OK;

    while (rc == EXJ_OK && mongoc_cursor_next(cursor, &doc)) {
        exj_mongo_end(); /* the visitor may make a call of its own with another client */
        rc = visit(user, doc, err);
        exj_mongo_begin(c);
    }
    if (rc == EXJ_OK && mongoc_cursor_error(cursor, &why))
        rc = exj_mongo_failed(c, what, db, collection, EXJ_MONGO_READ, &why, NULL, err);
    mongoc_cursor_destroy(cursor);
    exj_mongo_end();
    return rc;
}

static void bound_time(const exj_mongo_client *c, const bson_t *opts, bson_t *ret)
{
    exj_msec socket = c->m->uri.socket_ms;

    if (opts)
        bson_copy_to(opts, ret);
    else
        bson_init(ret);
    if (!bson_has_field(ret, "maxTimeMS"))
        BSON_APPEND_INT64(ret, "maxTimeMS", socket > 2000 ? socket - 1000 : socket / 2);
}

exj_code exj_mongo_find(exj_mongo_client *c, const char *db, const char *collection,
                        const bson_t *filter, const bson_t *opts, exj_mongo_visit visit,
                        void *user, exj_err *err)
{
    mongoc_collection_t *of = mongoc_client_get_collection(c->driver, db, collection);
    mongoc_cursor_t *cursor;
    bson_t bounded;
    exj_code rc;

    c->code = 0;
    bound_time(c, opts, &bounded);
    exj_mongo_begin(c);
    cursor = mongoc_collection_find_with_opts(of, filter, &bounded, NULL);
    rc = show_all(c, cursor, "find", db, collection, visit, user, err);
    bson_destroy(&bounded);
    mongoc_collection_destroy(of);
    return rc;
}

exj_code exj_mongo_aggregate(exj_mongo_client *c, const char *db, const char *collection,
                             const bson_t *pipeline, const bson_t *opts,
                             exj_mongo_visit visit, void *user, exj_err *err)
{
    mongoc_collection_t *of = mongoc_client_get_collection(c->driver, db, collection);
    mongoc_cursor_t *cursor;
    bson_t bounded;
    exj_code rc;

    c->code = 0;
    bound_time(c, opts, &bounded);
    exj_mongo_begin(c);
    cursor = mongoc_collection_aggregate(of, MONGOC_QUERY_NONE, pipeline, &bounded, NULL);
    rc = show_all(c, cursor, "aggregate", db, collection, visit, user, err);
    bson_destroy(&bounded);
    mongoc_collection_destroy(of);
    return rc;
}

static exj_code take_count(void *user, const bson_t *doc, exj_err *err)
{
    int64_t *n = user;
    bson_iter_t it;

    (void)err;
    if (bson_iter_init_find(&it, doc, "n"))
        *n = bson_iter_as_int64(&it);
    return EXJ_OK;
}

exj_code exj_mongo_count(exj_mongo_client *c, const char *db, const char *collection,
                         const bson_t *filter, const char *hint, int64_t *ret, exj_err *err)
{
    bson_t pipeline = BSON_INITIALIZER, opts = BSON_INITIALIZER;
    bson_t match, group, sum;
    int64_t n = 0;
    exj_code rc;

    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &match);
    BSON_APPEND_DOCUMENT(&match, "$match", filter);
    bson_append_document_end(&pipeline, &match);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "1", &match);
    BSON_APPEND_DOCUMENT_BEGIN(&match, "$group", &group);
    BSON_APPEND_NULL(&group, "_id");
    BSON_APPEND_DOCUMENT_BEGIN(&group, "n", &sum);
    BSON_APPEND_INT32(&sum, "$sum", 1);
    bson_append_document_end(&group, &sum);
    bson_append_document_end(&match, &group);
    bson_append_document_end(&pipeline, &match);
    if (hint)
        BSON_APPEND_UTF8(&opts, "hint", hint);
    rc = exj_mongo_aggregate(c, db, collection, &pipeline, &opts, take_count, &n, err);
    bson_destroy(&pipeline);
    bson_destroy(&opts);
    if (rc == EXJ_OK)
        *ret = n;
    return rc;
}
