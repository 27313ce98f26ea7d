/* tests/bench/bench_claim.c - what claims and outcomes cost through the store interface,
 * and that a claim does not grow dearer with the backlog.
 *
 *   bench_claim [DIR [ROWS]]      DIR: where the store is made and removed (default: .)
 *                                 ROWS: the largest backlog (default: 1000000)
 */
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/store/store.h"

#define BATCH 256
#define INSERT_BATCH 1000

static char input[301];
static char result[101];
static exj_claim claims[BATCH];
static exj_outcome outcomes[BATCH];

static void check(exj_code rc, const exj_err *err)
{
    if (rc) {
        fprintf(stderr, "bench_claim: %s\n", err->text);
        exit(1);
    }
}

static double seconds_since(exj_nsec at)
{
    return (double)(exj_clock_mono_ns() - at) / 1e9;
}

static void insert(exj_store *s, int64_t pool, int64_t from, int64_t to)
{
    static exj_insert_item items[INSERT_BATCH];
    static char ids[INSERT_BATCH][32];
    exj_err err = { 0 };

    while (from < to) {
        size_t n = 0;
        exj_op op = { .kind = EXJ_OP_INSERT };

        for (; n < INSERT_BATCH && from < to; n++, from++) {
            snprintf(ids[n], sizeof(ids[n]), "record-%" PRId64, from);
            items[n] = (exj_insert_item){ .record_id = exj_slice_of(ids[n]),
                                          .input = { input, 300 } };
        }
        op.u.insert.pool = pool;
        op.u.insert.max_attempts = 3;
        op.u.insert.items = items;
        op.u.insert.len = n;
        check(exj_store_do(s, &op, &err), &err);
    }
}

static size_t claim(exj_store *s, int64_t pool)
{
    exj_want want = { .pool = pool, .want = BATCH };
    exj_err err = { 0 };
    exj_op op = { .kind = EXJ_OP_CLAIM };

    op.u.claim.wants = &want;
    op.u.claim.wants_len = 1;
    op.u.claim.holder = "bench";
    op.u.claim.nonce = (int64_t)exj_random_u64();
    op.u.claim.lease_ms = 60000;
    op.u.claim.ret = claims;
    check(exj_store_do(s, &op, &err), &err);
    return op.u.claim.ret_len;
}

static void finish(exj_store *s, size_t n)
{
    exj_err err = { 0 };
    exj_op op = { .kind = EXJ_OP_FINISH };

    for (size_t i = 0; i < n; i++)
        outcomes[i] = (exj_outcome){ .seq = claims[i].seq,
                                     .nonce = claims[i].nonce,
                                     .token = claims[i].token,
                                     .event = EXJ_EV_SUCCEED,
                                     .result = { result, 100 } };
    op.u.finish.items = outcomes;
    op.u.finish.len = n;
    check(exj_store_do(s, &op, &err), &err);
    for (size_t i = 0; i < n; i++)
        if (outcomes[i].verdict != EXJ_OK) {
            fprintf(stderr, "bench_claim: an outcome was refused\n");
            exit(1);
        }
}

/* The way the worker does it: a claim and the outcomes of the one before, in one commit. */
struct pair {
    exj_op claim, finish;
    exj_want want;
    exj_claim claims[BATCH];
    exj_outcome outcomes[BATCH];
    exj_loaded loaded[BATCH];
    exj_buf arena;
};

static sem_t answered;

static void post(exj_op *op)
{
    (void)op;
    sem_post(&answered);
}

