/* Every call of core/store/mongo/client.h, failing in each way there is, over a real wire:
 * a server, its fail points, and a proxy in front of it. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/store/mongo/client.h"
#include "tests/support/chaos_proxy.h"
#include "tests/support/mongo_fail.h"
#include "tests/support/mongo_server.h"

#define ROWS "rows"

static const char *server;
static char db[64];

static void setup(void)
{
    server = exj_test_mongo_shared(&(exj_test_mongo_opts){ .fail_points = true });
    cr_assert(server);
    exj_test_mongo_database("client", db);
}

static void teardown(void)
{
    exj_test_mongo_drop(server, db);
}

TestSuite(mongo_client, .init = setup, .fini = teardown);

static exj_mongo *open_at(const char *uri, const char *options)
{
    char text[EXJ_TEST_MONGO_URI_MAX];
    exj_mongo *m = NULL;
    exj_err err = { 0 };

    cr_assert(exj_test_mongo_uri(uri, NULL, options, text));
    cr_assert_eq(exj_mongo_open(text, 60000, 2, &m, &err), EXJ_OK, "%s", err.text);
    return m;
}

/* Closing takes the driver half a second, so all are closed at once. */
static exj_mongo *to_close[128];
static size_t to_close_n;

static void close_later(exj_mongo *m)
{
    cr_assert(to_close_n < sizeof(to_close) / sizeof(*to_close));
    to_close[to_close_n++] = m;
}

static void *close_one(void *m)
{
    exj_mongo_close(m);
    return NULL;
}

static void close_all(void)
{
    pthread_t threads[sizeof(to_close) / sizeof(*to_close)];

    for (size_t i = 0; i < to_close_n; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, close_one, to_close[i]), 0);
    for (size_t i = 0; i < to_close_n; i++)
        pthread_join(threads[i], NULL);
    to_close_n = 0;
}

static exj_mongo_client *take(exj_mongo *m)
{
    exj_mongo_client *c = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_mongo_client_take(m, &c, &err), EXJ_OK, "%s", err.text);
    return c;
}

static uint16_t port_of(const char *uri)
{
    exj_mongo_uri u = { 0 };
    exj_err err = { 0 };
    uint16_t port;

    cr_assert_eq(exj_mongo_uri_judge(uri, 60000, 1, &u, &err), EXJ_OK, "%s", err.text);
    port = (uint16_t)atoi(strrchr(u.hosts, ':') + 1);
    exj_mongo_uri_release(&u);
    return port;
}

/* ---- the calls ------------------------------------------------------------------------- */

/* Each call is made on three rows {_id: 1..3, n: 0}, and leaves a trace that `did` sees. */

static exj_code ignore(void *user, const bson_t *doc, exj_err *err)
{
    (void)doc;
    (void)err;
    if (user)
        ++*(int *)user;
    return EXJ_OK;
}

static bson_t *row(int id)
{
    return BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(0));
}

static exj_code put_rows(exj_mongo_client *c, int from, int n, exj_code *items, exj_err *err)
{
    const bson_t *docs[8] = { NULL };
    exj_code rc;

    for (int i = 0; i < n; i++)
        docs[i] = row(from + i);
    rc = exj_mongo_insert(c, db, ROWS, docs, (size_t)n, items, err);
    for (int i = 0; i < n; i++)
        bson_destroy((bson_t *)(uintptr_t)docs[i]);
    return rc;
}

static int64_t count_of(exj_mongo_client *c, const char *json)
{
    bson_error_t why;
    bson_t *filter = bson_new_from_json((const uint8_t *)json, -1, &why);
    exj_err err = { 0 };
    int64_t n = -1;

    cr_assert(filter, "%s", why.message);
    cr_assert_eq(exj_mongo_count(c, db, ROWS, filter, NULL, &n, &err), EXJ_OK, "%s", err.text);
    bson_destroy(filter);
    return n;
}

static exj_code do_read(exj_mongo_client *c, exj_err *err)
{
    bson_t *command = BCON_NEW("find", BCON_UTF8(ROWS), "filter", "{", "}"), reply;
    exj_code rc = exj_mongo_read(c, db, command, &reply, err);

    bson_destroy(&reply);
    bson_destroy(command);
    return rc;
}

