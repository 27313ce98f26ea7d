/* tests/mongo/client.h - a small client for tests of servers and networks: one collection
 * "rows" in a database, short calls that fail at once (retryWrites=false).
 *
 * Errors: what cannot be had fails the Criterion test.
 */
#ifndef EXJ_TESTS_MONGO_CLIENT_H
#define EXJ_TESTS_MONGO_CLIENT_H

#include <criterion/criterion.h>
#include <mongoc/mongoc.h>

#include "tests/support/mongo_server.h"

/* `options`: more of the URI's, or NULL. */
static inline mongoc_client_t *client_of(const char *uri, const char *options)
{
    char base[EXJ_TEST_MONGO_URI_MAX], text[EXJ_TEST_MONGO_URI_MAX];
    bson_error_t why;
    mongoc_client_t *c = NULL;
    mongoc_uri_t *u;

    mongoc_init();
    cr_assert(exj_test_mongo_uri(uri, NULL, "retryWrites=false&retryReads=false", base));
    cr_assert(exj_test_mongo_uri(base, NULL, options, text));
    u = mongoc_uri_new_with_error(text, &why);
    cr_assert(u, "%s", why.message);
    c = mongoc_client_new_from_uri_with_error(u, &why);
    cr_assert(c, "%s", why.message);
    mongoc_client_set_error_api(c, 2);
    mongoc_uri_destroy(u);
    return c;
}

static inline bool insert_row(mongoc_client_t *c, const char *database, int id,
                              bson_error_t *ret_why)
{
    mongoc_collection_t *rows = mongoc_client_get_collection(c, database, "rows");
    bson_t *doc = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(0));
    bool ok = mongoc_collection_insert_one(rows, doc, NULL, NULL, ret_why);

    bson_destroy(doc);
    mongoc_collection_destroy(rows);
    return ok;
}

/* Adds 1 to n of a row. */
static inline bool count_up(mongoc_client_t *c, const char *database, int id,
                            bson_error_t *ret_why)
{
    mongoc_collection_t *rows = mongoc_client_get_collection(c, database, "rows");
    bson_t *which = BCON_NEW("_id", BCON_INT32(id));
    bson_t *what = BCON_NEW("$inc", "{", "n", BCON_INT32(1), "}");
    bool ok = mongoc_collection_update_one(rows, which, what, NULL, NULL, ret_why);

    bson_destroy(which);
    bson_destroy(what);
    mongoc_collection_destroy(rows);
    return ok;
}

/* Its n; -1: no such row; -2: the call failed. */
static inline int row_n(mongoc_client_t *c, const char *database, int id,
                        bson_error_t *ret_why)
{
    mongoc_collection_t *rows = mongoc_client_get_collection(c, database, "rows");
    bson_t *which = BCON_NEW("_id", BCON_INT32(id));
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(rows, which, NULL, NULL);
    const bson_t *doc;
    bson_iter_t it;
    int n = -1;

    if (mongoc_cursor_next(cursor, &doc) && bson_iter_init_find(&it, doc, "n"))
        n = bson_iter_int32(&it);
    if (mongoc_cursor_error(cursor, ret_why))
        n = -2;
    mongoc_cursor_destroy(cursor);
    bson_destroy(which);
    mongoc_collection_destroy(rows);
    return n;
}

#endif /* EXJ_TESTS_MONGO_CLIENT_H */
