/* Histories by chance: the checker finds nothing in a correct one, and finds the one
 * thing that was then broken in it. EXJ_TEST_SEED repeats a run. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/history/random_history.h"

#define HISTORIES 150

static uint64_t first_seed(const char *of)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t seed = given && *given ? strtoull(given, NULL, 10) : 0;
    FILE *f;

    if (!seed && (f = fopen("/dev/urandom", "r"))) {
        if (fread(&seed, sizeof seed, 1, f) != 1)
            seed = 1;
        fclose(f);
    }
    seed &= INT64_MAX;
    fprintf(stderr, "%s: EXJ_TEST_SEED=%llu\n", of, (unsigned long long)seed);
    return seed;
}

static exj_check *check(const struct history *h, exj_check_report *ret)
{
    exj_check *c = exj_check_new(NULL);
    exj_err err = { 0 };

    cr_assert(c);
    for (size_t i = 0; i < h->len; i++)
        if (!h->lines[i].gone)
            cr_assert_eq(exj_check_add(c, &h->lines[i].e, &err), EXJ_OK, "%s", err.text);
    cr_assert_eq(exj_check_finish(c, ret, &err), EXJ_OK, "%s", err.text);
    return c;
}

Test(check_random, raises_nothing_in_a_correct_history)
{
    uint64_t seed = first_seed("check_random");
    uint64_t tried[EXJ_CHECK_LAST + 1] = { 0 };

    for (uint64_t i = 0; i < HISTORIES; i++) {
        struct history h;
        exj_check_report r;
        exj_check *c;

        history_make(&h, seed + i, true);
        c = check(&h, &r);
        if (r.findings_len)
            cr_expect(false, "seed %llu: I%u %s: %s", (unsigned long long)(seed + i),
                      r.findings[0].invariant, r.findings[0].anomaly, r.findings[0].text);
        for (unsigned n = 1; n <= EXJ_CHECK_LAST; n++)
            tried[n] += r.lines[n].tried;
        exj_check_free(c);
        history_release(&h);
    }
    for (unsigned n = 1; n <= EXJ_CHECK_LAST; n++)
        if (n != 12 && n != 14 && n != 15 && n != 18 && n != 19)
            cr_expect_gt(tried[n], 0, "I%u was never put to the test", n);
}

/* ---- one thing is broken
 * ------------------------------------------------------------------- */

static bool is_ok(const struct line *l, exj_hist_op op)
{
    return !l->gone && l->e.op == op && l->e.phase == EXJ_HIST_OK;
}

/* One of the lines that fit, by chance; NULL: none. */
static struct line *pick(struct history *h,
                         bool (*fits)(const struct history *h, const struct line *l))
{
    struct line *found = NULL;
    uint64_t n = 0;

    for (size_t i = 0; i < h->len; i++)
        if (fits(h, &h->lines[i]) && draw(h, ++n) == 0)
            found = &h->lines[i];
    return found;
}

static bool is_final(const struct history *h, const struct line *l)
{
    (void)h;
    return is_ok(l, EXJ_HIST_FINAL);
}

static bool lose_row(struct history *h)
{
    struct line *l = pick(h, is_final);

    return l && (l->gone = true);
}

static bool is_later_enqueue(const struct history *h, const struct line *l)
{
    return is_ok(l, EXJ_HIST_ENQUEUE) && l->e.row > 1 && !h->rows[l->e.row - 1].removed;
}

static bool forget_enqueue(struct history *h)
{
    struct line *l = pick(h, is_later_enqueue);

    for (size_t i = 0; l && i < h->len; i++)
        if (h->lines[i].e.id == l->e.id &&
            h->lines[i].e.incarnation == l->e.incarnation &&
            h->lines[i].e.op == EXJ_HIST_ENQUEUE)
            h->lines[i].gone = true;
    return l;
}

static bool get_stuck(struct history *h)
{
    struct line *l = pick(h, is_final);

    return l && (l->e.to = EXJ_SLICE_LITERAL("queued"), true);
}

static bool has_known_result(const struct history *h, const struct line *l)
{
    if (!is_final(h, l) || !exj_slice_is(l->e.to, "completed"))
        return false;
    for (size_t i = 0; i < h->len; i++)
        if (is_ok(&h->lines[i], EXJ_HIST_COMPLETE) && h->lines[i].e.row == l->e.row &&
            h->lines[i].e.token == l->e.token)
            return true;
    return false;
}

static bool swap_result(struct history *h)
{
    struct line *l = pick(h, has_known_result);

    return l && (l->e.digest = EXJ_SLICE_LITERAL("00000000000000ff"), true);
}