static exj_code do_find(exj_mongo_client *c, exj_err *err)
{
    bson_t all = BSON_INITIALIZER;

    return exj_mongo_find(c, db, ROWS, &all, NULL, ignore, NULL, err);
}

static exj_code do_aggregate(exj_mongo_client *c, exj_err *err)
{
    bson_t none = BSON_INITIALIZER;

    return exj_mongo_aggregate(c, db, ROWS, &none, NULL, ignore, NULL, err);
}

static exj_code do_count(exj_mongo_client *c, exj_err *err)
{
    bson_t all = BSON_INITIALIZER;
    int64_t n;

    return exj_mongo_count(c, db, ROWS, &all, NULL, &n, err);
}

static exj_code do_write(exj_mongo_client *c, exj_err *err)
{
    bson_t *command = BCON_NEW("update", BCON_UTF8(ROWS), "updates", "[", "{", "q", "{", "_id",
                               BCON_INT32(1), "}", "u", "{", "$set", "{", "n", BCON_INT32(1),
                               "}", "}", "}", "]");
    bson_t reply;
    exj_code rc = exj_mongo_write(c, db, command, EXJ_MONGO_WRITE_ONE, EXJ_MONGO_MAJORITY,
                                  &reply, err);

    bson_destroy(&reply);
    bson_destroy(command);
    return rc;
}

static exj_code do_insert_one(exj_mongo_client *c, exj_err *err)
{
    return put_rows(c, 4, 1, NULL, err);
}

static exj_code do_insert_many(exj_mongo_client *c, exj_err *err)
{
    return put_rows(c, 4, 3, NULL, err);
}

static exj_code do_update(exj_mongo_client *c, int n, bool many, exj_err *err)
{
    exj_mongo_change changes[3] = { 0 };
    exj_mongo_changed changed;
    exj_code rc;

    for (int i = 0; i < n; i++)
        changes[i] = (exj_mongo_change){
            .filter = many ? BCON_NEW("_id", "{", "$lt", BCON_INT32(9), "}")
                           : BCON_NEW("_id", BCON_INT32(i + 1)),
            .update = BCON_NEW("$set", "{", "n", BCON_INT32(1), "}"),
            .many = many,
        };
    rc = exj_mongo_update(c, db, ROWS, changes, (size_t)n, EXJ_MONGO_MAJORITY, &changed, NULL,
                          err);
    if (rc == EXJ_OK)
        cr_assert_eq(changed.matched, many ? 3 : n);
    for (int i = 0; i < n; i++) {
        bson_destroy((bson_t *)(uintptr_t)changes[i].filter);
        bson_destroy((bson_t *)(uintptr_t)changes[i].update);
    }
    return rc;
}

static exj_code do_update_one(exj_mongo_client *c, exj_err *err)
{
    return do_update(c, 1, false, err);
}

static exj_code do_update_three(exj_mongo_client *c, exj_err *err)
{
    return do_update(c, 3, false, err);
}

static exj_code do_update_all(exj_mongo_client *c, exj_err *err)
{
    return do_update(c, 1, true, err);
}

static exj_code do_delete(exj_mongo_client *c, uint32_t most, exj_err *err)
{
    bson_t *filter = most ? BCON_NEW("_id", BCON_INT32(1)) : bson_new();
    int64_t n;
    exj_code rc = exj_mongo_delete(c, db, ROWS, filter, NULL, most, EXJ_MONGO_MAJORITY, &n, err);

    bson_destroy(filter);
    return rc;
}

static exj_code do_delete_one(exj_mongo_client *c, exj_err *err)
{
    return do_delete(c, 1, err);
}

static exj_code do_delete_all(exj_mongo_client *c, exj_err *err)
{
    return do_delete(c, 0, err);
}

static int64_t given_n; /* n of the document that do_modify was given; -1: none */

static exj_code do_modify(exj_mongo_client *c, exj_err *err)
{
    bson_t *filter = BCON_NEW("_id", BCON_INT32(1));
    bson_t *update = BCON_NEW("$set", "{", "n", BCON_INT32(1), "}"), value;
    exj_mongo_modify m = { .change = { .filter = filter, .update = update }, .give_new = true };
    exj_code rc = exj_mongo_find_and_modify(c, db, ROWS, &m, EXJ_MONGO_MAJORITY, &value, err);
    bson_iter_t it;

    given_n = bson_iter_init_find(&it, &value, "n") ? bson_iter_as_int64(&it) : -1;
    bson_destroy(&value);
    bson_destroy(filter);
    bson_destroy(update);
    return rc;
}

