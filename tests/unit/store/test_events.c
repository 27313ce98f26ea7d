/* The packed entries of one transaction: what goes in comes out, and bytes that are damaged
 * are told or read as something else, never past their end. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/store/sqlite/internal.h"

#define MOST 64

static uint64_t state;

static uint32_t chance(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static void seed(void)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t n = given ? strtoull(given, NULL, 10) : exj_random_u64();

    fprintf(stderr, "events: EXJ_TEST_SEED=%" PRIu64 "\n", n);
    state = n ? n : 1;
}

static int64_t some_number(void)
{
    static const int64_t edges[] = { 0, 1, -1, 127, 128, INT64_MAX, INT64_MIN, INT64_MAX - 1 };

    return chance(4) ? (int64_t)chance(100000) - 50000 : edges[chance(8)];
}

static char texts[1024];

static size_t make(exj_buf *b, exj_journal_entry *e, int64_t first, int64_t *ret_end)
{
    exj_events_pack_state at = { .number = first };
    size_t n = 1 + chance(MOST);

    for (size_t i = 0; i < n; i++) {
        e[i] = (exj_journal_entry){ .kind = (exj_entry_kind)chance(EXJ_ENTRY_COUNT),
                                    .number = at.number + (chance(5) ? 0 : chance(1000)),
                                    .seq = chance(8) ? 1 + chance(1000) : INT64_MAX / 2,
                                    .token = chance(8) ? chance(200) : INT64_MAX,
                                    .attempt = chance(8) ? chance(9) : UINT32_MAX,
                                    .value = chance(2) ? 0 : some_number(),
                                    .key = { texts, chance(2) ? 0 : chance(300) },
                                    .text = { texts + 300, chance(2) ? 0 : chance(513) } };
        e[i].previous = chance(4) ? e[i].number - 1 - chance((uint32_t)e[i].number) : 0;
        cr_assert(exj_events_pack(b, &at, &e[i]));
    }
    *ret_end = at.number;
    return n;
}

static void same(const exj_journal_entry *a, const exj_journal_entry *b)
{
    cr_assert(a->kind == b->kind && a->number == b->number && a->previous == b->previous &&
              a->seq == b->seq && a->token == b->token && a->attempt == b->attempt &&
              a->value == b->value && exj_slice_equal(a->key, b->key) &&
              exj_slice_equal(a->text, b->text));
}

Test(events, what_is_packed_comes_out_again)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_journal_entry in[MOST], out;

    seed();
    memset(texts, 'k', sizeof(texts));
    for (int turn = 0; turn < 3000; turn++) {
        int64_t first = 1 + chance(1000000), end;
        exj_events_iter it;
        size_t n;

        exj_buf_reset(&b);
        n = make(&b, in, first, &end);
        exj_events_iter_init(&it, exj_buf_slice(&b), first, end - first);
        for (size_t i = 0; i < n; i++) {
            cr_assert(exj_events_iter_next(&it, &out), "entry %zu of %zu", i, n);
            same(&in[i], &out);
        }
        cr_assert_not(exj_events_iter_next(&it, &out));
        cr_assert_not(it.corrupt);
        /* A batch says how many numbers it has: none beyond them is believed. */
        exj_events_iter_init(&it, exj_buf_slice(&b), first, end - first - 1);
        while (exj_events_iter_next(&it, &out))
            cr_assert_lt(out.number, end - 1);
        cr_assert(it.corrupt);
    }
    exj_buf_release(&b);
}

