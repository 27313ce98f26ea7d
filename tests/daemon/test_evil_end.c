/* What becomes of plugins that crash again and again, how fast a row comes back after a crash,
 * and an answer of a gibibyte. See test_evil.c. */
#include <criterion/criterion.h>

#include "tests/daemon/evil_support.h"

static exj_daemon d;

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(evil_end, .fini = teardown);

static void put_matrix(const char *matrix, const char *graph, const char *deed)
{
    char graphs[40], input[160];

    snprintf(graphs, sizeof(graphs), "[\"%s\"]", graph);
    snprintf(input, sizeof(input),
             "{\"count\":30,\"record\":{\"deed\":\"%s\",\"at\":10}}", deed);
    exj_daemon_matrix(&d, matrix, graphs, "record", input, ",\"maxAttempts\":9");
}

/* ---- the quarantine of a plugin ------------------------------------------------------------- */

static bool health_says(const char *part)
{
    json_t *body = NULL;
    char *text;
    bool is;

    exj_daemon_call(&d, "GET", "/v1/health?probe=dependencies", NULL, &body);
    text = json_dumps(body, 0);
    is = text && strstr(text, part);
    free(text);
    json_decref(body);
    return is;
}

static bool names_quarantine(void *user)
{
    (void)user;
    return health_says("in quarantine: evil-engine-0000 6.6.6");
}

struct sum {
    int64_t attempts, completed, waiting, running, blocked;
};

static bool add_row(void *user, const json_t *row)
{
    struct sum *s = user;
    const char *status = json_string_value(json_object_get(row, "status"));

    s->attempts += json_integer_value(json_object_get(row, "attempts"));
    s->completed += strcmp(status, "completed") == 0;
    s->waiting += strcmp(status, "queued") == 0;
    s->running += strcmp(status, "running") == 0;
    s->blocked += strcmp(status, "blocked") == 0;
    return true;
}

static struct sum sum_of(const char *matrix)
{
    struct sum s = { 0 };

    exj_daemon_rows(&d, matrix, add_row, &s);
    return s;
}

struct settled {
    const char *matrix;
    struct sum sum;
};

static bool none_runs(void *user)
{
    struct settled *s = user;

    s->sum = sum_of(s->matrix);
    return s->sum.running == 0;
}

/* The rows once what was claimed when the quarantine came has gone back: a row that is on its
 * way counts its attempt until it has. */
static struct sum settled(const char *matrix)
{
    struct settled s = { .matrix = matrix };

    cr_assert(exj_until(none_runs, &s, d.prog.pidfd, 20, 10000), "%s: rows run", matrix);
    return s.sum;
}

/* Two rows that crash it three times each: the fifth crash is the last one. */
static void crash_into_quarantine(const char *lane)
{
    evil_init(&d, lane, 2);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g0", "{\"executor\":\"evil-engine-0000\"}");
    exj_daemon_graph(&d, "g1", "{\"executor\":\"evil-engine-0001\"}");
    put_matrix("a", "g0", "segv");
    put_matrix("b", "g0", "segv");
    cr_assert(exj_until(names_quarantine, NULL, d.prog.pidfd, 20, 30000),
              "five crashes and no quarantine");
}

static void check_waiting(void)
{
    struct sum a, b, a_later, b_later;

    /* while it is in quarantine another plugin works, and its own rows burn no attempts */
    put_matrix("c", "g0", "none");
    put_matrix("other", "g1", "none");
    cr_assert(exj_daemon_wait_done(&d, "other", 30, 20000));
    cr_assert_eq(sum_of("other").completed, 30);
    a = settled("a");
    b = settled("b");
    cr_assert_eq(exj_prog_wait(&d.prog, 1500), -1, "the worker ended");
    a_later = settled("a");
    b_later = settled("b");
    cr_assert_eq(a_later.attempts, a.attempts, "an attempt of a row was burnt");
    cr_assert_eq(b_later.attempts, b.attempts, "an attempt of a row was burnt");
    cr_assert_eq(a.blocked + b.blocked, 1, "%d and %d rows were set aside", (int)a.blocked,
                 (int)b.blocked);
    cr_assert_geq(a.waiting + b.waiting, 1, "the other one waits");
    cr_assert_eq(settled("c").waiting, 30);
    cr_assert_eq(settled("c").attempts, 0);
    cr_assert(names_quarantine(NULL));
}