#define R EXJ_MONGO_READ
#define ONE EXJ_MONGO_WRITE_ONE
#define MANY EXJ_MONGO_WRITE_MANY

static const struct op {
    const char *name, *command;
    exj_mongo_kind kind;
    exj_code (*run)(exj_mongo_client *c, exj_err *err);
    const char *trace; /* what it changes can be counted by this; NULL: nothing */
    int64_t without, with;
} ops[] = {
    { "read", "find", R, do_read, NULL, 0, 0 },
    { "find", "find", R, do_find, NULL, 0, 0 },
    { "aggregate", "aggregate", R, do_aggregate, NULL, 0, 0 },
    { "count", "aggregate", R, do_count, NULL, 0, 0 },
    { "write", "update", ONE, do_write, "{\"n\":1}", 0, 1 },
    { "insert one", "insert", ONE, do_insert_one, "{}", 3, 4 },
    { "insert many", "insert", MANY, do_insert_many, "{}", 3, 6 },
    { "update one", "update", ONE, do_update_one, "{\"n\":1}", 0, 1 },
    { "update three", "update", MANY, do_update_three, "{\"n\":1}", 0, 3 },
    { "update all", "update", MANY, do_update_all, "{\"n\":1}", 0, 3 },
    { "delete one", "delete", ONE, do_delete_one, "{}", 3, 2 },
    { "delete all", "delete", MANY, do_delete_all, "{}", 3, 0 },
    { "find and modify", "findAndModify", ONE, do_modify, "{\"n\":1}", 0, 1 },
};
#define OPS (sizeof(ops) / sizeof(*ops))

static void three_rows(exj_mongo_client *c)
{
    bson_t all = BSON_INITIALIZER;
    exj_err err = { 0 };
    int64_t n;

    cr_assert_eq(exj_mongo_delete(c, db, ROWS, &all, NULL, 0, EXJ_MONGO_MAJORITY, &n, &err),
                 EXJ_OK, "%s", err.text);
    cr_assert_eq(put_rows(c, 1, 3, NULL, &err), EXJ_OK, "%s", err.text);
}

/* One line that names the command, the collection and the server. */
static void check_line(const struct op *o, const char *text)
{
    char start[160];

    snprintf(start, sizeof(start), "%s %s.%s at 127.0.0.1:", o->command, db, ROWS);
    cr_expect(strncmp(text, start, strlen(start)) == 0, "%s: %s", o->name, text);
    cr_expect(!strchr(text, '\n') && !strstr(text, "secret"), "%s", text);
}

Test(mongo_client, each_call_goes_well_when_nothing_fails)
{
    exj_mongo *m = open_at(server, NULL);
    exj_mongo_client *c = take(m);

    for (size_t i = 0; i < OPS; i++) {
        exj_err err = { 0 };

        three_rows(c);
        cr_expect_eq(ops[i].run(c, &err), EXJ_OK, "%s: %s", ops[i].name, err.text);
        if (ops[i].trace)
            cr_expect_eq(count_of(c, ops[i].trace), ops[i].with, "%s", ops[i].name);
    }
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}

/* ---- fail points ----------------------------------------------------------------------- */

struct point {
    int error_code, concern_code;
    bool close;
    exj_code read, one, many;
    bool applied;
};

static void fail_at(exj_mongo_client *good, exj_mongo *m, const struct op *o,
                    const struct point *p)
{
    exj_code wanted = o->kind == R ? p->read : o->kind == ONE ? p->one : p->many;
    exj_test_mongo_fail f = { .commands = { o->command }, .times = 1,
                              .error_code = p->error_code, .write_concern_code = p->concern_code,
                              .close_connection = p->close, .app_name = db };
    exj_mongo_client *c = take(m);
    exj_err err = { 0 };
    exj_code rc;

    three_rows(good);
    cr_assert(exj_test_mongo_fail_on(server, &f));
    rc = o->run(c, &err);
    cr_expect_eq(rc, wanted, "%s, %d/%d: %s: %s", o->name, p->error_code, p->concern_code,
                 exj_code_name(rc), err.text);
    if (wanted != EXJ_OK)
        check_line(o, err.text);
    cr_expect_eq(exj_mongo_client_code(c),
                 (uint32_t)(p->error_code ? p->error_code : p->concern_code));
    /* The document comes even where too few servers have the change. */
    if (o->run == do_modify)
        cr_expect_eq(given_n, p->applied ? 1 : -1);
    if (o->trace)
        cr_expect_eq(count_of(good, o->trace), p->applied ? o->with : o->without, "%s, %d/%d",
                     o->name, p->error_code, p->concern_code);
    exj_mongo_client_give(c);
}

