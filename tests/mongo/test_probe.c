/* What core/store/mongo/probe.h says of servers: the one of the tests, one with users, none at
 * all, and small false ones that are too old, a secondary, read-only. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/store/mongo/probe.h"
#include "tests/support/mongo_server.h"

static exj_mongo *m;
static exj_mongo_client *c;
static exj_mongo_probed found;
static exj_err err;

static exj_code probe(const char *uri, const char *options, const char *db, const char *other)
{
    char text[EXJ_TEST_MONGO_URI_MAX];
    exj_code rc;

    cr_assert(exj_test_mongo_uri(uri, NULL, options, text));
    exj_err_clear(&err);
    cr_assert_eq(exj_mongo_open(text, 60000, 2, &m, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_mongo_client_take(m, &c, &err), EXJ_OK, "%s", err.text);
    rc = exj_mongo_probe(c, db, other, &found, &err);
    cr_expect_null(strchr(err.text, '\n'), "%s", err.text);
    cr_expect_null(strstr(err.text, "ecret"), "%s", err.text);
    return rc;
}

static void done(void)
{
    exj_mongo_client_give(c);
    exj_mongo_close(m);
    c = NULL;
    m = NULL;
}

#define says(words) cr_expect_not_null(strstr(err.text, words), "%s", err.text)

/* ---- the server of the tests -------------------------------------------------------------- */

Test(mongo_probe, finds_what_the_server_can_do_and_leaves_no_document)
{
    const char *server = exj_test_mongo_shared(NULL);
    bson_t all = BSON_INITIALIZER;
    exj_buf text = EXJ_BUF_INIT;
    char db[64], other[64];
    int64_t n = -1;

    cr_assert(server);
    exj_test_mongo_database("probe", db);
    exj_test_mongo_database("probe", other);
    for (int round = 0; round < 2; round++) { /* what is there from before does no harm */
        cr_assert_eq(probe(server, NULL, db, other), EXJ_OK, "%s", err.text);
        cr_expect(found.pipeline && found.now && found.hint_checked && found.partial && found.ttl);
        cr_expect(found.explain);
        cr_expect(!*found.set_name || found.change_streams);
        cr_expect_geq(found.wire, EXJ_MONGO_WIRE_LEAST);
        cr_expect_eq(strncmp(found.server, "127.0.0.1:", 10), 0, "%s", found.server);
        cr_expect_eq(exj_mongo_count(c, db, "exj_probe", &all, NULL, &n, &err), EXJ_OK);
        cr_expect_eq(n, 0);
        cr_expect_eq(exj_mongo_count(c, other, "exj_probe", &all, NULL, &n, &err), EXJ_OK);
        cr_expect_eq(n, 0);
        cr_assert(exj_mongo_probe_show(&found, exj_mongo_settings(m), exj_clock_mono_ns(),
                                       exj_clock_wall_ms(), &text));
        done();
    }
    cr_expect_not_null(strstr(text.p, "server: MongoDB "), "%s", text.p);
    cr_expect_not_null(strstr(text.p, "$$NOW in updates: yes\n"), "%s", text.p);
    exj_buf_release(&text);
    exj_test_mongo_drop(server, db);
    exj_test_mongo_drop(server, other);
}

Test(mongo_probe, the_time_is_the_servers)
{
    const char *server = exj_test_mongo_shared(NULL);
    exj_mongo_clock clock = { 0 };
    exj_nsec sent, received;
    exj_msec at, before, after;
    char db[64];

    cr_assert(server);
    exj_test_mongo_database("probe", db);
    cr_assert_eq(probe(server, NULL, db, db), EXJ_OK, "%s", err.text);
    before = exj_clock_wall_ms();
    cr_assert_eq(exj_mongo_probe_time(c, found.old_hello, &sent, &received, &at, &err), EXJ_OK,
                 "%s", err.text);
    after = exj_clock_wall_ms();
    cr_expect(exj_mongo_clock_observe(&clock, sent, received, at));
    if (exj_test_mongo_ask(server, db, sizeof(db)) && strncmp(server, "mongodb://127.0.0.1", 19) == 0)
        cr_expect(at >= before - 1 && at <= after + 1, "%ld %ld %ld", (long)before, (long)at,
                  (long)after);
    done();
}

/* ---- users -------------------------------------------------------------------------------- */

