/* The recorded store under many threads, for TSan: they insert, claim, renew and finish rows of
 * the same pools. What was recorded meanwhile is whole, and the promises hold in it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/history/check.h"
#include "core/history/recorded_store.h"
#include "tests/race/rows.h"
#include "tests/support/support.h"

#define THREADS 4
#define ROUNDS 25
#define ROWS (THREADS * ROUNDS * ROWS_AT_ONCE)

static exj_store *store;
static int64_t pools[2];
static atomic_size_t finished;

static void renew(void)
{
    exj_held held[2] = { { .seq = 1, .nonce = 1 }, { .seq = 2, .nonce = 1 } };
    exj_op op = { .kind = EXJ_OP_RENEW };
    exj_err err = { 0 };

    op.u.held.items = held;
    op.u.held.len = 2;
    op.u.held.lease_ms = 1000;
    CHECK(exj_store_do(store, &op, &err) == EXJ_OK);
    CHECK(held[0].verdict == EXJ_FENCED); /* nobody's claim */
}

static void *work(void *name)
{
    for (int i = 0; i < ROUNDS; i++) {
        rows_insert(store, pools[i % 2], name, i * ROWS_AT_ONCE, ROWS_AT_ONCE);
        finished += rows_finish(store, pools[0]);
        finished += rows_finish(store, pools[1]);
        renew();
    }
    return NULL;
}

static void check_history(const char *path)
{
    char texts[EXJ_HIST_LINE_MAX], *line = NULL;
    exj_check *check = exj_check_new(NULL);
    FILE *f = fopen(path, "re");
    exj_check_report report;
    size_t cap = 0;
    exj_err err = { 0 };
    ssize_t n;

    CHECK(check && f);
    while ((n = getline(&line, &cap, f)) > 0) {
        exj_hist_event e;

        CHECK(exj_hist_parse((exj_slice){ line, (size_t)n - 1 }, &e, texts, &err) == EXJ_OK);
        CHECK(exj_check_add(check, &e, &err) == EXJ_OK);
    }
    CHECK(exj_check_finish(check, &report, &err) == EXJ_OK);
    for (size_t i = 0; i < report.findings_len; i++)
        fprintf(stderr, "I%u %s: %s\n", report.findings[i].invariant,
                report.findings[i].anomaly, report.findings[i].text);
    CHECK(report.findings_len == 0);
    CHECK(report.counts.unpaired == 0);
    CHECK(report.counts.enqueued == ROWS && report.counts.completed == ROWS);
    printf("race_record: %llu recorded events, nothing broken\n",
           (unsigned long long)report.counts.events);
    exj_check_free(check);
    free(line);
    fclose(f);
}

int main(void)
{
    static char names[THREADS][2] = { "a", "b", "c", "d" };
    exj_recorder *recorder = NULL;
    pthread_t threads[THREADS];
    exj_err err = { 0 };
    exj_tmp tmp;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &store,
                          &err) == EXJ_OK);
    CHECK(exj_recorder_open(exj_tmp_path(&tmp, "history"), "worker", &recorder, &err) == EXJ_OK);
    CHECK(exj_recorded_store(store, recorder, &store, &err) == EXJ_OK);
    pools[0] = rows_pool(store, "g");
    pools[1] = rows_pool(store, "h");
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&threads[i], NULL, work, names[i]));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++)
        for (size_t n; (n = rows_finish(store, pools[i])) > 0;)
            finished += n;
    store->v->close(store);
    CHECK(finished == ROWS);
    CHECK(exj_recorder_lost(recorder) == 0);
    exj_recorder_close(recorder);
    check_history(exj_tmp_path(&tmp, "history"));
    exj_support_clean();
    return 0;
}
