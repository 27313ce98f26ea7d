/* I16: what readers of the event stream saw, against each other and against what
 * happened. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/history/check_inside.h"

/* Everything of a reader, as it came. */
static int by_reader(const void *a, const void *b)
{
    const check_entry *x = a, *y = b;

    if (x->reader != y->reader)
        return x->reader < y->reader ? -1 : 1;
    if (x->t != y->t)
        return x->t < y->t ? -1 : 1;
    return (x->nth > y->nth) - (x->nth < y->nth);
}

static int by_number(const void *a, const void *b)
{
    const check_entry *x = *(const check_entry *const *)a,
                      *y = *(const check_entry *const *)b;

    return (x->number > y->number) - (x->number < y->number);
}

static exj_slice name_of(const exj_check *c, const check_entry *e)
{
    return exj_check_text(c, e->reader);
}

/* Numbers that nobody saw may be of rows that left the store. */
static bool may_be_compacted(const exj_check *c)
{
    return c->report.counts.removed || c->wild[EXJ_HIST_REMOVE].len;
}

/* Is a number that is missing covered by a "gap" that said so? */
static bool was_said(const check_entry *e, size_t n, int64_t low, int64_t high)
{
    int64_t seen = 0; /* the newest number before the gap */

    for (size_t i = 0; i < n; i++) {
        if (e[i].gap && seen < low && e[i].number >= high)
            return true;
        if (e[i].number > seen)
            seen = e[i].number;
    }
    return false;
}

static bool anyone_saw(const check_entry *const *all, size_t n, int64_t low, int64_t high)
{
    size_t from = 0, to = n;

    while (from < to) {
        size_t mid = from + (to - from) / 2;

        if (all[mid]->number < low)
            from = mid + 1;
        else
            to = mid;
    }
    return from < n && all[from]->number <= high;
}

/* Entries of a row in their order: of a number seen first after a larger one of the same
 * row. */
static void check_row_order(exj_check *c, const check_entry *const *own, size_t n)
{
    /* `own`: by number; of each number the first sight. Larger seen earlier, same row? */
    for (size_t i = 0; i + 1 < n; i++) {
        const check_entry *e = own[i];

        if (!e->row)
            continue;
        /* Rows' entries lie close together; a far one is not looked for. */
        for (size_t j = i + 1; j < n && j < i + 64; j++)
            if (own[j]->row == e->row) {
                if (own[j]->nth < e->nth)
                    exj_check_broken(c, 16, "order", NULL, NULL, NULL,
                                     "reader %.*s saw entry %" PRId64 " of row %" PRId64
                                     " before %" PRId64,
                                     (int)name_of(c, e).n, name_of(c, e).p,
                                     own[j]->number, e->row, e->number);
                break;
            }
    }
}

static void check_missing(exj_check *c, const check_entry *e, size_t n,
                          const check_entry *const *own, size_t own_n,
                          const check_entry *const *all, size_t all_n)
{
    for (size_t i = 1; i < own_n; i++) {
        int64_t low = own[i - 1]->number + 1, high = own[i]->number - 1;

        if (low > high || (may_be_compacted(c) && !anyone_saw(all, all_n, low, high)) ||
            was_said(e, n, low, high))
            continue;
        exj_check_broken(c, 16, "silent loss", NULL, NULL, NULL,
                         "reader %.*s saw entries %" PRId64 " and %" PRId64
                         ", and nothing in between, and was not told of a gap",
                         (int)name_of(c, own[i]).n, name_of(c, own[i]).p, low - 1,
                         high + 1);
    }
}

/* ---- against what happened -------------------------------------------------------- */

static const char *entry_of(const check_rec *r)
{
    if (r->op == EXJ_HIST_CLAIM)
        return "claimed";
    if (r->op != EXJ_HIST_COMPLETE)
        return NULL;
    switch (r->to) {
    case TO_COMPLETED:
        return "completed";
    case TO_FAILED:
        return "failed";
    case TO_SUSPENDED:
        return NULL; /* a signal that was kept resumes it at once */
    case TO_BLOCKED:
        return "blocked";
    case TO_CANCELED:
        return "canceled";
    default:
        return NULL;
    }
}

struct seen {
    int64_t row, token;
    uint32_t kind;
};

