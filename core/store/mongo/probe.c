#include "core/store/mongo/probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"

#define NAME EXJ_MONGO_PROBE_COLLECTION
#define INDEX "exj_probe_a"
#define NO_INDEX "exj_probe_no_such_index"
#define KEEP_MS 3600000 /* what a crash leaves behind lives so long */

/* ---- who is there ------------------------------------------------------------------------ */

static void copy_text(const bson_t *doc, const char *name, char *ret, size_t cap)
{
    bson_iter_t it;

    if (bson_iter_init_find(&it, doc, name) && BSON_ITER_HOLDS_UTF8(&it)) {
        snprintf(ret, cap, "%s", bson_iter_utf8(&it, NULL));
        for (char *p = ret; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7f)
                *p = '?';
    }
}

static bool is_true(const bson_t *doc, const char *name)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, doc, name) && bson_iter_as_bool(&it);
}

static int64_t number_of(const bson_t *doc, const char *name)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, doc, name) ? bson_iter_as_int64(&it) : 0;
}

static exj_code say_hello(exj_mongo_client *c, bool old, bson_t *ret_reply, exj_nsec *ret_sent,
                          exj_nsec *ret_received, exj_err *err)
{
    bson_t command = BSON_INITIALIZER;
    exj_code rc;

    BSON_APPEND_INT32(&command, old ? "isMaster" : "hello", 1);
    *ret_sent = exj_clock_mono_ns();
    rc = exj_mongo_read(c, "admin", &command, ret_reply, err);
    *ret_received = exj_clock_mono_ns();
    bson_destroy(&command);
    return rc;
}

static bool time_of(const bson_t *reply, exj_msec *ret)
{
    bson_iter_t it;

    if (!bson_iter_init_find(&it, reply, "localTime") || !BSON_ITER_HOLDS_DATE_TIME(&it))
        return false;
    *ret = bson_iter_date_time(&it);
    return true;
}

exj_code exj_mongo_probe_time(exj_mongo_client *c, bool old_hello, exj_nsec *ret_sent,
                              exj_nsec *ret_received, exj_msec *ret_server_ms, exj_err *err)
{
    bson_t reply;
    exj_code rc = say_hello(c, old_hello, &reply, ret_sent, ret_received, err);

    if (rc == EXJ_OK && !time_of(&reply, ret_server_ms))
        rc = exj_err_set(err, EXJ_UNSUPPORTED, "%s does not tell its time (hello.localTime)",
                         exj_mongo_client_server(c));
    bson_destroy(&reply);
    return rc;
}

static void ask_version(exj_mongo_client *c, exj_mongo_probed *p)
{
    bson_t command = BSON_INITIALIZER, reply;

    snprintf(p->version, sizeof(p->version), "unknown");
    BSON_APPEND_INT32(&command, "buildInfo", 1);
    if (exj_mongo_read(c, "admin", &command, &reply, NULL) == EXJ_OK)
        copy_text(&reply, "version", p->version, sizeof(p->version));
    bson_destroy(&reply);
    bson_destroy(&command);
}

static exj_code judge_hello(const bson_t *reply, const exj_mongo_probed *p, exj_err *err)
{
    if (p->wire < EXJ_MONGO_WIRE_LEAST)
        return exj_err_set(err, EXJ_REFUSED,
                           "%s is MongoDB %s (wire version %" PRId32
                           "); 4.2 or later is wanted",
                           p->server, p->version, p->wire);
    if (is_true(reply, "readOnly"))
        return exj_err_set(err, EXJ_REFUSED, "%s takes no writes: it runs read-only",
                           p->server);
    if (!is_true(reply, "isWritablePrimary") && !is_true(reply, "ismaster"))
        return exj_err_set(err, EXJ_REFUSED,
                           "%s is not the primary of replica set %s; name its servers and leave "
                           "directConnection out of MONGO_URI",
                           p->server, *p->set_name ? p->set_name : "(none)");
    return EXJ_OK;
}

