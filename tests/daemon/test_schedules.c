/* Schedules through the whole program, under a wall clock that the test sets. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>

#include "tests/support/wall_clock.h"

static exj_daemon d;
static struct wall_clock wall;

static void setup(void)
{
    exj_daemon_init(&d);
    wall_open(&wall, &d.tmp, "2026-03-01T00:10:00Z");
    exj_daemon_set(&d, "LD_PRELOAD", "%s", WALL_CLOCK_LIBRARY);
    exj_daemon_set(&d, "EXJ_TEST_CLOCK", "%s", wall.path);
}

static void teardown(void)
{
    exj_daemon_release(&d);
}

TestSuite(schedules, .init = setup, .fini = teardown, .timeout = 100);

static void start(void)
{
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", NULL);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "event", "{}", "");
}

/* The clock is set, and the daemon looks at it. */
static void poke(void)
{
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL), 200);
}

static void set(const char *text)
{
    wall_set(&wall, text);
    poke();
}

/* `payload`: its members but start. */
static int put(const char *id, const char *payload, const char *starts, json_t **ret)
{
    char path[100], doc[1000];

    snprintf(path, sizeof(path), "/v1/configs/schedules/%s", id);
    snprintf(doc, sizeof(doc), "{\"scheduleId\":\"%s\",\"payload\":{%s,\"start\":{%s}}}", id,
             payload, starts ? starts : "\"matrixCatalogId\":\"m\"");
    return exj_daemon_call(&d, "PUT", path, doc, ret);
}

static void must_put(const char *id, const char *payload, const char *starts)
{
    int status = put(id, payload, starts, NULL);

    cr_assert(status == 200 || status == 201, "%s: %d", id, status);
}

static json_t *get(const char *id)
{
    char path[100];
    json_t *o = NULL;

    snprintf(path, sizeof(path), "/v1/schedules/%s", id);
    cr_assert_eq(exj_daemon_call(&d, "GET", path, NULL, &o), 200);
    return o;
}

static int64_t number(const char *id, const char *key)
{
    json_t *o = get(id);
    int64_t n = json_integer_value(json_object_get(o, key));

    json_decref(o);
    return n;
}

struct names {
    const char *prefix;
    char text[4000]; /* times of the records, sorted as they came in */
    size_t len;
    bool twice;
};

static bool add_name(void *user, const json_t *row)
{
    struct names *n = user;
    const char *id = json_string_value(json_object_get(row, "recordId"));
    size_t at = strlen(n->prefix);

    if (strncmp(id, n->prefix, at) || id[at] != '@')
        return true;
    n->twice |= strstr(n->text, id + at + 1) != NULL;
    n->len++;
    if (strlen(n->text) + strlen(id) < sizeof(n->text) - 2)
        sprintf(n->text + strlen(n->text), "%s ", id + at + 1);
    return true;
}

static struct names names(const char *schedule)
{
    struct names n = { .prefix = schedule };

    exj_daemon_rows(&d, "", add_name, &n);
    return n;
}

struct wanted {
    const char *schedule;
    size_t rows;
};

static bool has_rows(void *user)
{
    struct wanted *w = user;

    return names(w->schedule).len >= w->rows;
}

static void wait_rows(const char *schedule, size_t rows)
{
    struct wanted w = { schedule, rows };

    cr_assert(exj_until(has_rows, &w, d.prog.pidfd, 10, 15000), "%s: %zu rows, not %zu (%s)",
              schedule, names(schedule).len, rows, names(schedule).text);
}

/* Nothing more comes: what was due is settled, as the schedule says itself. */
static bool is_settled(void *user)
{
    json_t *o = get(user);
    const char *next = json_string_value(json_object_get(o, "nextTick"));
    struct timespec now;
    char text[40];
    bool settled;

    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += *wall.offset / 1000000000;
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime(&now.tv_sec));
    settled = !next || strcmp(next, text) > 0;
    json_decref(o);
    return settled && number(user, "fired") + number(user, "skipped") > 0;
}

static void rows_are(const char *schedule, const char *wanted)
{
    struct names n = names(schedule);

    if (n.text[0])
        n.text[strlen(n.text) - 1] = '\0';
    cr_expect_str_eq(n.text, wanted, "%s: %s, not %s", schedule, n.text, wanted);
}