/* One test for all fail points: a server has one at a time. */
Test(mongo_client, what_a_server_answers_has_one_meaning_for_each_call)
{
    static const struct point points[] = {
        { 13, 0, false, EXJ_REFUSED, EXJ_REFUSED, EXJ_REFUSED, false },
        { 10107, 0, false, EXJ_IO, EXJ_IO, EXJ_UNKNOWN, false },
        { 11600, 0, false, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN, false },
        { 189, 0, false, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN, false },
        { 0, 64, false, EXJ_OK, EXJ_UNKNOWN, EXJ_UNKNOWN, true },
        { 0, 79, false, EXJ_OK, EXJ_UNKNOWN, EXJ_UNKNOWN, true },
        { 0, 0, true, EXJ_IO, EXJ_UNKNOWN, EXJ_UNKNOWN, false },
    };
    char options[128];
    exj_mongo *plain, *m;
    exj_mongo_client *good;

    snprintf(options, sizeof(options), "appName=%s", db);
    plain = open_at(server, NULL);
    good = take(plain);
    for (size_t p = 0; p < sizeof(points) / sizeof(*points); p++)
        for (size_t i = 0; i < OPS; i++) {
            if (points[p].concern_code && ops[i].kind == R)
                continue;
            m = open_at(server, options);
            fail_at(good, m, &ops[i], &points[p]);
            close_later(m);
        }
    exj_test_mongo_fail_off(server);
    close_all();
    exj_mongo_client_give(good);
    exj_mongo_close(plain);
}

/* ---- the network ----------------------------------------------------------------------- */

struct broken {
    exj_proxy_fault fault;
    bool applied;
};

/* The caller's patience may end before the server is done. */
static void comes(exj_mongo_client *good, const struct op *o)
{
    int64_t end = exj_clock_mono_ns() + 10000000000;

    while (count_of(good, o->trace) != o->with)
        cr_assert_lt(exj_clock_mono_ns(), end, "%s was not applied", o->name);
}

static void break_at(exj_proxy *proxy, const char *uri, exj_mongo_client *good,
                     const struct op *o, const struct broken *b)
{
    exj_proxy_rule rule = { .fault = b->fault, .times = 1 };
    exj_mongo *m = open_at(uri, b->fault == EXJ_PROXY_MUTE_REPLY ? "socketTimeoutMS=250" : NULL);
    exj_code wanted = o->kind == R ? EXJ_IO : EXJ_UNKNOWN, rc;
    exj_mongo_client *c = take(m);
    exj_err err = { 0 };
    int64_t began;
    int id;

    three_rows(good);
    snprintf(rule.command, sizeof(rule.command), "%s", o->command);
    id = exj_proxy_add(proxy, &rule);
    began = exj_clock_mono_ns();
    rc = o->run(c, &err);
    cr_expect_eq(rc, wanted, "%s, %s: %s: %s", o->name, exj_proxy_fault_name(b->fault),
                 exj_code_name(rc), err.text);
    cr_expect_lt(exj_clock_mono_ns() - began, 5000000000, "%s took long", o->name);
    cr_expect_eq(exj_proxy_hits(proxy, id), 1, "%s", o->name);
    check_line(o, err.text);
    exj_proxy_clear(proxy);
    if (o->trace && b->applied)
        comes(good, o);
    else if (o->trace)
        cr_expect_eq(count_of(good, o->trace), o->without, "%s, %s", o->name,
                     exj_proxy_fault_name(b->fault));
    exj_mongo_client_give(c);
    close_later(m);
}

static void break_all(const struct broken *faults, size_t n)
{
    exj_proxy *proxy = exj_proxy_start(port_of(server), 0, 1);
    exj_mongo *plain = open_at(server, NULL);
    exj_mongo_client *good = take(plain);
    char uri[EXJ_TEST_MONGO_URI_MAX];

    cr_assert(exj_test_mongo_via(server, exj_proxy_port(proxy), uri));
    for (size_t f = 0; f < n; f++)
        for (size_t i = 0; i < OPS; i++)
            break_at(proxy, uri, good, &ops[i], &faults[f]);
    close_all();
    exj_mongo_client_give(good);
    exj_mongo_close(plain);
    exj_proxy_end(proxy);
}

