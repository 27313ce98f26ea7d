/* A change that is sent again is not done again: Idempotency-Key, on every mutation, over
 * crashes and side by side. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/support.h"

#define ROW_PATH "/v1/rows/m%7C%7Cg%7Cr-0000000"
#define PAUSED "{\"operationalState\":\"Paused\",\"expectedVersion\":1}"

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(commands, .init = setup, .fini = teardown, .timeout = 90);

static void keyed(const char *method, const char *path, const char *key, const char *body,
                  exj_reply *ret)
{
    char headers[700];

    snprintf(headers, sizeof(headers), "x-exellix-jobs-api-key: %s\r\nIdempotency-Key: %s\r\n",
             EXJ_TEST_KEY, key);
    exj_http(d.port, method, path, headers, body, ret);
}

/* The status; *ret_replayed: did it say so? *ret_body: owned, may be NULL. */
static int send_keyed(const char *method, const char *path, const char *key, const char *body,
                      bool *ret_replayed, char **ret_body)
{
    exj_reply r;
    const char *word;
    int status;

    keyed(method, path, key, body, &r);
    word = exj_reply_header(&r, "Idempotent-Replayed");
    status = r.status;
    *ret_replayed = word && strcmp(word, "true") == 0;
    if (ret_body)
        *ret_body = strdup(r.body);
    exj_reply_release(&r);
    return status;
}

static void expect_code(const char *method, const char *path, const char *key, const char *body,
                        int status, const char *code)
{
    exj_reply r;
    json_t *o;

    keyed(method, path, key, body, &r);
    o = exj_reply_json(&r);
    cr_expect_eq(r.status, status, "%s %s: %d %s", method, path, r.status, r.body);
    cr_expect_str_eq(json_string_value(json_object_get(o, "code")), code, "%s", r.body);
    cr_expect_null(exj_reply_header(&r, "Idempotent-Replayed"));
    json_decref(o);
    exj_reply_release(&r);
}

static int64_t number_at(const char *path, const char *member)
{
    json_t *o = NULL;
    int64_t n;

    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &o), 200, "%s", path);
    n = (int64_t)json_integer_value(json_object_get(o, member));
    json_decref(o);
    return n;
}

static size_t list_at(const char *path, const char *member)
{
    json_t *o = NULL;
    size_t n;

    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &o), 200, "%s", path);
    n = json_array_size(json_object_get(o, member));
    json_decref(o);
    return n;
}

static bool is_suspended(void *user)
{
    json_t *o = NULL;
    bool is;

    (void)user;
    exj_daemon_call(&d, "GET", ROW_PATH, NULL, &o);
    is = o && strcmp("suspended", json_string_value(json_object_get(o, "status"))
                                      ? json_string_value(json_object_get(o, "status")) : "") == 0;
    json_decref(o);
    return is;
}

/* A row that waits for a signal nobody sends. */
static void start_waiting_row(void)
{
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":1,\"record\":{\"waitSignal\":\"never\"}}", "");
    cr_assert(exj_until(is_suspended, NULL, d.prog.pidfd, 5, 10000));
}

/* ---- one key, one effect ----------------------------------------------------------------- */

/* spec 2.6: First use acquires the key, a finished one replays the stored answer, one still running answers 409 `in_progress`; a command that failed before it took effect releases the key. */
Test(commands, a_finished_one_replays_its_answer)
{
    char *first, *again;
    bool replayed;

    cr_expect_eq(send_keyed("PATCH", "/v1/graphs/g/operational", "k", PAUSED, &replayed, &first),
                 200, "%s", first);
    cr_expect_not(replayed);
    cr_expect_eq(send_keyed("PATCH", "/v1/graphs/g/operational", "k", PAUSED, &replayed, &again),
                 200);
    cr_expect(replayed);
    cr_expect_str_eq(first, again);
    cr_expect_eq(number_at("/v1/configs/graphs/g", "version"), 2, "it was done once");
    free(first);
    free(again);

    /* what it changed is gone meanwhile: the answer stands all the same */
    cr_expect_eq(send_keyed("DELETE", "/v1/configs/graphs/g", "del", NULL, &replayed, NULL), 200);
    cr_expect_eq(send_keyed("DELETE", "/v1/configs/graphs/g", "del", NULL, &replayed, NULL), 200);
    cr_expect(replayed);
    cr_expect_eq(send_keyed("DELETE", "/v1/configs/graphs/g", "del2", NULL, &replayed, NULL), 404);
}

Test(commands, a_failed_one_releases_its_key)
{
    bool replayed;

    expect_code("PATCH", "/v1/graphs/g/operational", "k",
                "{\"operationalState\":\"Paused\",\"expectedVersion\":9}", 409,
                "ConfigStoreConcurrencyError");
    expect_code("PATCH", "/v1/graphs/g/operational", "k", "{\"operationalState\":", 400,
                "ValidationError");
    cr_expect_eq(send_keyed("PATCH", "/v1/graphs/g/operational", "k", PAUSED, &replayed, NULL),
                 200);
    cr_expect_not(replayed);
    expect_code("POST", "/v1/plugins/nobody/reload", "p", NULL, 404, "PluginNotFound");
    expect_code("POST", "/v1/plugins/nobody-else/reload", "p", NULL, 404, "PluginNotFound");
}

