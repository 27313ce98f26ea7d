/* One row after another: its records by token, and I1 to I5. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/history/check_inside.h"

bool exj_check_is_order(unsigned op)
{
    switch (op) {
    case EXJ_HIST_ENQUEUE:
    case EXJ_HIST_RETRY:
    case EXJ_HIST_RERUN:
    case EXJ_HIST_CANCEL:
    case EXJ_HIST_SIGNAL:
    case EXJ_HIST_REMOVE:
    case EXJ_HIST_FINAL:
        return true;
    default:
        return false;
    }
}

static int64_t token_of(const check_rec *r)
{
    return exj_check_is_order(r->op) ? 0 : r->token;
}

static int by_token(const void *a, const void *b)
{
    const check_rec *x = *(const check_rec *const *)a, *y = *(const check_rec *const *)b;
    int64_t s = token_of(x), t = token_of(y);

    if (s != t)
        return s < t ? -1 : 1;
    if (x->t0 != y->t0)
        return x->t0 < y->t0 ? -1 : 1;
    return (x->t1 > y->t1) - (x->t1 < y->t1);
}

bool exj_check_same_outcome(const check_rec *a, const check_rec *b)
{
    return a->op == EXJ_HIST_COMPLETE && b->op == EXJ_HIST_COMPLETE &&
           a->outcome == b->outcome && a->digest == b->digest && a->to == b->to;
}

bool exj_check_revived(const check_life *l, const check_rec *after,
                       const check_rec *before, bool with_signal)
{
    const exj_check *c = l->c;

    for (size_t i = 0; i < l->orders; i++) {
        const check_rec *r = l->recs[i];

        if (r->op != EXJ_HIST_RETRY && r->op != EXJ_HIST_RERUN &&
            !(with_signal && r->op == EXJ_HIST_SIGNAL))
            continue;
        if (check_maybe(r) && !check_before(r, after) &&
            !(before && check_before(before, r)))
            return true;
    }
    for (unsigned op = EXJ_HIST_RETRY; op <= EXJ_HIST_RERUN; op++)
        if (exj_check_wild(c, op, after->t0, before ? before->t1 : CHECK_NEVER))
            return true;
    return false;
}

static bool holder_may_have(const check_life *l, const check_token *k, unsigned op,
                            exj_nsec before)
{
    const check_inc *i;

    if (!k->claim)
        return exj_check_wild(l->c, op, CHECK_EVER, before);
    i = &l->c->incs[k->claim->inc];
    return i->wild0[op] <= before && i->wild1[op] >= k->claim->t0;
}

bool exj_check_may_have_ended(const check_life *l, const check_token *k, exj_nsec before)
{
    exj_nsec from = k->claim ? k->claim->t0 : CHECK_EVER;

    if (exj_check_wild(l->c, EXJ_HIST_REAP, from, before) ||
        holder_may_have(l, k, EXJ_HIST_COMPLETE, before) ||
        holder_may_have(l, k, EXJ_HIST_RELEASE, before))
        return true;
    for (size_t i = 0; i < l->orders; i++)
        if (l->recs[i]->op == EXJ_HIST_REAP && check_maybe(l->recs[i]) &&
            l->recs[i]->t0 <= before)
            return true;
    for (size_t i = k->first; i < k->first + k->n; i++)
        if (check_ends(l->recs[i]->op) && check_unknown(l->recs[i]) &&
            l->recs[i]->t0 <= before)
            return true;
    return false;
}

/* ---- the life of a row ------------------------------------------------------------ */

static bool add_token(check_life *l, int64_t token, size_t first)
{
    if (!exj_check_room((void **)&l->tokens, l->tokens_len, &l->tokens_cap, sizeof *l->tokens))
        return false;
    l->tokens[l->tokens_len++] = (check_token){ .token = token, .first = first };
    return true;
}