static exj_code ask_who(exj_mongo_client *c, exj_mongo_probed *p, exj_err *err)
{
    exj_nsec sent, received;
    exj_err why = { 0 };
    char msg[32] = "";
    exj_msec at;
    bson_t reply;
    exj_code rc = say_hello(c, false, &reply, &sent, &received, &why);

    if (rc != EXJ_OK && exj_mongo_client_code(c) == 59) { /* before 4.4.2 */
        bson_destroy(&reply);
        exj_err_clear(&why);
        p->old_hello = true;
        rc = say_hello(c, true, &reply, &sent, &received, &why);
    }
    if (rc != EXJ_OK) {
        exj_err_set(err, rc, "%s", why.text);
        goto out;
    }
    snprintf(p->server, sizeof(p->server), "%s", exj_mongo_client_server(c));
    p->wire = (int32_t)number_of(&reply, "maxWireVersion");
    copy_text(&reply, "setName", p->set_name, sizeof(p->set_name));
    copy_text(&reply, "msg", msg, sizeof(msg));
    p->sharded = strcmp(msg, "isdbgrid") == 0;
    ask_version(c, p);
    rc = judge_hello(&reply, p, err);
    if (rc != EXJ_OK)
        goto out;
    if (!time_of(&reply, &at) || !exj_mongo_clock_observe(&p->clock, sent, received, at))
        rc = exj_err_set(err, EXJ_UNSUPPORTED, "%s does not tell its time (hello.localTime)",
                         p->server);
out:
    bson_destroy(&reply);
    return rc;
}

/* ---- what it can do ---------------------------------------------------------------------- */

struct trial {
    exj_mongo_client *c;
    const char *db;
    char id[48];
    exj_mongo_probed *p;
    exj_err *err;
};

/* What a server says that cannot do something now, be it offered or not. */
static bool is_passing(uint32_t code)
{
    static const uint32_t codes[] = { 0,   6,   7,   13,   18,    50,    64,    89,    91,
                                      189, 202, 262, 9001, 10058, 10107, 11600, 11601, 11602,
                                      13435 };

    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        if (codes[i] == code)
            return true;
    return false;
}

/* The server said no: this is not offered. Anything else that went wrong ends the probe. */
static exj_code offered(const struct trial *t, exj_code rc, const exj_err *why, bool *ret)
{
    *ret = rc == EXJ_OK;
    if (rc == EXJ_OK || !is_passing(exj_mongo_client_code(t->c)))
        return EXJ_OK;
    return exj_err_set(t->err, rc, "%s", why->text);
}

/* What may not be done, and which role allows it. */
static exj_code explain_write(const struct trial *t, exj_code rc, const exj_err *why)
{
    const exj_mongo_uri *uri = exj_mongo_client_settings(t->c);

    if (exj_mongo_client_code(t->c) == 13)
        return exj_err_set(t->err, EXJ_REFUSED,
                           "the user %.60s may not insert on %s.%s: give it the role readWrite on "
                           "both databases",
                           uri->user ? uri->user : "(none: MONGO_URI names no user)", t->db,
                           NAME);
    if (rc == EXJ_UNKNOWN) /* a document of the probe is no loss */
        return exj_err_set(t->err, EXJ_IO,
                           "a write was not acknowledged by a majority of the servers: %s",
                           why->text);
    return exj_err_set(t->err, rc, "%s", why->text);
}

static exj_code try_insert(const struct trial *t)
{
    exj_msec now = exj_mongo_clock_now(&t->p->clock, exj_clock_mono_ns());
    bson_t doc = BSON_INITIALIZER;
    const bson_t *docs[] = { &doc };
    exj_err why = { 0 };
    exj_code rc;

    BSON_APPEND_UTF8(&doc, "_id", t->id);
    BSON_APPEND_INT32(&doc, "a", 1);
    BSON_APPEND_DATE_TIME(&doc, "expireAt", now + KEEP_MS);
    rc = exj_mongo_insert(t->c, t->db, NAME, docs, 1, NULL, &why);
    bson_destroy(&doc);
    return rc == EXJ_OK ? EXJ_OK : explain_write(t, rc, &why);
}

static void remove_own(const struct trial *t)
{
    bson_t filter = BSON_INITIALIZER;
    int64_t n;

    BSON_APPEND_UTF8(&filter, "_id", t->id);
    exj_mongo_delete(t->c, t->db, NAME, &filter, NULL, 1, EXJ_MONGO_W1, &n, NULL);
    bson_destroy(&filter);
}

