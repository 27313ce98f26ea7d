/* What holders of claims may do: I6, I7, I10, I11. */
#include <inttypes.h>

#include "core/history/check_inside.h"

static bool is_write(unsigned op)
{
    return op == EXJ_HIST_RENEW || op == EXJ_HIST_STEP || op == EXJ_HIST_WRITE ||
           check_ends(op);
}

/* ---- I6 --------------------------------------------------------------------------- */

/* The earliest known claim of a later token that was surely granted before `r` began. */
static const check_rec *overtaken_by(const check_life *l, size_t at, const check_rec *r)
{
    for (size_t i = at + 1; i < l->tokens_len; i++)
        if (l->tokens[i].claim && check_before(l->tokens[i].claim, r))
            return l->tokens[i].claim;
    return NULL;
}

static void check_stale(const check_life *l, size_t at, const check_rec *r)
{
    const check_token *k = &l->tokens[at];
    const check_rec *by = overtaken_by(l, at, r);

    /* Told once more that an outcome had landed: nothing is written. */
    if (r->op == EXJ_HIST_COMPLETE && k->end && k->end != r &&
        exj_check_same_outcome(k->end, r))
        return;
    if (r->op == EXJ_HIST_REAP)
        return;
    if (by)
        exj_check_broken(l->c, 6, "stale write", l->row, by, r,
                         "it was written under token %" PRId64 " although %" PRId64
                         " was given",
                         k->token, by->token);
    else if (k->end && k->end != r && !check_ends(r->op) && check_before(k->end, r))
        exj_check_broken(l->c, 6, "late write", l->row, k->end, r,
                         "it was written under a claim that was over");
}

/* ---- I7 --------------------------------------------------------------------------- */

static bool is_justified(const check_life *l, size_t at, const check_rec *r)
{
    const check_token *k = &l->tokens[at];

    if (!k->claim || l->row->removed)
        return true; /* of a claim that nobody knows to have been granted */
    if (exj_check_wild(l->c, EXJ_HIST_CLAIM, k->claim->t0, r->t1) ||
        exj_check_may_have_ended(l, k, r->t1))
        return true;
    for (size_t i = k->first; i < k->first + k->n; i++)
        if (l->recs[i] != r && check_ends(l->recs[i]->op) && check_maybe(l->recs[i]) &&
            l->recs[i]->t0 <= r->t1)
            return true;
    for (size_t i = at + 1; i < l->tokens_len; i++)
        for (size_t j = l->tokens[i].first; j < l->tokens[i].first + l->tokens[i].n; j++)
            if (l->recs[j]->op == EXJ_HIST_CLAIM && check_maybe(l->recs[j]) &&
                l->recs[j]->t0 <= r->t1)
                return true;
    for (size_t i = 0; i < l->orders; i++) {
        const check_rec *o = l->recs[i];

        if ((o->op == EXJ_HIST_RERUN ||
             (o->op == EXJ_HIST_CANCEL && o->to != TO_RUNNING)) &&
            check_maybe(o) && o->t0 <= r->t1)
            return true;
    }
    return false;
}

static void check_writes(const check_life *l)
{
    for (size_t at = 0; at < l->tokens_len; at++) {
        const check_token *k = &l->tokens[at];

        for (size_t i = k->first; i < k->first + k->n; i++) {
            const check_rec *r = l->recs[i];

            if (!is_write(r->op))
                continue;
            if (r->phase == EXJ_HIST_OK)
                check_stale(l, at, r);
            if (r->phase != EXJ_HIST_FAIL || r->code != C_FENCED)
                continue;
            if (r->op == EXJ_HIST_COMPLETE)
                check_try(l->c, 4);
            check_try(l->c, 6);
            check_try(l->c, 7);
            if (!is_justified(l, at, r))
                exj_check_broken(l->c, 7, "false refusal", l->row, k->claim, r,
                                 "it was refused although its claim was not over");
        }
    }
}

/* ---- I10 -------------------------------------------------------------------------- */

