#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/mongo/client.h"

static int64_t count(mongoc_client_t *c, const char *database)
{
    mongoc_collection_t *rows = mongoc_client_get_collection(c, database, "rows");
    bson_t all = BSON_INITIALIZER;
    bson_error_t why;
    int64_t n = mongoc_collection_count_documents(rows, &all, NULL, NULL, NULL, &why);

    mongoc_collection_destroy(rows);
    return n;
}

Test(server, a_shared_one_is_told_by_its_uri_and_each_test_has_its_database)
{
    const char *uri = exj_test_mongo_shared(NULL);
    char one[64], other[64], what[100];
    bson_error_t why = { 0 };
    mongoc_client_t *c;

    cr_assert(uri);
    cr_assert(exj_test_mongo_ask(uri, what, sizeof(what)));
    cr_assert(strncmp(getenv("EXJ_TEST_MONGO_SERVER"), what, strlen(what)) == 0, "%s",
              what);
    exj_test_mongo_database("a test", one);
    exj_test_mongo_database("a test", other);
    cr_assert(strcmp(one, other) != 0);
    cr_assert(strncmp(one, "exjt_a_test_", 12) == 0, "%s", one);
    c = client_of(uri, NULL);
    cr_assert(insert_row(c, one, 1, &why), "%s", why.message);
    cr_assert_eq(count(c, one), 1);
    cr_assert_eq(count(c, other), 0);
    cr_assert(exj_test_mongo_drop(uri, one));
    cr_assert_eq(count(c, one), 0);
    mongoc_client_destroy(c);
}

Test(server, what_was_acknowledged_is_there_after_kill_9_and_restart)
{
    exj_test_mongo m;
    bson_error_t why = { 0 };
    mongoc_client_t *c;
    pid_t before;
    uint16_t port;

    cr_assert(exj_test_mongo_start(&m, &(exj_test_mongo_opts){ .sync_on_commit = true }));
    if (!m.can_kill)
        cr_skip("skipped: needs a server that may be killed\n");
    before = m.nodes[0].prog.pid;
    port = m.nodes[0].port;
    c = client_of(m.uri, "serverSelectionTimeoutMS=10000");
    cr_assert(insert_row(c, "exjt_kill", 1, &why), "%s", why.message);

    exj_test_mongo_kill_9(&m, 0);
    cr_assert(kill(before, 0) != 0);
    cr_assert(!insert_row(c, "exjt_kill", 2, &why));
    cr_assert(exj_test_mongo_restart(&m, 0));
    cr_assert_eq(m.nodes[0].port, port);
    cr_assert_neq(m.nodes[0].prog.pid, before);
    mongoc_client_destroy(c);
    c = client_of(m.uri, NULL);
    cr_assert_eq(count(c, "exjt_kill"), 1);
    mongoc_client_destroy(c);
    exj_test_mongo_end(&m);
}

Test(server, a_stopped_one_is_silent_and_goes_on_and_its_end_leaves_nothing)
{
    exj_test_mongo m;
    bson_error_t why = { 0 };
    mongoc_client_t *c;
    struct stat st;
    exj_tmp folder;
    pid_t pid;

    cr_assert(exj_test_mongo_start(&m, NULL));
    if (!m.can_kill)
        cr_skip("skipped: needs a server that may be stopped\n");
    c = client_of(m.uri, "socketTimeoutMS=300");
    cr_assert(insert_row(c, "exjt_stop", 1, &why), "%s", why.message);
    exj_test_mongo_stop(&m, 0);
    cr_assert(!insert_row(c, "exjt_stop", 2, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_STREAM, "%u %s", why.domain, why.message);
    exj_test_mongo_cont(&m, 0);
    cr_assert(exj_test_mongo_wait_primary(&m, 10000));
    mongoc_client_destroy(c);
    c = client_of(m.uri, NULL);
    cr_assert(insert_row(c, "exjt_stop", 3, &why), "%s", why.message);
    mongoc_client_destroy(c);

    folder = m.tmp;
    pid = m.nodes[0].prog.pid;
    exj_support_clean(); /* of a daemon, say: the server is not meant */
    cr_assert_eq(kill(pid, 0), 0);
    cr_assert_eq(stat(folder.path, &st), 0);
    exj_test_mongo_end(&m);
    cr_assert(kill(pid, 0) != 0);
    cr_assert(stat(folder.path, &st) != 0);
}

Test(server, lets_in_who_has_the_password_only)
{
    exj_test_mongo m;
    bson_error_t why = { 0 };
    mongoc_client_t *c;
    char uri[EXJ_TEST_MONGO_URI_MAX];

    cr_assert(exj_test_mongo_start(&m, &(exj_test_mongo_opts){ .auth = true }));
    if (!m.can_kill)
        cr_skip("skipped: needs a server of our own\n");
    c = client_of(m.uri, NULL);
    cr_assert(insert_row(c, "exjt_auth", 1, &why), "%s", why.message);
    mongoc_client_destroy(c);
    snprintf(uri, sizeof(uri), "mongodb://127.0.0.1:%u/?directConnection=true",
             (unsigned)m.nodes[0].port);
    c = client_of(uri, NULL);
    cr_assert(!insert_row(c, "exjt_auth", 2, &why));
    cr_assert_eq(why.code, 13, "%u %s", why.code, why.message);
    mongoc_client_destroy(c);
    exj_test_mongo_end(&m);
}

Test(server, a_program_that_is_not_there_or_ends_at_once_is_an_error)
{
    exj_test_mongo m;

    unsetenv("EXELLIX_TEST_MONGODB_URI");
    setenv("EXELLIX_TEST_MONGOD", "/nowhere/mongod", 1);
    cr_assert(!exj_test_mongo_start(&m, NULL));
    setenv("EXELLIX_TEST_MONGOD", "/bin/false", 1);
    cr_assert(!exj_test_mongo_start(&m, NULL));
}

Test(server, uris_take_a_database_and_options_and_another_port)
{
    char r[EXJ_TEST_MONGO_URI_MAX];

    cr_assert(exj_test_mongo_uri("mongodb://h:1", "d", NULL, r));
    cr_assert_str_eq(r, "mongodb://h:1/d");
    cr_assert(
        exj_test_mongo_uri("mongodb://u:p@h:1,i:2/old?w=1&appName=x", "d", "w=2", r));
    cr_assert_str_eq(r, "mongodb://u:p@h:1,i:2/d?authSource=old&appName=x&w=2");
    cr_assert(exj_test_mongo_via("mongodb://u:p@h:1,i:2/?replicaSet=s&w=1", 77, r));
    cr_assert_str_eq(
        r, "mongodb://u:p@127.0.0.1:77/?authSource=admin&w=1&directConnection=true");
    cr_assert(!exj_test_mongo_uri("not a uri", "d", NULL, r));
    cr_assert(!exj_test_mongo_uri("mongodb://", "d", NULL, r));
}