/* A later claim whose earlier one is known, too. */
static const struct line *claim_of(const struct history *h, int64_t row, int64_t token)
{
    for (size_t i = 0; i < h->len; i++)
        if (is_ok(&h->lines[i], EXJ_HIST_CLAIM) && h->lines[i].e.row == row &&
            h->lines[i].e.token == token)
            return &h->lines[i];
    return NULL;
}

static bool is_second_claim(const struct history *h, const struct line *l)
{
    return is_ok(l, EXJ_HIST_CLAIM) && l->e.token > 1 &&
           claim_of(h, l->e.row, l->e.token - 1);
}

static bool reuse_token(struct history *h)
{
    struct line *l = pick(h, is_second_claim);

    return l && (l->e.token--, true);
}

static exj_nsec invoke_of(const struct history *h, const struct line *l)
{
    for (size_t i = 0; i < h->len; i++)
        if (h->lines[i].e.phase == EXJ_HIST_INVOKE && h->lines[i].e.id == l->e.id &&
            h->lines[i].e.incarnation == l->e.incarnation && h->lines[i].e.op == l->e.op)
            return h->lines[i].e.t;
    return INT64_MIN;
}

static bool is_sure_refusal(const struct history *h, const struct line *l)
{
    exj_nsec t0;

    if (l->gone || l->e.phase != EXJ_HIST_FAIL || !exj_slice_is(l->e.code, "fenced") ||
        (l->e.op != EXJ_HIST_RENEW && l->e.op != EXJ_HIST_STEP))
        return false;
    t0 = invoke_of(h, l);
    for (size_t i = 0; i < h->len; i++)
        if (is_ok(&h->lines[i], EXJ_HIST_CLAIM) && h->lines[i].e.row == l->e.row &&
            h->lines[i].e.token > l->e.token && h->lines[i].e.t < t0)
            return true;
    return false;
}

static bool accept_stale(struct history *h)
{
    struct line *l = pick(h, is_sure_refusal);

    if (!l)
        return false;
    l->e.phase = EXJ_HIST_OK;
    l->e.code = (exj_slice){ 0 };
    return true;
}

/* Renewed, and renewed or completed again later under the same claim: it was not over. */
static bool is_good_renewal(const struct history *h, const struct line *l)
{
    if (!is_ok(l, EXJ_HIST_RENEW) || !claim_of(h, l->e.row, l->e.token))
        return false;
    for (size_t i = 0; i < h->len; i++)
        if (!h->lines[i].gone && h->lines[i].e.op == EXJ_HIST_FAULT)
            return false; /* whoever was killed may have taken the row */
    for (size_t i = 0; i < h->len; i++) {
        const struct line *o = &h->lines[i];

        if (o->e.row == l->e.row && o->e.token == l->e.token && o->e.t <= l->e.t &&
            (o->e.op == EXJ_HIST_COMPLETE || o->e.op == EXJ_HIST_RELEASE))
            return false;
        if ((o->e.op == EXJ_HIST_REAP || o->e.op == EXJ_HIST_CANCEL ||
             o->e.op == EXJ_HIST_RERUN || o->e.op == EXJ_HIST_REMOVE) &&
            o->e.row == l->e.row && o->e.phase != EXJ_HIST_FAIL)
            return false;
        if (is_ok(o, EXJ_HIST_CLAIM) && o->e.row == l->e.row && o->e.token > l->e.token)
            return false;
    }
    return true;
}

static bool refuse_good(struct history *h)
{
    struct line *l = pick(h, is_good_renewal);

    if (!l)
        return false;
    l->e.phase = EXJ_HIST_FAIL;
    l->e.code = EXJ_SLICE_LITERAL("fenced");
    return true;
}

static bool forget_effects(struct history *h)
{
    struct line *l = pick(h, has_known_result);

    for (size_t i = 0; l && i < h->len; i++)
        if (h->lines[i].e.op == EXJ_HIST_EFFECT &&
            exj_slice_equal(h->lines[i].e.job, l->e.job))
            h->lines[i].gone = true;
    return l;
}

static bool is_effect(const struct history *h, const struct line *l)
{
    (void)h;
    return is_ok(l, EXJ_HIST_EFFECT);
}

static bool repeat_effect(struct history *h)
{
    struct line *l = pick(h, is_effect), *again = &h->lines[h->len];

    if (!l || h->len + 1 >= LINES_MOST)
        return false;
    *again = *l;
    again->e.id = 0;
    again->e.phase = EXJ_HIST_INVOKE;
    h->len++;
    return true;
}

static bool is_claim(const struct history *h, const struct line *l)
{
    (void)h;
    return is_ok(l, EXJ_HIST_CLAIM) && l->e.row > 0;
}

static bool exceed_attempts(struct history *h)
{
    struct line *l = pick(h, is_claim);

    return l && (l->e.attempt = h->rows[l->e.row - 1].most + 1, true);
}

