/* Each fault of the proxy as a libmongoc client sees it, with a real server behind it. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/mongo/client.h"
#include "tests/support/chaos_proxy.h"
#include "tests/support/support.h"

static const char *uri; /* of the server */
static char database[64];
static exj_proxy *proxy;
static mongoc_client_t *direct, *via;

static uint16_t server_port(void)
{
    const mongoc_host_list_t *host;
    mongoc_uri_t *u = mongoc_uri_new(uri);
    uint16_t port;

    cr_assert(u);
    host = mongoc_uri_get_hosts(u);
    cr_assert(host);
    port = host->port;
    mongoc_uri_destroy(u);
    return port;
}

static mongoc_client_t *through(const char *options)
{
    char text[EXJ_TEST_MONGO_URI_MAX];

    cr_assert(exj_test_mongo_via(uri, exj_proxy_port(proxy), text));
    return client_of(text, options);
}

static void setup(void)
{
    bson_error_t why = { 0 };

    uri = exj_test_mongo_shared(NULL);
    cr_assert(uri);
    exj_test_mongo_database("proxy", database);
    direct = client_of(uri, NULL);
    cr_assert(insert_row(direct, database, 1, &why), "%s", why.message);
    proxy = exj_proxy_start(server_port(), 0, 1);
    via = through("socketTimeoutMS=20000&serverSelectionTimeoutMS=3000");
    cr_assert_eq(row_n(via, database, 1, &why), 0, "%s", why.message);
}

static void teardown(void)
{
    mongoc_client_destroy(via);
    exj_proxy_end(proxy);
    mongoc_client_destroy(direct);
    exj_test_mongo_drop(uri, database);
}

/* A rule that hits the next update. */
static int next_update(exj_proxy_fault fault, unsigned ms)
{
    exj_proxy_rule r = { .fault = fault, .command = "update", .times = 1, .ms = ms };
    int id = exj_proxy_add(proxy, &r);

    cr_assert_geq(id, 0);
    return id;
}

static int look(void)
{
    bson_error_t why = { 0 };
    int n = row_n(direct, database, 1, &why);

    cr_assert_neq(n, -2, "%s", why.message);
    return n;
}

static bool is_applied(void *user)
{
    (void)user;
    return look() == 1;
}

static void be_impatient(void)
{
    mongoc_client_destroy(via);
    via = through("socketTimeoutMS=400&serverSelectionTimeoutMS=3000");
}

/* The update fails by the network: at once, or by the client's timeout of 400 ms where it
 * is `silent`; and it was applied, or not. */
static void fails(exj_proxy_fault fault, bool silent, bool applied)
{
    int id = next_update(fault, 0);
    int64_t began, took;
    bson_error_t why = { 0 };

    if (silent)
        be_impatient();
    began = exj_test_now_ms();

    cr_assert(!count_up(via, database, 1, &why));
    took = exj_test_now_ms() - began;
    cr_assert_eq(why.domain, MONGOC_ERROR_STREAM, "%s: domain %u code %u %s",
                 exj_proxy_fault_name(fault), why.domain, why.code, why.message);
    cr_assert_lt(took, 10000, "%s: %lld ms", exj_proxy_fault_name(fault),
                 (long long)took);
    if (silent)
        cr_assert_geq(took, 400);
    cr_assert_eq(exj_proxy_hits(proxy, id), 1);
    if (applied)
        cr_assert(exj_until(is_applied, NULL, -1, 5, 5000), "%s: not applied",
                  exj_proxy_fault_name(fault));
    else
        cr_assert_eq(look(), 0, "%s: applied", exj_proxy_fault_name(fault));
    /* it hit once: a client goes on */
    cr_assert(count_up(via, database, 1, &why), "%s", why.message);
    cr_assert_eq(look(), applied ? 2 : 1);
}

TestSuite(proxy, .init = setup, .fini = teardown);

Test(proxy, a_cut_is_a_network_error_and_nothing_happened)
{
    fails(EXJ_PROXY_CUT, false, false);
}

Test(proxy, a_cut_reply_is_a_network_error_although_the_write_is_there)
{
    fails(EXJ_PROXY_CUT_REPLY, false, true);
}

Test(proxy, a_torn_request_is_a_network_error_and_nothing_happened)
{
    fails(EXJ_PROXY_TORN_REQUEST, false, false);
}

Test(proxy, a_torn_reply_is_a_network_error_although_the_write_is_there)
{
    fails(EXJ_PROXY_TORN_REPLY, false, true);
}

