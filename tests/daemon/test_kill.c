/* kill -9 at random moments: no row is lost, no stale outcome is ever accepted.
 *
 * The engine appends (row, token) to a file of its own, which is the witness: what the
 * store believes afterwards is held against what really ran. EXJ_TEST_KILLS and
 * EXJ_TEST_ROWS make it shorter or longer. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/job/record.h"
#include "core/store/store.h"
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

TestSuite(kill, .init = setup, .fini = teardown);

/* ---- witnesses ------------------------------------------------------------------------ */

struct witness {
    char *job; /* inside the effects */
    int64_t last_token, last_attempt;
    bool seen_accepted; /* an effect carries the accepted token */
    int64_t accepted;
};

struct court {
    struct witness *by_job; /* sorted by name */
    size_t len;
    int64_t rows, completed, unseen;
};

static int by_name(const void *a, const void *b)
{
    const struct witness *x = a, *y = b;

    return strcmp(x->job, y->job);
}

static int effects_by_name(const void *a, const void *b)
{
    const exj_effect *const *x = a, *const *y = b;
    int rc = strcmp((*x)->job, (*y)->job);

    /* items of one array: their places are the order of writing */
    return rc ? rc : *x < *y ? -1 : *x > *y;
}

/* Every effect of a row must carry a larger token than the one written before it. */
static void check_tokens_grow(const exj_effects *e, struct court *c)
{
    const exj_effect **sorted = calloc(e->len + 1, sizeof(*sorted));

    c->by_job = calloc(e->len + 1, sizeof(*c->by_job));
    cr_assert(sorted && c->by_job);
    for (size_t i = 0; i < e->len; i++)
        sorted[i] = &e->items[i];
    qsort(sorted, e->len, sizeof(*sorted), effects_by_name);
    for (size_t i = 0; i < e->len; i++) {
        struct witness *w = c->len ? &c->by_job[c->len - 1] : NULL;

        if (!w || strcmp(w->job, sorted[i]->job) != 0) {
            w = &c->by_job[c->len++];
            w->job = sorted[i]->job;
        }
        cr_assert_gt(sorted[i]->token, w->last_token, "row %s: token %" PRId64
                     " was written after %" PRId64, w->job, sorted[i]->token, w->last_token);
        cr_assert_gt(sorted[i]->attempt, w->last_attempt);
        w->last_token = sorted[i]->token;
        w->last_attempt = sorted[i]->attempt;
    }
    free(sorted);
}

static bool judge_row(void *user, const exj_row_view *r)
{
    struct court *c = user;
    exj_buf name = EXJ_BUF_INIT;
    struct witness key, *w;

    cr_assert(exj_row_name_add(&name, r->matrix, r->run, r->graph, r->record_id));
    key.job = name.p;
    w = bsearch(&key, c->by_job, c->len, sizeof(key), by_name);
    c->rows++;
    cr_assert(exj_status_is_terminal(r->status), "row %s is %s at the end", name.p,
              exj_status_word(r->status));
    if (r->status == EXJ_COMPLETED) {
        c->completed++;
        cr_assert(w, "row %s completed and never ran", name.p);
        cr_assert_eq(w->last_token, r->token,
                     "row %s: accepted token %" PRId64 ", newest effect %" PRId64, name.p,
                     r->token, w->last_token);
    }
    if (w)
        cr_assert_leq(w->last_token, r->token, "row %s: an effect is newer", name.p);
    exj_buf_release(&name);
    return true;
}

struct page {
    struct court *court;
    int64_t last;
    size_t len;
};

static bool visit(void *user, const exj_row_view *r)
{
    struct page *p = user;

    p->last = r->seq;
    p->len++;
    return judge_row(p->court, r);
}

static void judge_store(const char *dir, struct court *c)
{
    exj_sqlite_options o = { .dir = dir, .read_only = true };
    exj_err err = { 0 };
    exj_store *s;
    int64_t after = 0;
    struct page p;

    cr_assert_eq(exj_sqlite_open(&o, &s, &err), EXJ_OK, "%s", err.text);
    do {
        exj_row_filter f = { .status = -1, .after_seq = after, .limit = 1000 };

        p = (struct page){ .court = c };
        cr_assert_eq(s->v->row_page(s, &f, visit, &p, &err), EXJ_OK, "%s", err.text);
        after = p.last;
    } while (p.len == 1000);
    s->v->close(s);
}

