/* Many submitters on one store, for TSan: inserters that collide, claimers that finish,
 * give back or let go, and a keeper. In the end every row was completed exactly once, by the
 * holder of its newest token. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/store/store.h"
#include "tests/support/support.h"

#define ROWS 4000
#define INSERTERS 3
#define CLAIMERS 4
#define BATCH 40

static exj_store *store;
static int64_t pool;
static atomic_int inserted, completed, fenced;
static atomic_bool over;
static atomic_int wins[ROWS + 1];      /* accepted final outcomes, by seq */
static atomic_int accepted[ROWS + 1];  /* the token of that outcome */
static atomic_int newest[ROWS + 1];    /* the largest token that was ever handed out */

#define CHECK(what)                                                                       \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what);      \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

/* All insert all records, each in an order of its own: two in three lose every one. */
static void *insert(void *arg)
{
    int step = (int)(intptr_t)arg;

    for (int i = 0; i < ROWS; i += BATCH) {
        exj_insert_item items[BATCH];
        char ids[BATCH][16];
        exj_op op = { .kind = EXJ_OP_INSERT };

        for (int k = 0; k < BATCH; k++) {
            int n = (int)(((int64_t)(i + k) * step) % ROWS);

            snprintf(ids[k], sizeof(ids[k]), "r%d", n);
            items[k] = (exj_insert_item){ .record_id = exj_slice_of(ids[k]),
                                          .input = EXJ_SLICE_LITERAL("{\"a\":1}") };
        }
        op.u.insert.pool = pool;
        op.u.insert.max_attempts = 1000;
        op.u.insert.items = items;
        op.u.insert.len = BATCH;
        CHECK(exj_store_do(store, &op, NULL) == EXJ_OK);
        atomic_fetch_add(&inserted, (int)op.u.insert.ret_inserted);
    }
    return NULL;
}

static void finish(exj_claim *claims, size_t n)
{
    exj_outcome out[BATCH];
    exj_op op = { .kind = EXJ_OP_FINISH };

    for (size_t i = 0; i < n; i++) {
        bool again = claims[i].attempt == 1 && claims[i].seq % 5 == 0;

        out[i] = (exj_outcome){ .seq = claims[i].seq,
                                .nonce = claims[i].nonce,
                                .token = claims[i].token,
                                .event = again ? EXJ_EV_FAIL_RETRY : EXJ_EV_SUCCEED,
                                .run_after = again ? store->v->now(store) + 2 : 0 };
    }
    op.u.finish.items = out;
    op.u.finish.len = n;
    CHECK(exj_store_do(store, &op, NULL) == EXJ_OK);
    for (size_t i = 0; i < n; i++) {
        if (out[i].verdict == EXJ_FENCED) {
            atomic_fetch_add(&fenced, 1);
        } else if (out[i].event == EXJ_EV_SUCCEED) {
            CHECK(out[i].verdict == EXJ_OK);
            atomic_fetch_add(&wins[out[i].seq], 1);
            atomic_store(&accepted[out[i].seq], (int)out[i].token);
            atomic_fetch_add(&completed, 1);
        }
    }
}

static void give_back(exj_claim *claims, size_t n)
{
    exj_held held[BATCH];
    exj_op op = { .kind = EXJ_OP_RELEASE };

    for (size_t i = 0; i < n; i++)
        held[i] = (exj_held){ .seq = claims[i].seq, .nonce = claims[i].nonce };
    op.u.held.items = held;
    op.u.held.len = n;
    CHECK(exj_store_do(store, &op, NULL) == EXJ_OK);
}

/* No token is handed out twice, and none after a larger one was used up. */
static void note_token(const exj_claim *c)
{
    int seen, token = (int)c->token;

    CHECK(c->seq >= 1 && c->seq <= ROWS && c->token >= 1);
    seen = atomic_load(&newest[c->seq]);
    do
        CHECK(seen != token);
    while (seen < token && !atomic_compare_exchange_weak(&newest[c->seq], &seen, token));
}