Test(mongo_client, a_connection_that_breaks_leaves_each_write_in_doubt)
{
    static const struct broken faults[] = { { EXJ_PROXY_CUT, false },
                                            { EXJ_PROXY_CUT_REPLY, true },
                                            { EXJ_PROXY_TORN_REPLY, true } };

    break_all(faults, 3);
}

Test(mongo_client, an_answer_that_never_comes_leaves_each_write_in_doubt_in_time)
{
    static const struct broken faults[] = { { EXJ_PROXY_MUTE_REPLY, true } };

    break_all(faults, 1);
}

Test(mongo_client, no_server_means_that_nothing_was_applied)
{
    exj_proxy *proxy = exj_proxy_start(port_of(server), 0, 1);
    char uri[EXJ_TEST_MONGO_URI_MAX];
    exj_mongo *m;
    exj_mongo_client *c;

    cr_assert(exj_test_mongo_via(server, exj_proxy_port(proxy), uri));
    exj_proxy_refuse(proxy, true);
    m = open_at(uri, "serverSelectionTimeoutMS=200");
    c = take(m);
    for (size_t i = 0; i < OPS; i++) {
        int64_t began = exj_clock_mono_ns();
        exj_err err = { 0 };
        exj_code rc = ops[i].run(c, &err);

        cr_expect_eq(rc, EXJ_IO, "%s: %s", ops[i].name, err.text);
        check_line(&ops[i], err.text);
        cr_expect_not_null(strstr(err.text, "check that the servers of MONGO_URI run"), "%s",
                           err.text);
        cr_expect_lt(exj_clock_mono_ns() - began, 2000000000);
    }
    exj_mongo_client_give(c);
    exj_mongo_close(m);
    exj_proxy_end(proxy);
}

/* ---- what is answered to one statement of many ----------------------------------------- */

Test(mongo_client, a_document_that_is_there_already_is_a_conflict_and_the_others_go_in)
{
    exj_mongo *m = open_at(server, NULL);
    exj_mongo_client *c = take(m);
    exj_code items[4];
    exj_err err = { 0 };

    three_rows(c);
    cr_expect_eq(put_rows(c, 2, 4, items, &err), EXJ_CONFLICT, "%s", err.text);
    cr_expect_eq(items[0], EXJ_CONFLICT);
    cr_expect_eq(items[1], EXJ_CONFLICT);
    cr_expect_eq(items[2], EXJ_OK);
    cr_expect_eq(items[3], EXJ_OK);
    cr_expect_eq(count_of(c, "{}"), 5);
    cr_expect_not_null(strstr(err.text, "11000"), "%s", err.text);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}

Test(mongo_client, a_statement_that_is_refused_does_not_hold_the_others_up)
{
    exj_mongo *m = open_at(server, NULL);
    exj_mongo_client *c = take(m);
    bson_t *one = BCON_NEW("_id", BCON_INT32(1)), *two = BCON_NEW("_id", BCON_INT32(2));
    bson_t *none = BCON_NEW("_id", BCON_INT32(99));
    bson_t *set = BCON_NEW("$set", "{", "n", BCON_INT32(1), "}");
    bson_t *id = BCON_NEW("$set", "{", "_id", BCON_INT32(7), "}");
    exj_mongo_change changes[] = { { one, id, false, false, NULL },
                                   { none, set, false, false, NULL },
                                   { two, set, false, false, NULL } };
    exj_mongo_changed changed;
    exj_code items[3];
    exj_err err = { 0 };

    three_rows(c);
    cr_expect_eq(exj_mongo_update(c, db, ROWS, changes, 3, EXJ_MONGO_W1, &changed, items, &err),
                 EXJ_REFUSED, "%s", err.text);
    cr_expect_eq(items[0], EXJ_REFUSED);
    cr_expect_eq(items[1], EXJ_OK);
    cr_expect_eq(items[2], EXJ_OK);
    cr_expect_eq(changed.matched, 1);
    cr_expect_eq(changed.modified, 1);
    bson_destroy(one);
    bson_destroy(two);
    bson_destroy(none);
    bson_destroy(set);
    bson_destroy(id);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}