/* Every read stays inside: the copy has no byte to spare, and sanitizers watch. */
static size_t read_all(const char *p, size_t n, int64_t first, int64_t numbers, bool *ret_corrupt)
{
    char *copy = malloc(n ? n : 1);
    volatile unsigned char sum = 0;
    exj_journal_entry e;
    exj_events_iter it;
    size_t read = 0;
    int64_t last = first - 1;

    memcpy(copy, p, n);
    exj_events_iter_init(&it, (exj_slice){ copy, n }, first, numbers);
    while (exj_events_iter_next(&it, &e)) {
        cr_assert(e.number > last && e.number < first + numbers);
        cr_assert(e.kind < EXJ_ENTRY_COUNT && e.previous >= 0 && e.previous <= e.number);
        for (size_t i = 0; i < e.key.n; i++)
            sum = (unsigned char)(sum + (unsigned char)e.key.p[i]);
        for (size_t i = 0; i < e.text.n; i++)
            sum = (unsigned char)(sum + (unsigned char)e.text.p[i]);
        last = e.number;
        read++;
    }
    *ret_corrupt = it.corrupt;
    cr_assert_not(exj_events_iter_next(&it, &e)); /* the end stays the end */
    free(copy);
    return read;
}

Test(events, a_body_that_is_cut_short_gives_its_whole_entries_and_says_so)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_journal_entry in[MOST];

    seed();
    for (int turn = 0; turn < 60; turn++) {
        int64_t first = 1 + chance(1000), end;
        bool corrupt;
        size_t n, fits = 0, whole = 0;

        exj_buf_reset(&b);
        n = make(&b, in, first, &end);
        for (size_t cut = 0; cut < b.n; cut++) {
            size_t got = read_all(b.p, cut, first, end - first, &corrupt);

            cr_assert(got < n && got >= fits);
            whole += !corrupt; /* it was cut between two entries */
            fits = got;
        }
        cr_assert_eq(whole, n);
    }
    exj_buf_release(&b);
}

Test(events, bytes_that_are_damaged_are_never_read_past_their_end)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_journal_entry in[MOST];
    size_t told = 0;
    bool corrupt;

    seed();
    for (int turn = 0; turn < 4000; turn++) {
        int64_t first = 1 + chance(1000), end;

        exj_buf_reset(&b);
        make(&b, in, first, &end);
        for (unsigned i = 0; i <= chance(4); i++)
            b.p[chance((uint32_t)b.n)] ^= (char)(1u << chance(8));
        read_all(b.p, b.n, first, end - first, &corrupt);
        told += corrupt;
    }
    cr_assert_gt(told, 0);
    for (int turn = 0; turn < 4000; turn++) { /* and bytes that never were a batch */
        size_t n = chance(200);

        exj_buf_reset(&b);
        for (size_t i = 0; i < n; i++)
            exj_buf_add_char(&b, (char)chance(256));
        read_all(b.p, b.n, 1, 1 + chance(300), &corrupt);
    }
    exj_buf_release(&b);
}

Test(events, an_entry_costs_about_ten_bytes)
{
    exj_events_pack_state at = { .number = 1000000 };
    exj_buf b = EXJ_BUF_INIT;

    for (int i = 0; i < 1000; i++) {
        exj_journal_entry e = { .kind = EXJ_ENTRY_CLAIMED, .number = 1000000 + i,
                                .previous = 500000 + i, .seq = 400000 + i, .token = 1,
                                .attempt = 1, .value = 3 };

        cr_assert(exj_events_pack(&b, &at, &e));
    }
    cr_assert_leq(b.n, 12000 + 16);
    exj_buf_release(&b);
}

Test(events, a_body_outside_of_all_numbers_has_no_entries)
{
    static const int64_t spans[][2] = { { 0, 5 }, { -3, 5 }, { 1, 0 }, { 1, -1 },
                                        { INT64_MAX - 3, 4 }, { INT64_MAX, 1 } };
    exj_events_pack_state at = { .number = 1 };
    exj_journal_entry e = { .number = 1, .seq = 1 };
    exj_events_iter it;
    exj_buf b = EXJ_BUF_INIT;

    cr_assert(exj_events_pack(&b, &at, &e));
    for (size_t i = 0; i < sizeof(spans) / sizeof(*spans); i++) {
        exj_events_iter_init(&it, exj_buf_slice(&b), spans[i][0], spans[i][1]);
        cr_expect_not(exj_events_iter_next(&it, &e));
        cr_expect(it.corrupt);
    }
    exj_events_iter_init(&it, exj_buf_slice(&b), 1, 1);
    cr_expect(exj_events_iter_next(&it, &e));
    exj_buf_release(&b);
}