/* spec 2.6: The same key with another body is a 422. */
Test(commands, a_key_that_came_with_another_request_is_refused)
{
    bool replayed;

    cr_expect_eq(send_keyed("PATCH", "/v1/graphs/g/operational", "k", PAUSED, &replayed, NULL),
                 200);
    expect_code("PATCH", "/v1/graphs/g/operational", "k",
                "{\"operationalState\":\"Ready\",\"expectedVersion\":2}", 422,
                "IdempotencyKeyReused");
    expect_code("PATCH", "/v1/graphs/g/publication", "k", PAUSED, 422, "IdempotencyKeyReused");
    expect_code("POST", "/v1/workers/pause", "k", NULL, 422, "IdempotencyKeyReused");
    expect_code("DELETE", "/v1/configs/graphs/g?dryRun=true", "k", NULL, 422,
                "IdempotencyKeyReused");
    cr_expect_eq(number_at("/v1/configs/graphs/g", "version"), 2);
}

Test(commands, an_effect_outside_the_store_is_not_done_again_either)
{
    bool replayed;

    cr_expect_eq(send_keyed("POST", "/v1/workers/pause", "p", NULL, &replayed, NULL), 200);
    cr_expect_eq(exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL), 200);
    cr_expect_eq(send_keyed("POST", "/v1/workers/pause", "p", NULL, &replayed, NULL), 200);
    cr_expect(replayed);
    cr_expect_eq(number_at("/v1/workers/status", "paused"), 0);
    cr_expect_eq(exj_daemon_call(&d, "GET", "/v1/health", NULL, NULL), 200);
}

/* A put that changes nothing, and a dry run, are answers too. */
Test(commands, an_answer_without_an_effect_is_kept)
{
    static const char doc[] = "{\"graphId\":\"n\",\"payload\":{\"graphId\":\"n\"}}";
    char *first, *again;
    bool replayed;

    cr_expect_eq(send_keyed("PUT", "/v1/configs/graphs/n?dryRun=true", "dry", doc, &replayed,
                            &first), 200);
    cr_expect_eq(send_keyed("PUT", "/v1/configs/graphs/n", "put", doc, &replayed, NULL), 201);
    cr_expect_eq(send_keyed("PUT", "/v1/configs/graphs/n", "same", doc, &replayed, NULL), 200);
    cr_expect_not(replayed);
    cr_expect_eq(send_keyed("PUT", "/v1/configs/graphs/n?dryRun=true", "dry", doc, &replayed,
                            &again), 200);
    cr_expect(replayed && strcmp(first, again) == 0, "%s", again);
    cr_expect_eq(send_keyed("PUT", "/v1/configs/graphs/n", "put", doc, &replayed, NULL), 201);
    cr_expect(replayed);
    free(first);
    free(again);
}

Test(commands, keys_that_are_none_are_refused)
{
    char longest[257], headers[400];
    exj_reply r;
    bool replayed;

    memset(longest, 'k', 256);
    longest[256] = '\0';
    expect_code("POST", "/v1/workers/pause", longest, NULL, 400, "ValidationError");
    expect_code("POST", "/v1/workers/pause", "", NULL, 400, "ValidationError");
    expect_code("POST", "/v1/workers/pause", "caf\xc3\xa9", NULL, 400, "ValidationError");
    snprintf(headers, sizeof(headers),
             "x-exellix-jobs-api-key: %s\r\nIdempotency-Key: a\r\nidempotency-key: a\r\n",
             EXJ_TEST_KEY);
    exj_http(d.port, "POST", "/v1/workers/pause", headers, NULL, &r);
    cr_expect_eq(r.status, 400, "sent twice: %d", r.status);
    exj_reply_release(&r);
    cr_expect_eq(send_keyed("POST", "/v1/workers/resume", longest + 1, NULL, &replayed, NULL), 200);
}

/* Whatever the document of operations names as a change goes through the same door. */
/* spec 2.6: Every mutation over HTTP takes `Idempotency-Key`. */
Test(commands, every_mutation_takes_a_key)
{
    json_t *doc = NULL, *path, *operation;
    const char *pattern, *method;
    char bad[257];
    int seen = 0;

    memset(bad, 'k', 256);
    bad[256] = '\0';
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/openapi.json", NULL, &doc), 200);
    json_object_foreach(json_object_get(doc, "paths"), pattern, path) {
        json_object_foreach(path, method, operation) {
            char target[200] = "/v1", upper[16] = "";
            size_t n = strlen(target);
            exj_reply r;

            if (strcmp(method, "get") == 0)
                continue;
            for (const char *p = pattern; *p; p++)
                target[n++] = *p == '{' ? (p = strchr(p, '}'), 'x') : *p;
            for (size_t i = 0; method[i]; i++)
                upper[i] = (char)(method[i] - 'a' + 'A');
            keyed(upper, target, bad, "{}", &r);
            cr_expect(r.status == 400 && strstr(r.body, "Idempotency-Key"), "%s %s: %d %s", upper,
                      target, r.status, r.body);
            exj_reply_release(&r);
            seen++;
        }
    }
    cr_expect_geq(seen, 18, "%d", seen);
    json_decref(doc);
}

