/* What rows may do at once and in which order: priority, unique keys, concurrency keys, rates,
 * overflow. A worker that runs, events that are pushed into it. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static exj_daemon d;

static void setup(void)
{
    exj_daemon_init(&d);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(limits_rows, .init = setup, .fini = teardown);

static void matrix(const char *execution, const char *more)
{
    exj_daemon_graph(&d, "g", execution);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "event", "{}", more);
}

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

/* The answer; `body` is JSON. */
static json_t *push(const char *body)
{
    json_t *o = NULL;
    int status = exj_daemon_call(&d, "POST", "/v1/matrices/m/events?autoId=true", body, &o);

    cr_assert_eq(status, 200, "%s: %d %s", body, status,
                 json_string_value(json_object_get(o, "message")));
    return o;
}

/* `n` events PREFIX0, PREFIX1, … with these members ("" or ",…") and this record. */
static void push_many(const char *prefix, unsigned n, const char *members, const char *record)
{
    size_t room = (size_t)n * (strlen(prefix) + strlen(members) + strlen(record) + 48) + 8;
    char *body = malloc(room), *at = body;

    cr_assert(body);
    for (unsigned i = 0; i < n; i++)
        at += sprintf(at, "%s{\"id\":\"%s%05u\",\"record\":%s%s}", i ? "," : "[", prefix, i,
                      record, members);
    strcpy(at, "]");
    json_decref(push(body));
    free(body);
}

static void pause_workers(bool yes)
{
    cr_assert_eq(exj_daemon_call(&d, "POST", yes ? "/v1/workers/pause" : "/v1/workers/resume",
                                 NULL, NULL), 200);
}

/* ---- order ------------------------------------------------------------------------------------- */

struct expected {
    int priority, index;
};

static int by_order(const void *a, const void *b)
{
    const struct expected *x = a, *y = b;

    return x->priority != y->priority ? y->priority - x->priority : x->index - y->index;
}

/* spec 2.8: Rows carry `priority` (higher first; ties oldest first, then by id: deterministic), `runAfter`, optional `uniqueKey` (unique among non-terminal rows of a graph, or for a period), optional `concurrencyKey` with a per-key cap. */
Test(limits_rows, run_higher_priorities_first_and_of_equals_the_oldest)
{
    enum { N = 200 };
    struct expected want[N];
    uint64_t seed = exj_test_seed("limits_rows order");
    exj_effects e;
    char body[128];
    size_t at = 0;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "1");
    cr_assert(exj_daemon_start(&d));
    pause_workers(true);
    matrix(NULL, ",\"priority\":2");
    for (int i = 0; i < N; i++) {
        want[i] = (struct expected){ (int)(exj_test_random(&seed) % 5), i };
        if (want[i].priority == 2) /* the matrix's own */
            snprintf(body, sizeof(body), "{\"id\":\"r%d\",\"record\":{}}", i);
        else
            snprintf(body, sizeof(body), "{\"id\":\"r%d\",\"record\":{},\"priority\":%d}", i,
                     want[i].priority);
        json_decref(push(body));
    }
    pause_workers(false);
    cr_assert(exj_daemon_wait_done(&d, "m", N, 20000));
    qsort(want, N, sizeof(*want), by_order);
    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len; i++) {
        char name[32];

        if (e.items[i].what != 'B')
            continue;
        cr_assert_lt(at, N);
        snprintf(name, sizeof(name), "m||g|r%d", want[at].index);
        cr_expect_str_eq(e.items[i].job, name, "place %zu: %s ran, %s was to", at,
                         e.items[i].job, name);
        at++;
    }
    cr_expect_eq(at, N);
    exj_effects_release(&e);
}

/* ---- unique keys -------------------------------------------------------------------------------- */

static json_int_t taken(const char *id)
{
    char body[128];
    json_t *o;
    json_int_t n;

    snprintf(body, sizeof(body), "{\"id\":\"%s\",\"record\":{},\"uniqueKey\":\"k\"}", id);
    o = push(body);
    n = number(o, "uniqueKeyTaken");
    cr_expect_eq(n + number(o, "inserted"), 1);
    json_decref(o);
    return n;
}

