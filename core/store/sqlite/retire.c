/* core/store/sqlite/retire.c - ended rows leave the store, and come back from an archive.
 *
 * What stays of a row that left is its name, in exj_past: the record may be in its source still,
 * and must not run again. Its entries stay in exj_events until they are compacted: a record
 * loses the entries of rows that are gone, keeps its numbers, and goes when it is empty (the
 * newest one stays, so that numbers never come twice). From 'events_from' of exj_meta on no
 * entry is missing.
 *
 * Removing, compacting, restoring: [writer]. Looking for ended rows: any thread.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>

/* ---- removing ------------------------------------------------------------------------------- */

static const enum exj_sqlite_write side_tables[] = {
    W_PAST_ROW,       W_PAST_RESULT,  W_PAST_FAILURES, W_PAST_SNAPSHOTS, W_PAST_STEPS,
    W_PAST_EXTRAS,    W_PAST_RETRIED, W_PAST_PROGRESS, W_WAIT_DROP,      W_PAST_SIGNALS,
};

/* Its pool; 0: it is not that result any more. */
static bool removable(exj_sqlite *s, exj_removal *it, int64_t *ret_pool, exj_status *ret_status)
{
    sqlite3_stmt *st = s->st[W_REMOVABLE];
    int rc;

    *ret_pool = 0;
    sqlite3_bind_int64(st, 1, it->seq);
    rc = sqlite3_step(st);
    it->verdict = rc == SQLITE_ROW ? EXJ_CONFLICT : EXJ_NOT_FOUND;
    if (rc == SQLITE_ROW) {
        *ret_status = (exj_status)sqlite3_column_int(st, 1);
        if (sqlite3_column_int64(st, 2) == it->token &&
            sqlite3_column_int64(st, 3) == it->finished_at &&
            exj_status_is_terminal(*ret_status)) {
            it->verdict = EXJ_OK;
            *ret_pool = sqlite3_column_int64(st, 0);
        }
    } else if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot look at an ended row", &s->err);
    }
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

static bool remove_row(exj_sqlite *s, int64_t seq, int64_t pool, exj_status status)
{
    sqlite3_stmt *unique = s->st[W_UNIQUE_DROP];

    sqlite3_bind_int64(s->st[W_PAST_ADD], 1, seq);
    sqlite3_bind_int64(unique, 1, pool);
    sqlite3_bind_int64(unique, 2, seq);
    sqlite3_bind_int64(unique, 3, s->now);
    if (!exj_sqlite_run(s, W_PAST_ADD, "cannot note a row that goes") ||
        !exj_sqlite_run(s, W_UNIQUE_DROP, "cannot drop a unique key"))
        return false;
    for (size_t i = 0; i < sizeof(side_tables) / sizeof(*side_tables); i++) {
        sqlite3_bind_int64(s->st[side_tables[i]], 1, seq);
        if (!exj_sqlite_run(s, side_tables[i], "cannot remove a row"))
            return false;
    }
    exj_sqlite_count(s, pool, (int)status, -1, 1);
    return true;
}

bool exj_sqlite_remove(exj_sqlite *s, exj_op *op)
{
    int64_t last = 0;

    op->u.remove.ret_removed = 0;
    for (size_t i = 0; i < op->u.remove.len; i++) {
        exj_removal *it = &op->u.remove.items[i];
        exj_status status = EXJ_COMPLETED;
        int64_t pool;

        if (!removable(s, it, &pool, &status))
            return false;
        if (!pool)
            continue;
        if (!exj_sqlite_has_pool(s, pool)) {
            exj_err_set(&s->err, EXJ_BUG, "row %" PRId64 " has no pool", it->seq);
            return false;
        }
        if (!remove_row(s, it->seq, pool, status))
            return false;
        last = it->seq > last ? it->seq : last;
        op->u.remove.ret_removed++;
    }
    if (!last)
        return true;
    s->collect = true;
    atomic_store_explicit(&s->has_past, true, memory_order_relaxed);
    sqlite3_bind_int64(s->st[W_META_MAX], 2, last);
    exj_sqlite_bind(s->st[W_META_MAX], 1, EXJ_SLICE_LITERAL("last_removed"));
    return exj_sqlite_run(s, W_META_MAX, "cannot note which rows are gone");
}

