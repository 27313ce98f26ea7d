/* The store by operations that the input chooses, against the contract suite's model in memory:
 * what every operation answers, what each row is then, what its journal tells, and the same again
 * once the store was closed and opened.
 * sources: tests/contract/reference.c tests/contract/contract.c tests/contract/durable.c tests/contract/maker_sqlite.c
 * flags: -Itests/fuzz/shim
 * options: -max_len=700 */
#include "kept_store.h"
#include "tests/contract/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *left;
static size_t left_n;

/* Nothing is left: 0 for ever. */
static uint32_t draw(uint32_t below)
{
    uint32_t v = 0;

    for (uint32_t room = below - 1; room; room >>= 8) {
        v = v << 8 | (left_n ? *left : 0);
        if (left_n) {
            left++;
            left_n--;
        }
    }
    return v % below;
}

static struct fixture first;

static void drop_first(void)
{
    remove_dir(first.dir);
}

/* A new store is a copy of one that was made once: to make it takes ten times as long. */
static exj_code open_copy(const char *dir, const char *note, struct fake_time *t, exj_store **ret,
                          exj_err *err)
{
    char path[300];

    snprintf(path, sizeof path, "%s/exellix-jobs.db", dir);
    if (access(path, F_OK) != 0)
        copy_files(first.dir, dir);
    return sqlite_makers.list->open(dir, note, t, ret, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct store_maker copied = { .name = "copied", .scale = 1, .open = open_copy };
    struct fixture f;

    if (!first.s) {
        fixture_open(&first, sqlite_makers.list);
        first.s->v->close(first.s);
        atexit(drop_first);
    }
    left = data;
    left_n = size;
    fixture_open(&f, &copied);
    reference_begin(&f, draw);
    while (left_n) {
        reference_step(&f);
        if (left_n > 1 && *left == 0xff) { /* a number below 100 is seldom written so */
            left++;
            left_n--;
            reference_reopen(&f);
        }
    }
    reference_compare(&f);
    if (size % 8 == 1)
        reference_reopen(&f);
    fixture_close(&f);
    return 0;
}
