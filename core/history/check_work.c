/* What was really done: I8, I9, and steps: I17. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/history/check_inside.h"

/* ---- I8 --------------------------------------------------------------------------- */

static void check_done(const check_life *l)
{
    exj_check *c = l->c;
    const check_rec *done = NULL, *late = NULL;

    if (!l->row->job || !c->graph_has_effect[c->graph_of_job[l->row->job]])
        return;
    for (size_t i = 0; i < l->tokens_len && !done; i++)
        if (l->tokens[i].end && l->tokens[i].end->to == TO_COMPLETED)
            done = l->tokens[i].end;
    if (!done && l->final && l->final->to == TO_COMPLETED &&
        !(l->row->older && !l->tokens_len))
        done = l->final;
    if (!done)
        return;
    check_try(c, 8);
    for (size_t i = 0; i < l->n; i++) {
        const check_rec *r = l->recs[i];

        if (r->op != EXJ_HIST_EFFECT || (r->token > done->token && done->token))
            continue;
        if (r->t0 <= done->t0)
            return;
        late = r;
    }
    exj_check_broken(c, 8, "done without work", l->row, done, late,
                     late ? "it was done before its effect began"
                          : "it was done, and no effect of it was seen");
}

/* A worker that tells of its executions completes what it executed, and nothing else. */
static void check_executed(const check_life *l, const check_token *k)
{
    const check_rec *done = k->end, *late = NULL;

    if (!done || done->op != EXJ_HIST_COMPLETE || done->to != TO_COMPLETED ||
        !l->c->incs[done->inc].executes)
        return;
    check_try(l->c, 8);
    for (size_t i = k->first; i < k->first + k->n; i++) {
        const check_rec *r = l->recs[i];

        if (r->op != EXJ_HIST_EXECUTE || r->inc != done->inc)
            continue;
        if (r->t0 <= done->t0)
            return;
        late = r;
    }
    exj_check_broken(l->c, 8, "done without work", l->row, done, late,
                     late ? "it was done before it was executed"
                          : "it was done, and not executed");
}

/* ---- I9 --------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const check_rec *x = *(const check_rec *const *)a, *y = *(const check_rec *const *)b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->token != y->token)
        return x->token < y->token ? -1 : 1;
    return (x->t0 > y->t0) - (x->t0 < y->t0);
}

/* Why an effect may have been repeated: claims that were crashed, expired, failed or of
 * which nobody knows the end, and orders to run again. */
static uint64_t reasons_of(const check_life *l)
{
    uint64_t n = 0;

    for (size_t i = 0; i < l->tokens_len; i++) {
        const check_rec *e = l->tokens[i].end;

        n += !e || e->op == EXJ_HIST_REAP ||
             (e->op == EXJ_HIST_COMPLETE && e->to != TO_COMPLETED) ||
             exj_check_may_have_ended(l, &l->tokens[i], CHECK_NEVER);
    }
    for (size_t i = 0; i < l->orders; i++)
        n += (l->recs[i]->op == EXJ_HIST_RETRY || l->recs[i]->op == EXJ_HIST_RERUN) &&
             check_maybe(l->recs[i]);
    return n;
}

static void check_effects_of_key(const check_life *l, check_rec **r, size_t n)
{
    exj_check *c = l->c;
    uint64_t tokens = 1, reasons = reasons_of(l);

    if (l->tokens_len > 1)
        check_try(c, 9);
    for (size_t i = 1; i < n; i++) {
        if (r[i]->token != r[i - 1]->token) {
            tokens++;
            continue;
        }
        if (!r[i]->token)
            continue;
        exj_check_broken(c, 9, "gratuitous duplicate", l->row, r[i - 1], r[i],
                         "one claim did its work twice");
        return;
    }
    if (n == tokens && tokens > 1 + reasons)
        exj_check_broken(c, 9, "gratuitous duplicate", l->row, r[0], r[n - 1],
                         "its work was done %" PRIu64 " times, for %" PRIu64
                         " crashes, expiries, failures and orders",
                         tokens, reasons);
}

/* ---- I17 -------------------------------------------------------------------------- */

static bool was_rerun(const check_life *l, const check_rec *after,
                      const check_rec *before)
{
    for (size_t i = 0; i < l->orders; i++)
        if (l->recs[i]->op == EXJ_HIST_RERUN && check_maybe(l->recs[i]) &&
            !check_before(l->recs[i], after) && !check_before(before, l->recs[i]))
            return true;
    return exj_check_wild(l->c, EXJ_HIST_RERUN, after->t0, before->t1);
}

/* A key of a later claim that completed the row without running the step again? */
static bool was_replayed(const check_life *l, check_rec *const *r, size_t n)
{
    for (size_t k = 0; k < l->tokens_len; k++) {
        bool again = false;

        if (!l->tokens[k].claim || l->tokens[k].token <= r[0]->token ||
            !l->tokens[k].end || l->tokens[k].end->to != TO_COMPLETED)
            continue;
        for (size_t i = 0; i < n; i++)
            again |= r[i]->token == l->tokens[k].token;
        if (!again)
            return true;
    }
    return false;
}

static void check_step(const check_life *l, check_rec **r, size_t n)
{
    exj_check *c = l->c;
    const check_rec *last = NULL;

    if (was_replayed(l, r, n)) {
        c->report.counts.replays++;
        check_try(c, 17);
    }
    for (size_t i = 0; i < n; i++) {
        if (r[i]->phase == EXJ_HIST_FAIL && r[i]->code == C_CONFLICT)
            check_try(c, 17);
        if (r[i]->phase != EXJ_HIST_OK)
            continue;
        if (last && !(last->token == r[i]->token && last->digest == r[i]->digest) &&
            !was_rerun(l, last, r[i])) {
            exj_check_broken(c, 17, "changed step", l->row, last, r[i],
                             last->digest == r[i]->digest
                                 ? "a finished step was written again"
                                 : "a finished step was overwritten by another result");
            return;
        }
        last = r[i];
    }
}

/* ---- groups ----------------------------------------------------------------------- */

static bool is_effect(const check_rec *r)
{
    return r->op == EXJ_HIST_EFFECT && r->t0 != CHECK_EVER;
}

static bool is_step(const check_rec *r)
{
    return r->op == EXJ_HIST_STEP && r->key;
}

/* Hand the records of the row that are asked for to `check`, those of one key at a time. */
static void check_by_key(const check_life *l, bool (*is)(const check_rec *r),
                         void (*check)(const check_life *l, check_rec **r, size_t n))
{
    check_rec **list = l->c->work;
    size_t n = 0, from = 0;

    for (size_t i = 0; i < l->n; i++)
        if (is(l->recs[i]))
            list[n++] = l->recs[i];
    if (!n)
        return;
    qsort(list, n, sizeof *list, by_key);
    for (size_t i = 1; i <= n; i++)
        if (i == n || list[i]->key != list[from]->key) {
            check(l, list + from, i - from);
            from = i;
        }
}

void exj_check_work(const check_life *l)
{
    check_done(l);
    for (size_t i = 0; i < l->tokens_len; i++)
        check_executed(l, &l->tokens[i]);
    check_by_key(l, is_effect, check_effects_of_key);
    check_by_key(l, is_step, check_step);
}