bool exj_sqlite_is_past(exj_sqlite *s, int64_t pool, exj_slice record_id, int64_t *ret_seq)
{
    sqlite3_stmt *st = s->st[W_PAST];
    int rc;

    *ret_seq = 0;
    if (!atomic_load_explicit(&s->has_past, memory_order_relaxed))
        return true;
    sqlite3_bind_int64(st, 1, pool);
    exj_sqlite_bind(st, 2, record_id);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret_seq = sqlite3_column_int64(st, 0);
    else if (rc != SQLITE_DONE)
        exj_sqlite_fail(s, s->db, "cannot look for a row that is gone", &s->err);
    sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

exj_code exj_sqlite_load_past(exj_sqlite *s, int64_t *ret_last_seq, exj_err *err)
{
    int64_t there = 0, last = 0;
    exj_code rc = exj_sqlite_number(s, s->db, "SELECT EXISTS(SELECT 1 FROM exj_past)", &there,
                                    err);

    if (!rc)
        rc = exj_sqlite_number(s, s->db,
                               "SELECT value FROM exj_meta WHERE key='last_removed'", &last, err);
    atomic_store_explicit(&s->has_past, there != 0, memory_order_relaxed);
    if (!rc && last > *ret_last_seq)
        *ret_last_seq = last;
    return rc;
}

/* ---- compacting the journal ------------------------------------------------------------------ */

struct record {
    int64_t first, n;
    exj_slice body; /* of the statement, until it is reset */
};

/* Is the row there? Remembers the last answer: entries of a row come in runs. */
static bool is_there(exj_sqlite *s, int64_t seq, int64_t *last_seq, bool *last, bool *ret_good)
{
    sqlite3_stmt *st = s->st[W_ROW_THERE];
    int rc;

    if (seq == *last_seq)
        return *last;
    sqlite3_bind_int64(st, 1, seq);
    rc = sqlite3_step(st);
    sqlite3_reset(st);
    *ret_good = rc == SQLITE_ROW || rc == SQLITE_DONE;
    if (!*ret_good)
        exj_sqlite_fail(s, s->db, "cannot look for a row", &s->err);
    *last_seq = seq;
    return *last = rc != SQLITE_DONE;
}

/* What is left of a record goes to `left`. */
static bool sift(exj_sqlite *s, const struct record *r, exj_buf *left, size_t *ret_kept,
                 size_t *ret_dropped)
{
    exj_events_pack_state at = { .number = r->first };
    exj_events_iter it;
    int64_t last_seq = -1;
    bool last = false, good = true;
    exj_journal_entry e;

    *ret_kept = *ret_dropped = 0;
    exj_events_iter_init(&it, r->body, r->first, r->n);
    while (good && exj_events_iter_next(&it, &e)) {
        if (!is_there(s, e.seq, &last_seq, &last, &good)) {
            ++*ret_dropped;
            continue;
        }
        ++*ret_kept;
        if (!exj_events_pack(left, &at, &e)) {
            exj_err_set(&s->err, EXJ_NOMEM, "store %s: no memory for the journal", s->path);
            return false;
        }
    }
    if (it.corrupt) { /* not ours to mend: doctor tells */
        *ret_dropped = 0;
        *ret_kept = 1;
    }
    return good;
}

static bool save_record(exj_sqlite *s, const struct record *r, const exj_buf *left, bool keep)
{
    sqlite3_stmt *st = s->st[keep ? W_EVENTS_SET : W_EVENTS_DROP];

    sqlite3_bind_int64(st, 1, r->first);
    if (keep)
        sqlite3_bind_blob64(st, 2, left->n ? left->p : "", left->n, SQLITE_STATIC);
    if (!exj_sqlite_run(s, keep ? W_EVENTS_SET : W_EVENTS_DROP, "cannot compact the journal"))
        return false;
    exj_sqlite_bind(s->st[W_META_MAX], 1, EXJ_SLICE_LITERAL("events_from"));
    sqlite3_bind_int64(s->st[W_META_MAX], 2, r->first + r->n);
    return exj_sqlite_run(s, W_META_MAX, "cannot note what is gone of the journal");
}

/* The first entry that an event sink may still have to deliver; s->err when it fails. */
static bool undelivered(exj_sqlite *s, int64_t *ret)
{
    int64_t there = 0;

    *ret = INT64_MAX;
    return exj_sqlite_number(s, s->db, "SELECT 1 FROM sqlite_schema WHERE name='exj_sinks'",
                             &there, &s->err) == EXJ_OK &&
           (!there || exj_sqlite_number(s, s->db, "SELECT min(position)+1 FROM exj_sinks"
                                        " HAVING count(*)>0", ret, &s->err) == EXJ_OK);
}

bool exj_sqlite_compact(exj_sqlite *s, exj_op *op)
{
    int64_t below;
    sqlite3_stmt *st = s->st[W_EVENTS_NEXT];
    exj_buf left = EXJ_BUF_INIT;
    size_t looked = 0;
    bool good = true;

    op->u.compact.ret_after = op->u.compact.after;
    op->u.compact.ret_end = false;
    op->u.compact.ret_dropped = 0;
    if (!undelivered(s, &below))
        return false;
    while (good && !op->u.compact.ret_end && looked < op->u.compact.limit) {
        struct record r = { 0 };
        size_t kept = 0, dropped = 0;
        int rc;

        sqlite3_bind_int64(st, 1, op->u.compact.ret_after);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            r = (struct record){ sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1),
                                 { sqlite3_column_blob(st, 2),
                                   (size_t)sqlite3_column_bytes(st, 2) } };
        good = rc == SQLITE_ROW || rc == SQLITE_DONE;
        if (!good)
            exj_sqlite_fail(s, s->db, "cannot read the journal", &s->err);
        /* The record of entries that are still to be delivered stays as it is. */
        op->u.compact.ret_end = rc != SQLITE_ROW || r.first + r.n > below;
        if (good && !op->u.compact.ret_end) {
            exj_buf_reset(&left);
            good = sift(s, &r, &left, &kept, &dropped);
        }
        sqlite3_reset(st);
        if (!good || op->u.compact.ret_end)
            break;
        if (dropped)
            good = save_record(s, &r, &left, kept || r.first + r.n == s->saved_number);
        op->u.compact.ret_after = r.first;
        op->u.compact.ret_dropped += dropped;
        looked += kept + dropped + 1;
    }
    exj_buf_release(&left);
    return good;
}

