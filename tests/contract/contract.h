/* tests/contract/contract.h - what every store must do, tried on every store there is.
 *
 * CONTRACT(suite, name) { ... } is one Criterion test that runs its body once a store, each
 * time on a new store in a folder of its own, under a clock that only the test moves. The
 * body's argument is `struct fixture *f`.
 */
#ifndef EXJ_TESTS_CONTRACT_H
#define EXJ_TESTS_CONTRACT_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "core/store/store.h"

#define START 1700000000000 /* where the test's clock starts */
#define LEASE 60000

struct fake_time {
    atomic_int_least64_t wall_ms, mono_ms;
};

struct store_maker {
    const char *name;
    exj_code (*open)(const char *dir, const char *note, struct fake_time *t, exj_store **ret,
                     exj_err *err);
};

extern const struct store_maker makers[];
extern const size_t makers_len;

struct fixture {
    const struct store_maker *maker;
    char dir[256];
    struct fake_time time;
    exj_store *s;
};

void fixture_open(struct fixture *f, const struct store_maker *m);
void fixture_reopen(struct fixture *f);
void fixture_close(struct fixture *f);
/* The recorded store was closed: everything that began has ended. */
void recording_end(void);
void advance(struct fixture *f, exj_msec ms);
void temp_dir(char *ret, size_t cap);
void remove_dir(const char *dir);

#define CONTRACT(suite, name)                                                                  \
    static void suite##_##name(struct fixture *f);                                             \
    Test(suite, name)                                                                          \
    {                                                                                          \
        for (size_t i = 0; i < makers_len; i++) {                                              \
            struct fixture f;                                                                  \
            fixture_open(&f, &makers[i]);                                                      \
            suite##_##name(&f);                                                                \
            fixture_close(&f);                                                                 \
        }                                                                                      \
    }                                                                                          \
    static void suite##_##name(struct fixture *f)

#define expect_int(got, wanted)                                                                \
    do {                                                                                       \
        int64_t got_ = (int64_t)(got), wanted_ = (int64_t)(wanted);                            \
        cr_assert(got_ == wanted_, "%s:%d: %s is %" PRId64 ", not %" PRId64, __FILE__,         \
                  __LINE__, #got, got_, wanted_);                                              \
    } while (0)

#define expect_code(got, wanted)                                                               \
    do {                                                                                       \
        exj_code got_ = (got), wanted_ = (wanted);                                             \
        cr_assert(got_ == wanted_, "%s:%d: %s is %s, not %s", __FILE__, __LINE__, #got,        \
                  exj_code_name(got_), exj_code_name(wanted_));                                \
    } while (0)

/* One-row shorthands; every one checks that the op itself went through. */
int64_t pool(struct fixture *f, const char *matrix, const char *run, const char *graph);
int64_t insert(struct fixture *f, int64_t pool, const char *id); /* its seq; 0: was there */
int64_t insert_as(struct fixture *f, int64_t pool, const char *id, int32_t priority,
                  uint32_t max_attempts, exj_msec run_after);
size_t claim(struct fixture *f, int64_t pool, const char *holder, int64_t nonce, uint32_t want,
             exj_claim *ret);
exj_claim claim_one(struct fixture *f, int64_t pool, const char *holder, int64_t nonce);
exj_code finish(struct fixture *f, const exj_claim *c, exj_event e, exj_msec run_after,
                const char *text);
exj_code renew(struct fixture *f, const exj_claim *c, exj_msec lease_ms);
exj_code release(struct fixture *f, const exj_claim *c);
exj_code step_put(struct fixture *f, const exj_claim *c, const char *key, const char *body);
exj_code retry(struct fixture *f, int64_t seq, exj_err *err);
size_t reap(struct fixture *f, const char *all_but, exj_msec grace_ms, exj_reaped *ret,
            size_t limit);
size_t promote(struct fixture *f, exj_msec *ret_next_due);
exj_code put(struct fixture *f, exj_doc_kind kind, const char *id, int64_t expected,
             const char *body, int64_t *ret_version);
exj_code drop(struct fixture *f, exj_doc_kind kind, const char *id, int64_t expected,
              int64_t *ret_version);

/* A row as it stands, its texts copied. */
struct row {
    exj_row_view v;
    char input[512], result[512], holder[64], code[64], text[256];
};
struct row row(struct fixture *f, const char *matrix, const char *run, const char *graph,
               const char *id);
void counts(struct fixture *f, int64_t pool, int64_t ret[EXJ_STATUS_COUNT]);
int64_t count(struct fixture *f, int64_t pool, exj_status status);

#endif /* EXJ_TESTS_CONTRACT_H */