static exj_code try_index(const struct trial *t, const char *key, const char *name, bool partial,
                          bool ttl, bool *ret)
{
    bson_t command = BSON_INITIALIZER, list, index, part, reply;
    exj_err why = { 0 };
    exj_code rc;

    BSON_APPEND_UTF8(&command, "createIndexes", NAME);
    BSON_APPEND_ARRAY_BEGIN(&command, "indexes", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &index);
    BSON_APPEND_DOCUMENT_BEGIN(&index, "key", &part);
    BSON_APPEND_INT32(&part, key, 1);
    bson_append_document_end(&index, &part);
    BSON_APPEND_UTF8(&index, "name", name);
    if (partial) {
        BSON_APPEND_DOCUMENT_BEGIN(&index, "partialFilterExpression", &part);
        BSON_APPEND_INT32(&part, key, 1);
        bson_append_document_end(&index, &part);
    }
    if (ttl)
        BSON_APPEND_INT32(&index, "expireAfterSeconds", 0);
    bson_append_document_end(&list, &index);
    bson_append_array_end(&command, &list);
    rc = exj_mongo_write(t->c, t->db, &command, EXJ_MONGO_WRITE_ONE, EXJ_MONGO_MAJORITY, &reply,
                         &why);
    rc = offered(t, rc, &why, ret);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

static exj_code see_date(void *user, const bson_t *doc, exj_err *err)
{
    bson_iter_t it;

    (void)err;
    *(bool *)user = bson_iter_init_find(&it, doc, "at") && BSON_ITER_HOLDS_DATE_TIME(&it) &&
                    bson_iter_date_time(&it) > 0;
    return EXJ_OK;
}

/* Whether an update by [{$set: {at: `value`}}] goes through; *ret_date: `at` is a time then. */
static exj_code try_pipeline(const struct trial *t, const char *value, bool *ret, bool *ret_date)
{
    bson_t filter = BSON_INITIALIZER, pipeline = BSON_INITIALIZER, stage, set;
    exj_mongo_change change = { &filter, &pipeline, true, false, NULL };
    exj_mongo_changed changed;
    exj_err why = { 0 };
    exj_code rc;

    *ret_date = false;
    BSON_APPEND_UTF8(&filter, "_id", t->id);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$set", &set);
    BSON_APPEND_UTF8(&set, "at", value);
    bson_append_document_end(&stage, &set);
    bson_append_document_end(&pipeline, &stage);
    rc = exj_mongo_update(t->c, t->db, NAME, &change, 1, EXJ_MONGO_MAJORITY, &changed, NULL,
                          &why);
    rc = offered(t, rc, &why, ret);
    if (rc == EXJ_OK && *ret) {
        *ret = changed.matched == 1;
        rc = exj_mongo_find(t->c, t->db, NAME, &filter, NULL, see_date, ret_date, t->err);
    }
    bson_destroy(&filter);
    bson_destroy(&pipeline);
    return rc;
}

static exj_code see_nothing(void *user, const bson_t *doc, exj_err *err)
{
    (void)user;
    (void)doc;
    (void)err;
    return EXJ_OK;
}

static exj_code try_hint(const struct trial *t)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER;
    exj_err why = { 0 };
    bool taken;
    exj_code rc;

    BSON_APPEND_INT32(&filter, "a", 1);
    BSON_APPEND_UTF8(&opts, "hint", NO_INDEX);
    rc = exj_mongo_find(t->c, t->db, NAME, &filter, &opts, see_nothing, NULL, &why);
    rc = offered(t, rc, &why, &taken);
    t->p->hint_checked = rc == EXJ_OK && !taken;
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

static exj_code try_explain(const struct trial *t)
{
    bson_t command = BSON_INITIALIZER, find, part, reply;
    bson_iter_t it, found;
    exj_err why = { 0 };
    bool taken;
    exj_code rc;

    BSON_APPEND_DOCUMENT_BEGIN(&command, "explain", &find);
    BSON_APPEND_UTF8(&find, "find", NAME);
    BSON_APPEND_DOCUMENT_BEGIN(&find, "filter", &part);
    BSON_APPEND_INT32(&part, "a", 1);
    bson_append_document_end(&find, &part);
    BSON_APPEND_UTF8(&find, "hint", INDEX);
    bson_append_document_end(&command, &find);
    BSON_APPEND_UTF8(&command, "verbosity", "executionStats");
    rc = exj_mongo_read(t->c, t->db, &command, &reply, &why);
    rc = offered(t, rc, &why, &taken);
    t->p->explain = rc == EXJ_OK && taken && bson_iter_init(&it, &reply) &&
                    bson_iter_find_descendant(&it, "executionStats.totalKeysExamined", &found);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

static void end_cursor(const struct trial *t, int64_t cursor)
{
    bson_t command = BSON_INITIALIZER, list, reply;

    BSON_APPEND_UTF8(&command, "killCursors", NAME);
    BSON_APPEND_ARRAY_BEGIN(&command, "cursors", &list);
    BSON_APPEND_INT64(&list, "0", cursor);
    bson_append_array_end(&command, &list);
    exj_mongo_read(t->c, t->db, &command, &reply, NULL);
    bson_destroy(&reply);
    bson_destroy(&command);
}

static exj_code try_stream(const struct trial *t)
{
    bson_t command = BSON_INITIALIZER, list, stage, part, reply;
    bson_iter_t it, found;
    exj_err why = { 0 };
    exj_code rc;

    BSON_APPEND_UTF8(&command, "aggregate", NAME);
    BSON_APPEND_ARRAY_BEGIN(&command, "pipeline", &list);
    BSON_APPEND_DOCUMENT_BEGIN(&list, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$changeStream", &part);
    bson_append_document_end(&stage, &part);
    bson_append_document_end(&list, &stage);
    bson_append_array_end(&command, &list);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "cursor", &part);
    BSON_APPEND_INT32(&part, "batchSize", 0);
    bson_append_document_end(&command, &part);
    rc = exj_mongo_read(t->c, t->db, &command, &reply, &why);
    rc = offered(t, rc, &why, &t->p->change_streams);
    if (rc == EXJ_OK && t->p->change_streams) {
        int64_t cursor = bson_iter_init(&it, &reply) &&
                                 bson_iter_find_descendant(&it, "cursor.id", &found)
                             ? bson_iter_as_int64(&found)
                             : 0;

        t->p->change_streams = cursor != 0;
        if (cursor)
            end_cursor(t, cursor);
    }
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

static exj_code try_all(const struct trial *t)
{
    exj_mongo_probed *p = t->p;
    bool plain, ignored;
    exj_code rc = try_pipeline(t, "$$NOW", &p->pipeline, &p->now);

    if (rc == EXJ_OK && !p->now)
        rc = try_pipeline(t, "plain", &plain, &ignored);
    if (rc == EXJ_OK && !p->now)
        p->pipeline = plain;
    if (rc == EXJ_OK)
        rc = try_index(t, "a", INDEX, true, false, &p->partial);
    if (rc == EXJ_OK)
        rc = try_index(t, "expireAt", "exj_probe_ttl", false, true, &p->ttl);
    if (rc == EXJ_OK)
        rc = try_hint(t);
    if (rc == EXJ_OK)
        rc = try_explain(t);
    if (rc == EXJ_OK && (*p->set_name || p->sharded))
        rc = try_stream(t);
    return rc;
}

exj_code exj_mongo_probe(exj_mongo_client *c, const char *execution_db, const char *config_db,
                         exj_mongo_probed *ret, exj_err *err)
{
    const char *dbs[] = { execution_db, config_db };
    exj_mongo_probed p = { 0 };
    exj_code rc = ask_who(c, &p, err);

    for (size_t i = 0; i < 2 && rc == EXJ_OK; i++) {
        struct trial t = { .c = c, .db = dbs[i], .p = &p, .err = err };

        snprintf(t.id, sizeof(t.id), "%016" PRIx64, exj_random_u64());
        rc = try_insert(&t);
        if (rc == EXJ_OK && i == 0)
            rc = try_all(&t);
        remove_own(&t);
    }
    if (rc == EXJ_OK)
        *ret = p;
    return rc;
}

/* ---- for people -------------------------------------------------------------------------- */

bool exj_mongo_probe_show(const exj_mongo_probed *p, const exj_mongo_uri *uri, exj_nsec mono,
                          exj_msec wall_ms, exj_buf *ret)
{
    exj_msec off = exj_mongo_clock_offset(&p->clock, mono, wall_ms);
    struct {
        const char *name;
        bool has;
        const char *without;
    } can[] = {
        { "pipeline updates", p->pipeline, "no: plain operators are used" },
        { "$$NOW in updates", p->now, "no: times come from our reckoning of the server's clock" },
        { "hints checked", p->hint_checked, "no: a missing index is slow, not an error" },
        { "partial indexes", p->partial, "no" },
        { "TTL indexes", p->ttl, "no: old documents stay" },
        { "explain", p->explain, "no: the use of indexes cannot be shown" },
        { "change streams", p->change_streams, "no: new work is found by asking" },
    };

    exj_buf_printf(ret, "uri: %s\n", uri->shown);
    exj_buf_printf(ret, "server: MongoDB %s at %s, %s%s\n", p->version, p->server,
                   p->sharded       ? "sharded"
                   : *p->set_name   ? "replica set "
                                    : "alone",
                   p->sharded ? "" : p->set_name);
    exj_buf_printf(ret, "clock: %" PRId64 " ms %s ours\n", off < 0 ? -off : off,
                   off < 0 ? "behind" : "ahead of");
    exj_buf_add_text(ret, "write concern majority: yes\n");
    for (size_t i = 0; i < sizeof(can) / sizeof(*can); i++)
        exj_buf_printf(ret, "%s: %s\n", can[i].name, can[i].has ? "yes" : can[i].without);
    for (const char *n = uri->notes; *n; n += strcspn(n, "\n") + 1)
        exj_buf_printf(ret, "note: %.*s\n", (int)strcspn(n, "\n"), n);
    return !ret->failed;
}
