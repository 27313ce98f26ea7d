/* tests/bench/rig.h - a store with one matrix and one graph, and an engine on it, for programs
 * that measure the whole engine in one process. What fails ends the program. */
#ifndef EXJ_TESTS_BENCH_RIG_H
#define EXJ_TESTS_BENCH_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/base/clock.h"
#include "core/run/engine.h"

#define RIG_BATCH 1000

struct rig {
    exj_sqlite_options so;
    exj_engine_options o; /* to be changed before rig_start */
    exj_engine *engine;
    int64_t pool;
    char dir[512];
};

static inline void rig_check(exj_code rc, const exj_err *err)
{
    if (rc) {
        fprintf(stderr, "%s: %s\n", exj_code_name(rc), err->text);
        exit(1);
    }
}

static inline void rig_put(struct rig *r, exj_doc_kind kind, const char *id, const char *body)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_err err = { 0 };

    op.u.doc.kind = kind;
    op.u.doc.id = exj_slice_of(id);
    op.u.doc.expected = -1;
    op.u.doc.body = exj_slice_of(body);
    rig_check(exj_store_do(r->o.store, &op, &err), &err);
}

/* False: there is no such folder. */
static inline bool rig_open(struct rig *r, const char *base, const char *executor,
                            unsigned workers)
{
    static const char *const plugins[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_err err = { 0 };

    *r = (struct rig){ .so = { .fast = getenv("EXJ_BENCH_FAST") != NULL },
                       .o = { .worker_id = "bench",
                              .executor = executor,
                              .max_concurrent = workers,
                              .one_cycle = true,
                              .exclusive_store = true } };
    snprintf(r->dir, sizeof(r->dir), "%s/bench-XXXXXX", base);
    if (!mkdtemp(r->dir))
        return false;
    r->so.dir = r->dir;
    rig_check(exj_sqlite_open(&r->so, &r->o.store, &err), &err);
    rig_put(r, EXJ_DOC_GRAPH, "g",
            "{\"graphId\":\"g\",\"payload\":{\"graphId\":\"g\"},"
            "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}");
    rig_put(r, EXJ_DOC_MATRIX, "m",
            "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\"],"
            "\"dataSource\":{\"kind\":\"event\"}}}");
    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.run = EXJ_SLICE_LITERAL("");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    rig_check(exj_store_do(r->o.store, &op, &err), &err);
    r->pool = op.u.pool.ret_pool;
    rig_check(exj_registry_new(plugins, NULL, &r->o.plugins, &err), &err);
    r->o.metrics = exj_metrics_new();
    return true;
}

/* `rows` rows with the same record, "record-0" … */
static inline void rig_insert(struct rig *r, int64_t rows, const char *record)
{
    static exj_insert_item items[RIG_BATCH];
    static char ids[RIG_BATCH][32];
    exj_err err = { 0 };

    for (int64_t at = 0; at < rows;) {
        exj_op op = { .kind = EXJ_OP_INSERT };
        size_t n = 0;

        for (; n < RIG_BATCH && at < rows; n++, at++) {
            snprintf(ids[n], sizeof(ids[n]), "record-%lld", (long long)at);
            items[n] = (exj_insert_item){ .record_id = exj_slice_of(ids[n]),
                                          .input = exj_slice_of(record) };
        }
        op.u.insert.pool = r->pool;
        op.u.insert.max_attempts = 3;
        op.u.insert.items = items;
        op.u.insert.len = n;
        rig_check(exj_store_do(r->o.store, &op, &err), &err);
    }
}

static inline void rig_start(struct rig *r)
{
    exj_err err = { 0 };

    rig_check(exj_engine_start(&r->o, &r->engine, &err), &err);
}

struct rig_sum {
    exj_status status;
    int64_t n;
};

static inline bool rig_add_counts(void *user, const exj_pool_info *p)
{
    struct rig_sum *sum = user;

    sum->n += p->counts[sum->status];
    return true;
}

static inline int64_t rig_count(struct rig *r, exj_status status)
{
    struct rig_sum sum = { status, 0 };
    exj_err err = { 0 };

    rig_check(r->o.store->v->pools(r->o.store, rig_add_counts, &sum, &err), &err);
    return sum.n;
}

static inline double rig_cpu(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6 +
           (double)u.ru_stime.tv_sec + (double)u.ru_stime.tv_usec / 1e6;
}

/* The engine has been stopped. Removes the store. */
static inline void rig_close(struct rig *r)
{
    char command[600];

    exj_registry_free(r->o.plugins);
    exj_metrics_free(r->o.metrics);
    r->o.store->v->close(r->o.store);
    snprintf(command, sizeof(command), "rm -rf '%s'", r->dir);
    if (system(command) != 0)
        fprintf(stderr, "%s is left\n", r->dir);
}

#endif /* EXJ_TESTS_BENCH_RIG_H */