/* ---- coming back ------------------------------------------------------------------------------- */

/* The entries as they were, with new numbers (left in `previous`); one record for those of one
 * instant. */
static bool restore_entries(exj_sqlite *s, exj_archived *a, int64_t seq, int64_t *ret_last)
{
    int64_t previous = 0;

    if (a->entries_len && !exj_sqlite_flush_events(s, s->now))
        return false;

    for (size_t i = 0; i < a->entries_len; i++) {
        exj_journal_entry e = a->entries[i];

        e.seq = seq;
        e.previous = previous;
        if (i && e.at != a->entries[i - 1].at && !exj_sqlite_flush_events(s, a->entries[i - 1].at))
            return false;
        if (!exj_sqlite_note(s, e, &previous))
            return false;
        a->entries[i].previous = previous;
    }
    *ret_last = previous;
    return !a->entries_len || exj_sqlite_flush_events(s, a->entries[a->entries_len - 1].at);
}

/* The new number of the entry that had this one. */
static int64_t renumbered(const exj_archived *a, int64_t number)
{
    for (size_t i = 0; i < a->entries_len; i++)
        if (a->entries[i].number == number)
            return a->entries[i].previous;
    return number;
}

static bool restore_steps(exj_sqlite *s, const exj_archived *a, int64_t seq)
{
    sqlite3_stmt *st = s->st[W_PAST_STEP_ADD];

    for (size_t i = 0; i < a->steps_len; i++) {
        const exj_step_view *v = &a->steps[i];

        sqlite3_bind_int64(st, 1, seq);
        exj_sqlite_bind(st, 2, v->key);
        sqlite3_bind_int64(st, 3, v->token);
        sqlite3_bind_int64(st, 4, v->attempt);
        sqlite3_bind_int64(st, 5, v->at);
        exj_sqlite_bind(st, 6, v->body);
        sqlite3_bind_int64(st, 7, v->done);
        sqlite3_bind_int64(st, 8, renumbered(a, v->number));
        sqlite3_bind_int64(st, 9, v->began_at);
        if (!exj_sqlite_run(s, W_PAST_STEP_ADD, "cannot restore a step") ||
            !exj_sqlite_point(s, v->body))
            return false;
    }
    return true;
}

static bool restore_failures(exj_sqlite *s, const exj_archived *a, int64_t seq)
{
    exj_msec now = s->now;
    bool good = true;

    for (size_t i = 0; good && i < a->failures_len; i++) {
        const exj_failure_view *f = &a->failures[i];

        s->now = f->at;
        good = exj_sqlite_add_failure(s, seq, f->token, f->attempt, 0, f->code, f->text);
    }
    s->now = now;
    return good;
}