/* ---- ticks ------------------------------------------------------------------------------------ */

/* spec 2.8: Cron schedules create rows or run matrix cycles; missed ticks follow a stated policy; */
Test(schedules, a_tick_makes_a_row_of_its_name_when_its_time_comes_and_not_before)
{
    json_t *o;

    start();
    must_put("s", "\"cron\":\"0 * * * *\"",
             "\"matrixCatalogId\":\"m\",\"input\":{\"a\":1}");
    o = get("s");
    cr_expect_str_eq(json_string_value(json_object_get(o, "nextTick")),
                     "2026-03-01T01:00:00.000Z");
    cr_expect(json_is_null(json_object_get(o, "lastTick")));
    cr_expect_eq(json_array_size(json_object_get(o, "nextTicks")), 10);
    json_decref(o);
    set("2026-03-01T00:59:50Z");
    rows_are("s", "");
    set("2026-03-01T01:00:00Z");
    wait_rows("s", 1);
    set("2026-03-01T02:00:01Z");
    wait_rows("s", 2);
    rows_are("s", "2026-03-01T01:00:00Z 2026-03-01T02:00:00Z");
    cr_expect(exj_daemon_wait_done(&d, "m", 2, 10000));
    cr_expect_eq(number("s", "fired"), 2);
}

Test(schedules, a_tick_fires_by_itself_within_a_moment)
{
    start();
    must_put("s", "\"everySeconds\":1", NULL);
    wait_rows("s", 3);
}

Test(schedules, a_tick_that_cannot_start_waits_and_says_why)
{
    json_t *o;
    const char *why;

    start();
    must_put("s", "\"cron\":\"0 * * * *\",\"missed\":\"once\"", "\"matrixCatalogId\":\"later\"");
    set("2026-03-01T01:00:00Z");
    for (int i = 0; i < 500; i++) { /* the look after the poke */
        o = get("s");
        if (!json_is_null(json_object_get(o, "error")))
            break;
        json_decref(o);
        poll(NULL, 0, 10);
        o = NULL;
    }
    cr_assert(o);
    why = json_string_value(json_object_get(json_object_get(o, "error"), "message"));
    cr_expect(strstr(why, "later"), "%s", why);
    json_decref(o);
    cr_expect_eq(number("s", "fired"), 0);
    exj_daemon_matrix(&d, "later", "[\"g\"]", "event", "{}", "");
    set("2026-03-01T01:05:00Z");
    wait_rows("s", 1);
    rows_are("s", "2026-03-01T01:00:00Z");
    o = get("s");
    cr_expect(json_is_null(json_object_get(o, "error")));
    json_decref(o);
}

/* ---- pause, trigger, bad documents ------------------------------------------------------------ */

Test(schedules, a_paused_one_fires_nothing_and_goes_on_from_when_it_is_resumed)
{
    json_t *o = NULL;

    start();
    must_put("s", "\"cron\":\"0 * * * *\",\"missed\":\"all\"", NULL);
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/schedules/s/pause", NULL, &o), 200);
    cr_expect(json_is_true(json_object_get(o, "paused")));
    json_decref(o);
    o = get("s");
    cr_expect(json_is_null(json_object_get(o, "nextTick")));
    cr_expect_str_eq(json_string_value(json_object_get(o, "pausedBy")), "operator");
    json_decref(o);
    set("2026-03-01T03:30:00Z");
    rows_are("s", "");
    /* It stays paused over a restart, and over its document being applied again. */
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    cr_assert(exj_daemon_start(&d));
    must_put("s", "\"cron\":\"0 * * * *\",\"missed\":\"all\",\"graceSeconds\":30", NULL);
    set("2026-03-01T04:30:00Z");
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/schedules/s/resume", NULL, &o), 200);
    cr_expect_str_eq(json_string_value(json_object_get(o, "nextTick")),
                     "2026-03-01T05:00:00.000Z");
    json_decref(o);
    cr_expect_eq(number("s", "skipped"), 4);
    set("2026-03-01T05:00:00Z");
    wait_rows("s", 1);
    rows_are("s", "2026-03-01T05:00:00Z");
}