static void note_order(check_life *l, check_rec *r)
{
    if (r->op == EXJ_HIST_ENQUEUE && r->phase == EXJ_HIST_OK) {
        if (!l->enqueue ||
            (l->enqueue->outcome == W_EXISTING && r->outcome != W_EXISTING))
            l->enqueue = r;
        if (r->value > 0 && r->value <= UINT32_MAX && r->outcome != W_EXISTING)
            l->max_attempts = (uint32_t)r->value;
    } else if (r->op == EXJ_HIST_FINAL) {
        l->row->final = true;
        if (!l->final || r->t0 >= l->final->t0)
            l->final = r;
        if (r->value > 0 && r->value <= UINT32_MAX)
            l->max_attempts = (uint32_t)r->value;
    } else if (r->op == EXJ_HIST_REMOVE && check_maybe(r)) {
        l->row->removed = true;
    }
}

/* Retention takes nothing else away. */
static bool may_have_come_to_an_end(const check_life *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const check_rec *r = l->recs[i];

        if (check_maybe(r) && (check_terminal(r->to) || r->op == EXJ_HIST_CANCEL ||
                               (check_ends(r->op) && check_unknown(r))))
            return true;
    }
    for (size_t i = 0; i < l->tokens_len; i++)
        if (!l->tokens[i].end && exj_check_may_have_ended(l, &l->tokens[i], CHECK_NEVER))
            return true;
    return false;
}

static bool lay_out(check_life *l, exj_check *c, check_row *row)
{
    *l = (check_life){ .c = c,
                       .row = row,
                       .n = row->n,
                       .recs = &c->by_row[row->first],
                       .tokens = l->tokens,
                       .tokens_cap = l->tokens_cap };
    qsort(l->recs, l->n, sizeof(check_rec *), by_token);
    row->older = row->seq < c->first_new;
    for (size_t i = 0; i < l->n; i++) {
        check_rec *r = l->recs[i];
        check_token *k;
        int64_t token = token_of(r);

        if (!token) {
            l->orders = i + 1;
            note_order(l, r);
            continue;
        }
        if ((!l->tokens_len || l->tokens[l->tokens_len - 1].token != token) &&
            !add_token(l, token, i))
            return false;
        k = &l->tokens[l->tokens_len - 1];
        k->n++;
        if (r->phase == EXJ_HIST_OK && r->op == EXJ_HIST_CLAIM && !k->claim)
            k->claim = r;
        if (r->phase == EXJ_HIST_OK && check_ends(r->op) &&
            (!k->end || r->t1 < k->end->t1))
            k->end = r;
    }
    if (c->wild[EXJ_HIST_REMOVE].len && may_have_come_to_an_end(l))
        row->removed = true;
    return true;
}

/* The claim that comes next, if it is known; NULL. */
static const check_token *next_claim(const check_life *l, size_t k)
{
    for (k++; k < l->tokens_len; k++)
        if (l->tokens[k].claim)
            return &l->tokens[k];
    return NULL;
}

/* ---- I1, I2 ----------------------------------------------------------------------- */

static void check_there(const check_life *l)
{
    exj_check *c = l->c;
    const check_rec *e = l->enqueue;

    if (!e || c->final_t == CHECK_EVER || e->t0 >= c->final_t)
        return;
    check_try(c, 1);
    if (!l->final && !l->row->removed)
        exj_check_broken(
            c, 1, "lost", l->row, e, NULL,
            "it was acknowledged, and is neither in the final store nor removed");
    for (size_t i = 0; i < l->orders; i++) {
        const check_rec *r = l->recs[i];

        if (r->job && r->job != l->row->job) {
            exj_check_broken(
                c, 1, "renamed", l->row, e, r, "it is now a row of another job, %.*s",
                (int)exj_check_text(c, r->job).n, exj_check_text(c, r->job).p);
            break;
        }
    }
}

static bool may_have_been_enqueued(const check_life *l)
{
    exj_nsec met = CHECK_NEVER; /* by then it was there */

    for (size_t i = 0; i < l->n; i++)
        if (!check_unknown(l->recs[i]) && l->recs[i]->t1 < met)
            met = l->recs[i]->t1;
    if (exj_check_wild(l->c, EXJ_HIST_ENQUEUE, CHECK_EVER, met))
        return true;
    for (size_t i = 0; i < l->orders; i++)
        if (l->recs[i]->op == EXJ_HIST_ENQUEUE && check_maybe(l->recs[i]))
            return true;
    return false;
}