static bool was_never_revived(const struct history *h, const struct line *l)
{
    if (!is_ok(l, EXJ_HIST_CLAIM) || l->e.token != 1)
        return false;
    for (size_t i = 0; i < h->len; i++)
        if (h->lines[i].e.row == l->e.row && h->lines[i].e.phase != EXJ_HIST_FAIL &&
            (h->lines[i].e.op == EXJ_HIST_RETRY || h->lines[i].e.op == EXJ_HIST_RERUN))
            return false;
    return true;
}

static bool lose_cancel(struct history *h)
{
    struct line *l = pick(h, was_never_revived), *cancel = &h->lines[h->len];

    if (!l || h->len + 1 >= LINES_MOST)
        return false;
    *cancel = (struct line){ .e = { .t = invoke_of(h, l) - 1,
                                    .actor = EXJ_SLICE_LITERAL("worker"),
                                    .incarnation = 1,
                                    .op = EXJ_HIST_CANCEL,
                                    .phase = EXJ_HIST_OK,
                                    .row = l->e.row,
                                    .to = EXJ_SLICE_LITERAL("canceled") } };
    h->len++;
    return true;
}

static bool is_inner_entry(const struct history *h, const struct line *l)
{
    return is_ok(l, EXJ_HIST_EVENT) && l->e.value > 1 && l->e.value < h->entry;
}

static bool lose_entry(struct history *h)
{
    struct line *l = pick(h, is_inner_entry);

    return l && (l->gone = true);
}

static bool is_step(const struct history *h, const struct line *l)
{
    if (!is_ok(l, EXJ_HIST_STEP))
        return false;
    for (size_t i = 0; i < h->len; i++)
        if (h->lines[i].e.row == l->e.row && h->lines[i].e.op == EXJ_HIST_RERUN &&
            h->lines[i].e.phase != EXJ_HIST_FAIL)
            return false;
    return true;
}

static bool overwrite_step(struct history *h)
{
    struct line *l = pick(h, is_step), *again = &h->lines[h->len];

    if (!l || h->len + 1 >= LINES_MOST)
        return false;
    for (size_t i = 0; i < h->len; i++) /* the key stands in the invoke */
        if (h->lines[i].e.id == l->e.id &&
            h->lines[i].e.incarnation == l->e.incarnation &&
            h->lines[i].e.op == EXJ_HIST_STEP && h->lines[i].e.phase == EXJ_HIST_INVOKE)
            *again = h->lines[i];
    again->e.id = 0;
    again->e.phase = EXJ_HIST_OK;
    again->e.t = l->e.t;
    again->e.digest = EXJ_SLICE_LITERAL("00000000000000ff");
    h->len++;
    return true;
}

static const struct {
    unsigned invariant;
    const char *name;
    bool (*act)(
        struct history *h); /* false: there is nothing like that in this history */
    bool calm;              /* wants a history without faults */
} breaks[] = {
    { 1, "a row is lost", lose_row, false },
    { 2, "a row was never enqueued", forget_enqueue, false },
    { 3, "a row is stuck", get_stuck, false },
    { 4, "the store has another result", swap_result, false },
    { 5, "a token is given twice", reuse_token, false },
    { 6, "a stale write is accepted", accept_stale, false },
    { 7, "a good write is refused", refuse_good, true },
    { 8, "nothing was done", forget_effects, false },
    { 9, "work is done twice", repeat_effect, false },
    { 10, "an attempt too many", exceed_attempts, false },
    { 11, "claimed after cancel", lose_cancel, false },
    { 16, "an entry is lost", lose_entry, true },
    { 17, "a step is overwritten", overwrite_step, false },
};
#define BREAKS (sizeof breaks / sizeof breaks[0])

Test(check_random, finds_whatever_one_thing_is_broken)
{
    uint64_t seed = first_seed("check_random"), done[BREAKS] = { 0 };

    for (uint64_t i = 0; i < HISTORIES * 2; i++) {
        size_t b = i % BREAKS;
        struct history h;
        exj_check_report r;
        exj_check *c;

        history_make(&h, seed + i, !breaks[b].calm);
        if (breaks[b].act(&h)) {
            done[b]++;
            c = check(&h, &r);
            cr_expect(r.lines[breaks[b].invariant].findings > 0,
                      "seed %llu: %s: I%u is not named", (unsigned long long)(seed + i),
                      breaks[b].name, breaks[b].invariant);
            exj_check_free(c);
        }
        history_release(&h);
    }
    for (size_t b = 0; b < BREAKS; b++)
        cr_expect_gt(done[b], 0, "no history could have this: %s", breaks[b].name);
}