/* ---- the test -------------------------------------------------------------------------- */

static long number_from(const char *name, long otherwise)
{
    const char *v = getenv(name);

    return v && *v ? atol(v) : otherwise;
}

/* What an operator was told: rows that are completed. */
static int64_t completed_told(void)
{
    json_t *body = NULL, *matrices;
    int64_t n = -1;

    if (exj_daemon_call(&d, "GET", "/v1/matrices", NULL, &body) == 200) {
        matrices = json_object_get(body, "matrices");
        n = json_integer_value(json_object_get(
            json_object_get(json_array_get(matrices, 0), "counts"), "completed"));
    }
    json_decref(body);
    return n;
}

/* spec 2.2: What is promised: a row's outcome is accepted exactly once; an executor may
 * start more than once (crash, expiry) and is told the attempt number and an idempotency
 * key (`jobId`) that stays the same over attempts.
 * spec 2.10: Every inserted row is terminal, suspended, blocked, queued or under one
 * live lease: none is lost.
 * spec 2.10: At most one accepted outcome per attempt chain; no outcome from a token
 * older than the newest.
 * spec 2.10: An acknowledged outcome survives `kill -9` of every process and, with the
 * durable setting, loss of power. */
Test(kill, at_random_moments_loses_no_row_and_accepts_nothing_stale)
{
    uint64_t seed = exj_test_seed("kill");
    long kills = number_from("EXJ_TEST_KILLS", 40), rows = number_from("EXJ_TEST_ROWS", 4000);
    int64_t told = 0, began = exj_test_now_ms();
    struct court c = { 0 };
    exj_effects e;
    char input[128];

    exj_daemon_set(&d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "8");
    exj_daemon_set(&d, "EXELLIX_JOBS_PREFETCH", "256");
    cr_assert(exj_daemon_start(&d));
    exj_daemon_graph(&d, "g", "{\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    snprintf(input, sizeof(input), "{\"count\":%ld,\"page\":2000,\"record\":{\"sleepMs\":5}}",
             rows);
    exj_daemon_matrix(&d, "m", "[\"g\"]", "storage", input, ",\"maxAttempts\":1000");

    for (long i = 0; i < kills; i++) {
        /* one kill in eight hits the start itself */
        bool early = exj_test_random(&seed) % 8 == 0;
        unsigned wait = early ? (unsigned)(exj_test_random(&seed) % 30)
                              : 5 + (unsigned)(exj_test_random(&seed) % 146);

        if (d.prog.pid == 0)
            exj_daemon_spawn(&d);
        if (!early) {
            int64_t now;

            cr_assert(exj_daemon_wait_ready(&d, 20000), "restart %ld: not ready", i);
            now = completed_told();
            cr_assert_geq(now, told, "kill %ld: %" PRId64 " rows were completed, now %" PRId64,
                          i, told, now);
        }
        cr_assert_eq(exj_prog_wait(&d.prog, wait), -1, "kill %ld: it ended by itself", i);
        if (!early) {
            int64_t now = completed_told();

            told = now > told ? now : told;
        }
        exj_prog_signal(&d.prog, SIGKILL);
        cr_assert_eq(exj_prog_wait(&d.prog, 10000), 1000 + SIGKILL);
    }
    fprintf(stderr, "kill: %ld kills in %" PRId64 " ms; %" PRId64 " of %ld completed\n", kills,
            exj_test_now_ms() - began, told, rows);

    cr_assert(exj_daemon_start(&d));
    cr_assert(exj_daemon_wait_done(&d, "m", rows, 60000), "rows are left");
    cr_assert_eq(exj_daemon_stop(&d, 30000), 0);

    exj_effects_read(&d, &e);
    check_tokens_grow(&e, &c);
    judge_store(exj_tmp_path(&d.tmp, "data"), &c);
    cr_expect_eq(c.rows, rows, "%" PRId64 " rows of %ld", c.rows, rows);
    cr_expect_eq(c.completed, rows, "%" PRId64 " completed of %ld", c.completed, rows);
    fprintf(stderr, "kill: %zu executions of %ld rows, %" PRId64 " ms in all\n", e.len, rows,
            exj_test_now_ms() - began);
    free(c.by_job);
    exj_effects_release(&e);
}