/* A row of which all that is told are refusals and what nobody knows need not be there. */
static bool was_met(const check_life *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->recs[i]->phase == EXJ_HIST_OK)
            return true;
    return l->final != NULL;
}

static void check_phantom(const check_life *l)
{
    exj_check *c = l->c;
    const check_row *same;

    if (l->row->older || c->first_new == INT64_MAX || !was_met(l))
        return;
    check_try(c, 2);
    same = l->row->job && c->row_of_job[l->row->job] != CHECK_NONE
               ? &c->rows[c->row_of_job[l->row->job]]
               : NULL;
    if (same && same != l->row) {
        /* A row that left came back from an archive under a new number. */
        if (!same->removed)
            exj_check_broken(c, 2, "twin", l->row, l->enqueue ? l->enqueue : l->recs[0],
                             NULL, "row %" PRId64 " is of the same job", same->seq);
        return;
    }
    if (!may_have_been_enqueued(l))
        exj_check_broken(c, 2, "phantom", l->row, l->recs[0], NULL, "nobody enqueued it");
}

/* ---- I3 --------------------------------------------------------------------------- */

static void check_stuck(const check_life *l)
{
    exj_check *c = l->c;
    const check_rec *f = l->final;

    if (!f || c->quiet == CHECK_NEVER || f->t0 < c->quiet)
        return;
    check_try(c, 3);
    if (f->to == TO_QUEUED || f->to == TO_WAITING || f->to == TO_RUNNING)
        exj_check_broken(c, 3, "stuck", l->row, f,
                         l->tokens_len ? l->tokens[l->tokens_len - 1].end : NULL,
                         "after the drain it is %s", exj_check_to_word(f->to));
}

/* A claim although the row had ended: whichever came first, one of the two should not be.
 */
static void check_resurrected(const check_life *l, size_t at)
{
    const check_token *k = &l->tokens[at], *next = next_claim(l, at);

    if (!k->end || !check_terminal(k->end->to) || !next ||
        exj_check_revived(l, k->end, next->claim, false))
        return;
    if (next->claim->t1 < k->end->t0)
        return; /* it is the outcome that came too late: I6 */
    if (next->end && check_terminal(next->end->to) &&
        next->end->op == EXJ_HIST_COMPLETE && k->end->op == EXJ_HIST_COMPLETE &&
        !check_before(k->end, next->claim))
        return; /* I4 */
    exj_check_broken(l->c, 3, "resurrected", l->row, k->end, next->claim,
                     "it had ended, and was claimed");
}

/* Terminal rows of the end are what their last outcome made of them. */
static void check_unchanged(const check_life *l)
{
    const check_rec *f = l->final, *e;

    if (!f || !l->tokens_len || f->to == TO_NONE)
        return;
    e = l->tokens[l->tokens_len - 1].end;
    if (!e || !check_terminal(e->to) || e->to == f->to ||
        exj_check_revived(l, e, f, false) || f->t0 < e->t1)
        return;
    exj_check_broken(l->c, 3, "changed", l->row, e, f, "it had ended as %s, and is %s",
                     exj_check_to_word(e->to), exj_check_to_word(f->to));
}

static void check_finals(const check_life *l)
{
    const check_rec *last = NULL;

    for (size_t i = 0; i < l->orders; i++) {
        const check_rec *r = l->recs[i];

        if (r->op != EXJ_HIST_FINAL)
            continue;
        if (last && check_terminal(last->to) && r->to != last->to &&
            !exj_check_revived(l, last, r, false))
            exj_check_broken(l->c, 3, "changed", l->row, last, r,
                             "it had ended as %s, and is %s", exj_check_to_word(last->to),
                             exj_check_to_word(r->to));
        last = r;
    }
}

/* ---- I4 --------------------------------------------------------------------------- */

