/* Trials: rows of the day are done again by a candidate, and nothing of that is kept. What a call
 * of the candidate does, the rows and the store are the test's. */
#include "core/base/clock.h"
#include "core/base/json.h"
#include "tests/support/fault.h"
#include "tests/unit/run/hand_plugins.h"

#define DONE "{\"status\":\"completed\",\"outputsByNodeId\":{\"n\":1}}"
#define DONE_OTHERWISE "{\"status\":\"completed\",\"outputsByNodeId\":{\"n\":2}}"

static exj_engine e;
static exj_guest b = { .i = { .id = "acme.a", .version = "2", .sha256 = SHA_B } };
static struct executor x, y;
static char matrix[] = "m", run[] = "", graph[] = "g", model[] = "{}", fields[] = ",\"attempt\":";
static struct spec spec = { .executor = &x, .model = model, .job_fields = fields };
static struct pool pools[3];
static exj_err err;
static json_t *report;

/* What the candidate does, and the rows that were done before. */
static struct {
    exj_code test_rc, slot_rc, recent_rc, request_fails;
    bool test_waits; /* until it is told to stop */
    int32_t told;    /* what it was told then */
    exj_result result;
    const char *answer;
    void (*call)(const exj_args *args, const exj_call_ports *ports);
    const char *before;
    size_t before_bytes; /* 0: to its end */
    unsigned rows, asked;
    int64_t deadline_in;
} day;

/* ---- the day --------------------------------------------------------------------------------- */

