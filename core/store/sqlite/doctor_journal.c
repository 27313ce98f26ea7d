/* core/store/sqlite/doctor_journal.c - every row against the view that its entries give.
 *
 * One walk over the journal folds each row's entries (core/job/journal.h) into a table in
 * memory, some 100 bytes a row; one walk over the rows compares. A row from before there was a
 * journal is left alone, as long as its entries do not begin with its insert.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/store/sqlite/doctor.h"

#define ROWS "exellix_execution_matrix_rows"
#define TOLD_MOST 20 /* findings of one kind that are told one by one */

struct folded {
    int64_t seq; /* 0: free place */
    exj_journal_view view;
    int64_t input, result, error; /* digests of its texts; 0: none */
    exj_msec queued_at, ended_at; /* 0: no such entry */
    bool old;    /* began before the journal did */
    bool wrong;  /* its entries do not fit each other; told */
};

struct table {
    struct folded *at; /* open addressing; a power of two */
    size_t cap, len;
};

static size_t place(const struct table *t, int64_t seq)
{
    size_t i = (size_t)((uint64_t)seq * 0x9e3779b97f4a7c15u >> 20) & (t->cap - 1);

    while (t->at[i].seq && t->at[i].seq != seq)
        i = (i + 1) & (t->cap - 1);
    return i;
}

static struct folded *find(const struct table *t, int64_t seq)
{
    struct folded *f = t->cap ? &t->at[place(t, seq)] : NULL;

    return f && f->seq ? f : NULL;
}

/* NULL: no memory. */
static struct folded *find_or_add(struct table *t, int64_t seq)
{
    struct folded *f;

    if (t->len * 4 >= t->cap * 3) {
        struct table more = { .cap = t->cap ? t->cap * 2 : 1024, .len = t->len };

        more.at = calloc(more.cap, sizeof(*more.at));
        if (!more.at)
            return NULL;
        for (size_t i = 0; i < t->cap; i++)
            if (t->at[i].seq)
                more.at[place(&more, t->at[i].seq)] = t->at[i];
        free(t->at);
        *t = more;
    }
    f = &t->at[place(t, seq)];
    t->len += !f->seq;
    f->seq = seq;
    return f;
}

static bool is_beginning(exj_entry_kind k)
{
    return k == EXJ_ENTRY_QUEUED || k == EXJ_ENTRY_SCHEDULED;
}

static void found(struct exj_doctor *d, int64_t *told, const char *text, int64_t seq,
                  bool fixable, bool fixed)
{
    if (++*told <= TOLD_MOST)
        exj_doctor_found(d, "journal", fixable, fixed, "row %" PRId64 ": %s", seq, text);
}

/* Code and message, as much of them as an entry holds. */
static int64_t error_digest(exj_slice code, exj_slice text)
{
    return exj_events_digest(exj_utf8_clip(code, EXJ_ENTRY_KEY_MAX)) << 27 |
           exj_events_digest(exj_utf8_clip(text, EXJ_ENTRY_TEXT_MAX));
}

/* What entries repeat of the row. */
static void keep(struct folded *f, const exj_journal_entry *e)
{
    if (is_beginning(e->kind)) {
        f->queued_at = e->at;
        f->input = e->kind == EXJ_ENTRY_QUEUED ? e->value : 0;
    }
    f->error = 0;
    f->result = !is_beginning(e->kind) && exj_entry_has_digest(e->kind) ? e->value : 0;
    f->ended_at = exj_status_is_terminal(f->view.status) ? e->at : 0;
    if (e->kind == EXJ_ENTRY_FAILED || e->kind == EXJ_ENTRY_BLOCKED)
        f->error = error_digest(e->key, e->text);
}

static bool fold(struct exj_doctor *d, struct table *t, const exj_journal_entry *e,
                 int64_t *told)
{
    struct folded *f = find_or_add(t, e->seq);
    exj_err why = { 0 };

    if (!f) {
        exj_err_set(&d->err, EXJ_NOMEM, "doctor: no memory for %zu rows", t->len);
        return false;
    }
    if (!f->view.known && !f->wrong && !is_beginning(e->kind))
        f->old = true;
    f->view.last = f->old || f->wrong ? e->number : f->view.last;
    if (f->old || f->wrong)
        return true;
    if (exj_journal_apply(&f->view, e, &why) != EXJ_OK) {
        f->wrong = true;
        f->view.last = e->number;
        found(d, told, why.text, e->seq, false, false);
        return true;
    }
    keep(f, e);
    return true;
}