static void check_token_ends(const check_life *l, const check_token *k)
{
    const check_rec *first = NULL;

    for (size_t i = k->first; i < k->first + k->n; i++) {
        const check_rec *r = l->recs[i];

        if (r->phase != EXJ_HIST_OK || !check_ends(r->op))
            continue;
        if (!first) {
            first = r;
            continue;
        }
        check_try(l->c, 4);
        if (exj_check_same_outcome(first, r))
            continue;
        if (first->op == EXJ_HIST_COMPLETE && r->op == EXJ_HIST_COMPLETE)
            exj_check_broken(l->c, 4, "double-accepted", l->row, first, r,
                             "two outcomes of one claim were accepted");
        else
            exj_check_broken(l->c, 4, "ended twice", l->row, first, r,
                             "one claim ended in two ways");
        return;
    }
}

static void check_one_outcome(const check_life *l)
{
    const check_rec *last = NULL;

    for (size_t i = 0; i < l->tokens_len; i++) {
        const check_token *k = &l->tokens[i];

        check_token_ends(l, k);
        if (!k->end || k->end->op != EXJ_HIST_COMPLETE || !check_terminal(k->end->to))
            continue;
        if (i > 0)
            check_try(l->c, 4);
        if (last && !exj_check_revived(l, last, k->end, false))
            exj_check_broken(l->c, 4, "double-accepted", l->row, last, k->end,
                             "outcomes of two claims were accepted");
        last = k->end;
    }
}

/* May this operation, which happened or may have, have brought the row to `to`? */
static bool may_lead_to(const check_rec *r, unsigned to)
{
    if (r->op == EXJ_HIST_CANCEL) /* of a running row: at its end, which may be a release */
        return to == TO_CANCELED;
    if (!check_unknown(r))
        return r->to == to;
    if (r->op == EXJ_HIST_COMPLETE && to == TO_COMPLETED)
        return r->outcome == W_NONE || r->outcome == W_SUCCEED;
    if (r->op == EXJ_HIST_COMPLETE && to == TO_FAILED)
        return r->outcome != W_SUCCEED;
    return to == TO_CANCELED || (to == TO_FAILED && r->op == EXJ_HIST_REAP);
}

/* An operation that may have brought the row to `to`, of token `token` if that is known. */
static const check_rec *cause_of(const check_life *l, unsigned to, int64_t token)
{
    for (size_t i = 0; i < l->n; i++) {
        const check_rec *r = l->recs[i];

        if (!check_maybe(r) || (!check_ends(r->op) && r->op != EXJ_HIST_CANCEL) ||
            (r->op != EXJ_HIST_CANCEL && r->token && token && r->token != token))
            continue;
        if (may_lead_to(r, to))
            return r;
    }
    return NULL;
}

static void check_accounted(const check_life *l)
{
    exj_check *c = l->c;
    const check_rec *f = l->final, *cause;
    const check_token *k = NULL;

    if (!f || (f->to != TO_COMPLETED && f->to != TO_FAILED && f->to != TO_CANCELED))
        return;
    for (size_t i = 0; i < l->tokens_len; i++)
        if (l->tokens[i].token == f->token)
            k = &l->tokens[i];
    if (l->row->older && (!k || !k->claim))
        return; /* it ended before the history began */
    if (l->tokens_len && f->token < l->tokens[l->tokens_len - 1].token)
        return; /* I5 */
    if (l->enqueue && l->enqueue->outcome == W_RESTORED && !k)
        return;
    cause = cause_of(l, f->to, f->token);
    if (cause && check_unknown(cause))
        check_try(c, 4);
    if (!cause && (!k || !exj_check_may_have_ended(l, k, f->t0)) &&
        !(f->to == TO_CANCELED && c->wild[EXJ_HIST_CANCEL].len) &&
        !(!k && (c->wild[EXJ_HIST_COMPLETE].len || c->wild[EXJ_HIST_REAP].len)))
        exj_check_broken(c, 4, "outcome of nobody", l->row, f, k ? k->claim : NULL,
                         "it is %s, and nobody was told so or may have done it",
                         exj_check_to_word(f->to));
    if (f->to == TO_COMPLETED && k && k->end && k->end->op == EXJ_HIST_COMPLETE &&
        f->digest && k->end->digest && f->digest != k->end->digest)
        exj_check_broken(c, 4, "another's result", l->row, k->end, f,
                         "the result in the store is not the one that was accepted");
}