Test(schedules, one_that_its_document_pauses_is_not_resumed_by_an_operator)
{
    start();
    must_put("s", "\"cron\":\"0 * * * *\",\"paused\":true", NULL);
    cr_expect_eq(exj_daemon_call(&d, "POST", "/v1/schedules/s/resume", NULL, NULL), 409);
    set("2026-03-01T03:00:00Z");
    must_put("s", "\"cron\":\"0 * * * *\",\"missed\":\"all\"", NULL);
    set("2026-03-01T04:00:00Z");
    wait_rows("s", 1);
    rows_are("s", "2026-03-01T04:00:00Z");
}

Test(schedules, a_trigger_starts_at_once_under_a_name_that_is_no_ticks)
{
    json_t *o = NULL, *again = NULL;

    start();
    must_put("s", "\"cron\":\"0 * * * *\",\"paused\":true", NULL);
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/schedules/s/trigger", NULL, &o), 200);
    cr_assert_eq(exj_daemon_call(&d, "POST", "/v1/schedules/s/trigger", NULL, &again), 200);
    cr_expect(strncmp(json_string_value(json_object_get(o, "name")), "s@manual-", 9) == 0);
    cr_expect(!json_equal(o, again));
    cr_expect_eq(json_array_size(json_object_get(o, "rows")), 1);
    cr_expect(exj_daemon_wait_done(&d, "m", 2, 10000));
    json_decref(o);
    json_decref(again);
    cr_expect_eq(exj_daemon_call(&d, "POST", "/v1/schedules/none/trigger", NULL, NULL), 404);
}

Test(schedules, bad_documents_are_refused_and_say_what_is_wrong)
{
    static const struct {
        const char *payload, *says;
    } cases[] = {
        { "\"cron\":\"61 * * * *\"", "minute: \"61\" is not allowed; allowed: 0-59" },
        { "\"cron\":\"* * 30 2 *\"", "30 is not a day of FEB" },
        { "\"cron\":\"0 0 L * *\"", "L" },
        { "\"cron\":\"0 0 * * 5#2\"", "#" },
        { "\"cron\":\"@daily\",\"zone\":\"Europe/Berln\"", "did you mean \"Europe/Berlin\"" },
        { "\"everySeconds\":0", "everySeconds" },
        { "\"cron\":\"@daily\",\"missed\":\"never\"", "missed" },
    };

    start();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        json_t *o = NULL;
        const char *text;

        cr_expect_eq(put("s", cases[i].payload, NULL, &o), 400, "%s", cases[i].payload);
        text = json_string_value(json_object_get(o, "message"));
        cr_expect(text && strstr(text, cases[i].says), "%s: %s", cases[i].payload, text);
        json_decref(o);
    }
    cr_expect_eq(exj_daemon_call(&d, "GET", "/v1/schedules/s", NULL, NULL), 404);
}

/* ---- outages ------------------------------------------------------------------------------------ */

/* spec 2.8: missed ticks follow a stated policy; */
Test(schedules, what_was_missed_while_the_worker_was_down_follows_the_policy)
{
    start();
    must_put("skip", "\"cron\":\"0 * * * *\",\"missed\":\"skip\"", NULL);
    must_put("once", "\"cron\":\"0 * * * *\",\"missed\":\"once\"", NULL);
    must_put("all", "\"cron\":\"0 * * * *\",\"missed\":\"all\"", NULL);
    must_put("two", "\"cron\":\"0 * * * *\",\"missed\":\"all\",\"maxMissed\":2", NULL);
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    wall_set(&wall, "2026-03-01T04:30:00Z");
    cr_assert(exj_daemon_start(&d));
    cr_expect(exj_until(is_settled, (void *)(uintptr_t)"skip", d.prog.pidfd, 10, 15000));
    wait_rows("once", 1);
    wait_rows("all", 4);
    wait_rows("two", 2);
    rows_are("skip", "");
    rows_are("once", "2026-03-01T04:00:00Z");
    rows_are("all", "2026-03-01T01:00:00Z 2026-03-01T02:00:00Z 2026-03-01T03:00:00Z "
                    "2026-03-01T04:00:00Z");
    rows_are("two", "2026-03-01T03:00:00Z 2026-03-01T04:00:00Z");
    cr_expect_eq(number("skip", "skipped"), 4);
    cr_expect_eq(number("once", "skipped"), 3);
    cr_expect_eq(number("two", "skipped"), 2);
    cr_expect_eq(number("all", "skipped"), 0);
    set("2026-03-01T05:00:10Z");
    wait_rows("skip", 1);
    rows_are("skip", "2026-03-01T05:00:00Z");
}