static bool restore_result(exj_sqlite *s, const exj_archived *a, int64_t seq, int64_t last)
{
    sqlite3_stmt *st = s->st[W_RESULT_ADD];

    sqlite3_bind_int64(st, 1, seq);
    sqlite3_bind_int64(st, 2, (int)a->status);
    sqlite3_bind_int64(st, 3, a->attempts);
    sqlite3_bind_int64(st, 4, a->token);
    sqlite3_bind_int64(st, 5, 0);
    sqlite3_bind_int64(st, 6, a->finished_at);
    exj_sqlite_bind(st, 7, a->error_code);
    exj_sqlite_bind(st, 8, a->error_text);
    exj_sqlite_bind(st, 9, a->result);
    sqlite3_bind_int64(st, 10, last);
    return exj_sqlite_run(s, W_RESULT_ADD, "cannot restore a result") &&
           exj_sqlite_point(s, a->result);
}

static bool restore_row(exj_sqlite *s, const exj_op *op, const exj_archived *a, int64_t seq,
                        bool *ret_there)
{
    sqlite3_stmt *row = s->st[W_ROW_ADD], *extras = s->st[W_EXTRAS_ADD];

    sqlite3_bind_int64(row, 1, seq);
    sqlite3_bind_int64(row, 2, op->u.restore.pool);
    exj_sqlite_bind(row, 3, a->record_id);
    sqlite3_bind_int64(row, 4, a->priority);
    sqlite3_bind_int64(row, 5, a->max_attempts);
    sqlite3_bind_int64(row, 6, a->created_at);
    exj_sqlite_bind(row, 7, a->input);
    if (!exj_sqlite_run(s, W_ROW_ADD, "cannot restore a row"))
        return false;
    *ret_there = sqlite3_changes(s->db) == 0;
    if (!*ret_there && !exj_sqlite_point(s, a->input))
        return false;
    if (*ret_there || (!a->unique_key.n && !a->concurrency_key.n && !a->snapshot.n))
        return true;
    sqlite3_bind_int64(extras, 1, seq);
    exj_sqlite_bind(extras, 2, a->unique_key);
    exj_sqlite_bind(extras, 3, a->concurrency_key);
    exj_sqlite_bind(extras, 4, a->snapshot);
    return exj_sqlite_run(s, W_EXTRAS_ADD, "cannot restore what a row carries");
}

bool exj_sqlite_restore(exj_sqlite *s, exj_op *op)
{
    exj_archived *a = op->u.restore.row;
    int64_t seq = s->next_seq, last = 0;
    bool there;

    if (!exj_sqlite_has_pool(s, op->u.restore.pool)) {
        op->rc = exj_err_set(&op->err, EXJ_NOT_FOUND, "no pool %" PRId64, op->u.restore.pool);
        return true;
    }
    if (!exj_status_is_terminal(a->status)) {
        op->rc = exj_err_set(&op->err, EXJ_INVALID, "a row that is %s is no archived row",
                             exj_status_word(a->status));
        return true;
    }
    op->u.restore.ret_seq = 0;
    if (!restore_row(s, op, a, seq, &there))
        return false;
    if (there)
        return true;
    s->next_seq++;
    op->u.restore.ret_seq = seq;
    sqlite3_bind_int64(s->st[W_PAST_DROP], 1, op->u.restore.pool);
    exj_sqlite_bind(s->st[W_PAST_DROP], 2, a->record_id);
    if (!exj_sqlite_run(s, W_PAST_DROP, "cannot note that a row is back") ||
        !restore_entries(s, a, seq, &last) || !restore_steps(s, a, seq) ||
        !restore_failures(s, a, seq) || !restore_result(s, a, seq, last))
        return false;
    exj_sqlite_count(s, op->u.restore.pool, -1, (int)a->status, 1);
    return true;
}

/* ---- looking [any thread] ------------------------------------------------------------------------ */

exj_code exj_sqlite_ended(exj_store *base, int64_t after, exj_msec created_before, size_t limit,
                          exj_ended_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc;

    if (limit < 1 || limit > 10000)
        return exj_err_set(err, EXJ_INVALID, "%zu rows: 1 to 10000 are allowed", limit);
    rc = exj_sqlite_read_begin(s, R_ENDED, &r, &st, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, after);
    sqlite3_bind_int64(st, 2, (int64_t)limit);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_ended_view v = { .seq = sqlite3_column_int64(st, 0),
                             .pool = sqlite3_column_int64(st, 1),
                             .status = (exj_status)sqlite3_column_int(st, 2),
                             .token = sqlite3_column_int64(st, 3),
                             .finished_at = sqlite3_column_int64(st, 4),
                             .created_at = sqlite3_column_int64(st, 5) };

        if (v.created_at >= created_before || !visit(user, &v))
            break;
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}