static void *claim(void *arg)
{
    uint64_t chance = (uint64_t)(uintptr_t)arg;
    exj_claim late[BATCH]; /* claims that ran out; their outcomes come when others hold them */
    size_t late_n = 0;

    while (atomic_load(&completed) < ROWS) {
        exj_claim got[BATCH];
        exj_loaded loaded[BATCH];
        exj_buf arena = EXJ_BUF_INIT;
        exj_want want = { .pool = pool, .want = BATCH };
        exj_op op = { .kind = EXJ_OP_CLAIM };
        uint64_t what = exj_test_random(&chance) % 6;

        op.u.claim.wants = &want;
        op.u.claim.wants_len = 1;
        op.u.claim.holder = "race";
        op.u.claim.nonce = (int64_t)(exj_test_random(&chance) >> 1) | 1;
        op.u.claim.lease_ms = what == 0 ? 1 : 60000; /* 1: the keeper reaps it */
        op.u.claim.ret = got;
        CHECK(exj_store_do(store, &op, NULL) == EXJ_OK);
        if (op.u.claim.ret_len == 0)
            continue;
        for (size_t i = 0; i < op.u.claim.ret_len; i++)
            note_token(&got[i]);
        CHECK(store->v->load(store, got, op.u.claim.ret_len, loaded, &arena, NULL) == EXJ_OK);
        exj_buf_release(&arena);
        if (what == 0 && late_n == 0) {
            late_n = op.u.claim.ret_len;
            memcpy(late, got, late_n * sizeof(late[0]));
            continue;
        }
        if (late_n && what >= 4) {
            finish(late, late_n);
            late_n = 0;
        }
        if (what == 1)
            give_back(got, op.u.claim.ret_len);
        else
            finish(got, op.u.claim.ret_len);
    }
    return NULL;
}

static bool look(void *user, const exj_row_view *r)
{
    (void)user, (void)r;
    return true;
}

static void *keep(void *arg)
{
    (void)arg;
    while (!atomic_load(&over)) {
        exj_reaped reaped[BATCH];
        exj_op reap = { .kind = EXJ_OP_REAP }, promote = { .kind = EXJ_OP_PROMOTE };
        exj_row_filter f = { .status = -1, .limit = 100 };
        exj_store_health health;

        reap.u.reap.ret = reaped;
        reap.u.reap.limit = BATCH;
        CHECK(exj_store_do(store, &reap, NULL) == EXJ_OK);
        promote.u.promote.limit = 1000;
        CHECK(exj_store_do(store, &promote, NULL) == EXJ_OK);
        CHECK(store->v->row_page(store, &f, look, NULL, NULL) == EXJ_OK);
        CHECK(store->v->health(store, &health) == EXJ_OK);
    }
    return NULL;
}

static bool all_completed(void *user, const exj_pool_info *p)
{
    int *seen = user;

    CHECK(p->counts[EXJ_COMPLETED] == ROWS);
    for (int s = 0; s < EXJ_STATUS_COUNT; s++)
        CHECK(s == EXJ_COMPLETED || p->counts[s] == 0);
    ++*seen;
    return true;
}

int main(void)
{
    static const int steps[INSERTERS] = { 1, 3, 7 }; /* prime to ROWS: each a permutation */
    pthread_t inserters[INSERTERS], claimers[CLAIMERS], keeper;
    uint64_t seed = exj_test_seed("race_store");
    exj_op op = { .kind = EXJ_OP_POOL };
    exj_err err = { 0 };
    exj_tmp tmp;
    int seen = 0;

    exj_tmp_make(&tmp);
    CHECK(exj_sqlite_open(&(exj_sqlite_options){ .dir = tmp.path, .fast = true }, &store,
                          &err) == EXJ_OK);
    op.u.pool.matrix = EXJ_SLICE_LITERAL("m");
    op.u.pool.graph = EXJ_SLICE_LITERAL("g");
    CHECK(exj_store_do(store, &op, &err) == EXJ_OK);
    pool = op.u.pool.ret_pool;

    for (int i = 0; i < INSERTERS; i++)
        CHECK(!pthread_create(&inserters[i], NULL, insert, (void *)(intptr_t)steps[i]));
    for (int i = 0; i < CLAIMERS; i++)
        CHECK(!pthread_create(&claimers[i], NULL, claim,
                              (void *)(uintptr_t)exj_test_random(&seed)));
    CHECK(!pthread_create(&keeper, NULL, keep, NULL));
    for (int i = 0; i < INSERTERS; i++)
        pthread_join(inserters[i], NULL);
    for (int i = 0; i < CLAIMERS; i++)
        pthread_join(claimers[i], NULL);
    atomic_store(&over, true);
    pthread_join(keeper, NULL);

    CHECK(atomic_load(&inserted) == ROWS);
    for (int i = 1; i <= ROWS; i++) {
        CHECK(atomic_load(&wins[i]) == 1);
        CHECK(atomic_load(&accepted[i]) == atomic_load(&newest[i]));
    }
    CHECK(store->v->pools(store, all_completed, &seen, &err) == EXJ_OK && seen == 1);
    store->v->close(store);
    printf("race_store: %d rows, each completed once; %d outcomes fenced\n", ROWS,
           atomic_load(&fenced));
    exj_support_clean();
    return 0;
}