Test(schedules, a_clock_that_goes_back_fires_nothing_again)
{
    start();
    must_put("s", "\"cron\":\"0 * * * *\",\"missed\":\"all\"", NULL);
    set("2026-03-01T02:00:00Z");
    wait_rows("s", 2);
    cr_assert_eq(exj_daemon_stop(&d, 20000), 0);
    wall_set(&wall, "2026-03-01T00:30:00Z");
    cr_assert(exj_daemon_start(&d));
    set("2026-03-01T01:00:00Z");
    set("2026-03-01T03:00:00Z");
    wait_rows("s", 3);
    rows_are("s", "2026-03-01T01:00:00Z 2026-03-01T02:00:00Z 2026-03-01T03:00:00Z");
}

/* spec 2.8: one tick never fires twice over N workers. */
Test(schedules, no_tick_is_lost_or_fires_twice_when_the_worker_is_killed_around_it)
{
    uint64_t seed = exj_test_seed("schedules: kill -9");
    struct names n;
    size_t ticks = 0;

    start();
    must_put("s", "\"cron\":\"0 * * * *\",\"missed\":\"all\"", NULL);
    for (int round = 0; round < 12; round++) {
        unsigned hours = 1 + (unsigned)(exj_test_random(&seed) % 5);

        wall_forward(&wall, (int64_t)hours * 3600000);
        ticks += hours;
        if (round % 3)
            exj_daemon_call(&d, "POST", "/v1/workers/resume", NULL, NULL);
        poll(NULL, 0, (int)(exj_test_random(&seed) % 8));
        exj_prog_signal(&d.prog, SIGKILL);
        exj_prog_wait(&d.prog, 10000);
        cr_assert(exj_daemon_start(&d));
    }
    wait_rows("s", ticks);
    n = names("s");
    cr_expect_eq(n.len, ticks);
    cr_expect_not(n.twice);
    cr_expect_eq(number("s", "fired"), (int64_t)ticks);
    cr_expect_eq(number("s", "skipped"), 0);
    cr_expect(exj_daemon_wait_done(&d, "m", (int64_t)ticks, 20000));
}

/* ---- daylight saving ------------------------------------------------------------------------------ */

Test(schedules, clocks_that_jump_forward_fire_a_fixed_time_once_and_a_running_one_not)
{
    wall_set(&wall, "2026-03-28T20:00:00Z");
    start();
    must_put("fixed", "\"cron\":\"30 2 * * *\",\"zone\":\"Europe/Berlin\",\"missed\":\"all\"",
             NULL);
    must_put("running",
             "\"cron\":\"*/30 2 * * *\",\"zone\":\"Europe/Berlin\",\"missed\":\"all\"", NULL);
    set("2026-03-30T03:00:00Z");
    wait_rows("fixed", 2);
    wait_rows("running", 2);
    rows_are("fixed", "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z");
    rows_are("running", "2026-03-30T00:00:00Z 2026-03-30T00:30:00Z");
}

Test(schedules, clocks_that_go_back_fire_a_fixed_time_once_and_a_running_one_twice)
{
    wall_set(&wall, "2026-10-24T20:00:00Z");
    start();
    must_put("fixed", "\"cron\":\"30 2 * * *\",\"zone\":\"Europe/Berlin\",\"missed\":\"all\"",
             NULL);
    must_put("running",
             "\"cron\":\"*/30 2 * * *\",\"zone\":\"Europe/Berlin\",\"missed\":\"all\"", NULL);
    set("2026-10-25T12:00:00Z");
    wait_rows("fixed", 1);
    wait_rows("running", 4);
    rows_are("fixed", "2026-10-25T00:30:00Z");
    rows_are("running", "2026-10-25T00:00:00Z 2026-10-25T00:30:00Z 2026-10-25T01:00:00Z "
                        "2026-10-25T01:30:00Z");
}

/* ---- cycles --------------------------------------------------------------------------------------- */

struct run_rows {
    const char *run;
    int64_t in_run, other, completed;
};

