#include <inttypes.h>
#include <stdio.h>

#include "core/store/mongo/client_inside.h"

#define DOCUMENT_MOST_BYTES (16u * 1024 * 1024)
/* What the server takes beside a document, less what the driver adds (session, concern). */
#define COMMAND_MOST_BYTES (DOCUMENT_MOST_BYTES + 15u * 1024)

/* ---- the call -------------------------------------------------------------------------- */

struct call {
    exj_mongo_client *c;
    const char *what, *db, *collection;
    exj_mongo_kind kind;
    exj_err *err;
};

static void add_concern(const exj_mongo_client *c, exj_mongo_w w, bson_t *opts)
{
    const mongoc_write_concern_t *given = mongoc_uri_get_write_concern(c->m->uri.uri);
    bson_t concern;

    BSON_APPEND_DOCUMENT_BEGIN(opts, "writeConcern", &concern);
    if (w == EXJ_MONGO_W1) {
        BSON_APPEND_INT32(&concern, "w", 1);
    } else {
        BSON_APPEND_UTF8(&concern, "w", "majority");
        BSON_APPEND_INT64(&concern, "wtimeout", c->m->uri.wtimeout_ms);
        if (mongoc_write_concern_get_journal(given))
            BSON_APPEND_BOOL(&concern, "j", true);
    }
    bson_append_document_end(opts, &concern);
}

/* Send it. *ret_concern: the answer is there, but too few servers have it. */
static exj_code send_command(const struct call *k, const bson_t *command, exj_mongo_w w,
                             bson_t *ret_reply, bool *ret_concern)
{
    bson_t opts = BSON_INITIALIZER;
    bson_error_t why = { 0 };
    bool ok;

    *ret_concern = false;
    k->c->code = 0;
    if (command->len > COMMAND_MOST_BYTES) {
        bson_init(ret_reply);
        bson_destroy(&opts);
        return exj_err_set(k->err, EXJ_REFUSED,
                           "%s %s.%s: %" PRIu32 " bytes in one command; the server takes at "
                           "most 16 MiB",
                           k->what, k->db, k->collection, command->len);
    }
    add_concern(k->c, w, &opts);
    exj_mongo_begin(k->c);
    ok = mongoc_client_write_command_with_opts(k->c->driver, k->db, command, &opts, ret_reply,
                                               &why);
    exj_mongo_end();
    bson_destroy(&opts);
    if (ok)
        return EXJ_OK;
    *ret_concern = why.domain == MONGOC_ERROR_WRITE_CONCERN;
    return exj_mongo_failed(k->c, k->what, k->db, k->collection, k->kind, &why, ret_reply,
                            k->err);
}

/* ---- what became of each statement ----------------------------------------------------- */

static int64_t number_of(const bson_t *reply, const char *name)
{
    bson_iter_t it;

    return bson_iter_init_find(&it, reply, name) ? bson_iter_as_int64(&it) : 0;
}

struct item {
    int64_t index; /* -1: it names none */
    bson_error_t why;
};

/* One of "writeErrors". */
static struct item read_item(const bson_iter_t *at)
{
    struct item i = { .index = -1, .why = { .domain = MONGOC_ERROR_SERVER } };
    bson_iter_t it;

    if (!BSON_ITER_HOLDS_DOCUMENT(at) || !bson_iter_recurse(at, &it))
        return i;
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);

        if (strcmp(key, "index") == 0 && BSON_ITER_HOLDS_NUMBER(&it))
            i.index = bson_iter_as_int64(&it);
        else if (strcmp(key, "code") == 0)
            i.why.code = (uint32_t)bson_iter_as_int64(&it);
        else if (strcmp(key, "errmsg") == 0 && BSON_ITER_HOLDS_UTF8(&it))
            snprintf(i.why.message, sizeof(i.why.message), "%s", bson_iter_utf8(&it, NULL));
    }
    return i;
}

static void fill(exj_code *items, size_t n, exj_code code)
{
    for (size_t i = 0; items && i < n; i++)
        items[i] = code;
}

/* The verdicts of a command that was answered; `concern`: by too few servers, so that nothing
 * of it is sure. n = 0: the command has no statements of its own. `changes` may be NULL. */