static void check_end(void)
{
    static const char *const matrices[] = { "a", "b", "c" };

    for (unsigned k = 0; k < 3; k++) {
        struct sum s;

        cr_assert(exj_daemon_wait_done(&d, matrices[k], 30, 30000), "%s does not go on",
                  matrices[k]);
        s = sum_of(matrices[k]);
        cr_expect_eq(s.completed, k < 2 ? 29 : 30);
        cr_expect_eq(s.blocked, k < 2 ? 1 : 0);
        cr_expect_eq(s.attempts, k < 2 ? 32 : 30, "%s: %d attempts", matrices[k],
                     (int)s.attempts);
    }
    cr_assert(exj_prog_is_running(&d.prog));
    cr_assert(exj_daemon_wait_ready(&d, 5000));
}

Test(evil_end, plugin_in_quarantine_waits_until_it_is_released)
{
    crash_into_quarantine("host");
    check_waiting();
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/quarantine/plugins/evil-engine-0000/release",
                                 NULL, NULL), 200);
    check_end();
}

Test(evil_end, sandboxed_plugin_in_quarantine_waits_until_it_is_released)
{
    crash_into_quarantine("sandbox");
    check_waiting();
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/quarantine/plugins/evil-engine-0000/release",
                                 NULL, NULL), 200);
    check_end();
}

Test(evil_end, plugin_in_quarantine_goes_on_when_its_file_changes)
{
    const char *path;
    char *bytes;
    size_t n = 0;

    crash_into_quarantine("host");
    check_waiting();
    path = exj_tmp_path(&d.tmp, "plugins/evil-engine-0000.so");
    bytes = exj_slurp(path, &n);
    write_whole(path, bytes, n + 1); /* its terminating NUL: the same code, another content */
    free(bytes);
    check_end();
}

Test(evil_end, quarantine_outlives_the_worker)
{
    crash_into_quarantine("host");
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);
    cr_assert(exj_daemon_start(&d));
    check_waiting();
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/quarantine/plugins/evil-engine-0000/release",
                                 NULL, NULL), 200);
    check_end();
}

/* ---- a gibibyte --------------------------------------------------------------------------- */

static bool is_too_large(void *user, const json_t *row)
{
    unsigned *refused = user;
    const json_t *error = json_object_get(row, "error");
    const char *code = json_string_value(json_object_get(error, "code"));

    if (code) {
        cr_assert_str_eq(code, "AnswerTooLarge");
        cr_assert_str_eq(json_string_value(json_object_get(row, "status")), "failed");
        ++*refused;
    }
    cr_assert_eq(json_integer_value(json_object_get(row, "attempts")), 1);
    return true;
}

static void answer_a_gibibyte(const char *lane)
{
    unsigned refused = 0;
    int64_t peak;

    evil_init(&d, lane, 1);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g0", NULL);
    put_matrix("m", "g0", "huge");
    cr_assert(exj_daemon_wait_done(&d, "m", 30, 30000));
    exj_daemon_rows(&d, "m", is_too_large, &refused);
    cr_assert_eq(refused, 1);
    cr_assert_eq(exj_daemon_tally(&d, "m").completed, 29);
    peak = exj_prog_peak_rss_kb(&d.prog);
    cr_assert_lt(peak, SANITIZED ? 1000000 : 200000, "the worker took %lld KiB",
                 (long long)peak);
}

Test(evil_end, answer_of_a_gibibyte_costs_its_own_row_in_a_host)
{
    answer_a_gibibyte("host");
}

Test(evil_end, answer_of_a_gibibyte_costs_its_own_row_in_a_sandbox)
{
    answer_a_gibibyte("sandbox");
}

/* ---- how fast ------------------------------------------------------------------------------- */

#define COPIES 5

static void come_back(const char *lane)
{
    int64_t ns[COPIES * CRASHES_A_COPY];

    evil_init(&d, lane, COPIES);
    cr_assert(exj_daemon_start(&d));
    time_crashes(&d, COPIES, ns);
    print_crash_times(lane, ns, COPIES * CRASHES_A_COPY);
    cr_assert_gt(ns[0], 0);
    /* the lease has 60 s; tests/bench/bench_crash measures what is promised */
    cr_assert_lt(ns[COPIES * CRASHES_A_COPY - 1], (int64_t)5000000000);
}

Test(evil_end, row_that_crashed_its_host_is_tried_again_at_once)
{
    come_back("host");
}

Test(evil_end, row_that_crashed_its_sandbox_is_tried_again_at_once)
{
    come_back("sandbox");
}