static bool count_run(void *user, const json_t *row)
{
    struct run_rows *r = user;
    const char *run = json_string_value(json_object_get(row, "matrixRunId"));

    if (run && strcmp(run, r->run) == 0)
        r->in_run++;
    else
        r->other++;
    r->completed += strcmp(json_string_value(json_object_get(row, "status")), "completed") == 0;
    return true;
}

static bool run_is_done(void *user)
{
    struct run_rows *r = user;

    r->in_run = r->other = r->completed = 0;
    exj_daemon_rows(&d, "cyclic", count_run, r);
    return r->in_run >= 5 && r->completed == r->in_run + r->other;
}

/* spec 2.8: Cron schedules create rows or run matrix cycles; */
Test(schedules, a_tick_runs_a_cycle_of_a_matrix_that_has_none_of_its_own)
{
    struct run_rows first = { .run = "s@2026-03-01T01:00:00Z" };
    struct run_rows second = { .run = "s@2026-03-01T02:00:00Z" };

    start();
    exj_daemon_matrix(&d, "cyclic", "[\"g\"]", "record", "{\"count\":5}",
                      ",\"trigger\":\"schedule\",\"pollWhenEmptySeconds\":0.1");
    must_put("s", "\"cron\":\"0 * * * *\"", "\"matrixCatalogId\":\"cyclic\",\"run\":true");
    set("2026-03-01T00:50:00Z");
    cr_expect_eq(exj_daemon_tally(&d, "cyclic").total, 0);
    set("2026-03-01T01:00:00Z");
    cr_assert(exj_until(run_is_done, &first, d.prog.pidfd, 20, 15000));
    cr_expect_eq(first.other, 0);
    set("2026-03-01T02:00:00Z");
    cr_assert(exj_until(run_is_done, &second, d.prog.pidfd, 20, 15000));
    cr_expect_eq(second.in_run, 5);
    cr_expect_eq(second.other, 5);
}

Test(schedules, rows_of_a_cycle_are_found_and_claimed_after_a_restart)
{
    struct run_rows r = { .run = "s@2026-03-01T01:00:00Z" };

    start();
    exj_daemon_graph(&d, "slow", NULL);
    exj_daemon_matrix(&d, "cyclic", "[\"slow\"]", "record",
                      "{\"count\":5,\"record\":{\"sleepMs\":60000}}",
                      ",\"trigger\":\"schedule\",\"concurrency\":1");
    must_put("s", "\"cron\":\"0 * * * *\"", "\"matrixCatalogId\":\"cyclic\",\"run\":true");
    set("2026-03-01T01:00:00Z");
    for (int i = 0; i < 1500 && exj_daemon_tally(&d, "cyclic").total < 5; i++)
        poll(NULL, 0, 10);
    cr_assert_eq(exj_daemon_tally(&d, "cyclic").total, 5);
    exj_prog_signal(&d.prog, SIGKILL);
    exj_prog_wait(&d.prog, 10000);
    exj_daemon_set(&d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", "noop-engine");
    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_until(run_is_done, &r, d.prog.pidfd, 20, 20000), "%d of 5 completed",
              (int)r.completed);
}

Test(schedules, a_cycle_that_was_asked_for_is_not_lost_when_the_worker_is_killed_before_it)
{
    struct run_rows r = { .run = "s@2026-03-01T01:00:00Z" };

    start();
    exj_daemon_matrix(&d, "cyclic", "[\"g\"]", "record", "{\"count\":5,\"badAt\":3}",
                      ",\"trigger\":\"schedule\"");
    must_put("s", "\"cron\":\"0 * * * *\"", "\"matrixCatalogId\":\"cyclic\",\"run\":true");
    set("2026-03-01T01:00:00Z"); /* its source gives a bad record: not asked to the end */
    for (int i = 0; i < 1500 && number("s", "fired") < 1; i++)
        poll(NULL, 0, 10);
    exj_prog_signal(&d.prog, SIGKILL);
    exj_prog_wait(&d.prog, 10000);
    cr_assert(exj_daemon_start(&d));
    exj_daemon_matrix(&d, "cyclic", "[\"g\"]", "record", "{\"count\":5}",
                      ",\"trigger\":\"schedule\"");
    cr_assert(exj_until(run_is_done, &r, d.prog.pidfd, 20, 25000), "%d of 5 completed",
              (int)r.completed);
    cr_expect_eq(r.in_run, 5);
}
