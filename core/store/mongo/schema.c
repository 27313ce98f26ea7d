/* core/store/mongo/schema.c - collections, indexes and counters: made by init, looked for by
 * everybody else. */
#include <inttypes.h>

#include "core/store/mongo/inside.h"
#include "core/store/mongo/value.h"

struct index {
    bool config; /* of config_db */
    const char *collection, *name, *keys, *options; /* JSON */
};

/* A partial index is used where a query says what the index says. */
static const struct index indexes[] = {
    { false, C_ROWS, "exj_seq", "{\"b\":1,\"seq\":1}", "{\"unique\":true}" },
    { false, C_ROWS, "exj_ready", "{\"status\":1,\"pool\":1,\"rank\":1,\"seq\":1}",
      "{\"partialFilterExpression\":{\"status\":\"queued\"}}" },
    { false, C_ROWS, "exj_due_waiting", "{\"status\":1,\"runAfter\":1}",
      "{\"partialFilterExpression\":{\"status\":\"waiting\"}}" },
    { false, C_ROWS, "exj_due_suspended", "{\"status\":1,\"runAfter\":1}",
      "{\"partialFilterExpression\":{\"status\":\"suspended\"}}" },
    { false, C_ROWS, "exj_leases", "{\"status\":1,\"claim.until\":1}",
      "{\"partialFilterExpression\":{\"status\":\"running\"}}" },
    { false, C_ROWS, "exj_log", "{\"log.at\":1}",
      "{\"partialFilterExpression\":{\"log.at\":{\"$exists\":true}}}" },
    { false, C_ROWS, "exj_pool", "{\"pool\":1,\"status\":1,\"seq\":1}", "{}" },
    { false, C_ROWS, "exj_blocked", "{\"status\":1,\"errorCode\":1,\"seq\":1}",
      "{\"partialFilterExpression\":{\"status\":\"blocked\"}}" },
    { false, C_POOLS, "exj_names", "{\"matrix\":1,\"run\":1,\"graph\":1}", "{\"unique\":true}" },
    { false, C_EVENTS, "exj_end", "{\"end\":1}", "{}" },
    { false, C_EVENTS, "exj_rows", "{\"rows.s\":1}", "{}" },
    { false, C_STEPS, "exj_row", "{\"seq\":1,\"number\":1}", "{}" },
    { false, C_FAILURES, "exj_row", "{\"seq\":1,\"token\":-1}", "{}" },
};

static const char *const counters[] = { "seq", "pool", "dead", "command" };

static void add_json(bson_t *d, const char *json)
{
    bson_t *part = bson_new_from_json((const uint8_t *)json, -1, NULL);

    bson_concat(d, part);
    bson_destroy(part);
}

static exj_code make_indexes(exj_mstore *s, exj_mongo_client *c, const char *collection,
                             exj_err *err)
{
    bson_t command = BSON_INITIALIZER, list, one, keys, reply;
    char text[16];
    const char *name;
    uint32_t n = 0;
    exj_code rc;

    BSON_APPEND_UTF8(&command, "createIndexes", collection);
    BSON_APPEND_ARRAY_BEGIN(&command, "indexes", &list);
    for (size_t i = 0; i < sizeof(indexes) / sizeof(*indexes); i++) {
        if (strcmp(indexes[i].collection, collection) != 0)
            continue;
        bson_uint32_to_string(n++, &name, text, sizeof(text));
        bson_append_document_begin(&list, name, -1, &one);
        BSON_APPEND_DOCUMENT_BEGIN(&one, "key", &keys);
        add_json(&keys, indexes[i].keys);
        bson_append_document_end(&one, &keys);
        BSON_APPEND_UTF8(&one, "name", indexes[i].name);
        add_json(&one, indexes[i].options);
        bson_append_document_end(&list, &one);
    }
    bson_append_array_end(&command, &list);
    rc = exj_mongo_write(c, s->exec_db, &command, EXJ_MONGO_WRITE_MANY, EXJ_MONGO_MAJORITY, &reply,
                         err);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

exj_code exj_mstore_init(exj_mstore *s, exj_mongo_client *c, exj_err *err)
{
    bson_t *docs[sizeof(counters) / sizeof(*counters)];
    size_t n = sizeof(counters) / sizeof(*counters);
    const char *last = "";
    exj_code rc = EXJ_OK;

    for (size_t i = 0; !rc && i < sizeof(indexes) / sizeof(*indexes); i++) {
        if (strcmp(indexes[i].collection, last) != 0)
            rc = make_indexes(s, c, indexes[i].collection, err);
        last = indexes[i].collection;
    }
    for (size_t i = 0; i < n; i++) {
        docs[i] = BCON_NEW("_id", BCON_UTF8(counters[i]), "n", BCON_INT64(0));
    }
    if (!rc) {
        exj_err why = { 0 };

        rc = exj_mongo_insert(c, s->exec_db, C_META, (const bson_t *const *)docs, n, NULL, &why);
        rc = rc == EXJ_CONFLICT ? EXJ_OK : rc; /* they are there */
        if (rc)
            exj_err_set(err, rc, "%s", why.text);
    }
    for (size_t i = 0; i < n; i++)
        bson_destroy(docs[i]);
    return rc;
}

exj_code exj_mstore_next(exj_mstore *s, exj_mongo_client *c, const char *counter, int64_t n,
                         int64_t *ret, exj_err *err)
{
    bson_t *filter = BCON_NEW("_id", BCON_UTF8(counter));
    bson_t *update = BCON_NEW("$inc", "{", "n", BCON_INT64(n), "}");
    exj_mongo_modify m = { .change = { .filter = filter, .update = update }, .give_new = true };
    bson_t value;
    exj_code rc;

    rc = exj_mongo_find_and_modify(c, s->exec_db, C_META, &m, EXJ_MONGO_MAJORITY, &value, err);
    if (!rc && bson_empty(&value))
        rc = exj_err_set(err, EXJ_REFUSED,
                         "there is no counter \"%s\" in %s.%s: run exellix-jobs store init", counter,
                         s->exec_db, C_META);
    if (!rc)
        *ret = exj_bson_i64(&value, "n", 0) - n + 1;
    bson_destroy(&value);
    bson_destroy(filter);
    bson_destroy(update);
    return rc;
}
