/* tests/bench/bench_rows.c - rows a second through the whole engine: claim -> execute
 * (a no-op plugin) -> durable outcome, on the embedded store, in one process.
 *
 *   bench_rows [DIR [ROWS [WORKERS [PREFETCH]]]]
 *     DIR      where the store is made and removed (default: .); its disk is measured
 *     ROWS     default 200000, each with a record of 300 bytes
 *     WORKERS  default 2
 *     PREFETCH default 0 (the engine's)
 *
 * With EXJ_BENCH_FAST=1 the store runs with synchronous=NORMAL, and says so. EXJ_BENCH_RECORD names
 * a file that a history is appended to: what recording costs. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/history/recorded_store.h"
#include "core/run/engine.h"

#define INSERT_BATCH 1000
#define RECORD_BYTES 300

static void check(exj_code rc, const exj_err *err)
{
    if (rc) {
        fprintf(stderr, "bench_rows: %s: %s\n", exj_code_name(rc), err->text);
        exit(1);
    }
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

static void insert(exj_store *s, int64_t rows)
{
    static exj_insert_item items[INSERT_BATCH];
    static char ids[INSERT_BATCH][32], records[INSERT_BATCH][RECORD_BYTES + 1];
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_err err = { 0 };
    int64_t pool;

    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.run = EXJ_SLICE_LITERAL("");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    check(exj_store_do(s, &op, &err), &err);
    pool = op.u.pool.ret_pool;
    for (int64_t at = 0; at < rows;) {
        size_t n = 0;

        for (; n < INSERT_BATCH && at < rows; n++, at++) {
            int head = snprintf(records[n], sizeof(records[n]), "{\"n\":%" PRId64 ",\"pad\":\"",
                                at);

            memset(records[n] + head, 'x', (size_t)(RECORD_BYTES - 2 - head));
            memcpy(records[n] + RECORD_BYTES - 2, "\"}", 3);
            snprintf(ids[n], sizeof(ids[n]), "record-%" PRId64, at);
            items[n] = (exj_insert_item){ .record_id = exj_slice_of(ids[n]),
                                          .input = { records[n], RECORD_BYTES } };
        }
        op = (exj_op){ .kind = EXJ_OP_INSERT };
        op.u.insert.pool = pool;
        op.u.insert.max_attempts = 3;
        op.u.insert.items = items;
        op.u.insert.len = n;
        check(exj_store_do(s, &op, &err), &err);
    }
}

static double cpu_seconds(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_utime.tv_sec + (double)r.ru_utime.tv_usec / 1e6 +
           (double)r.ru_stime.tv_sec + (double)r.ru_stime.tv_usec / 1e6;
}

static long peak_rss_kb(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return r.ru_maxrss;
}

static bool check_all_completed(void *user, const exj_pool_info *p)
{
    int64_t *completed = user;

    *completed += p->counts[EXJ_COMPLETED];
    return true;
}

/* What the bare transactions reach on the same disk; 0: it does not stand beside us. */
static double limit_rate(const char *dir, int64_t rows)
{
    char self[400], command[1200], line[512];
    double rate = 0;
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;
    FILE *f;

    if (n <= 0)
        return 0;
    self[n] = '\0';
    slash = strrchr(self, '/');
    *slash = '\0';
    snprintf(command, sizeof(command), "%s/limit", self);
    if (access(command, X_OK) != 0)
        return 0;
    snprintf(command, sizeof(command), "'%s/limit' '%s' %" PRId64, self, dir, rows);
    f = popen(command, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f)) {
        char *at = strstr(line, " rows/s");

        fputs(line, stdout);
        if (!at)
            continue;
        while (at > line && strchr("0123456789.", at[-1]))
            at--;
        rate = strtod(at, NULL); /* its last line is the one of claim and outcome */
    }
    return pclose(f) == 0 ? rate : 0;
}

