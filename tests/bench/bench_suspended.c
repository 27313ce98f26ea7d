/* tests/bench/bench_suspended.c - a store full of suspended rows, and the daemon on it: what it
 * holds in memory, how long it takes to start, how late a row starts that is due.
 *
 *   bench_suspended [ROWS [DUE [STARTS]]]
 *     ROWS     default 200000; every tenth waits for a signal, the others for times from
 *              tomorrow on
 *     DUE      default 400 rows more, due one after the other, 25 ms apart
 *     STARTS   default 7 starts of the daemon before, every second one after kill -9
 *
 * The rows are made by the store's own operations (insert, claim, suspend), in a folder below
 * $TMPDIR. Late is: from resumeAt to the first line of the executor. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/store/store.h"
#include "tests/support/support.h"

#define BATCH 1000
#define APART_MS 25
#define FIRST_MS 2500 /* until the first of them is due: the daemon has to be there */
#define DAY_MS (24 * 3600 * (exj_msec)1000)

static exj_daemon d;

static void check(exj_code rc, const exj_err *err)
{
    if (rc) {
        fprintf(stderr, "bench_suspended: %s: %s\n", exj_code_name(rc), err->text);
        exit(1);
    }
}

static exj_nsec clock_ns(clockid_t which)
{
    struct timespec ts;

    clock_gettime(which, &ts);
    return (exj_nsec)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- making the rows ------------------------------------------------------------------------ */

static exj_store *open_store(void)
{
    exj_sqlite_options o = { .dir = exj_tmp_path(&d.tmp, "data"), .fast = true };
    exj_store *s;
    exj_err err = { 0 };

    check(exj_sqlite_open(&o, &s, &err), &err);
    return s;
}

static void put(exj_store *s, exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_err err = { 0 };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    check(exj_store_do(s, &op, &err), &err);
}

static int64_t make_pool(exj_store *s)
{
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_err err = { 0 };

    put(s, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    put(s, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
        "\"dataSource\":{\"kind\":\"event\"}}}");
    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.run = EXJ_SLICE_LITERAL("");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    check(exj_store_do(s, &op, &err), &err);
    return op.u.pool.ret_pool;
}

static void insert(exj_store *s, int64_t pool, const char *prefix, int64_t from, size_t n)
{
    static exj_insert_item items[BATCH];
    static char ids[BATCH][32];
    exj_op op = { .kind = EXJ_OP_INSERT };
    exj_err err = { 0 };

    for (size_t i = 0; i < n; i++) {
        snprintf(ids[i], sizeof(ids[i]), "%s-%" PRId64, prefix, from + (int64_t)i);
        items[i] = (exj_insert_item){ .record_id = exj_slice_of(ids[i]),
                                      .input = EXJ_SLICE_LITERAL("{\"then\":\"completed\"}") };
    }
    op.u.insert.pool = pool;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = items;
    op.u.insert.len = n;
    check(exj_store_do(s, &op, &err), &err);
}

/* Claim the rows that were just inserted and suspend them: the i-th until first + i*apart;
 * every tenth waits for a signal instead when `signals`. */
static void suspend(exj_store *s, int64_t pool, size_t n, exj_msec first, exj_msec apart,
                    bool signals)
{
    static exj_claim claims[BATCH];
    static exj_outcome items[BATCH];
    exj_want want = { .pool = pool, .want = (uint32_t)n };
    exj_op op = { .kind = EXJ_OP_CLAIM };
    exj_err err = { 0 };

    op.u.claim.wants = &want;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "bench";
    op.u.claim.nonce = 1;
    op.u.claim.lease_ms = 60000;
    op.u.claim.ret = claims;
    check(exj_store_do(s, &op, &err), &err);
    if (op.u.claim.ret_len != n) {
        fprintf(stderr, "bench_suspended: %zu rows instead of %zu\n", op.u.claim.ret_len, n);
        exit(1);
    }
    for (size_t i = 0; i < n; i++) {
        items[i] = (exj_outcome){ .seq = claims[i].seq,
                                  .nonce = claims[i].nonce,
                                  .token = claims[i].token,
                                  .event = EXJ_EV_SUSPEND,
                                  .wait = EXJ_WAIT_TIME,
                                  .run_after = first + (exj_msec)i * apart };
        if (signals && i % 10 == 0) {
            items[i].wait = EXJ_WAIT_SIGNAL;
            items[i].signal = EXJ_SLICE_LITERAL("approve");
            items[i].run_after = 0;
        }
    }
    op = (exj_op){ .kind = EXJ_OP_FINISH };
    op.u.finish.items = items;
    op.u.finish.len = n;
    check(exj_store_do(s, &op, &err), &err);
    for (size_t i = 0; i < n; i++)
        check(items[i].verdict, &err);
}

static void make_rows(exj_store *s, int64_t pool, int64_t rows)
{
    exj_msec tomorrow = s->v->now(s) + DAY_MS;
    exj_nsec began = exj_clock_mono_ns();

    for (int64_t at = 0; at < rows; at += BATCH) {
        size_t n = rows - at < BATCH ? (size_t)(rows - at) : BATCH;

        insert(s, pool, "waits", at, n);
        suspend(s, pool, n, tomorrow + at, 1, true);
    }
    printf("made      %" PRId64 " suspended rows in %.1f s\n", rows,
           (double)(exj_clock_mono_ns() - began) / 1e9);
}

/* ---- looking --------------------------------------------------------------------------------- */

static int64_t count_of(const char *status)
{
    json_t *body = NULL, *m;
    int64_t n;

    if (exj_daemon_call(&d, "GET", "/v1/matrices", NULL, &body) != 200)
        exit(1);
    m = json_array_get(json_object_get(body, "matrices"), 0);
    n = json_integer_value(json_object_get(json_object_get(m, "counts"), status));
    json_decref(body);
    return n;
}

static bool are_completed(void *user)
{
    return count_of("completed") >= *(int64_t *)user;
}

static double load(void)
{
    double l = 0;

    return getloadavg(&l, 1) == 1 ? l : -1;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double share(const double *sorted, size_t n, double p)
{
    size_t i = (size_t)(p * (double)n);

    return sorted[i < n ? i : n - 1];
}

/* From the program's start to the first answer of GET /health. */
static void measure_starts(int starts)
{
    double *ms = calloc((size_t)starts + 1, sizeof(*ms));

    for (int i = 0; i < starts; i++) {
        exj_nsec began = exj_clock_mono_ns();

        if (!exj_daemon_start(&d))
            exit(1);
        ms[i] = (double)(exj_clock_mono_ns() - began) / 1e6;
        if (i % 2) {
            exj_prog_signal(&d.prog, SIGKILL);
            exj_prog_wait(&d.prog, 10000);
        } else if (exj_daemon_stop(&d, 20000) != 0) {
            exit(1);
        }
    }
    qsort(ms, (size_t)starts, sizeof(*ms), by_size);
    printf("start     %.0f ms to /health 200 (p50 of %d), least %.0f, most %.0f; load %.1f\n",
           share(ms, (size_t)starts, 0.5), starts, ms[0], ms[starts - 1], load());
    free(ms);
}

/* `first_ns`: when the first was due, on the clock of the effects. */
static void tell_lateness(int64_t due, exj_nsec first_ns)
{
    double *ms = calloc((size_t)due, sizeof(*ms));
    exj_effects e;
    size_t n = 0;

    exj_effects_read(&d, &e);
    for (size_t i = 0; i < e.len; i++) {
        const char *name = strstr(e.items[i].job, "|due-");
        int64_t at;

        if (e.items[i].what != 'B' || !name || n == (size_t)due) {
            fprintf(stderr, "bench_suspended: %s began\n", e.items[i].job);
            exit(1);
        }
        at = first_ns + strtoll(name + 5, NULL, 10) * APART_MS * 1000000;
        ms[n++] = (double)(e.items[i].at_ns - at) / 1e6;
    }
    exj_effects_release(&e);
    if (n != (size_t)due) {
        fprintf(stderr, "bench_suspended: %zu of %" PRId64 " rows began\n", n, due);
        exit(1);
    }
    qsort(ms, n, sizeof(*ms), by_size);
    if (ms[0] < -1) {
        fprintf(stderr, "bench_suspended: a row began %.1f ms too early\n", -ms[0]);
        exit(1);
    }
    printf("late      p50 %.1f ms, p90 %.1f, p99 %.1f, most %.1f, of %zu rows due %d ms apart; "
           "load %.1f\n",
           share(ms, n, 0.5), share(ms, n, 0.9), share(ms, n, 0.99), ms[n - 1], n, APART_MS,
           load());
    free(ms);
}

int main(int argc, char **argv)
{
    int64_t rows = argc > 1 ? strtoll(argv[1], NULL, 10) : 200000;
    int64_t due = argc > 2 ? strtoll(argv[2], NULL, 10) : 400;
    int starts = argc > 3 ? atoi(argv[3]) : 7;
    int64_t pool, cpu;
    exj_store *s;
    exj_msec first;
    exj_nsec first_ns;

    if (rows < 1 || due < 1 || due > BATCH || starts < 1) {
        fprintf(stderr, "usage: bench_suspended [ROWS [DUE [STARTS]]] (DUE: at most %d)\n", BATCH);
        return 2;
    }
    exj_daemon_init(&d);
    s = open_store();
    pool = make_pool(s);
    make_rows(s, pool, rows);
    s->v->close(s);
    measure_starts(starts);

    s = open_store();
    insert(s, pool, "due", 0, (size_t)due);
    first = s->v->now(s) + FIRST_MS;
    /* The store's clock is the wall's; effects have the monotonic one. */
    first_ns = clock_ns(CLOCK_MONOTONIC) + first * 1000000 - clock_ns(CLOCK_REALTIME);
    suspend(s, pool, (size_t)due, first, APART_MS, false);
    s->v->close(s);
    if (!exj_daemon_start(&d))
        return 1;
    if (clock_ns(CLOCK_MONOTONIC) > first_ns) {
        fprintf(stderr, "bench_suspended: the first row was due before the daemon was there\n");
        return 1;
    }
    if (count_of("suspended") != rows + due)
        return 1;
    printf("memory    RSS %.1f MB with %" PRId64 " suspended rows\n",
           (double)exj_prog_rss_kb(&d.prog) / 1024, rows + due);
    cpu = exj_prog_cpu_ms(&d.prog);
    if (!exj_until(are_completed, &due, d.prog.pidfd, 100, (unsigned)(due * APART_MS + 30000)))
        return 1;
    cpu = exj_prog_cpu_ms(&d.prog) - cpu;
    tell_lateness(due, first_ns);
    if (count_of("suspended") != rows) {
        fprintf(stderr, "bench_suspended: %" PRId64 " rows are suspended\n", count_of("suspended"));
        return 1;
    }
    printf("memory    RSS %.1f MB after them, peak %.1f MB; %.2f ms of processor a resumed row\n",
           (double)exj_prog_rss_kb(&d.prog) / 1024, (double)exj_prog_peak_rss_kb(&d.prog) / 1024,
           (double)cpu / (double)due);
    exj_daemon_stop(&d, 20000);
    exj_daemon_release(&d);
    return 0;
}