/* ---- time --------------------------------------------------------------------------------- */

/* spec 2.6: Keys expire (24 h by default). */
Test(commands, a_key_is_forgotten_after_a_day)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    bool replayed;
    int64_t left;

    cr_expect_eq(send_keyed("POST", "/v1/workers/pause", "p", NULL, &replayed, NULL), 200);
    cr_assert_eq(sqlite3_open(exj_tmp_path(&d.tmp, "data/exellix-jobs.db"), &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    cr_assert_eq(sqlite3_prepare_v2(db, "SELECT until FROM exj_commands WHERE key='p'", -1, &q,
                                    NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(q), SQLITE_ROW);
    left = sqlite3_column_int64(q, 0) - (int64_t)time(NULL) * 1000;
    cr_expect(left > 86400000 - 60000 && left < 86400000 + 60000, "%" PRId64 " ms", left);
    sqlite3_finalize(q);
    cr_assert_eq(sqlite3_exec(db, "UPDATE exj_commands SET until=1000", NULL, NULL, NULL),
                 SQLITE_OK);
    sqlite3_close(db);
    cr_expect_eq(send_keyed("POST", "/v1/workers/resume", "p", NULL, &replayed, NULL), 200);
    cr_expect_not(replayed, "it is a new command");
}

/* ---- crashes and company -------------------------------------------------------------------- */

/* A request that is on its way: -1: nobody listens. */
static int begin_signal(const char *key, int n)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(d.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char text[600], body[32];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(body, sizeof(body), "{\"n\":%d}", n);
    snprintf(text, sizeof(text),
             "POST %s/signals/kept HTTP/1.1\r\nHost: localhost\r\n"
             "x-exellix-jobs-api-key: " EXJ_TEST_KEY "\r\nIdempotency-Key: %s\r\n"
             "Content-Length: %zu\r\n\r\n%s", ROW_PATH, key, strlen(body), body);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) ||
        send(fd, text, strlen(text), MSG_NOSIGNAL) != (ssize_t)strlen(text)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* What was answered; closes. 0: nothing. */
static int end_signal(int fd, bool *ret_replayed)
{
    char text[4096] = "";
    size_t n = 0;
    int status = 0;

    for (;;) {
        struct pollfd p = { fd, POLLIN, 0 };
        ssize_t got;

        if (poll(&p, 1, 20000) <= 0)
            break;
        got = recv(fd, text + n, sizeof(text) - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    sscanf(text, "HTTP/1.1 %d", &status);
    *ret_replayed = strstr(text, "Idempotent-Replayed: true") != NULL;
    return status;
}

Test(commands, of_several_at_once_one_takes_effect)
{
    int fds[8], fresh = 0;

    start_waiting_row();
    for (int round = 0; round < 10; round++) {
        char key[32];

        snprintf(key, sizeof(key), "round-%d", round);
        for (int i = 0; i < 8; i++)
            cr_assert_geq(fds[i] = begin_signal(key, round), 0);
        for (int i = 0; i < 8; i++) {
            bool replayed;
            int status = end_signal(fds[i], &replayed);

            cr_expect(status == 200 || status == 409, "%d", status);
            fresh += status == 200 && !replayed;
        }
    }
    cr_expect_eq(fresh, 10, "%d", fresh);
    cr_expect_eq(list_at(ROW_PATH, "signalsKept"), 10);
}

Test(commands, a_kill_between_two_sends_makes_no_second_effect)
{
    uint64_t random = exj_test_seed("commands");
    const int rounds = 12;

    start_waiting_row();
    for (int round = 0; round < rounds; round++) {
        char key[32];
        bool replayed = false;
        int fd, status;

        snprintf(key, sizeof(key), "kill-%d", round);
        fd = begin_signal(key, round);
        cr_assert_geq(fd, 0);
        if (round % 2) { /* after the answer, or somewhere on the way to it */
            cr_assert_eq(end_signal(fd, &replayed), 200);
        } else {
            struct pollfd p = { fd, POLLIN, 0 };

            poll(&p, 1, (int)(exj_test_random(&random) % 4));
        }
        exj_prog_signal(&d.prog, SIGKILL);
        cr_assert_eq(exj_prog_wait(&d.prog, 10000), 1000 + SIGKILL);
        if (round % 2 == 0)
            close(fd);
        cr_assert(exj_daemon_start(&d));
        fd = begin_signal(key, round);
        cr_assert_geq(fd, 0);
        status = end_signal(fd, &replayed);
        cr_expect_eq(status, 200, "round %d: %d", round, status);
        cr_expect(replayed || round % 2 == 0, "round %d: it was done again", round);
    }
    cr_expect_eq(list_at(ROW_PATH, "signalsKept"), (size_t)rounds);
}
