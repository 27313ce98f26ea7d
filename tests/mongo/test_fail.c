/* Fail points as a libmongoc client sees them. */
#include "tests/mongo/client.h"
#include "tests/support/mongo_fail.h"

static const char *uri;
static char database[64];
static mongoc_client_t *client, *other;

static void setup(void)
{
    bson_error_t why = { 0 };
    char name[100];

    uri = exj_test_mongo_shared(&(exj_test_mongo_opts){ .fail_points = true });
    cr_assert(uri);
    exj_test_mongo_database("fail", database);
    snprintf(name, sizeof(name), "appName=%s", database);
    client = client_of(uri, name);
    other = client_of(uri, NULL);
    cr_assert(insert_row(client, database, 1, &why), "%s", why.message);
}

static void teardown(void)
{
    exj_test_mongo_fail_off(uri);
    mongoc_client_destroy(client);
    mongoc_client_destroy(other);
    exj_test_mongo_drop(uri, database);
}

/* Of this file one test at a time: a server has one fail point. */
TestSuite(fail, .init = setup, .fini = teardown);

static int look(void)
{
    bson_error_t why = { 0 };

    return row_n(other, database, 1, &why);
}

/* One test for all: a server has one fail point at a time, and tests run side by side. */
Test(fail, points_do_what_they_are_told_once_to_one_client)
{
    exj_test_mongo_fail f = { .commands = { "update" }, .app_name = database };
    bson_error_t why = { 0 };
    int64_t began;

    /* a server's error: nothing happened */
    f.times = 1;
    f.error_code = 10107;
    cr_assert(exj_test_mongo_fail_on(uri, &f));
    cr_assert(count_up(other, database, 1, &why), "not his: %s", why.message);
    cr_assert(!count_up(client, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_SERVER, "%u %s", why.domain, why.message);
    cr_assert_eq(why.code, 10107);
    cr_assert_eq(look(), 1);
    cr_assert(count_up(client, database, 1, &why), "once: %s", why.message);
    cr_assert_eq(look(), 2);

    /* an error of the write concern: it happened */
    f.error_code = 0;
    f.write_concern_code = 64;
    cr_assert(exj_test_mongo_fail_on(uri, &f));
    cr_assert(!count_up(client, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_WRITE_CONCERN, "%u %s", why.domain,
                 why.message);
    cr_assert_eq(why.code, 64);
    cr_assert_eq(look(), 3);

    /* a closed connection: nothing happened */
    f.write_concern_code = 0;
    f.close_connection = true;
    cr_assert(exj_test_mongo_fail_on(uri, &f));
    cr_assert(!count_up(client, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_STREAM, "%u %s", why.domain, why.message);
    cr_assert_eq(look(), 3);

    cr_assert(!exj_test_mongo_fail_on(uri, &(exj_test_mongo_fail){
                                               .commands = { "update" },
                                               .times = 1,
                                               .skip = 1,
                                               .error_code = 1,
                                           }));
    /* after one that passes; the second fails, slowly */
    f.times = 0;
    f.close_connection = false;
    f.error_code = 11600;
    f.skip = 1;
    f.block_ms = 200;
    cr_assert(exj_test_mongo_fail_on(uri, &f));
    cr_assert(count_up(client, database, 1, &why), "%s", why.message);
    began = exj_test_now_ms();
    cr_assert(!count_up(client, database, 1, &why));
    cr_assert_geq(exj_test_now_ms() - began, 200);
    cr_assert_eq(why.code, 11600, "%u %s", why.code, why.message);
    cr_assert_eq(look(), 4);

    /* until it is off */
    f = (exj_test_mongo_fail){ .commands = { "insert", "update" },
                               .app_name = database,
                               .error_code = 50 };
    cr_assert(exj_test_mongo_fail_on(uri, &f));
    for (int i = 0; i < 3; i++)
        cr_assert(!count_up(client, database, 1, &why));
    cr_assert(!insert_row(client, database, 2, &why));
    cr_assert(exj_test_mongo_fail_off(uri));
    cr_assert(count_up(client, database, 1, &why), "%s", why.message);
}