Test(limits_rows, with_one_unique_key_do_not_live_side_by_side)
{
    char body[300];

    cr_assert(exj_daemon_start(&d));
    matrix(NULL, "");
    snprintf(body, sizeof(body),
             "{\"id\":\"a\",\"record\":{\"gate\":\"%s\"},\"uniqueKey\":\"k\"}",
             exj_tmp_path(&d.tmp, "gate"));
    json_decref(push(body));
    cr_expect_eq(taken("b"), 1, "it is queued or runs");
    exj_spit(exj_tmp_path(&d.tmp, "gate"), "");
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 10000));
    cr_expect_eq(taken("b"), 0, "it is over: the key is free");
    cr_assert(exj_daemon_wait_done(&d, "m", 2, 10000));
}

static bool is_free(void *user)
{
    int *n = user;
    char id[16];

    snprintf(id, sizeof(id), "try%d", (*n)++);
    return taken(id) == 0;
}

Test(limits_rows, keep_their_unique_key_for_a_period_when_the_matrix_says_so)
{
    int64_t began;
    int n = 0;

    cr_assert(exj_daemon_start(&d));
    matrix(NULL, ",\"keys\":{\"uniqueSeconds\":1.5}");
    began = exj_test_now_ms();
    cr_expect_eq(taken("a"), 0);
    cr_assert(exj_daemon_wait_done(&d, "m", 1, 1400), "it is over before its key is free");
    cr_expect_eq(taken("b"), 1);
    cr_assert(exj_until(is_free, &n, -1, 50, 10000));
    cr_expect_geq(exj_test_now_ms() - began, 1400);
}

/* ---- concurrency keys ---------------------------------------------------------------------------- */

Test(limits_rows, of_one_concurrency_key_run_so_many_at_once_as_the_graph_says)
{
    exj_effects e;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "8");
    cr_assert(exj_daemon_start(&d));
    matrix("{\"concurrencyPerKey\":2}", ",\"keys\":{\"concurrency\":\"customer\"}");
    pause_workers(true);
    push_many("red", 60, "", "{\"customer\":\"red\",\"sleepMs\":5,\"ends\":true}");
    push_many("blue", 60, "", "{\"customer\":\"blue\",\"sleepMs\":5,\"ends\":true}");
    push_many("none", 60, "", "{\"sleepMs\":5,\"ends\":true}");
    pause_workers(false);
    cr_assert(exj_daemon_wait_done(&d, "m", 180, 30000));
    cr_expect_eq(exj_daemon_tally(&d, "m").completed, 180);
    exj_effects_read(&d, &e);
    cr_expect_eq(exj_effects_most_at_once(&e, "red"), 2);
    cr_expect_eq(exj_effects_most_at_once(&e, "blue"), 2);
    cr_expect_geq(exj_effects_most_at_once(&e, "none"), 4);
    exj_effects_release(&e);
}

Test(limits_rows, that_wait_for_their_key_do_not_slow_others_down)
{
    char record[300];
    int64_t began, took;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "4");
    cr_assert(exj_daemon_start(&d));
    matrix(NULL, "");
    snprintf(record, sizeof(record), "{\"gate\":\"%s\"}", exj_tmp_path(&d.tmp, "gate"));
    /* One of the ten thousand runs, and waits at its gate; they are all in front. */
    push_many("slow", 10000, ",\"concurrencyKey\":\"slow\",\"priority\":9", record);
    began = exj_test_now_ms();
    for (int i = 0; i < 200; i++) {
        char prefix[16], members[64];

        snprintf(prefix, sizeof(prefix), "k%03d-", i);
        snprintf(members, sizeof(members), ",\"concurrencyKey\":\"other%d\"", i % 50);
        push_many(prefix, 1, members, "{}");
    }
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 200, 15000));
    took = exj_test_now_ms() - began;
    cr_expect_lt(took, 10000, "200 rows of other keys took %" PRId64 " ms", took);
    exj_spit(exj_tmp_path(&d.tmp, "gate"), "");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 300, 30000),
              "the parked ones follow, one after the other");
}

