/* tests/support/store_look.h - what is in an embedded store, read past the store.
 *
 * A connection of its own to the store's database, for tests that compare two stores, or
 * a store with itself before and after something happened to it.
 *
 * Errors:  whatever fails is told by a text; nothing aborts but lack of memory.
 * Threads: one at a time.
 */
#ifndef EXJ_TESTS_STORE_LOOK_H
#define EXJ_TESTS_STORE_LOOK_H

#include "core/base/str.h"

#define EXJ_LOOK_TABLES 33

typedef struct exj_look exj_look;

/* Opens the database `path` on `vfs` (NULL: the default), for reading. NULL: *ret_why
 * says. */
exj_look *exj_look_new(const char *vfs, const char *path, char ret_why[256]);
void exj_look_free(exj_look *l);

/* What every table holds, as one number each; equal contents give equal numbers, however
 * their entries were batched. Not in it: the saved clock, from where on the journal is
 * whole, commands in progress, blobs that nobody points to. */
typedef struct exj_look_sum {
    uint64_t table[EXJ_LOOK_TABLES];
    uint64_t all;
    int64_t entries,
        holes; /* of the journal; numbers that are missing between its entries */
    int64_t rows;
} exj_look_sum;

/* False: a table cannot be read; *ret_why says which and why. */
bool exj_look_at(exj_look *l, exj_look_sum *ret, char ret_why[256]);
/* Is the file whole, to SQLite's integrity_check? False: *ret_why is what it found first.
 */
bool exj_look_check(exj_look *l, char ret_why[256]);
/* Is every large value whole that something points to, in the folder `blobs`? *ret_n: how
 * many. */
bool exj_look_blobs(exj_look *l, const char *blobs, uint64_t *ret_n, char ret_why[256]);
const char *exj_look_name(size_t table);
/* The names of the tables that differ, parted by blanks. */
void exj_look_differ(const exj_look_sum *a, const exj_look_sum *b, char *ret, size_t cap);

/* ---- what a test does next follows from what is there
 * ------------------------------------------ */

#define EXJ_KNOWN_MOST 512

typedef struct exj_known_row {
    int64_t seq, pool, token, nonce, at;
    int status;
    bool hot;
    uint32_t attempts;
} exj_known_row;

typedef struct exj_known {
    exj_known_row rows[EXJ_KNOWN_MOST];
    size_t rows_len;
    int64_t pools[16], last_entry;
    size_t pools_len;
    struct {
        char id[16];
        int kind;
        int64_t version, turn; /* turn: of a schedule */
    } docs[16];
    size_t docs_len;
    int64_t dead[16];
    size_t dead_len;
    struct {
        char key[24];
        int64_t owner;
    } taken[8]; /* commands in progress */
    size_t taken_len;
} exj_known;

bool exj_look_known(exj_look *l, exj_known *ret, char ret_why[256]);

#endif /* EXJ_TESTS_STORE_LOOK_H */