/* ---- I5 --------------------------------------------------------------------------- */

static uint64_t reruns_of(const check_life *l)
{
    uint64_t n = 0;

    for (size_t i = 0; i < l->orders; i++)
        n += l->recs[i]->op == EXJ_HIST_RERUN && check_maybe(l->recs[i]);
    return n;
}

static void check_gap(const check_life *l, int64_t from, int64_t to, const check_rec *a,
                      const check_rec *b)
{
    uint64_t may, missing;

    if (to - from <= 1)
        return;
    check_try(l->c, 5);
    may = reruns_of(l) + exj_check_wild(l->c, EXJ_HIST_CLAIM,
                                        a && from ? a->t0 : CHECK_EVER,
                                        b ? b->t1 : CHECK_NEVER);
    missing = (uint64_t)(to - from) - 1;
    if (missing > may)
        exj_check_broken(l->c, 5, "token gap", l->row, a, b,
                         "%" PRIu64 " tokens are missing, and %" PRIu64
                         " claims and reruns may have taken one",
                         missing, may);
}

static void check_reuse(const check_life *l, const check_token *k)
{
    for (size_t i = k->first; i < k->first + k->n; i++)
        if (l->recs[i]->op == EXJ_HIST_CLAIM && l->recs[i]->phase == EXJ_HIST_OK &&
            l->recs[i] != k->claim) {
            exj_check_broken(l->c, 5, "token reuse", l->row, k->claim, l->recs[i],
                             "one token was given twice");
            return;
        }
}

static int64_t token_before(const check_life *l) /* of a row that came from an archive */
{
    return l->enqueue && l->enqueue->outcome == W_RESTORED ? l->enqueue->token : 0;
}

static void check_tokens(const check_life *l)
{
    const check_token *last = NULL;
    const check_rec *f = l->final;

    for (size_t i = 0; i < l->tokens_len; i++) {
        const check_token *k = &l->tokens[i];

        if (!k->claim)
            continue;
        check_reuse(l, k);
        if (last) {
            check_try(l->c, 5);
            check_gap(l, last->token, k->token, last->claim, k->claim);
            if (check_before(k->claim, last->claim))
                exj_check_broken(l->c, 5, "token fell", l->row, k->claim, last->claim,
                                 "a later claim was given a smaller token");
            else if (!last->end && !exj_check_may_have_ended(l, last, k->claim->t1))
                exj_check_broken(l->c, 5, "two holders", l->row, last->claim, k->claim,
                                 "it was claimed while another held it");
        } else if (!l->row->older)
            check_gap(l, token_before(l), k->token, NULL, k->claim);
        last = k;
    }
    if (!f || !f->token || (l->row->older && !last))
        return;
    if (last && f->token < last->token && last->claim->t1 < f->t0)
        exj_check_broken(l->c, 5, "token fell", l->row, last->claim, f,
                         "the store's token is smaller than one that was given");
    check_gap(l, last ? last->token : token_before(l), f->token + 1,
              last ? last->claim : NULL, f);
}

void exj_check_rows(exj_check *c)
{
    check_life l = { 0 };

    for (uint32_t i = 0; i < c->rows_len && !c->failed; i++) {
        check_row *row = &c->rows[i];

        if (!row->n)
            continue;
        if (!lay_out(&l, c, row)) {
            c->failed = true;
            break;
        }
        c->report.counts.older += row->older;
        check_there(&l);
        check_phantom(&l);
        check_stuck(&l);
        for (size_t k = 0; k < l.tokens_len; k++)
            check_resurrected(&l, k);
        check_unchanged(&l);
        check_finals(&l);
        check_one_outcome(&l);
        check_accounted(&l);
        check_tokens(&l);
        exj_check_claims(&l);
        exj_check_work(&l);
        if (!exj_check_across(&l))
            c->failed = true;
    }
    free(l.tokens);
}