static exj_code judge_items(const struct call *k, const bson_t *reply, bool concern,
                            const exj_mongo_change *changes, size_t n, exj_code *items)
{
    exj_code worst = concern ? EXJ_UNKNOWN : EXJ_OK;
    exj_err gravest = { 0 };
    bson_iter_t it, each;

    fill(items, n, worst);
    if (!bson_iter_init_find(&it, reply, "writeErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &each))
        return worst;
    while (bson_iter_next(&each)) {
        struct item i = read_item(&each);
        exj_mongo_kind kind = n ? EXJ_MONGO_WRITE_ONE : k->kind;
        exj_err one = { 0 };
        exj_code rc;

        if (n && (i.index < 0 || (uint64_t)i.index >= n)) {
            rc = exj_err_set(&one, EXJ_UNKNOWN, "%s %s.%s: an error of no statement: %.300s",
                             k->what, k->db, k->collection, i.why.message);
            fill(items, n, rc);
        } else {
            if (n && changes && changes[i.index].many)
                kind = EXJ_MONGO_WRITE_MANY;
            rc = exj_mongo_explain(k->c, k->what, k->db, k->collection, kind, &i.why, NULL, &one);
            if (n && items)
                items[i.index] = rc;
        }
        if (exj_mongo_graver(worst, rc) != worst) {
            worst = rc;
            gravest = one;
        }
    }
    if (worst == EXJ_UNKNOWN && !concern)
        exj_mongo_count_unknown(k->c->m, k->what);
    if (gravest.code != EXJ_OK)
        exj_err_set(k->err, worst, "%s", gravest.text);
    return worst;
}

/* Send a command of n statements and judge each. */
static exj_code send_items(const struct call *k, const bson_t *command, exj_mongo_w w,
                           const exj_mongo_change *changes, size_t n, bson_t *ret_reply,
                           exj_code *ret_items)
{
    bool concern;
    exj_code rc = send_command(k, command, w, ret_reply, &concern);

    if (rc == EXJ_OK || concern)
        return judge_items(k, ret_reply, concern, changes, n, ret_items);
    fill(ret_items, n, rc);
    return rc;
}

/* ---- the commands ---------------------------------------------------------------------- */

exj_code exj_mongo_write(exj_mongo_client *c, const char *db, const bson_t *command,
                         exj_mongo_kind kind, exj_mongo_w w, bson_t *ret_reply, exj_err *err)
{
    struct call k = { c, "", db, "", kind, err };
    bson_iter_t it;

    if (bson_iter_init(&it, command) && bson_iter_next(&it)) {
        k.what = bson_iter_key(&it);
        if (BSON_ITER_HOLDS_UTF8(&it))
            k.collection = bson_iter_utf8(&it, NULL);
    }
    return send_items(&k, command, w, NULL, 0, ret_reply, NULL);
}

/* The key of an array's element. */
static void append_document(bson_t *array, size_t i, const bson_t *doc)
{
    const char *key;
    char text[16];
    size_t n = bson_uint32_to_string((uint32_t)i, &key, text, sizeof(text));

    bson_append_document(array, key, (int)n, doc);
}

exj_code exj_mongo_insert(exj_mongo_client *c, const char *db, const char *collection,
                          const bson_t *const *docs, size_t n, exj_code *ret_items,
                          exj_err *err)
{
    struct call k = { c, "insert", db, collection, EXJ_MONGO_WRITE_MANY, err };
    bson_t command = BSON_INITIALIZER, array, reply;
    size_t bytes = 0;
    exj_code rc;

    if (n == 0) {
        bson_destroy(&command);
        return EXJ_OK;
    }
    if (n == 1)
        k.kind = EXJ_MONGO_WRITE_ONE;
    for (size_t i = 0; i < n; i++) {
        bytes += docs[i]->len;
        if (docs[i]->len <= DOCUMENT_MOST_BYTES && bytes <= COMMAND_MOST_BYTES)
            continue;
        bson_destroy(&command);
        fill(ret_items, n, EXJ_REFUSED);
        return docs[i]->len > DOCUMENT_MOST_BYTES
                   ? exj_err_set(err, EXJ_REFUSED,
                                 "insert %s.%s: document %zu has %" PRIu32
                                 " bytes; a document has at most 16 MiB",
                                 db, collection, i, docs[i]->len)
                   : exj_err_set(err, EXJ_REFUSED,
                                 "insert %s.%s: more than 16 MiB in one command", db,
                                 collection);
    }
    BSON_APPEND_UTF8(&command, "insert", collection);
    BSON_APPEND_BOOL(&command, "ordered", false);
    BSON_APPEND_ARRAY_BEGIN(&command, "documents", &array);
    for (size_t i = 0; i < n; i++)
        append_document(&array, i, docs[i]);
    bson_append_array_end(&command, &array);
    rc = send_items(&k, &command, EXJ_MONGO_MAJORITY, NULL, n, &reply, ret_items);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

static void append_update(bson_t *to, const char *key, const exj_mongo_change *change)
{
    if (change->pipeline)
        bson_append_array(to, key, -1, change->update);
    else
        bson_append_document(to, key, -1, change->update);
}

exj_code exj_mongo_update(exj_mongo_client *c, const char *db, const char *collection,
                          const exj_mongo_change *changes, size_t n, exj_mongo_w w,
                          exj_mongo_changed *ret, exj_code *ret_items, exj_err *err)
{
    struct call k = { c, "update", db, collection, EXJ_MONGO_WRITE_MANY, err };
    bson_t command = BSON_INITIALIZER, array, reply;
    exj_code rc;

    *ret = (exj_mongo_changed){ 0 };
    if (n == 0) {
        bson_destroy(&command);
        return EXJ_OK;
    }
    if (n == 1 && !changes[0].many)
        k.kind = EXJ_MONGO_WRITE_ONE;
    BSON_APPEND_UTF8(&command, "update", collection);
    BSON_APPEND_BOOL(&command, "ordered", false);
    BSON_APPEND_ARRAY_BEGIN(&command, "updates", &array);
    for (size_t i = 0; i < n; i++) {
        bson_t one = BSON_INITIALIZER;

        BSON_APPEND_DOCUMENT(&one, "q", changes[i].filter);
        append_update(&one, "u", &changes[i]);
        BSON_APPEND_BOOL(&one, "multi", changes[i].many);
        if (changes[i].hint)
            BSON_APPEND_UTF8(&one, "hint", changes[i].hint);
        append_document(&array, i, &one);
        bson_destroy(&one);
    }
    bson_append_array_end(&command, &array);
    rc = send_items(&k, &command, w, changes, n, &reply, ret_items);
    ret->matched = number_of(&reply, "n");
    ret->modified = number_of(&reply, "nModified");
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

exj_code exj_mongo_delete(exj_mongo_client *c, const char *db, const char *collection,
                          const bson_t *filter, const char *hint, uint32_t most, exj_mongo_w w,
                          int64_t *ret, exj_err *err)
{
    struct call k = { c, "delete", db, collection,
                      most == 1 ? EXJ_MONGO_WRITE_ONE : EXJ_MONGO_WRITE_MANY, err };
    bson_t command = BSON_INITIALIZER, array, one, reply;
    exj_code rc;

    BSON_APPEND_UTF8(&command, "delete", collection);
    BSON_APPEND_ARRAY_BEGIN(&command, "deletes", &array);
    BSON_APPEND_DOCUMENT_BEGIN(&array, "0", &one);
    BSON_APPEND_DOCUMENT(&one, "q", filter);
    BSON_APPEND_INT32(&one, "limit", most == 1 ? 1 : 0);
    if (hint)
        BSON_APPEND_UTF8(&one, "hint", hint);
    bson_append_document_end(&array, &one);
    bson_append_array_end(&command, &array);
    rc = send_items(&k, &command, w, NULL, 0, &reply, NULL);
    *ret = number_of(&reply, "n");
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

exj_code exj_mongo_find_and_modify(exj_mongo_client *c, const char *db, const char *collection,
                                   const exj_mongo_modify *m, exj_mongo_w w,
                                   bson_t *ret_value, exj_err *err)
{
    struct call k = { c, "findAndModify", db, collection, EXJ_MONGO_WRITE_ONE, err };
    bson_t command = BSON_INITIALIZER, reply;
    bool concern, found = false;
    bson_iter_t it;
    exj_code rc;

    BSON_APPEND_UTF8(&command, "findAndModify", collection);
    BSON_APPEND_DOCUMENT(&command, "query", m->change.filter);
    if (m->sort)
        BSON_APPEND_DOCUMENT(&command, "sort", m->sort);
    append_update(&command, "update", &m->change);
    BSON_APPEND_BOOL(&command, "new", m->give_new);
    if (m->fields)
        BSON_APPEND_DOCUMENT(&command, "fields", m->fields);
    if (m->change.hint)
        BSON_APPEND_UTF8(&command, "hint", m->change.hint);
    rc = send_command(&k, &command, w, &reply, &concern);
    if ((rc == EXJ_OK || concern) && bson_iter_init_find(&it, &reply, "value") &&
        BSON_ITER_HOLDS_DOCUMENT(&it)) {
        const uint8_t *bytes;
        uint32_t len;
        bson_t doc;

        bson_iter_document(&it, &len, &bytes);
        found = bson_init_static(&doc, bytes, len);
        if (found)
            bson_copy_to(&doc, ret_value);
    }
    if (!found)
        bson_init(ret_value);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}
