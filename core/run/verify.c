#include "core/run/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGE 1000u
#define EVENTS 10000u

struct item {
    int64_t seq, token, last; /* as the row had them when it was read */
    exj_status status;
    uint32_t attempts;
    bool begun, before, wrong; /* entries were seen; not from its first on; one does not fit */
    exj_journal_view view;
};

struct check {
    struct item *items; /* owned; by seq, ascending */
    size_t len, limit;
    int64_t seen; /* number of the newest event that was looked at */
    size_t page;
};

static exj_status plain_status(exj_status s)
{
    return s == EXJ_WAITING || s == EXJ_PARKED ? EXJ_QUEUED : s;
}

static bool visit_row(void *user, const exj_row_view *r)
{
    struct check *c = user;

    c->items[c->len++] = (struct item){ .seq = r->seq, .token = r->token, .last = r->last_entry,
                                        .status = plain_status(r->status),
                                        .attempts = r->attempts };
    return c->len < c->limit;
}

static exj_code read_rows(exj_store *s, int64_t after, struct check *c, exj_err *err)
{
    exj_row_filter f = { .status = -1, .after_seq = after };
    size_t before;
    exj_code rc;

    do {
        before = c->len;
        f.limit = c->limit - c->len < PAGE ? c->limit - c->len : PAGE;
        rc = s->v->row_page(s, &f, visit_row, c, err);
        if (c->len)
            f.after_seq = c->items[c->len - 1].seq;
    } while (rc == EXJ_OK && c->len > before && c->len < c->limit);
    return rc;
}

static struct item *find(const struct check *c, int64_t seq)
{
    size_t low = 0, high = c->len;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (c->items[mid].seq < seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low < c->len && c->items[low].seq == seq ? &c->items[low] : NULL;
}

static bool visit_event(void *user, const exj_event_view *v)
{
    struct check *c = user;
    const exj_journal_entry *e = &v->entry;
    struct item *i = find(c, e->seq);

    c->seen = e->number;
    c->page++;
    if (!i || i->before || i->wrong || e->number > i->last)
        return true;
    if (!i->begun && (e->previous || (e->kind != EXJ_ENTRY_QUEUED && e->kind != EXJ_ENTRY_SCHEDULED)))
        i->before = true;
    else
        i->wrong = exj_journal_apply(&i->view, e, NULL) != EXJ_OK;
    i->begun = true;
    return true;
}

static exj_code fold_events(exj_store *s, struct check *c, exj_err *err)
{
    int64_t first, last;
    exj_code rc = s->v->events_span(s, &first, &last, err);

    do {
        c->page = 0;
        rc = rc ? rc : s->v->events(s, c->seen, EVENTS, visit_event, c, err);
    } while (rc == EXJ_OK && c->page == EVENTS && c->seen < last);
    return rc;
}

/* ---- what differs --------------------------------------------------------------------------- */

struct why {
    const struct item *item;
    exj_verify_visit visit;
    void *user;
    char what[EXJ_ERR_TEXT_BYTES];
    exj_journal_view view;
    bool found, goes_on;
};

/* The entry that does not fit: folded once more, for its text. */
static bool visit_wrong(void *user, const exj_event_view *v)
{
    struct why *w = user;
    exj_err err = { 0 };

    if (exj_journal_apply(&w->view, &v->entry, &err) == EXJ_OK)
        return true;
    snprintf(w->what, sizeof(w->what), "%s", err.text);
    return false;
}

static void describe(struct why *w)
{
    const struct item *i = w->item;
    const exj_journal_view *v = &i->view;

    if (i->wrong)
        snprintf(w->what, sizeof(w->what), "an entry of its journal does not fit");
    else if (!i->begun)
        snprintf(w->what, sizeof(w->what), "its newest entry is %" PRId64
                 ", and its journal has none", i->last);
    else if (v->last != i->last)
        snprintf(w->what, sizeof(w->what), "its newest entry is %" PRId64
                 ", its journal ends with %" PRId64, i->last, v->last);
    else if (v->status != i->status)
        snprintf(w->what, sizeof(w->what), "the row is %s, its journal says %s",
                 exj_status_word(i->status), exj_status_word(v->status));
    else if (v->attempts != i->attempts)
        snprintf(w->what, sizeof(w->what), "the row has %" PRIu32 " attempts, its journal %" PRIu32,
                 i->attempts, v->attempts);
    else
        snprintf(w->what, sizeof(w->what), "the row has token %" PRId64 ", its journal %" PRId64,
                 i->token, v->token);
}

static bool visit_again(void *user, const exj_row_view *r)
{
    struct why *w = user;

    w->found = true;
    w->goes_on = !w->visit || w->visit(w->user, r, w->what);
    return false;
}

static bool agrees(const struct item *i)
{
    return i->begun && !i->wrong && i->view.last == i->last && i->view.status == i->status &&
           i->view.attempts == i->attempts && i->view.token == i->token;
}

/* A row that is gone by now, and its entries with it, is no difference. */
static exj_code tell(exj_store *s, const struct item *i, exj_verify_visit *visit, void *user,
                     exj_verified *ret, exj_err *err)
{
    struct why w = { .item = i, .visit = *visit, .user = user, .goes_on = true };
    exj_err ignored = { 0 };
    exj_code rc;

    describe(&w);
    if (i->wrong)
        s->v->journal(s, i->seq, 100000, visit_wrong, &w, &ignored);
    rc = s->v->row_by_seq(s, i->seq, visit_again, &w, err);
    if (rc == EXJ_NOT_FOUND) {
        exj_err_clear(err);
        return EXJ_OK;
    }
    ret->different += w.found;
    if (!w.goes_on)
        *visit = NULL;
    return rc;
}

exj_code exj_verify_rows(exj_store *s, int64_t after, size_t limit, exj_verify_visit visit,
                          void *user, exj_verified *ret, exj_err *err)
{
    struct check c = { .limit = limit };
    exj_code rc;

    *ret = (exj_verified){ 0 };
    if (limit < 1 || limit > EXJ_VERIFY_ROWS_MAX)
        return exj_err_set(err, EXJ_INVALID, "%zu rows: 1 to %u are allowed", limit,
                           EXJ_VERIFY_ROWS_MAX);
    c.items = calloc(limit, sizeof(*c.items));
    if (!c.items)
        return exj_err_set(err, EXJ_NOMEM, "no memory to verify %zu rows", limit);
    rc = read_rows(s, after, &c, err);
    if (rc == EXJ_OK && c.len)
        rc = fold_events(s, &c, err);
    for (size_t i = 0; rc == EXJ_OK && i < c.len; i++) {
        if (c.items[i].before || (!c.items[i].begun && !c.items[i].last))
            ret->before++;
        else if (!agrees(&c.items[i]))
            rc = tell(s, &c.items[i], &visit, user, ret, err);
    }
    ret->rows = (int64_t)c.len;
    ret->next = c.len == limit ? c.items[c.len - 1].seq : 0;
    free(c.items);
    return rc;
}