static int by_what(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;

    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    if (x->token != y->token)
        return x->token < y->token ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

static void check_against(exj_check *c, const struct seen *seen, size_t n,
                          const check_rec *r, exj_slice reader)
{
    const char *kind = entry_of(r);
    struct seen key = { .row = r->row, .token = r->token };

    if (!kind)
        return;
    key.kind = exj_check_intern(c, exj_slice_of(kind));
    if (key.kind == CHECK_NONE)
        c->failed = true;
    else if (!bsearch(&key, seen, n, sizeof *seen, by_what))
        exj_check_broken(c, 16, "silent loss",
                         r->row_at == CHECK_NONE ? NULL : &c->rows[r->row_at], r, NULL,
                         "reader %.*s saw what came before and after, and not \"%s\"",
                         (int)reader.n, reader.p, kind);
}

/* Whatever surely happened between two claims of which the reader saw the entries, it saw
 * too. */
static void check_complete(exj_check *c, const check_entry *const *own, size_t n)
{
    struct seen *seen = malloc((n + 1) * sizeof *seen);
    uint32_t claimed = exj_check_intern(c, EXJ_SLICE_LITERAL("claimed"));
    exj_nsec low = CHECK_NEVER, high = CHECK_EVER;

    if (!seen || claimed == CHECK_NONE) {
        free(seen);
        c->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        seen[i] = (struct seen){ own[i]->row, own[i]->token, own[i]->kind };
    qsort(seen, n, sizeof *seen, by_what);
    for (size_t i = 0; i < c->recs_len; i++) {
        const check_rec *r = check_at(c, i);
        struct seen key = { r->row, r->token, claimed };

        if (r->op != EXJ_HIST_CLAIM || r->phase != EXJ_HIST_OK || !r->row ||
            !bsearch(&key, seen, n, sizeof *seen, by_what))
            continue;
        if (r->t1 < low)
            low = r->t1;
        if (r->t0 > high)
            high = r->t0;
    }
    if (own[0]->number == 1)
        low = CHECK_EVER; /* it saw the beginning */
    for (size_t i = 0; i < c->recs_len && !c->failed; i++) {
        const check_rec *r = check_at(c, i);

        if (r->phase == EXJ_HIST_OK && r->row_at != CHECK_NONE && r->t0 > low &&
            r->t1 < high && !c->rows[r->row_at].removed)
            check_against(c, seen, n, r, name_of(c, own[0]));
    }
    free(seen);
}

static bool had_gap(const check_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (e[i].gap)
            return true;
    return false;
}

static void check_reader(exj_check *c, const check_entry *e, size_t n,
                         const check_entry **own, const check_entry *const *all,
                         size_t all_n)
{
    size_t kept = 0, out = 0;

    check_try(c, 16);
    c->report.counts.readers++;
    for (size_t i = 0; i < n; i++)
        if (!e[i].gap)
            own[kept++] = &e[i];
    if (!kept)
        return;
    qsort(own, kept, sizeof *own, by_number); /* the first sight of each number stays: */
    for (size_t i = 0; i < kept; i++) {
        if (out && own[out - 1]->number == own[i]->number) {
            if (own[i]->nth < own[out - 1]->nth)
                own[out - 1] = own[i];
            continue;
        }
        own[out++] = own[i];
    }
    check_missing(c, e, n, own, out, all, all_n);
    check_row_order(c, own, out);
    if (!had_gap(e, n))
        check_complete(c, own, out);
}

void exj_check_stream(exj_check *c)
{
    size_t n = c->entries_len, from = 0;
    const check_entry **all, **own;

    c->report.counts.entries = n;
    if (!n)
        return;
    all = malloc(n * sizeof *all);
    own = malloc(n * sizeof *own);
    if (!all || !own) {
        c->failed = true;
    } else {
        qsort(c->entries, n, sizeof *c->entries, by_reader);
        for (size_t i = 0; i < n; i++) {
            all[i] = &c->entries[i];
            c->entries[i].nth = (uint32_t)i;
        }
        qsort(all, n, sizeof *all, by_number);
    }
    for (size_t i = 1; i <= n && !c->failed; i++)
        if (i == n || c->entries[i].reader != c->entries[from].reader) {
            check_reader(c, c->entries + from, i - from, own, all, n);
            from = i;
        }
    free(all);
    free(own);
}