struct spec *exj_spec_ref(struct spec *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void exj_spec_unref(struct spec *s)
{
    if (s)
        atomic_fetch_sub(&s->refs, 1);
}

bool exj_run_request(const struct spec *s, const struct pool *p, exj_slice record_id,
                     exj_slice input, uint32_t attempt, exj_buf *name, exj_buf *runtime)
{
    (void)s, (void)p, (void)attempt;
    exj_buf_reset(name);
    exj_buf_add_slice(name, record_id);
    exj_buf_reset(runtime);
    exj_buf_add_slice(runtime, input);
    return !day.request_fails && !name->failed && !runtime->failed;
}

exj_code exj_instance_self_test_until(exj_instance *i, int32_t (*cancelled)(void *user),
                                      void *user, exj_err *ret_err)
{
    (void)i;
    while (day.test_waits && !day.told)
        day.told = cancelled(user);
    return day.test_rc ? exj_err_set(ret_err, day.test_rc, "its self-test") : EXJ_OK;
}

exj_code exj_call_slot_new(size_t answer_max, exj_call_slot **ret, exj_err *ret_err)
{
    cr_expect_eq(answer_max, ANSWER_MAX);
    *ret = NULL;
    return day.slot_rc ? exj_err_set(ret_err, day.slot_rc, "no slot") : EXJ_OK;
}

void exj_call_slot_free(exj_call_slot *s)
{
    cr_expect_null(s);
}

bool exj_call_run(exj_instance *i, exj_call_slot *s, const exj_args *args,
                  const exj_call_ports *ports, exj_call_end *ret,
                  void (*done)(void *user, exj_call_slot *s, const exj_call_end *end))
{
    (void)s;
    cr_expect_eq(i->guest, &b);
    cr_expect_null(done);
    day.deadline_in = (int64_t)args->deadline_ns - exj_clock_mono_ns();
    if (day.call)
        day.call(args, ports);
    ret->result = day.result;
    if (day.result)
        ret->error_code = EXJ_SLICE_LITERAL("Bad"), ret->error_text = EXJ_SLICE_LITERAL("no luck");
    else
        ret->answer = exj_slice_of(day.answer);
    return true;
}

static exj_code recent(exj_store *s, int64_t pool, exj_status status, size_t limit,
                       exj_row_visit visit, void *user, exj_err *ret_err)
{
    (void)s;
    cr_expect_eq(status, EXJ_COMPLETED);
    day.asked++;
    for (unsigned k = 0; k < day.rows && k < limit; k++) {
        exj_row_view r = { .seq = 100 * pool + k, .record_id = EXJ_SLICE_LITERAL("r"),
                           .input = EXJ_SLICE_LITERAL("{}"), .attempts = 1,
                           .result = exj_slice_of(day.before) };

        if (day.before_bytes)
            r.result.n = day.before_bytes;
        if (!visit(user, &r))
            break;
    }
    return day.recent_rc ? exj_err_set(ret_err, day.recent_rc, "disk") : EXJ_OK;
}

static exj_code step_get(exj_store *s, int64_t seq, exj_slice key, exj_buf *ret, exj_err *ret_err)
{
    (void)s, (void)ret_err;
    exj_buf_printf(ret, "step %.*s of %d", (int)key.n, key.p, (int)seq);
    return EXJ_OK;
}

static exj_code kv_get(exj_store *s, exj_slice graph_id, exj_slice key, exj_buf *ret,
                       exj_err *ret_err)
{
    (void)s, (void)ret_err;
    exj_buf_printf(ret, "key %.*s of %.*s", (int)key.n, key.p, (int)graph_id.n, graph_id.p);
    return EXJ_OK;
}

/* There are no writes in it: one that came would crash the test. */
static const exj_store_vtable table = { .row_recent = recent, .step_get = step_get,
                                        .kv_get = kv_get };
static exj_store store = { .v = &table };

static void make(void)
{
    pthread_mutex_init(&e.mu, NULL);
    e.o.store = &store;
    for (int i = 0; i < 3; i++)
        pools[i] = (struct pool){ .id = i + 1, .matrix_id = matrix, .run_id = run,
                                  .graph_id = graph, .spec = &spec,
                                  .next = i < 2 ? &pools[i + 1] : NULL };
    e.pools = &pools[0];
    day.rows = 2;
    day.before = day.answer = DONE;
}

static void end(void)
{
    json_decref(report);
    cr_expect_eq(plug.instances, 0);
    cr_expect_eq(atomic_load(&spec.refs), 0);
}

TestSuite(trial, .init = make, .fini = end);

static exj_code try(unsigned rows)
{
    exj_code rc;

    json_decref(report);
    report = NULL;
    exj_err_clear(&err);
    day.asked = 0;
    rc = exj_run_trial(&e, &x, &b, EXJ_SLICE_LITERAL("{}"), rows, &report, &err);
    cr_expect_eq(rc, err.code);
    return rc;
}

static int number(const char *key)
{
    return (int)json_integer_value(json_object_get(report, key));
}

static const char *difference(size_t at, const char *key)
{
    const char *text = json_string_value(
        json_object_get(json_array_get(json_object_get(report, "differences"), at), key));

    return text ? text : "(none)";
}

static const char *self_test(void)
{
    return json_string_value(json_object_get(report, "selfTest"));
}

/* ---- the self-test --------------------------------------------------------------------------- */

Test(trial, without_a_self_test_rows_speak)
{
    day.test_rc = EXJ_NOT_FOUND;
    cr_expect_eq(try(10), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(self_test(), "none");
    cr_expect_eq(number("rows"), 6); /* two of each pool */
    cr_expect_eq(number("same"), 6);
    day.test_rc = EXJ_OK;
    cr_expect_eq(try(0), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(self_test(), "passed");
    cr_expect_eq(number("rows"), 0);
    cr_expect_eq(day.asked, 0);
}

Test(trial, a_self_test_that_fails_is_the_end)
{
    day.test_rc = EXJ_INVALID;
    cr_expect_eq(try(10), EXJ_INVALID);
    cr_expect_str_eq(err.text, "its self-test");
    cr_expect_str_eq(self_test(), "failed");
    cr_expect_eq(day.asked, 0);
}

/* Nothing is said against the plugin. */
Test(trial, a_worker_that_stops_ends_it)
{
    e.stopping = true;
    day.test_waits = true;
    day.test_rc = EXJ_INVALID;
    cr_expect_eq(try(10), EXJ_CANCELLED);
    cr_expect_eq(day.told, EXJ_R_CANCELLED);
    cr_expect_str_eq(err.text, "the worker stops");
}

Test(trial, what_cannot_be_made_is_not_tried)
{
    plug.instances_most = 0;
    cr_expect_eq(try(10), EXJ_INVALID);
    cr_expect_str_eq(err.text, "create failed");
    cr_expect_str_eq(self_test(), "none");
    plug.instances_most = 1;
    day.slot_rc = EXJ_NOMEM;
    cr_expect_eq(try(10), EXJ_NOMEM);
    cr_expect_str_eq(self_test(), "passed");
    cr_expect_eq(day.asked, 0);
}

/* ---- rows ------------------------------------------------------------------------------------ */

Test(trial, rows_of_its_own_executor_are_done_again)
{
    struct spec others = spec, modelless = spec;

    others.executor = &y;
    modelless.model = NULL;
    pools[0].spec = &others;
    pools[1].spec = &modelless;
    cr_expect_eq(try(10), EXJ_OK, "%s", err.text);
    cr_expect_eq(day.asked, 1);
    cr_expect_eq(number("rows"), 2);
    pools[2].spec = NULL;
    cr_expect_eq(try(10), EXJ_OK, "%s", err.text);
    cr_expect_eq(day.asked, 0);
}

Test(trial, no_more_rows_than_it_is_to_be_tried_with)
{
    cr_expect_eq(try(3), EXJ_OK, "%s", err.text);
    cr_expect_eq(number("rows"), 3);
    cr_expect_eq(day.asked, 2);
}

Test(trial, what_differs_is_shown_and_no_failure)
{
    day.answer = DONE_OTHERWISE;
    day.rows = 4;
    cr_expect_eq(try(7), EXJ_OK, "%s", err.text);
    cr_expect_eq(number("same"), 0);
    cr_expect_eq(number("different"), 7);
    cr_expect_eq(json_array_size(json_object_get(report, "differences")), 5); /* no more */
    cr_expect_str_eq(difference(0, "matrixRowId"), "r");
    cr_expect_str_eq(difference(0, "before"), DONE);
    cr_expect_str_eq(difference(0, "after"), DONE_OTHERWISE);
}

/* "€" has three bytes: the cut is not within one. */
Test(trial, what_differs_is_shown_in_part)
{
    char was[400], cut[304];

    memset(was, 'x', sizeof(was));
    memcpy(was + 299, "\xe2\x82\xac", 3);
    was[399] = '\0';
    snprintf(cut, sizeof(cut), "%.299s", was);
    day.before = was; /* no JSON any more: nothing is the same as that */
    cr_expect_eq(try(1), EXJ_OK, "%s", err.text);
    cr_expect_eq(number("different"), 1);
    cr_expect_str_eq(difference(0, "before"), cut);
    cr_expect_str_eq(difference(0, "after"), DONE);
    memset(was, '\x80', 398); /* no text at all */
    cr_expect_eq(try(1), EXJ_OK, "%s", err.text);
    cr_expect_str_eq(difference(0, "before"), "");
}

Test(trial, a_row_that_fails_now_is_the_end)
{
    day.result = EXJ_R_INPUT;
    cr_expect_eq(try(10), EXJ_INVALID);
    cr_expect_str_eq(err.text, "row r was completed before and fails now: Bad: no luck");
    cr_expect_eq(number("rows"), 1);
    cr_expect_eq(day.asked, 1);
    day.recent_rc = EXJ_IO; /* the first failure is told */
    cr_expect_eq(try(10), EXJ_INVALID);
}

Test(trial, an_answer_of_another_kind_is_the_end)
{
    char longer[500] = "{\"status\":\"failed\",\"error\":{\"message\":\"";
    size_t n = strlen(longer);

    day.answer = "{\"status\":\"maybe\"}";
    cr_expect_eq(try(10), EXJ_INVALID);
    cr_expect(strstr(err.text, "row r: its answer is refused: "), "%s", err.text);
    day.answer = "{\"status\":\"failed\"}";
    cr_expect_eq(try(10), EXJ_INVALID);
    cr_expect_str_eq(err.text, "row r was completed before and is not now: {\"status\":\"failed\"}");
    memset(longer + n, 'x', 300);
    strcpy(longer + n + 300, "\"}}");
    day.answer = longer;
    cr_expect_eq(try(10), EXJ_INVALID);
    cr_expect_eq(strlen(err.text), strlen("row r was completed before and is not now: ") + 200);
}

Test(trial, rows_that_cannot_be_read_or_asked_for_are_the_end)
{
    day.recent_rc = EXJ_IO;
    cr_expect_eq(try(10), EXJ_IO);
    cr_expect_str_eq(err.text, "recorded rows could not be read: disk");
    day.recent_rc = EXJ_OK;
    day.request_fails = true;
    cr_expect_eq(try(10), EXJ_NOMEM);
    cr_expect_eq(number("rows"), 0);
}

/* ---- what a call is given -------------------------------------------------------------------- */

static int32_t until_told;

static void wait_for_the_end(const exj_args *args, const exj_call_ports *ports)
{
    (void)args;
    while (!until_told)
        until_told = ports->cancelled(ports->user);
}

Test(trial, a_row_has_the_time_of_its_graph)
{
    cr_expect_eq(try(1), EXJ_OK, "%s", err.text);
    cr_expect_gt(day.deadline_in, 29000000000); /* and thirty seconds without one */
    cr_expect_leq(day.deadline_in, 30000000000);
    spec.eff.timeout_ms = 1;
    day.call = wait_for_the_end;
    cr_expect_eq(try(1), EXJ_OK, "%s", err.text);
    cr_expect_leq(day.deadline_in, 1000000);
    cr_expect_eq(until_told, EXJ_R_DEADLINE);
}

static void use_all(const exj_args *args, const exj_call_ports *ports)
{
    exj_plugin_sample sample = { .kind = EXJ_SAMPLE_COUNTER, .value = 1 };
    exj_slice key = EXJ_SLICE_LITERAL("k"), value = EXJ_SLICE_LITERAL("1");
    exj_buf got = EXJ_BUF_INIT;
    int64_t sum = 0;
    void *user = ports->user;

    (void)args;
    cr_expect_eq(ports->cancelled(user), 0);
    cr_expect_eq(ports->step_get(user, key, &got, NULL), EXJ_OK);
    cr_expect(exj_slice_is(exj_buf_slice(&got), "step k of 100"));
    exj_buf_reset(&got);
    cr_expect_eq(ports->kv_get(user, key, &got, NULL), EXJ_OK);
    cr_expect(exj_slice_is(exj_buf_slice(&got), "key k of g"));
    exj_buf_release(&got);
    cr_expect_eq(ports->step_put(user, key, value, NULL), EXJ_OK);
    cr_expect_eq(ports->kv_put(user, key, value, NULL), EXJ_OK);
    cr_expect_eq(ports->kv_remove(user, key, NULL), EXJ_OK);
    cr_expect_eq(ports->kv_add(user, key, 7, &sum, NULL), EXJ_OK);
    cr_expect_eq(sum, 7);
    cr_expect_eq(ports->metric(user, &sample, NULL), EXJ_OK);
    until_told++;
}

/* Writes succeed and come to nothing: the store of the test has no functions for them. */
Test(trial, reads_are_real_and_writes_go_nowhere)
{
    day.call = use_all;
    cr_expect_eq(try(1), EXJ_OK, "%s", err.text);
    cr_expect_eq(until_told, 1);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A row is never called the same because there was no memory to look. */
Test(trial, lack_of_memory_is_no_agreement)
{
    long n;

    day.answer = DONE_OTHERWISE;
    for (n = 1;; n++) {
        exj_code rc;

        exj_fault_arm(n);
        rc = try(1);
        if (exj_fault_disarm() < n)
            break;
        cr_expect_eq(plug.instances, 0);
        cr_expect_eq(number("same"), 0, "%ld", n);
        cr_expect(!report || rc || number("different") == 1, "%ld", n);
    }
    cr_expect_gt(n, 10);
    cr_expect_eq(number("different"), 1);
}