/* `uri` of the test's user with another name and password in it. */
static void as_user(const char *uri, const char *user, const char *password,
                    char ret[static EXJ_TEST_MONGO_URI_MAX])
{
    const char *at = strchr(uri, '@');

    cr_assert(at);
    snprintf(ret, EXJ_TEST_MONGO_URI_MAX, "mongodb://%s:%s%s", user, password, at);
}

Test(mongo_probe, a_wrong_password_and_a_user_who_may_only_read_are_told_in_one_line)
{
    exj_test_mongo s;
    char uri[EXJ_TEST_MONGO_URI_MAX], db[64];
    bson_t *command, reply;
    int64_t began;

    cr_assert(exj_test_mongo_start(&s, &(exj_test_mongo_opts){ .auth = true }));
    exj_test_mongo_database("probe", db);
    cr_assert_eq(probe(s.uri, NULL, db, db), EXJ_OK, "%s", err.text);
    command = BCON_NEW("createUser", BCON_UTF8("reader"), "pwd", BCON_UTF8("a-secret"), "roles",
                       "[", "{", "role", BCON_UTF8("read"), "db", BCON_UTF8(db), "}", "]");
    cr_assert_eq(exj_mongo_write(c, "admin", command, EXJ_MONGO_WRITE_ONE, EXJ_MONGO_MAJORITY,
                                 &reply, &err),
                 EXJ_OK, "%s", err.text);
    bson_destroy(&reply);
    bson_destroy(command);
    done();

    as_user(s.uri, EXJ_TEST_MONGO_USER, "wrong-secret", uri);
    began = exj_clock_mono_ns();
    cr_expect_eq(probe(uri, NULL, db, db), EXJ_IO, "%s", err.text);
    cr_expect_lt(exj_clock_mono_ns() - began, 10000000000);
    says("check user, password and authSource in MONGO_URI");
    done();

    as_user(s.uri, "reader", "a-secret", uri);
    cr_expect_eq(probe(uri, NULL, db, db), EXJ_REFUSED, "%s", err.text);
    says("the user reader may not insert on exjt_probe_");
    says(".exj_probe: give it the role readWrite on both databases");
    done();
    exj_test_mongo_end(&s);
}

/* ---- servers that will not do ------------------------------------------------------------- */

struct false_server {
    int wire;
    const char *version, *role; /* role: more members of the answer to hello, as JSON */
    int listener;
    char uri[80];
    pthread_t thread;
};

static bool read_all(int fd, void *to, size_t n)
{
    return recv(fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

static bson_t *answer_of(const struct false_server *f, const char *command)
{
    char text[512];
    bson_error_t why;
    bson_t *b;

    if (strcasecmp(command, "isMaster") == 0)
        snprintf(text, sizeof(text),
                 "{\"minWireVersion\": 0, \"maxWireVersion\": %d, \"maxBsonObjectSize\": "
                 "16777216, \"maxMessageSizeBytes\": 48000000, \"maxWriteBatchSize\": 100000, "
                 "\"localTime\": {\"$date\": \"2026-01-02T03:04:05Z\"}, %s, \"ok\": 1}",
                 f->wire, f->role);
    else if (strcmp(command, "buildInfo") == 0)
        snprintf(text, sizeof(text), "{\"version\": \"%s\", \"ok\": 1}", f->version);
    else
        snprintf(text, sizeof(text),
                 "{\"ok\": 0, \"code\": 59, \"codeName\": \"CommandNotFound\", \"errmsg\": "
                 "\"no such command: '%s'\"}",
                 command);
    b = bson_new_from_json((const uint8_t *)text, -1, &why);
    cr_assert(b, "%s: %s", why.message, text);
    return b;
}

/* Answers OP_QUERY (a handshake) and OP_MSG. */
static bool answer(const struct false_server *f, int fd)
{
    int32_t head[4], out[9] = { 0 };
    uint8_t body[4096];
    size_t n, at, head_n;
    bson_t command, *reply;
    bson_iter_t it;
    bool ok;

    if (!read_all(fd, head, sizeof(head)) || (size_t)head[0] > sizeof(body) + 16)
        return false;
    n = (size_t)head[0] - 16;
    if (!read_all(fd, body, n))
        return false;
    at = head[3] == 2004 ? 4 + strlen((char *)body + 4) + 1 + 8 : 5;
    if (!bson_init_static(&command, body + at, n - at - 0)) {
        int32_t len;

        memcpy(&len, body + at, 4); /* more follows the document */
        if (!bson_init_static(&command, body + at, (size_t)len))
            return false;
    }
    if (!bson_iter_init(&it, &command) || !bson_iter_next(&it))
        return false;
    reply = answer_of(f, bson_iter_key(&it));
    out[1] = 1;
    out[2] = head[1];
    if (head[3] == 2004) { /* OP_REPLY: flags, cursor, from, how many */
        out[3] = 1;
        out[4] = 8;
        out[8] = 1;
        head_n = 36;
    } else { /* OP_MSG: flags, kind 0 */
        out[3] = 2013;
        head_n = 21;
    }
    out[0] = (int32_t)(head_n + reply->len);
    ok = send(fd, out, head_n, MSG_NOSIGNAL) == (ssize_t)head_n &&
         send(fd, bson_get_data(reply), reply->len, MSG_NOSIGNAL) == (ssize_t)reply->len;
    bson_destroy(reply);
    return ok;
}

struct talk {
    const struct false_server *f;
    int fd;
};

static void *talk(void *user)
{
    struct talk t = *(struct talk *)user;

    free(user);
    while (answer(t.f, t.fd))
        ;
    close(t.fd);
    return NULL;
}

static void *listen_on(void *user)
{
    const struct false_server *f = user;
    pthread_t thread;
    int fd;

    while ((fd = accept(f->listener, NULL, NULL)) >= 0) {
        struct talk *t = malloc(sizeof(*t));

        *t = (struct talk){ f, fd };
        pthread_create(&thread, NULL, talk, t);
        pthread_detach(thread);
    }
    return NULL;
}

/* Lives until the test's process ends. */
static void start(struct false_server *f)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t n = sizeof(a);

    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(f->listener, (struct sockaddr *)&a, n), 0);
    cr_assert_eq(listen(f->listener, 8), 0);
    cr_assert_eq(getsockname(f->listener, (struct sockaddr *)&a, &n), 0);
    snprintf(f->uri, sizeof(f->uri), "mongodb://127.0.0.1:%u/?directConnection=true",
             ntohs(a.sin_port));
    cr_assert_eq(pthread_create(&f->thread, NULL, listen_on, f), 0);
}