static bool read_entries(struct exj_doctor *d, struct table *t, int64_t *told)
{
    sqlite3_stmt *st = NULL;
    int64_t next = 0, last = 0;
    bool good = exj_doctor_number(d, "SELECT max(first+n-1) FROM exj_events", &last) &&
                sqlite3_prepare_v2(d->s.db, "SELECT first, n, at, body FROM exj_events"
                                   " ORDER BY first", -1, &st, NULL) == SQLITE_OK;
    int step = SQLITE_DONE;

    while (good && (step = sqlite3_step(st)) == SQLITE_ROW) {
        int64_t first = sqlite3_column_int64(st, 0), n = sqlite3_column_int64(st, 1);
        exj_events_iter it;
        exj_journal_entry e;

        if (first < next)
            exj_doctor_found(d, "journal", false, false,
                             "records overlap at entry %" PRId64, first);
        next = first + n;
        exj_events_iter_init(&it,
                             (exj_slice){ sqlite3_column_blob(st, 3),
                                          (size_t)sqlite3_column_bytes(st, 3) },
                             first, n);
        while (good && exj_events_iter_next(&it, &e)) {
            e.at = sqlite3_column_int64(st, 2);
            d->report->entries++;
            good = fold(d, t, &e, told);
        }
        if (it.corrupt)
            exj_doctor_found(d, "journal", false, false,
                             "the record of the entries %" PRId64 " to %" PRId64
                             " is damaged from entry %" PRId64 " on",
                             first, next - 1, it.at.number);
        good = good && exj_doctor_tell(d, "journal", next - 1, last);
    }
    if (good && step != SQLITE_DONE)
        good = false;
    if (!good && !d->err.code)
        exj_sqlite_fail(&d->s, d->s.db, "cannot read the journal", &d->err);
    sqlite3_finalize(st);
    return good;
}

/* What a row says of itself. */
struct said {
    int64_t seq, token, last;
    bool hot, ended;
    exj_status status;
    uint32_t attempts;
    int64_t input, result, error; /* digests */
    exj_msec created_at, ended_at;
    bool twice; /* what is kept in two places differs */
};

static exj_status as_told(exj_status s)
{
    return s == EXJ_WAITING || s == EXJ_PARKED ? EXJ_QUEUED : s;
}

/* A row that lost its place in the queue: the journal says where it was. */
static bool requeue(struct exj_doctor *d, const struct said *r, const struct folded *f)
{
    char sql[500];

    snprintf(sql, sizeof(sql),
             "INSERT INTO exj_hot(seq, pool, status, rank, run_after, attempts, max_attempts,"
             " fence, nonce, holder, until, last, flags, ckey) SELECT seq, pool, 0, -priority, 0,"
             " %u, max_attempts, %" PRId64 ", 0, 0, 0, %" PRId64 ", 0, 0 FROM " ROWS
             " WHERE seq=%" PRId64,
             f->view.attempts, f->view.token, f->view.last, r->seq);
    return exj_doctor_exec(d, sql);
}

static bool compare(struct exj_doctor *d, const struct said *r, const struct folded *f,
                    int64_t *told)
{
    char text[300], sql[200];
    bool known = f && !f->old && !f->wrong;

    if (!r->hot && !r->ended) {
        bool open = known && (as_told(f->view.status) == EXJ_QUEUED ||
                              f->view.status == EXJ_RUNNING);

        if (open && d->o->fix && !requeue(d, r, f))
            return false;
        found(d, told, open ? "it is neither queued nor ended; its journal says it was queued"
                            : "it is neither queued nor ended; bring it back from a backup",
              r->seq, open, open && d->o->fix);
        return true;
    }
    if (!f) {
        if (r->last)
            found(d, told, "its newest entry is not in the journal", r->seq, false, false);
        return true;
    }
    if (f->view.last != r->last) {
        if (d->o->fix) {
            snprintf(sql, sizeof(sql), "UPDATE %s SET last=%" PRId64 " WHERE seq=%" PRId64,
                     r->hot ? "exj_hot" : "exj_results", f->view.last, r->seq);
            if (!exj_doctor_exec(d, sql))
                return false;
        }
        snprintf(text, sizeof(text),
                 "it points to entry %" PRId64 ", its newest one is %" PRId64, r->last,
                 f->view.last);
        found(d, told, text, r->seq, true, d->o->fix);
    }
    if (known && (as_told(f->view.status) != as_told(r->status) || f->view.token != r->token ||
                  f->view.attempts != r->attempts)) {
        snprintf(text, sizeof(text),
                 "it is %s, attempt %u, token %" PRId64 "; its journal says %s, attempt %u, token "
                 "%" PRId64,
                 exj_status_word(r->status), r->attempts, r->token,
                 exj_status_word(f->view.status), f->view.attempts, f->view.token);
        found(d, told, text, r->seq, false, false);
    }
    return true;
}