Test(proxy, a_mute_connection_times_out_and_nothing_happened)
{
    fails(EXJ_PROXY_MUTE, true, false);
}

Test(proxy, a_mute_reply_times_out_although_the_write_is_there)
{
    fails(EXJ_PROXY_MUTE_REPLY, true, true);
}

Test(proxy, a_late_request_is_applied_after_its_client_gave_up)
{
    int id = next_update(EXJ_PROXY_DELAY, 1500);
    bson_error_t why = { 0 };

    be_impatient();
    cr_assert(!count_up(via, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_STREAM, "%u %s", why.domain, why.message);
    cr_assert_eq(look(), 0);
    mongoc_client_destroy(via); /* closed, not only given up */
    via = through(NULL);
    cr_assert(exj_until(is_applied, NULL, -1, 20, 10000));
    cr_assert_eq(exj_proxy_hits(proxy, id), 1);
}

Test(proxy, what_is_late_within_the_timeout_is_no_error)
{
    bson_error_t why = { 0 };
    int64_t began = exj_test_now_ms();

    next_update(EXJ_PROXY_DELAY_REPLY, 200);
    cr_assert(count_up(via, database, 1, &why), "%s", why.message);
    cr_assert_geq(exj_test_now_ms() - began, 200);
    began = exj_test_now_ms();
    next_update(EXJ_PROXY_DRIP, 1);
    cr_assert(count_up(via, database, 1, &why), "%s", why.message);
    cr_assert_geq(exj_test_now_ms() - began, 40); /* a reply has more than 40 bytes */
    cr_assert_eq(look(), 2);
}

Test(proxy, a_rule_picks_by_name_and_number)
{
    exj_proxy_rule r = {
        .fault = EXJ_PROXY_CUT, .command = "find", .skip = 1, .times = 1
    };
    int id = exj_proxy_add(proxy, &r);
    bson_error_t why = { 0 };

    cr_assert(count_up(via, database, 1, &why), "%s", why.message);
    cr_assert_eq(row_n(via, database, 1, &why), 1, "%s", why.message);
    cr_assert_eq(exj_proxy_hits(proxy, id), 0);
    cr_assert_eq(row_n(via, database, 1, &why), -2);
    cr_assert_eq(why.domain, MONGOC_ERROR_STREAM, "%u %s", why.domain, why.message);
    cr_assert_eq(exj_proxy_hits(proxy, id), 1);
    cr_assert_eq(row_n(via, database, 1, &why), 1, "%s", why.message);
}

Test(proxy, refuses_cuts_all_and_mutes_all_and_clear_ends_it)
{
    bson_error_t why = { 0 };
    mongoc_client_t *other;

    exj_proxy_refuse(proxy, true);
    other = through("serverSelectionTimeoutMS=500");
    cr_assert(!count_up(other, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_SERVER_SELECTION, "%u %s", why.domain,
                 why.message);
    cr_assert(strstr(why.message, "refused"), "%s", why.message);
    cr_assert(count_up(via, database, 1, &why), "an open one lives: %s", why.message);
    exj_proxy_clear(proxy);
    cr_assert(count_up(via, database, 1, &why), "%s", why.message);
    mongoc_client_destroy(other);

    exj_proxy_cut_all(proxy);
    cr_assert(!count_up(via, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_STREAM, "%u %s", why.domain, why.message);

    be_impatient();
    cr_assert(count_up(via, database, 1, &why), "%s", why.message);
    exj_proxy_mute(proxy, true);
    cr_assert(!count_up(via, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_STREAM, "%u %s", why.domain, why.message);
    exj_proxy_clear(proxy);
    other = through(NULL);
    cr_assert(count_up(other, database, 1, &why), "%s", why.message);
    mongoc_client_destroy(other);
    cr_assert_eq(look(), 4);
}

/* Which of 40 updates a rule picks, as a word of o and x. */
static void pattern(uint64_t seed, char ret[41])
{
    exj_proxy_rule r = { .fault = EXJ_PROXY_DELAY_REPLY,
                         .command = "update",
                         .permille = 300 };
    bson_error_t why = { 0 };
    uint64_t hits = 0, before;
    int id;

    mongoc_client_destroy(via);
    exj_proxy_end(proxy);
    proxy = exj_proxy_start(server_port(), 0, seed);
    via = through(NULL);
    id = exj_proxy_add(proxy, &r);
    for (int i = 0; i < 40; i++) {
        cr_assert(count_up(via, database, 1, &why), "%s", why.message);
        before = hits;
        hits = exj_proxy_hits(proxy, id);
        ret[i] = hits > before ? 'x' : 'o';
    }
    ret[40] = '\0';
}

Test(proxy, chance_is_the_seed_s)
{
    char one[41], again[41], other[41];

    pattern(7, one);
    pattern(7, again);
    pattern(8, other);
    cr_assert_str_eq(one, again);
    cr_assert_str_neq(one, other);
    cr_assert(strchr(one, 'x') && strchr(one, 'o'), "%s", one);
    cr_assert_eq(look(), 120);
}

struct worker {
    pthread_t thread;
    char uri[EXJ_TEST_MONGO_URI_MAX];
    int acknowledged;
};

/* Forty updates, each once; a new client after each failure, which waits for nothing. */
static void *work(void *user)
{
    struct worker *w = user;
    mongoc_client_t *c = client_of(w->uri, "socketTimeoutMS=20000");
    bson_error_t why;

    for (int i = 0; i < 40; i++) {
        if (count_up(c, database, 1, &why)) {
            w->acknowledged++;
        } else {
            mongoc_client_destroy(c);
            c = client_of(w->uri, "socketTimeoutMS=20000");
        }
    }
    mongoc_client_destroy(c);
    return NULL;
}

Test(proxy, among_many_clients_a_lost_reply_was_applied_and_a_lost_request_was_not)
{
    exj_proxy_rule rules[] = {
        { .fault = EXJ_PROXY_CUT, .command = "update", .permille = 100 },
        { .fault = EXJ_PROXY_TORN_REQUEST, .command = "update", .permille = 100 },
        { .fault = EXJ_PROXY_CUT_REPLY, .command = "update", .permille = 100 },
        { .fault = EXJ_PROXY_TORN_REPLY, .command = "update", .permille = 100 },
        { .fault = EXJ_PROXY_DELAY_REPLY, .command = "update", .permille = 100, .ms = 5 },
    };
    struct worker workers[4] = { 0 };
    uint64_t seed = exj_test_seed("proxy, many clients");
    int expected = 0, ids[5];

    exj_proxy_end(proxy);
    proxy = exj_proxy_start(server_port(), 0, seed);
    for (size_t i = 0; i < 5; i++)
        ids[i] = exj_proxy_add(proxy, &rules[i]);
    for (size_t i = 0; i < 4; i++) {
        cr_assert(exj_test_mongo_via(uri, exj_proxy_port(proxy), workers[i].uri));
        cr_assert_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(workers[i].thread, NULL);
        expected += workers[i].acknowledged;
    }
    for (size_t i = 0; i < 5; i++)
        cr_assert_gt(exj_proxy_hits(proxy, ids[i]), 0);
    expected += (int)(exj_proxy_hits(proxy, ids[2]) + exj_proxy_hits(proxy, ids[3]));
    cr_assert_eq(look(), expected);
}

Test(proxy, a_server_that_is_gone_is_an_error_of_the_client_only)
{
    exj_proxy *nowhere = exj_proxy_start(1, 0, 1);
    char text[EXJ_TEST_MONGO_URI_MAX];
    bson_error_t why = { 0 };
    mongoc_client_t *c;

    cr_assert(exj_test_mongo_via(uri, exj_proxy_port(nowhere), text));
    c = client_of(text, "serverSelectionTimeoutMS=500");
    cr_assert(!count_up(c, database, 1, &why));
    cr_assert_eq(why.domain, MONGOC_ERROR_SERVER_SELECTION, "%u %s", why.domain,
                 why.message);
    mongoc_client_destroy(c);
    exj_proxy_end(nowhere);
}

Test(proxy, as_a_program_it_obeys_lines)
{
    char command[600], said[400] = "";
    size_t n;
    FILE *f;

    snprintf(command, sizeof(command),
             "printf 'rule cut-reply update times=2\\nrule what -\\nhits 0\\nrefuse on\\n"
             "mute maybe\\nclear\\ncut\\nstats\\nwhat\\n' | %s/tests/mongo/mongo_proxy "
             "--server %u --seed 9",
             EXJ_BINARY_DIR, (unsigned)server_port());
    f = popen(command, "r");
    cr_assert(f);
    n = fread(said, 1, sizeof(said) - 1, f);
    said[n] = '\0';
    cr_assert_eq(pclose(f), 0);
    cr_assert(strncmp(said, "port ", 5) == 0 &&
                  strstr(said, " seed 9\nok 0\nerror rule:"),
              "%s", said);
    cr_assert(
        strstr(said, "\nok 0\nok\nerror mute: on or off\nok\nok\nok connections=0 "),
        "%s", said);
}