Test(mongo_probe, a_server_older_than_4_2_is_refused)
{
    static struct false_server f = { .wire = 7, .version = "4.0.28",
                                     .role = "\"ismaster\": true" };

    start(&f);
    cr_expect_eq(probe(f.uri, NULL, "d", "d"), EXJ_REFUSED, "%s", err.text);
    says(" is MongoDB 4.0.28 (wire version 7); 4.2 or later is wanted");
    done();
}

Test(mongo_probe, a_server_too_old_for_the_driver_is_refused)
{
    static struct false_server f = { .wire = 4, .version = "3.2.22",
                                     .role = "\"ismaster\": true" };

    start(&f);
    cr_expect_eq(probe(f.uri, "serverSelectionTimeoutMS=500", "d", "d"), EXJ_REFUSED, "%s",
                 err.text);
    says("MongoDB 4.2 or later is wanted");
    done();
}

Test(mongo_probe, a_secondary_is_refused)
{
    static struct false_server f = {
        .wire = 17, .version = "6.0.1",
        .role = "\"ismaster\": false, \"secondary\": true, \"setName\": \"rs7\", \"me\": \"h:1\", "
                "\"hosts\": [\"h:1\"]"
    };

    start(&f);
    cr_expect_eq(probe(f.uri, "serverSelectionTimeoutMS=500", "d", "d"), EXJ_REFUSED, "%s",
                 err.text);
    says("is not the primary of replica set rs7");
    done();
}

Test(mongo_probe, a_server_that_runs_read_only_is_refused)
{
    static struct false_server f = { .wire = 17, .version = "6.0.1",
                                     .role = "\"ismaster\": true, \"readOnly\": true" };

    start(&f);
    cr_expect_eq(probe(f.uri, NULL, "d", "d"), EXJ_REFUSED, "%s", err.text);
    says("takes no writes: it runs read-only");
    done();
}

Test(mongo_probe, a_server_that_is_not_there_is_told_within_the_timeout)
{
    int64_t began = exj_clock_mono_ns();

    cr_expect_eq(probe("mongodb://ann:secret@127.0.0.1:1/", "serverSelectionTimeoutMS=300", "d",
                       "d"),
                 EXJ_IO, "%s", err.text);
    cr_expect_lt(exj_clock_mono_ns() - began, 3000000000);
    says("127.0.0.1:1");
    says("check that the servers of MONGO_URI run and can be reached from here");
    done();
}