static double pipeline(exj_store *s, int64_t pool, size_t rows, bool with_load)
{
    static struct pair p[2];
    exj_err err = { 0 };
    exj_nsec at = exj_clock_mono_ns();
    size_t done = 0;
    int turn = 0;

    memset(p, 0, sizeof(p));
    sem_init(&answered, 0, 0);
    while (done < rows) {
        struct pair *mine = &p[turn], *other = &p[!turn];

        turn = !turn;
        mine->want = (exj_want){ .pool = pool, .want = BATCH };
        mine->claim = (exj_op){ .kind = EXJ_OP_CLAIM };
        mine->claim.u.claim.wants = &mine->want;
        mine->claim.u.claim.wants_len = 1;
        mine->claim.u.claim.holder = "bench";
        mine->claim.u.claim.nonce = (int64_t)exj_random_u64();
        mine->claim.u.claim.lease_ms = 60000;
        mine->claim.u.claim.ret = mine->claims;
        mine->finish = (exj_op){ .kind = EXJ_OP_FINISH };
        mine->finish.u.finish.items = other->outcomes;
        mine->finish.u.finish.len = other->claim.u.claim.ret_len;
        mine->finish.next = &mine->claim; /* one batch, so one commit */
        mine->claim.done = post;
        exj_store_submit(s, &mine->finish);
        sem_wait(&answered);
        check(mine->finish.rc, &mine->finish.err);
        check(mine->claim.rc, &mine->claim.err);
        done += mine->finish.u.finish.len;
        exj_buf_reset(&mine->arena);
        if (with_load)
            check(s->v->load(s, mine->claims, mine->claim.u.claim.ret_len, mine->loaded,
                             &mine->arena, &err),
                  &err);
        for (size_t i = 0; i < mine->claim.u.claim.ret_len; i++)
            mine->outcomes[i] = (exj_outcome){ .seq = mine->claims[i].seq,
                                               .nonce = mine->claims[i].nonce,
                                               .token = mine->claims[i].token,
                                               .event = EXJ_EV_SUCCEED,
                                               .result = { result, 100 } };
        if (mine->claim.u.claim.ret_len == 0 && mine->finish.u.finish.len == 0)
            break;
    }
    exj_buf_release(&p[0].arena);
    exj_buf_release(&p[1].arena);
    return (double)done / seconds_since(at);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure_claims(exj_store *s, int64_t pool, int64_t backlog)
{
    double us[21];
    size_t n = 0;

    for (; n < 21; n++) {
        exj_nsec at = exj_clock_mono_ns();
        size_t got = claim(s, pool);

        us[n] = seconds_since(at) * 1e6;
        if (got)
            finish(s, got);
        if (got < BATCH)
            break;
    }
    if (n == 0)
        return;
    qsort(us, n, sizeof(us[0]), by_value);
    printf("backlog %8" PRId64 ": claim of %d rows %6.0f us (median of %zu), %.2f us/row\n",
           backlog, BATCH, us[n / 2], n, us[n / 2] / BATCH);
}

int main(int argc, char **argv)
{
    const char *base = argc > 1 ? argv[1] : ".";
    int64_t most = argc > 2 ? atoll(argv[2]) : 1000000;
    int64_t steps[3] = { 1000, most / 10, most }, have = 0, next = 0;
    char dir[4096], path[4200];
    exj_sqlite_options o = { .dir = dir, .lock_note = "bench_claim" };
    exj_store *s = NULL;
    exj_err err = { 0 };
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_store_health health;
    struct rusage usage;
    static const char *const names[] = { "exellix-jobs.db", "exellix-jobs.db-wal",
                                         "exellix-jobs.db-shm", "exellix-jobs.lock" };

    snprintf(dir, sizeof(dir), "%s/bench-claim-XXXXXX", base);
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    memset(input, 'x', 300);
    memset(result, 'y', 100);
    check(exj_sqlite_open(&o, &s, &err), &err);
    s->v->health(s, &health);
    printf("store: %s (%s), schema %d\n", s->v->name, health.backend, health.schema_version);
    op.u.pool.matrix = exj_slice_of("m");
    op.u.pool.graph = exj_slice_of("g");
    check(exj_store_do(s, &op, &err), &err);

    for (int i = 0; i < 3; i++) {
        exj_nsec at = exj_clock_mono_ns();
        int64_t more = steps[i] - have;

        insert(s, op.u.pool.ret_pool, next, next + more);
        next += more;
        if (more > 10000)
            printf("insert %8" PRId64 " rows: %8.0f rows/s\n", more,
                   (double)more / seconds_since(at));
        measure_claims(s, op.u.pool.ret_pool, steps[i]);
        have = steps[i] > 21 * BATCH ? steps[i] - 21 * BATCH : 0;
    }
    printf("claim+finish, one commit a batch of %d: %8.0f rows/s\n", BATCH,
           pipeline(s, op.u.pool.ret_pool, (size_t)most / 4, false));
    printf("claim+load+finish:                      %8.0f rows/s\n",
           pipeline(s, op.u.pool.ret_pool, (size_t)most / 4, true));
    s->v->health(s, &health);
    getrusage(RUSAGE_SELF, &usage);
    printf("commits %" PRId64 ", wal %" PRId64 " KiB, peak RSS %ld MiB\n", health.commits,
           health.wal_bytes / 1024, usage.ru_maxrss / 1024);
    s->v->close(s);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    return 0;
}
