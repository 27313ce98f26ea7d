/* What the transcoder makes, through a server: data is data there too, and comes back byte for byte.
 * And what core/store/mongo/transcode.h says that a store has to know. */
#include <criterion/criterion.h>
#include <mongoc/mongoc.h>

#include "core/store/mongo/transcode.h"
#include "tests/support/mongo_server.h"

static const char data[] =
    "{\"$set\":{\"a.b\":1,\"$inc\":{\"x\":2}},\"$$NOW\":\"$input\",\"\":{\"\":[]},\"a.b.$\":[1.0,-0.0,0.1,"
    "5,9223372036854775807,-9223372036854775808,5e-324,1.7976931348623157e308,true,null,{}],"
    "\"$date\":\"2026-01-02T03:04:05.678Z\",\"$oid\":\"0123456789abcdef01234567\",\"text\":"
    "\"\\u0001\\n\\\"\\\\ \xc3\xa4 \xf0\x9f\x98\x80\"}";

static mongoc_client_t *client;
static mongoc_collection_t *rows;
static char database[64];
static const char *uri;

static void open_database(void)
{
    mongoc_init();
    uri = exj_test_mongo_shared(NULL);
    cr_assert(uri);
    exj_test_mongo_database("transcode", database);
    client = mongoc_client_new(uri);
    cr_assert(client);
    rows = mongoc_client_get_collection(client, database, "rows");
}

static void drop_database(void)
{
    mongoc_collection_destroy(rows);
    mongoc_client_destroy(client);
    cr_expect(exj_test_mongo_drop(uri, database));
}

/* The one document that is there. */
static bson_t *read_back(void)
{
    bson_t all = BSON_INITIALIZER, *ret = NULL;
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(rows, &all, NULL, NULL);
    const bson_t *doc;
    bson_error_t why;

    while (mongoc_cursor_next(cursor, &doc)) {
        cr_assert_null(ret, "two documents");
        ret = bson_copy(doc);
    }
    cr_assert_not(mongoc_cursor_error(cursor, &why), "%s", why.message);
    cr_assert(ret, "no document");
    mongoc_cursor_destroy(cursor);
    bson_destroy(&all);
    return ret;
}

static void expect_data(const char *want)
{
    bson_t *b = read_back();
    exj_buf out = EXJ_BUF_INIT;
    exj_err err = { 0 };
    bson_iter_t it;

    cr_assert(bson_iter_init_find(&it, b, "input"));
    cr_expect_eq(exj_bson_value_to_json(&it, NULL, &out, &err), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(out.p ? out.p : "nothing", want);
    exj_buf_release(&out);
    bson_destroy(b);
}

static bool insert(const char *input, const bson_t *opts, bson_error_t *ret_why)
{
    bson_t doc = BSON_INITIALIZER;
    bool ok;

    BSON_APPEND_INT32(&doc, "_id", 1);
    cr_assert_eq(exj_bson_append_json(&doc, "input", exj_slice_of(input), NULL, NULL), EXJ_OK);
    ok = mongoc_collection_insert_one(rows, &doc, opts, NULL, ret_why);
    bson_destroy(&doc);
    return ok;
}

static void expect_update(const bson_t *change)
{
    bson_t *all = BCON_NEW("_id", BCON_INT32(1)), *opts = BCON_NEW("validate", BCON_BOOL(false));
    bson_error_t why = { 0 };

    /* Only so: the driver refuses empty keys by itself, here too. */
    cr_expect_not(mongoc_collection_update_one(rows, all, change, NULL, NULL, &why));
    cr_expect(strstr(why.message, "empty key"), "%s", why.message);
    cr_assert(mongoc_collection_update_one(rows, all, change, opts, NULL, &why), "%s", why.message);
    bson_destroy(all);
    bson_destroy(opts);
}

TestSuite(transcode, .init = open_database, .fini = drop_database);

Test(transcode, what_is_inserted_comes_back_byte_for_byte)
{
    bson_t *opts = BCON_NEW("validate", BCON_BOOL(false));
    bson_error_t why = { 0 };

    /* Only so: the driver refuses empty keys by itself. */
    cr_expect_not(insert(data, NULL, &why));
    cr_expect(strstr(why.message, "empty key"), "%s", why.message);
    cr_assert(insert(data, opts, &why), "%s", why.message);
    expect_data(data);
    bson_destroy(opts);
}

Test(transcode, what_is_set_comes_back_byte_for_byte_and_other_fields_stay)
{
    bson_t change = BSON_INITIALIZER, set, *b;
    exj_buf out = EXJ_BUF_INIT;
    bson_error_t why = { 0 };

    cr_assert(insert("{\"of\":\"others\"}", NULL, &why), "%s", why.message);
    BSON_APPEND_DOCUMENT_BEGIN(&change, "$set", &set);
    cr_assert_eq(exj_bson_append_json(&set, "result", exj_slice_of(data), NULL, NULL), EXJ_OK);
    bson_append_document_end(&change, &set);
    expect_update(&change);
    b = read_back();
    cr_assert_eq(exj_bson_to_json(b, NULL, &out, NULL), EXJ_OK);
    cr_expect(strstr(out.p, "\"input\":{\"of\":\"others\"}"), "%s", out.p);
    cr_expect(strstr(out.p, data), "%s", out.p);
    exj_buf_release(&out);
    bson_destroy(b);
    bson_destroy(&change);
}

/* [{$set: {input: {$literal: data}}}] */
Test(transcode, in_a_pipeline_data_is_a_literal)
{
    bson_t pipeline = BSON_INITIALIZER, stage, set, literal;
    bson_error_t why = { 0 };

    cr_assert(insert("null", NULL, &why), "%s", why.message);
    BSON_APPEND_DOCUMENT_BEGIN(&pipeline, "0", &stage); /* keys of an array: so libmongoc sees one */
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$set", &set);
    BSON_APPEND_DOCUMENT_BEGIN(&set, "input", &literal);
    cr_assert_eq(exj_bson_append_json(&literal, "$literal", exj_slice_of(data), NULL, NULL), EXJ_OK);
    bson_append_document_end(&set, &literal);
    bson_append_document_end(&stage, &set);
    bson_append_document_end(&pipeline, &stage);
    expect_update(&pipeline);
    expect_data(data);
    bson_destroy(&pipeline);
}
