/* tests/contract/contract.h - what every store must do, tried on every store there is.
 *
 * CONTRACT(suite, name) { ... } is one Criterion test that runs its body once a store, each
 * time on a new store in a folder of its own, under a clock that only the test moves. The
 * body's argument is `struct fixture *f`. It asserts what store.h promises, and nothing that
 * only happens to hold for one store: numbers of rows, pools and dead letters are any that
 * grow, a store may be on a server that others use (`f->maker->shared`).
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
#define NO_ROW 4711471147114711 /* neither a row nor, below, a pool has such a number */
#define NO_POOL 471147114711

struct fake_time {
    atomic_int_least64_t wall_ms, mono_ms;
};

/* One way to have a store. Each test is told of it by `f->maker`, and asks it for nothing but
 * what store.h leaves open. */
struct store_maker {
    const char *name;
    /* On a server that other workers use too: to open it again is no restart of the only one, so
     * nothing is freed or taken back by it; the clock is the server's; listeners may hear later,
     * and once of several changes. */
    bool shared;
    bool of_files;     /* tried by programs that look into the store's files */
    unsigned scale;    /* what takes thousands of operations does so many times fewer: 1.. */
    size_t large_bytes; /* values above it are kept apart from their rows */
    int64_t kv_keys, kv_bytes; /* the limits of one graph as it was opened with */
    bool needs_server; /* tried only when EXJ_CONTRACT_STORE asks for it, and then: */
    /* NULL, or: why it cannot be had here, which fails the program; a static text. It returns
     * NULL: it can. */
    const char *(*missing)(void);
    /* The data of a fixture is known by its folder, which is the maker's to use. */
    exj_code (*open)(const char *dir, const char *note, struct fake_time *t, exj_store **ret,
                     exj_err *err);
    void (*closed)(void);          /* NULL, or: after the store of the fixture was closed */
    void (*wipe)(const char *dir); /* NULL, or: what is kept outside of the folder goes */
    /* Takes a value of this row that is kept apart from under the store, or cuts it short.
     * ret_name: how an error has to call it. */
    void (*spoil)(const char *dir, int64_t seq, exj_slice value, bool cut, char ret_name[80]);
};

/* A file maker_*.c each. A program tries those that it is linked with. */
struct store_makers {
    const struct store_maker *list;
    size_t len;
};

extern const struct store_makers sqlite_makers;
/* Those that are tried: whose names EXJ_CONTRACT_STORE is a part of ("mongo"); where it is not
 * set, all that need no server. NULL: no more. */
const struct store_maker *maker_at(size_t i);

struct fixture {
    const struct store_maker *maker;
    char dir[256];
    struct fake_time time;
    exj_store *s;
};

void fixture_open(struct fixture *f, const struct store_maker *m);
void fixture_reopen(struct fixture *f);
/* Of a shared store: the same data, opened by another worker at the same time. The caller closes
 * it before the fixture. */
exj_store *fixture_second(struct fixture *f);
void fixture_close(struct fixture *f);
unsigned scaled(const struct fixture *f, unsigned n); /* n, or fewer where they cost much */
void advance(struct fixture *f, exj_msec ms);
void temp_dir(char *ret, size_t cap);
void remove_dir(const char *dir);

/* A program that looks into files takes the stores that have some, each once. */
#ifdef CONTRACT_OF_FILES
#define CONTRACT_TRIES(m) ((m)->of_files)
#else
#define CONTRACT_TRIES(m) true
#endif

#define CONTRACT_WHERE(suite, name, tried)                                                     \
    static void suite##_##name(struct fixture *f);                                             \
    Test(suite, name)                                                                          \
    {                                                                                          \
        for (size_t i = 0; maker_at(i); i++) {                                                 \
            const struct store_maker *m = maker_at(i);                                         \
            struct fixture f;                                                                  \
            if (!CONTRACT_TRIES(m) || !(tried))                                                \
                continue;                                                                      \
            fixture_open(&f, m);                                                               \
            suite##_##name(&f);                                                                \
            fixture_close(&f);                                                                 \
        }                                                                                      \
    }                                                                                          \
    static void suite##_##name(struct fixture *f)

#define CONTRACT(suite, name) CONTRACT_WHERE(suite, name, true)
/* What is promised only where several workers have a store open. */
#define CONTRACT_SHARED(suite, name) CONTRACT_WHERE(suite, name, m->shared)

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