int main(int argc, char **argv)
{
    static const char *const plugins[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    const char *base = argc > 1 ? argv[1] : ".";
    int64_t rows = argc > 2 ? strtoll(argv[2], NULL, 10) : 200000, completed = 0;
    exj_sqlite_options so = { .fast = getenv("EXJ_BENCH_FAST") != NULL };
    exj_engine_options o = { .worker_id = "bench", .executor = "noop-engine",
                             .one_cycle = true, .exclusive_store = true };
    exj_err err = { 0 };
    exj_engine *e;
    exj_nsec began, took;
    double cpu, rate, limit;
    char dir[512], command[600];
    long rss_before;

    exj_sqlite_own_process(); /* as the daemon does */
    o.max_concurrent = argc > 3 ? (uint32_t)atoi(argv[3]) : 2;
    o.prefetch = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
    snprintf(dir, sizeof(dir), "%s/bench-rows-XXXXXX", base);
    if (rows < 1 || !mkdtemp(dir)) {
        fprintf(stderr, "usage: bench_rows [DIR [ROWS [WORKERS [PREFETCH]]]]\n");
        return 2;
    }
    so.dir = dir;
    check(exj_sqlite_open(&so, &o.store, &err), &err);
    if (getenv("EXJ_BENCH_RECORD")) {
        check(exj_recorder_open(getenv("EXJ_BENCH_RECORD"), "worker", &o.record, &err), &err);
        check(exj_recorded_store(o.store, o.record, &o.store, &err), &err);
    }
    check(exj_registry_new(plugins, NULL, &o.plugins, &err), &err);
    o.metrics = exj_metrics_new();
    put(o.store, EXJ_DOC_GRAPH, "g",
        "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    put(o.store, EXJ_DOC_MATRIX, "m",
        "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
        "\"dataSource\":{\"kind\":\"event\"}}}");
    began = exj_clock_mono_ns();
    insert(o.store, rows);
    took = exj_clock_mono_ns() - began;
    printf("inserted  %" PRId64 " rows of %d bytes in %.2f s (%.0f a second)\n", rows,
           RECORD_BYTES, (double)took / 1e9, (double)rows * 1e9 / (double)took);
    rss_before = peak_rss_kb();

    cpu = cpu_seconds();
    began = exj_clock_mono_ns();
    check(exj_engine_start(&o, &e, &err), &err);
    if (!exj_engine_wait_idle(e, began + 600000000000)) {
        fprintf(stderr, "bench_rows: not idle after 600 s\n");
        return 1;
    }
    took = exj_clock_mono_ns() - began;
    cpu = cpu_seconds() - cpu;
    exj_engine_stop(e, 10000);
    check(o.store->v->pools(o.store, check_all_completed, &completed, &err), &err);
    if (completed != rows) {
        fprintf(stderr, "bench_rows: %" PRId64 " of %" PRId64 " rows completed\n", completed,
                rows);
        return 1;
    }
    rate = (double)rows * 1e9 / (double)took;
    printf("engine    %.0f rows/s: %" PRId64 " rows in %.2f s, %.1f us of processor a row, "
           "%u workers, %s; peak RSS %ld MB (%ld MB before)\n",
           rate, rows, (double)took / 1e9, cpu * 1e6 / (double)rows, o.max_concurrent,
           so.fast ? "synchronous=NORMAL" : "synchronous=FULL", peak_rss_kb() / 1024,
           rss_before / 1024);
    exj_registry_free(o.plugins);
    exj_metrics_free(o.metrics);
    o.store->v->close(o.store);
    exj_recorder_close(o.record);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    if (system(command) != 0)
        fprintf(stderr, "bench_rows: %s is left\n", dir);
    fflush(stdout);
    limit = limit_rate(base, rows);
    if (limit > 0)
        printf("ratio     %.2f of the limit program's %.0f rows/s\n", rate / limit, limit);
    else
        printf("ratio     unknown: the limit program is not beside this one\n");
    return 0;
}