/* ---- rates ----------------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* spec 2.8: Graphs may carry a rate limit. */
Test(limits_rows, of_a_graph_with_a_rate_start_no_faster_than_it)
{
    enum { RATE = 20, N = 70 };
    int64_t began[N], start, took;
    exj_effects e;
    size_t n = 0;

    cr_assert(exj_daemon_start(&d));
    matrix("{\"rateLimit\":{\"count\":20,\"perSeconds\":1}}", "");
    start = exj_test_now_ms();
    push_many("r", N, "", "{}");
    cr_assert(exj_daemon_wait_done(&d, "m", N, 20000));
    took = exj_test_now_ms() - start;
    cr_expect_geq(took, 2300, "%d rows at %d/s, %d at once: %" PRId64 " ms", N, RATE, RATE, took);
    cr_expect_lt(took, 6000, "the rate is used: %" PRId64 " ms", took);
    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len && n < N; i++)
        if (e.items[i].what == 'B')
            began[n++] = e.items[i].at_ns / 1000000;
    exj_effects_release(&e);
    cr_assert_eq(n, N);
    qsort(began, N, sizeof(*began), by_time);
    /* After the burst each has its place in time; 150 ms for a busy machine between the claim
     * and the start. */
    for (int i = RATE; i < N; i++)
        cr_expect_geq(began[i] - began[0], (i - RATE + 1) * 1000 / RATE - 150, "row %d began %"
                      PRId64 " ms after the first", i, began[i] - began[0]);
}

Test(limits_rows, go_by_a_new_rate_as_soon_as_the_config_says_so)
{
    int64_t start;

    cr_assert(exj_daemon_start(&d));
    matrix("{\"rateLimit\":{\"count\":1,\"perSeconds\":600}}", "");
    push_many("r", 50, "", "{}");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 1, 10000));
    cr_expect_eq(exj_daemon_tally(&d, "m").completed, 1);
    start = exj_test_now_ms();
    exj_daemon_graph(&d, "g", NULL);
    cr_assert(exj_daemon_wait_done(&d, "m", 50, 10000));
    cr_expect_lt(exj_test_now_ms() - start, 6000);
}

/* ---- overflow -------------------------------------------------------------------------------------- */

/* spec 3.2: These change by config reload without restarting anything. */
Test(limits_rows, over_the_cap_are_dropped_or_wait_as_the_matrix_says_at_the_moment)
{
    char record[300];
    exj_tally t;
    pid_t pid;

    cr_assert(exj_daemon_start(&d));
    pid = d.prog.pid;
    snprintf(record, sizeof(record), "{\"gate\":\"%s\",\"ends\":true}",
             exj_tmp_path(&d.tmp, "gate"));
    matrix(NULL, ",\"concurrency\":3,\"overflow\":\"drop\"");
    push_many("a", 10, "", record);
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.queued + t.running, 3);
    cr_expect_eq(t.other, 7, "%" PRId64 " dropped", t.other);

    matrix(NULL, ",\"concurrency\":3,\"overflow\":\"queue\",\"maxQueue\":5");
    push_many("b", 20, "", record);
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.queued + t.running, 8, "three run, five wait: %" PRId64, t.queued + t.running);
    cr_expect_eq(t.other, 22);

    matrix(NULL, "");
    push_many("c", 20, "", record);
    t = exj_daemon_tally(&d, "m");
    cr_expect_eq(t.queued + t.running, 28, "neither is said: nothing is dropped");
    exj_spit(exj_tmp_path(&d.tmp, "gate"), "");
    cr_assert(exj_daemon_wait_metric(&d, "matrix_claims_completed_total", NULL, 28, 20000));
    cr_expect_eq(d.prog.pid, pid);
    cr_expect(exj_prog_is_running(&d.prog));
}

Test(limits_rows, that_are_scanned_are_never_dropped)
{
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record", "{\"count\":300,\"prefix\":\"r\"}",
                      ",\"concurrency\":2,\"overflow\":\"drop\",\"maxQueue\":1");
    cr_assert(exj_daemon_wait_done(&d, "m", 300, 20000));
    cr_expect_eq(exj_daemon_tally(&d, "m").completed, 300);
}

/* ---- keys of scanned records ------------------------------------------------------------------------ */

Test(limits_rows, that_are_scanned_take_their_keys_from_the_record_too)
{
    exj_effects e;
    json_t *o = NULL;

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "8");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "record",
                      "{\"count\":40,\"prefix\":\"r\",\"record\":{\"who\":\"x\",\"rank\":7,"
                      "\"sleepMs\":5,\"ends\":true}}",
                      ",\"keys\":{\"concurrency\":\"who\",\"priority\":\"rank\"}");
    cr_assert(exj_daemon_wait_done(&d, "m", 40, 20000));
    exj_effects_read(&d, &e);
    cr_expect_eq(exj_effects_most_at_once(&e, ""), 1);
    exj_effects_release(&e);
    cr_assert_eq(exj_daemon_call(&d, "GET", "/v1/rows?limit=1", NULL, &o), 200);
    cr_expect_eq(number(json_array_get(json_object_get(o, "rows"), 0), "priority"), 7);
    json_decref(o);
}