Test(mongo_client, a_missing_index_is_refused_with_what_creates_it)
{
    exj_mongo *m = open_at(server, NULL);
    exj_mongo_client *c = take(m);
    bson_t all = BSON_INITIALIZER, *opts = BCON_NEW("hint", BCON_UTF8("no_such_index"));
    bson_t *set = BCON_NEW("$set", "{", "n", BCON_INT32(1), "}");
    exj_mongo_change change = { &all, set, false, true, "no_such_index" };
    exj_mongo_changed changed;
    exj_err err = { 0 };
    int64_t n;

    three_rows(c);
    cr_expect_eq(exj_mongo_find(c, db, ROWS, &all, opts, ignore, NULL, &err), EXJ_REFUSED, "%s",
                 err.text);
    cr_expect_not_null(strstr(err.text, "store init"), "%s", err.text);
    exj_err_clear(&err);
    cr_expect_eq(exj_mongo_count(c, db, ROWS, &all, "no_such_index", &n, &err), EXJ_REFUSED,
                 "%s", err.text);
    exj_err_clear(&err);
    cr_expect_eq(exj_mongo_update(c, db, ROWS, &change, 1, EXJ_MONGO_MAJORITY, &changed, NULL,
                                  &err),
                 EXJ_REFUSED, "%s", err.text);
    cr_expect_not_null(strstr(err.text, "store init"), "%s", err.text);
    bson_destroy(opts);
    bson_destroy(set);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}

Test(mongo_client, a_document_of_more_than_16_mib_is_refused_and_one_below_goes_in)
{
    exj_mongo *m = open_at(server, NULL);
    exj_mongo_client *c = take(m);
    size_t most = 16u * 1024 * 1024;
    char *text = malloc(most);
    exj_code items[2] = { EXJ_OK, EXJ_OK };
    exj_err err = { 0 };
    bson_t big = BSON_INITIALIZER, fits = BSON_INITIALIZER, small = BSON_INITIALIZER;
    const bson_t *two[] = { &small, &big }, *one[] = { &fits };

    cr_assert(text);
    memset(text, 'x', most);
    BSON_APPEND_INT32(&small, "_id", 1);
    BSON_APPEND_INT32(&big, "_id", 2);
    bson_append_utf8(&big, "t", 1, text, (int)most - 20);
    cr_assert_gt(big.len, most);
    BSON_APPEND_INT32(&fits, "_id", 3);
    bson_append_utf8(&fits, "t", 1, text, (int)most - 100);
    cr_expect_eq(exj_mongo_insert(c, db, ROWS, two, 2, items, &err), EXJ_REFUSED);
    cr_expect_eq(items[0], EXJ_REFUSED);
    cr_expect_not_null(strstr(err.text, "document 1 has 167772"), "%s", err.text);
    cr_expect_eq(count_of(c, "{}"), 0);
    exj_err_clear(&err);
    cr_expect_eq(exj_mongo_insert(c, db, ROWS, one, 1, NULL, &err), EXJ_OK, "%s", err.text);
    cr_expect_eq(count_of(c, "{}"), 1);
    bson_destroy(&big);
    bson_destroy(&fits);
    bson_destroy(&small);
    free(text);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}

/* ---- reading in batches, counting, forks ----------------------------------------------- */

Test(mongo_client, a_reading_that_breaks_between_batches_says_so)
{
    exj_proxy *proxy = exj_proxy_start(port_of(server), 0, 1);
    exj_proxy_rule rule = { .fault = EXJ_PROXY_CUT, .command = "getMore", .times = 1 };
    bson_t all = BSON_INITIALIZER, *opts = BCON_NEW("batchSize", BCON_INT32(2));
    char uri[EXJ_TEST_MONGO_URI_MAX];
    exj_err err = { 0 };
    exj_mongo_client *c;
    exj_mongo *m;
    int seen = 0;

    cr_assert(exj_test_mongo_via(server, exj_proxy_port(proxy), uri));
    m = open_at(uri, NULL);
    c = take(m);
    three_rows(c);
    cr_assert_eq(exj_mongo_find(c, db, ROWS, &all, opts, ignore, &seen, &err), EXJ_OK, "%s",
                 err.text);
    cr_expect_eq(seen, 3);
    exj_proxy_add(proxy, &rule);
    seen = 0;
    cr_expect_eq(exj_mongo_find(c, db, ROWS, &all, opts, ignore, &seen, &err), EXJ_IO);
    cr_expect_eq(seen, 2);
    bson_destroy(opts);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
    exj_proxy_end(proxy);
}