static void check_bound(const check_life *l, const check_token *k)
{
    uint32_t most = l->max_attempts, n = k->claim ? k->claim->attempt : 0;

    if (!n || !most)
        return;
    if (n > 1 || (k->end && k->end->to == TO_FAILED))
        check_try(l->c, 10);
    if (n > most)
        exj_check_broken(l->c, 10, "poison loop", l->row, k->claim, NULL,
                         "attempt %" PRIu32 " of at most %" PRIu32, n, most);
    if (!k->end || n >= most)
        return;
    if (k->end->to == TO_FAILED &&
        (k->end->op == EXJ_HIST_REAP || k->end->outcome == W_FAIL_RETRY))
        exj_check_broken(l->c, 10, "dead too early", l->row, k->claim, k->end,
                         "it is dead after attempt %" PRIu32 " of %" PRIu32, n, most);
}

/* Does a claim that ended so count as an attempt? */
static bool counts(const check_rec *end)
{
    /* One that suspends is queued at once when the signal that it waits for has come already. */
    return end->op == EXJ_HIST_REAP ||
           (end->op == EXJ_HIST_COMPLETE && end->to != TO_SUSPENDED && end->outcome != W_SUSPEND);
}

static void check_counting(const check_life *l, const check_token *k,
                           const check_token *next)
{
    uint32_t a = k->claim->attempt, b = next->claim->attempt;

    if (!a || !b || !k->end || next->token != k->token + 1 ||
        exj_check_revived(l, k->claim, next->claim, true) ||
        l->c->wild[EXJ_HIST_SIGNAL].len)
        return;
    if (counts(k->end) && b != a + 1)
        exj_check_broken(l->c, 10, "attempt not counted", l->row, k->end, next->claim,
                         "attempt %" PRIu32 " follows %" PRIu32 ", which failed", b, a);
    else if (!counts(k->end) && b != a)
        exj_check_broken(l->c, 10, "attempt counted", l->row, k->end, next->claim,
                         "attempt %" PRIu32 " follows %" PRIu32 ", which did not count",
                         b, a);
}

static void check_attempts(const check_life *l)
{
    const check_token *last = NULL;

    for (size_t i = 0; i < l->tokens_len; i++) {
        const check_token *k = &l->tokens[i];

        check_bound(l, k);
        if (!k->claim)
            continue;
        if (last)
            check_counting(l, last, k);
        last = k;
    }
    if (l->final && l->max_attempts && l->final->attempt > l->max_attempts)
        exj_check_broken(l->c, 10, "poison loop", l->row, l->final, NULL,
                         "%" PRIu32 " attempts of at most %" PRIu32, l->final->attempt,
                         l->max_attempts);
}

/* ---- I11 -------------------------------------------------------------------------- */

static void check_cancel(const check_life *l, const check_rec *cancel)
{
    check_try(l->c, 11);
    for (size_t i = 0; i < l->tokens_len; i++) {
        const check_token *k = &l->tokens[i];

        if (k->claim && check_before(cancel, k->claim) &&
            !exj_check_revived(l, cancel, k->claim, false)) {
            exj_check_broken(l->c, 11, "lost cancel", l->row, cancel, k->claim,
                             "it was claimed after it was canceled");
            return;
        }
        /* Its holder was asked: whatever but success it answers ends the row. */
        if (k->end && k->end->op == EXJ_HIST_COMPLETE && k->end->to &&
            !check_terminal(k->end->to) && check_before(cancel, k->end) &&
            !exj_check_revived(l, cancel, k->end, false)) {
            exj_check_broken(l->c, 11, "lost cancel", l->row, cancel, k->end,
                             "it goes on although it was asked to stop");
            return;
        }
    }
}

void exj_check_claims(const check_life *l)
{
    check_writes(l);
    check_attempts(l);
    for (size_t i = 0; i < l->orders; i++)
        if (l->recs[i]->op == EXJ_HIST_CANCEL && l->recs[i]->phase == EXJ_HIST_OK)
            check_cancel(l, l->recs[i]);
}