/* What is not the state of a row, as far as its entries say. */
static void compare_texts(struct exj_doctor *d, const struct said *r, const struct folded *f,
                          int64_t *told)
{
    if (f->input && f->input != r->input)
        found(d, told, "its input is not what was inserted; bring it back from a backup", r->seq,
              false, false);
    if (r->ended && f->result && f->result != r->result)
        found(d, told, "its result is not what was written; bring it back from a backup", r->seq,
              false, false);
    if (r->ended && f->error && f->error != r->error)
        found(d, told, "its error is not what was written", r->seq, false, false);
    if (f->queued_at && f->queued_at != r->created_at)
        found(d, told, "it was inserted at another time than its journal says", r->seq, false,
              false);
    if (r->ended && f->ended_at && f->ended_at != r->ended_at)
        found(d, told, "it ended at another time than its journal says", r->seq, false, false);
    if (r->twice)
        found(d, told, "its pool, its priority or how often it may be tried is not what was inserted", r->seq,
              false, false);
}

static bool compare_rows(struct exj_doctor *d, const struct table *t, int64_t *told)
{
    sqlite3_stmt *st = NULL;
    int64_t done = 0;
    bool good = sqlite3_prepare_v2(
                    d->s.db,
                    "SELECT r.seq, h.status, h.attempts, h.fence, h.last, t.status, t.attempts,"
                    " t.fence, t.last, r.input, r.created_at, t.body, t.at, t.error_code,"
                    " t.error_text, h.max_attempts<>r.max_attempts"
                    " OR h.rank<>-r.priority OR h.pool<>r.pool FROM " ROWS " r LEFT JOIN exj_hot h ON h.seq=r.seq"
                    " LEFT JOIN exj_results t ON t.seq=r.seq ORDER BY r.seq",
                    -1, &st, NULL) == SQLITE_OK;
    int step = SQLITE_DONE;

    while (good && (step = sqlite3_step(st)) == SQLITE_ROW) {
        struct said r = { .seq = sqlite3_column_int64(st, 0),
                          .hot = sqlite3_column_type(st, 1) != SQLITE_NULL,
                          .ended = sqlite3_column_type(st, 5) != SQLITE_NULL };
        int base = r.hot ? 1 : 5;
        const struct folded *f;

        if (r.hot || r.ended) {
            r.status = (exj_status)sqlite3_column_int(st, base);
            r.attempts = (uint32_t)sqlite3_column_int64(st, base + 1);
            r.token = sqlite3_column_int64(st, base + 2);
            r.last = sqlite3_column_int64(st, base + 3);
        }
        r.input = exj_events_digest(exj_sqlite_column(st, 9));
        r.created_at = sqlite3_column_int64(st, 10);
        r.result = exj_events_digest(exj_sqlite_column(st, 11));
        r.ended_at = sqlite3_column_int64(st, 12);
        r.error = error_digest(exj_sqlite_column(st, 13), exj_sqlite_column(st, 14));
        r.twice = sqlite3_column_int(st, 15) != 0;
        f = find(t, r.seq);
        good = compare(d, &r, f, told);
        if (good && f && !f->old && !f->wrong)
            compare_texts(d, &r, f, told);
        if (++done % 1000 == 0)
            good = good && exj_doctor_tell(d, "rows", done, d->report->rows);
    }
    if (good && step != SQLITE_DONE)
        good = false;
    if (!good && !d->err.code)
        exj_sqlite_fail(&d->s, d->s.db, "cannot read rows", &d->err);
    sqlite3_finalize(st);
    return good;
}

bool exj_doctor_journal(struct exj_doctor *d)
{
    struct table t = { NULL, 0, 0 };
    int64_t told = 0;
    bool good = read_entries(d, &t, &told) && compare_rows(d, &t, &told);

    if (good && told > TOLD_MOST)
        exj_doctor_found(d, "journal", false, false, "and %" PRId64 " more rows like those",
                         told - TOLD_MOST);
    free(t.at);
    return good;
}