static exj_code enough(void *user, const bson_t *doc, exj_err *err)
{
    (void)doc;
    ++*(int *)user;
    return exj_err_set(err, EXJ_CANCELLED, "enough");
}

Test(mongo_client, a_visitor_ends_the_reading_with_its_own_result)
{
    exj_mongo *m = open_at(server, NULL);
    exj_mongo_client *c = take(m);
    bson_t all = BSON_INITIALIZER;
    exj_err err = { 0 };
    int seen = 0;

    three_rows(c);
    cr_expect_eq(exj_mongo_find(c, db, ROWS, &all, NULL, enough, &seen, &err), EXJ_CANCELLED);
    cr_expect_str_eq(err.text, "enough");
    cr_expect_eq(seen, 1);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}

static exj_mongo_count_of counted(const exj_mongo *m, const char *command)
{
    exj_mongo_count_of all[EXJ_MONGO_COMMANDS];

    exj_mongo_counts(m, all);
    for (size_t i = 0; i < EXJ_MONGO_COMMANDS; i++)
        if (strcmp(all[i].command, command) == 0)
            return all[i];
    cr_assert(false, "%s is not counted", command);
    return all[0];
}

Test(mongo_client, commands_are_counted_by_name_with_what_became_of_them)
{
    exj_proxy *proxy = exj_proxy_start(port_of(server), 0, 1);
    exj_proxy_rule rule = { .fault = EXJ_PROXY_CUT_REPLY, .command = "update", .times = 1 };
    char uri[EXJ_TEST_MONGO_URI_MAX];
    exj_mongo_client *c;
    exj_err err = { 0 };
    exj_mongo *m;

    cr_assert(exj_test_mongo_via(server, exj_proxy_port(proxy), uri));
    m = open_at(uri, NULL);
    c = take(m);
    three_rows(c);
    cr_expect_eq(counted(m, "insert").sent, 1);
    cr_expect_gt(counted(m, "insert").took, 0);
    cr_expect_eq(counted(m, "insert").took, counted(m, "insert").longest);
    cr_expect_eq(do_update_three(c, &err), EXJ_OK, "%s", err.text);
    exj_proxy_add(proxy, &rule);
    cr_expect_eq(do_update_three(c, &err), EXJ_UNKNOWN);
    cr_expect_eq(counted(m, "update").sent, 2);
    cr_expect_eq(counted(m, "update").failed, 1);
    cr_expect_eq(counted(m, "update").unknown, 1);
    cr_expect_eq(counted(m, "find").sent, 0);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
    exj_proxy_end(proxy);
}

Test(mongo_client, more_clients_than_asked_for_are_not_to_be_had)
{
    exj_mongo *m = open_at(server, "waitQueueTimeoutMS=50");
    exj_mongo_client *a = take(m), *b = take(m), *c = NULL;
    exj_err err = { 0 };

    cr_expect_eq(exj_mongo_client_take(m, &c, &err), EXJ_BUSY);
    cr_expect_not_null(strstr(err.text, "all 2 connections"), "%s", err.text);
    exj_mongo_client_give(b);
    cr_expect_eq(exj_mongo_client_take(m, &c, NULL), EXJ_OK);
    exj_mongo_client_give(a);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}

Test(mongo_client, nothing_of_it_survives_a_fork)
{
    exj_mongo *m = open_at(server, NULL);
    exj_mongo_client *c = take(m);
    int status;
    pid_t child;

    three_rows(c);
    child = fork();
    if (child == 0) {
        exj_mongo_client *d = NULL;
        exj_code rc = exj_mongo_client_take(m, &d, NULL);

        exj_mongo_client_give(c); /* leaves the parent's connection alone */
        exj_mongo_close(m);
        _exit(rc == EXJ_BUG ? 0 : 1);
    }
    cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status));
    cr_expect_eq(WEXITSTATUS(status), 0);
    cr_expect_eq(count_of(c, "{}"), 3);
    exj_mongo_client_give(c);
    exj_mongo_close(m);
}
