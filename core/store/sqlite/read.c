/* core/store/sqlite/read.c - reads, on read-only connections of their own; any thread.
 *
 * A connection is taken from the free list for one call and put back after it, so visitors
 * run without a lock. A read transaction lives as long as its call.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define READERS_KEPT 8u
#define LOAD_GAP 8 /* rows of others that are cheaper to step over than to seek past */

#define ROWS "exellix_execution_matrix_rows"
#define DOC_COLUMNS "id, version, body, created_at, updated_at"
#define ROW_COLUMNS                                                                            \
    "r.seq, r.pool, p.matrix, p.run, p.graph, r.record_id, r.input, r.priority,"               \
    " r.max_attempts, r.created_at, h.status, h.attempts, h.fence, h.run_after, h.until,"      \
    " n.name, t.status, t.attempts, t.fence, t.at, t.body," LAST_FAILURE("error_code", "code") \
    "," LAST_FAILURE("error_text", "text")                                                     \
    ", h.flags, coalesce(h.last, t.last), w.signal, x.ukey, x.ckey, x.snapshot, g.at, g.note,"  \
    " g.fence"
/* An ended row has its own; a live one shows what its last failed attempt said. */
#define LAST_FAILURE(ended, live)                                                              \
    " CASE WHEN h.seq IS NULL THEN t." ended " ELSE (SELECT f." live                           \
    " FROM exellix_execution_matrix_failures f WHERE f.seq=r.seq ORDER BY f.fence DESC"        \
    " LIMIT 1) END"
#define ROW_FILTER                                                                             \
    " AND (?2='' OR p.matrix=?2) AND (?3='' OR p.run=?3) AND (?4='' OR p.graph=?4)"
/* What only few rows have. */
#define JOIN_REST                                                                              \
    " LEFT JOIN exj_holders n ON n.id=h.holder LEFT JOIN exj_waits w ON w.seq=r.seq"           \
    " LEFT JOIN exj_extras x ON x.seq=r.seq LEFT JOIN exj_progress g ON g.seq=r.seq"
#define FROM_ROWS                                                                              \
    " FROM " ROWS " r CROSS JOIN exj_pools p ON p.id=r.pool"                                   \
    " LEFT JOIN exj_hot h ON h.seq=r.seq LEFT JOIN exj_results t ON t.seq=r.seq" JOIN_REST
#define FROM_HOT                                                                               \
    " FROM exj_hot h CROSS JOIN " ROWS " r ON r.seq=h.seq"                                     \
    " CROSS JOIN exj_pools p ON p.id=r.pool LEFT JOIN exj_results t ON t.seq=r.seq"            \
    JOIN_REST
#define FROM_RESULTS " FROM exj_results t" JOIN_RESULTS
#define FROM_RESULTS_BLOCKED                                                                   \
    " FROM exj_results t INDEXED BY exj_results_blocked" JOIN_RESULTS
#define JOIN_RESULTS                                                                           \
    " CROSS JOIN " ROWS " r ON r.seq=t.seq"                                                    \
    " CROSS JOIN exj_pools p ON p.id=r.pool LEFT JOIN exj_hot h ON h.seq=r.seq"                \
    JOIN_REST

#define SCHEDULE_COLUMNS                                                                       \
    "d.id, d.body, d.version, d.created_at, d.updated_at, s.turn, s.version, s.last_tick,"     \
    " s.next_due, s.paused, s.times, s.error, s.error_at, s.fired, s.skipped, s.last_fired"  \
    " FROM exellix_schedule_configs d LEFT JOIN exj_schedules s ON s.id=d.id"

static const char *const texts[R_COUNT] = {
    [R_LOAD] = "SELECT seq, record_id, input FROM " ROWS " WHERE seq BETWEEN ?1 AND ?2"
               " ORDER BY seq",
    [R_GRAPH_GET] = "SELECT " DOC_COLUMNS " FROM exellix_graph_configs WHERE id=?1",
    [R_MATRIX_GET] = "SELECT " DOC_COLUMNS " FROM exellix_matrix_configs WHERE id=?1",
    [R_GRAPH_PAGE] = "SELECT " DOC_COLUMNS " FROM exellix_graph_configs WHERE id>?1"
                     " ORDER BY id LIMIT ?2",
    [R_MATRIX_PAGE] = "SELECT " DOC_COLUMNS " FROM exellix_matrix_configs WHERE id>?1"
                      " ORDER BY id LIMIT ?2",
    [R_POOLS] = "SELECT id, matrix, run, graph, n0, n1, n2, n3, n4, n5, n6, n7, n8, n9"
                " FROM exj_pools ORDER BY id",
    [R_ROW] = "SELECT " ROW_COLUMNS FROM_ROWS " WHERE r.record_id=?1 AND r.pool="
              "(SELECT id FROM exj_pools WHERE matrix=?2 AND run=?3 AND graph=?4)",
    [R_PAGE_ANY] = "SELECT " ROW_COLUMNS FROM_ROWS " WHERE r.seq>?1" ROW_FILTER
                   " ORDER BY r.seq LIMIT ?5",
    [R_PAGE_OPEN] = "SELECT " ROW_COLUMNS FROM_HOT " WHERE h.seq>?1 AND h.status IN (0, 1, 9)"
                    ROW_FILTER " ORDER BY h.seq LIMIT ?5",
    [R_PAGE_STATUS] = "SELECT " ROW_COLUMNS FROM_HOT " WHERE h.seq>?1 AND h.status=?6"
                      ROW_FILTER " ORDER BY h.seq LIMIT ?5",
    [R_PAGE_COMPLETED] = "SELECT " ROW_COLUMNS FROM_RESULTS " WHERE t.seq>?1 AND t.status=3"
                         ROW_FILTER " ORDER BY t.seq LIMIT ?5",
    [R_PAGE_ENDED] = "SELECT " ROW_COLUMNS FROM_RESULTS
                     " WHERE t.seq>?1 AND t.status<>3 AND t.status=?6"
                     " AND (?7='' OR t.error_code=?7)" ROW_FILTER " ORDER BY t.seq LIMIT ?5",
    /* The index holds blocked rows only; the codes of all others cost nobody anything. */
    [R_PAGE_BLOCKED_CODE] = "SELECT " ROW_COLUMNS FROM_RESULTS_BLOCKED
                            " WHERE t.seq>?1 AND t.status=5 AND t.error_code=?7" ROW_FILTER
                            " ORDER BY t.seq LIMIT ?5",
    [R_RECENT] = "SELECT " ROW_COLUMNS FROM_RESULTS " WHERE t.status=?2 AND r.pool=?1"
                 " ORDER BY t.seq DESC LIMIT ?3",
    [R_ROW_SEQ] = "SELECT " ROW_COLUMNS FROM_ROWS " WHERE r.seq=?1",
    [R_ROW_NAME] = "SELECT r.pool, p.matrix, p.run, p.graph, r.record_id FROM " ROWS " r"
                   " JOIN exj_pools p ON p.id=r.pool WHERE r.seq=?1",
    [R_STEP] = "SELECT body FROM exj_journal WHERE seq=?1 AND step=?2 AND done=1",
    [R_STEPS] = "SELECT step, body, done, fence, number, attempt, began_at, at FROM exj_journal"
                " WHERE seq=?1 ORDER BY number, step",
    [R_EVENTS] = "SELECT first, n, at, body FROM exj_events WHERE first>="
                 "coalesce((SELECT max(first) FROM exj_events WHERE first<=?1+1), 0)"
                 " ORDER BY first",
    [R_BATCH_OF] = "SELECT first, n, at, body FROM exj_events WHERE first<=?1"
                   " ORDER BY first DESC LIMIT 1",
    [R_LAST] = "SELECT coalesce((SELECT last FROM exj_hot WHERE seq=?1),"
               " (SELECT last FROM exj_results WHERE seq=?1))",
    [R_EVENTS_SPAN] = "SELECT coalesce((SELECT value FROM exj_meta WHERE key='events_from'), 1),"
                      " coalesce((SELECT first+n-1 FROM exj_events ORDER BY first DESC LIMIT 1),"
                      " 0)",
    [R_SIGNALS] = "SELECT name, body, at FROM exj_signals WHERE seq=?1 ORDER BY id",
    [R_FAILURE_COUNT] = "SELECT count(*) FROM exellix_execution_matrix_failures WHERE seq=?1"
                        " AND code=?2 AND fence>coalesce((SELECT fence FROM exj_retried"
                        " WHERE seq=?1), -1)",
    [R_FAILURES] = "SELECT fence, attempt, at, code, text FROM exellix_execution_matrix_failures"
                   " WHERE seq=?1 ORDER BY fence DESC LIMIT ?2",
    [R_ENDED] = "SELECT t.seq, r.pool, t.status, t.fence, t.at, r.created_at FROM exj_results t"
                " CROSS JOIN " ROWS " r ON r.seq=t.seq WHERE t.seq>?1 ORDER BY t.seq LIMIT ?2",
    [R_BLOB] = "SELECT refs FROM exj_blobs WHERE hash=?1",
    [R_KV] = "SELECT value FROM exj_kv WHERE graph=?1 AND key=?2",
    [R_KV_PAGE] = "SELECT k.key, k.value, k.at, k.seq, p.matrix, p.run, p.graph, r.record_id"
                  " FROM exj_kv k LEFT JOIN " ROWS " r ON r.seq=k.seq"
                  " LEFT JOIN exj_pools p ON p.id=r.pool WHERE k.graph=?1 AND k.key>?2"
                  " ORDER BY k.key LIMIT ?3",
    [R_SINK] = "SELECT position FROM exj_sinks WHERE name=?1",
    [R_HELD] = "SELECT number, seq, tries, at, error, body FROM exj_held WHERE sink=?1"
               " ORDER BY number LIMIT ?2",
    [R_DEAD] = "SELECT id, number, seq, tries, at, sink, error, body FROM exj_dead"
               " WHERE id>?2 AND (?1='' OR sink=?1) ORDER BY id LIMIT ?3",
    [R_SCHEDULE_DOC] = "SELECT " DOC_COLUMNS " FROM exellix_schedule_configs WHERE id=?1",
    [R_SCHEDULE_DOCS] = "SELECT " DOC_COLUMNS " FROM exellix_schedule_configs WHERE id>?1"
                        " ORDER BY id LIMIT ?2",
    [R_SCHEDULE] = "SELECT " SCHEDULE_COLUMNS " WHERE d.id=?1",
    [R_SCHEDULES] = "SELECT " SCHEDULE_COLUMNS " WHERE d.id>?1 ORDER BY d.id LIMIT ?2",
    [R_SCHEDULES_DUE] = "SELECT " SCHEDULE_COLUMNS " WHERE d.id>?1 AND (s.id IS NULL"
                        " OR s.version<>d.version OR (s.next_due<>0 AND s.next_due<=?3))"
                        " ORDER BY d.id LIMIT ?2",
    [R_SCHEDULE_NEXT] = "SELECT next_due FROM exj_schedules INDEXED BY exj_schedules_due"
                        " WHERE next_due<>0 ORDER BY next_due LIMIT 1",
    [R_RUNS_ASKED] = "SELECT matrix, run FROM exj_runs INDEXED BY exj_runs_asked WHERE done=0"
                     " ORDER BY id",
    [R_RUNS_OPEN] = "SELECT DISTINCT p.matrix, p.run FROM exj_pools p INDEXED BY exj_pools_open"
                    " WHERE p.run<>'' AND p.n0+p.n1+p.n2+p.n6+p.n9>0 AND EXISTS(SELECT 1"
                    " FROM exj_runs r WHERE r.matrix=p.matrix AND r.run=p.run AND r.done=1)",
    [R_PROBE_CONFIG] = "SELECT (SELECT count(*) FROM (SELECT 1 FROM exellix_graph_configs"
                       " LIMIT 1)) + (SELECT count(*) FROM (SELECT 1 FROM"
                       " exellix_matrix_configs LIMIT 1))",
    [R_PROBE_EXECUTION] = "SELECT count(*) FROM (SELECT 1 FROM " ROWS " LIMIT 1)",
};

/* ---- connections ------------------------------------------------------------------------------ */

static void reader_free(exj_reader *r)
{
    if (!r)
        return;
    for (int i = 0; i < R_COUNT; i++)
        sqlite3_finalize(r->st[i]);
    sqlite3_close_v2(r->db);
    free(r);
}

static exj_code reader_take(exj_sqlite *s, exj_reader **ret, exj_err *err)
{
    exj_reader *r;
    exj_code rc;

    pthread_mutex_lock(&s->readers_mu);
    r = s->readers;
    if (r) {
        s->readers = r->next;
        s->readers_idle--;
    }
    pthread_mutex_unlock(&s->readers_mu);
    if (!r) {
        r = calloc(1, sizeof(*r));
        if (!r)
            return exj_err_set(err, EXJ_NOMEM, "store %s: no memory for a reader", s->path);
        rc = exj_sqlite_connect(s, SQLITE_OPEN_READONLY, &r->db, err);
        if (!rc)
            rc = exj_sqlite_exec(s, r->db, "PRAGMA cache_size=-512", err);
        if (rc) {
            reader_free(r);
            return rc;
        }
    }
    *ret = r;
    return EXJ_OK;
}

static void reader_put(exj_sqlite *s, exj_reader *r)
{
    /* One whose ROLLBACK failed for lack of memory would show its old view for ever. */
    bool is_good = sqlite3_get_autocommit(r->db);

    pthread_mutex_lock(&s->readers_mu);
    if (is_good && s->readers_idle < READERS_KEPT) {
        r->next = s->readers;
        s->readers = r;
        s->readers_idle++;
        r = NULL;
    }
    pthread_mutex_unlock(&s->readers_mu);
    reader_free(r);
}

void exj_sqlite_close_readers(exj_sqlite *s)
{
    while (s->readers) {
        exj_reader *r = s->readers;

        s->readers = r->next;
        reader_free(r);
    }
}

/* Take a connection and its statement; both go back with `end`. */
exj_code exj_sqlite_read_begin(exj_sqlite *s, enum exj_sqlite_read which, exj_reader **ret,
                      sqlite3_stmt **ret_st, exj_err *err)
{
    exj_reader *r = NULL;
    exj_code rc = reader_take(s, &r, err);

    if (rc)
        return rc;
    rc = exj_sqlite_read_also(s, r, which, ret_st, err);
    if (rc)
        reader_put(s, r);
    *ret = r;
    return rc;
}

/* `step`: what the last step said; anything but ROW and DONE is an error. */
exj_code exj_sqlite_read_end(exj_sqlite *s, exj_reader *r, sqlite3_stmt *st, int step, exj_err *err)
{
    exj_code rc = EXJ_OK;

    if (step != SQLITE_ROW && step != SQLITE_DONE)
        rc = exj_sqlite_fail(s, r->db, "cannot read", err);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st); /* they point into the caller's memory */
    reader_put(s, r);
    return rc;
}

exj_code exj_sqlite_read_also(exj_sqlite *s, exj_reader *r, enum exj_sqlite_read which,
                              sqlite3_stmt **ret_st, exj_err *err)
{
    if (!r->st[which] &&
        sqlite3_prepare_v3(r->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, &r->st[which],
                           NULL) != SQLITE_OK)
        return exj_sqlite_fail(s, r->db, "cannot prepare a read", err);
    *ret_st = r->st[which];
    return EXJ_OK;
}

exj_code exj_sqlite_probe(exj_sqlite *s, enum exj_sqlite_read which, exj_err *err)
{
    exj_reader *r;
    sqlite3_stmt *st;
    exj_code rc = exj_sqlite_read_begin(s, which, &r, &st, err);

    return rc ? rc : exj_sqlite_read_end(s, r, st, sqlite3_step(st), err);
}

/* ---- inputs of claimed rows ---------------------------------------------------------------------- */

struct wanted {
    int64_t seq;
    size_t at; /* place in claims */
};

static int by_seq(const void *a, const void *b)
{
    int64_t x = ((const struct wanted *)a)->seq, y = ((const struct wanted *)b)->seq;

    return (x > y) - (x < y);
}

/* Until the arena stands still, `p` carries an offset into it. */
static const char *offset_as_pointer(size_t offset)
{
    return (const char *)(uintptr_t)offset;
}

/* One range of neighbouring rows: w[0..n), by seq. */
static exj_code load_range(exj_sqlite *s, sqlite3_stmt *st, const struct wanted *w, size_t n,
                           exj_loaded *ret, exj_buf *arena, int *ret_step, exj_err *err)
{
    size_t i = 0;
    exj_code rc_value;
    int rc;

    sqlite3_bind_int64(st, 1, w[0].seq);
    sqlite3_bind_int64(st, 2, w[n - 1].seq);
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && i < n) {
        int64_t seq = sqlite3_column_int64(st, 0);
        exj_slice id, input;

        if (seq < w[i].seq)
            continue;
        if (seq > w[i].seq)
            break;
        id = exj_sqlite_column(st, 1);
        input = exj_sqlite_column(st, 2);
        for (; i < n && w[i].seq == seq; i++) {
            exj_loaded *l = &ret[w[i].at];

            l->record_id = (exj_slice){ offset_as_pointer(arena->n), id.n };
            if (!exj_buf_add_slice(arena, id)) {
                *ret_step = SQLITE_ROW;
                return exj_err_set(err, EXJ_NOMEM, "store %s: no memory for inputs", s->path);
            }
            l->input.p = offset_as_pointer(arena->n);
            rc_value = exj_sqlite_value(s, seq, "the input", input, arena, err);
            if (rc_value) {
                *ret_step = SQLITE_ROW;
                return rc_value;
            }
            l->input.n = arena->n - (size_t)(uintptr_t)l->input.p;
        }
    }
    *ret_step = rc;
    if ((rc == SQLITE_ROW || rc == SQLITE_DONE) && i < n)
        return exj_err_set(err, EXJ_CORRUPT,
                           "store %s: row %" PRId64 " is claimed and has no input", s->path,
                           w[i].seq);
    sqlite3_reset(st);
    return EXJ_OK;
}

static exj_code load(exj_store *base, const exj_claim *claims, size_t n, exj_loaded *ret,
                     exj_buf *arena, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    struct wanted *w = NULL;
    exj_reader *r = NULL;
    sqlite3_stmt *st = NULL;
    bool sorted = true;
    int step = SQLITE_DONE;
    exj_code rc, ended;

    if (n == 0)
        return EXJ_OK;
    w = malloc(n * sizeof(*w));
    if (!w)
        return exj_err_set(err, EXJ_NOMEM, "store %s: no memory for inputs", s->path);
    for (size_t i = 0; i < n; i++) {
        w[i] = (struct wanted){ claims[i].seq, i };
        sorted = sorted && (i == 0 || claims[i - 1].seq <= claims[i].seq);
    }
    if (!sorted)
        qsort(w, n, sizeof(*w), by_seq);
    rc = exj_sqlite_read_begin(s, R_LOAD, &r, &st, err);
    if (rc)
        goto out;
    for (size_t i = 0, k; i < n && !rc && step == SQLITE_DONE; i = k) {
        for (k = i + 1; k < n && w[k].seq - w[k - 1].seq <= LOAD_GAP;)
            k++;
        rc = load_range(s, st, w + i, k - i, ret, arena, &step, err);
    }
    ended = exj_sqlite_read_end(s, r, st, step, err);
    rc = rc ? rc : ended;
    for (size_t i = 0; i < n && !rc; i++) {
        ret[i].record_id.p = arena->p + (uintptr_t)ret[i].record_id.p;
        ret[i].input.p = arena->p + (uintptr_t)ret[i].input.p;
    }
out:
    free(w);
    return rc;
}

/* ---- documents ---------------------------------------------------------------------------- */

static bool visit_doc(sqlite3_stmt *st, exj_doc_visit visit, void *user)
{
    return visit(user, exj_sqlite_column(st, 0), sqlite3_column_int64(st, 1),
                 exj_sqlite_column(st, 2), sqlite3_column_int64(st, 3),
                 sqlite3_column_int64(st, 4));
}

static const struct doc_reads {
    const char *noun;
    enum exj_sqlite_read get, page;
} doc_reads[] = {
    [EXJ_DOC_GRAPH] = { "graph", R_GRAPH_GET, R_GRAPH_PAGE },
    [EXJ_DOC_MATRIX] = { "matrix", R_MATRIX_GET, R_MATRIX_PAGE },
    [EXJ_DOC_SCHEDULE] = { "schedule", R_SCHEDULE_DOC, R_SCHEDULE_DOCS },
};

static exj_code doc_get(exj_store *base, exj_doc_kind kind, exj_slice id, exj_doc_visit visit,
                        void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, doc_reads[kind].get, &r, &st, err);

    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, id);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        visit_doc(st, visit, user);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc && step == SQLITE_DONE)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "no %s \"%.*s\"",
                         doc_reads[kind].noun,
                         id.n > 200 ? 200 : (int)id.n, id.p);
    return rc;
}

static exj_code doc_page(exj_store *base, exj_doc_kind kind, exj_slice after_id, size_t limit,
                         exj_doc_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, doc_reads[kind].page, &r, &st, err);

    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, after_id);
    sqlite3_bind_int64(st, 2, (int64_t)limit);
    while ((step = sqlite3_step(st)) == SQLITE_ROW)
        if (!visit_doc(st, visit, user))
            break;
    return exj_sqlite_read_end(s, r, st, step, err);
}

/* ---- pools and rows ------------------------------------------------------------------------------------ */

static exj_code pools(exj_store *base, exj_pool_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_POOLS, &r, &st, err);

    if (rc)
        return rc;
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_pool_info p = { .pool = sqlite3_column_int64(st, 0),
                            .matrix = exj_sqlite_column(st, 1),
                            .run = exj_sqlite_column(st, 2),
                            .graph = exj_sqlite_column(st, 3) };

        for (int i = 0; i < EXJ_STATUS_COUNT; i++)
            p.counts[i] = sqlite3_column_int64(st, 4 + i);
        if (!visit(user, &p))
            break;
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}

struct visiting {
    exj_row_visit visit;
    void *user;
    bool more;
};

static exj_code row_by_seq(exj_store *base, int64_t seq, exj_row_visit visit, void *user,
                           exj_err *err);

static bool pass_on(void *user, const exj_row_view *r)
{
    struct visiting *v = user;

    return v->more = v->visit(v->user, r);
}

/* The row as it is now; it may be gone. */
static bool visit_now(exj_sqlite *s, int64_t seq, exj_row_visit visit, void *user, exj_err *err,
                      exj_code *ret)
{
    struct visiting v = { visit, user, true };

    exj_err_clear(err);
    *ret = row_by_seq(&s->base, seq, pass_on, &v, err);
    if (*ret == EXJ_NOT_FOUND) {
        exj_err_clear(err);
        *ret = EXJ_OK;
    }
    return v.more && !*ret;
}

/* The columns of ROW_COLUMNS. A row is in exj_hot or in exj_results, never in both. */
static bool visit_row(exj_sqlite *s, sqlite3_stmt *st, exj_row_visit visit, void *user,
                      exj_err *err, exj_code *ret)
{
    bool is_hot = sqlite3_column_type(st, 10) != SQLITE_NULL;
    exj_row_view v = { .seq = sqlite3_column_int64(st, 0),
                       .pool = sqlite3_column_int64(st, 1),
                       .matrix = exj_sqlite_column(st, 2),
                       .run = exj_sqlite_column(st, 3),
                       .graph = exj_sqlite_column(st, 4),
                       .record_id = exj_sqlite_column(st, 5),
                       .input = exj_sqlite_column(st, 6),
                       .priority = sqlite3_column_int(st, 7),
                       .max_attempts = (uint32_t)sqlite3_column_int64(st, 8),
                       .created_at = sqlite3_column_int64(st, 9) };
    exj_buf input = EXJ_BUF_INIT, result = EXJ_BUF_INIT; /* when they are in blobs */
    bool more;

    if (!is_hot && sqlite3_column_type(st, 16) == SQLITE_NULL) {
        *ret = exj_err_set(err, EXJ_CORRUPT,
                           "store %s: row %" PRId64 " is neither queued nor ended", s->path,
                           v.seq);
        return false;
    }
    if (is_hot) {
        v.status = (exj_status)sqlite3_column_int(st, 10);
        v.attempts = (uint32_t)sqlite3_column_int64(st, 11);
        v.token = sqlite3_column_int64(st, 12);
        if (v.status == EXJ_WAITING || v.status == EXJ_SUSPENDED)
            v.run_after = sqlite3_column_int64(st, 13);
        if (v.run_after == EXJ_LIVE_NEVER)
            v.run_after = 0;
        v.lease_until = sqlite3_column_int64(st, 14);
        v.holder = exj_sqlite_column(st, 15);
    } else {
        v.status = (exj_status)sqlite3_column_int(st, 16);
        v.attempts = (uint32_t)sqlite3_column_int64(st, 17);
        v.token = sqlite3_column_int64(st, 18);
        v.finished_at = sqlite3_column_int64(st, 19);
        v.result = exj_sqlite_column(st, 20);
    }
    v.error_code = exj_sqlite_column(st, 21);
    v.error_text = exj_sqlite_column(st, 22);
    v.cancel_asked = sqlite3_column_int64(st, 23) & EXJ_LIVE_CANCEL;
    v.last_entry = sqlite3_column_int64(st, 24);
    v.signal = exj_sqlite_column(st, 25);
    v.unique_key = exj_sqlite_column(st, 26);
    v.concurrency_key = exj_sqlite_column(st, 27);
    v.snapshot = exj_sqlite_column(st, 28);
    v.progress = -1;
    if (sqlite3_column_type(st, 29) != SQLITE_NULL && sqlite3_column_int64(st, 31) == v.token) {
        v.progress = sqlite3_column_double(st, 29);
        v.progress_note = exj_sqlite_column(st, 30);
    }
    *ret = exj_sqlite_value_of(s, v.seq, "the input", &v.input, &input, err);
    if (!*ret)
        *ret = exj_sqlite_value_of(s, v.seq, "the result", &v.result, &result, err);
    if (*ret == EXJ_BUSY) /* it has changed since this view was taken */
        more = visit_now(s, v.seq, visit, user, err, ret);
    else
        more = !*ret && visit(user, &v);
    exj_buf_release(&input);
    exj_buf_release(&result);
    return more;
}

static exj_code row_get(exj_store *base, exj_slice matrix, exj_slice run, exj_slice graph,
                        exj_slice record_id, exj_row_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_ROW, &r, &st, err), seen = EXJ_OK;

    if (rc)
        return rc;
    exj_sqlite_bind(st, 1, record_id);
    exj_sqlite_bind(st, 2, matrix);
    exj_sqlite_bind(st, 3, run);
    exj_sqlite_bind(st, 4, graph);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        visit_row(s, st, visit, user, err, &seen);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc && step == SQLITE_DONE)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "no row of record \"%.*s\"",
                         record_id.n > 200 ? 200 : (int)record_id.n, record_id.p);
    return rc ? rc : seen;
}

static exj_code row_by_seq(exj_store *base, int64_t seq, exj_row_visit visit, void *user,
                           exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_ROW_SEQ, &r, &st, err), seen = EXJ_OK;

    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, seq);
    step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        visit_row(s, st, visit, user, err, &seen);
    rc = exj_sqlite_read_end(s, r, st, step, err);
    if (!rc && step == SQLITE_DONE)
        rc = exj_err_set(err, EXJ_NOT_FOUND, "no row %" PRId64, seq);
    return rc ? rc : seen;
}

static exj_code row_recent(exj_store *base, int64_t pool, exj_status status, size_t limit,
                           exj_row_visit visit, void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc, seen = EXJ_OK;

    if (limit < 1 || limit > 1000)
        return exj_err_set(err, EXJ_INVALID, "%zu rows: 1 to 1000 are allowed", limit);
    rc = exj_sqlite_read_begin(s, R_RECENT, &r, &st, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, pool);
    sqlite3_bind_int64(st, 2, status);
    sqlite3_bind_int64(st, 3, (int64_t)limit);
    while ((step = sqlite3_step(st)) == SQLITE_ROW)
        if (!visit_row(s, st, visit, user, err, &seen))
            break;
    rc = exj_sqlite_read_end(s, r, st, step, err);
    return rc ? rc : seen;
}

static exj_code row_page(exj_store *base, const exj_row_filter *f, exj_row_visit visit,
                         void *user, exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    enum exj_sqlite_read which = R_PAGE_ENDED;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc, seen = EXJ_OK;

    if (f->limit < 1 || f->limit > 1000 || f->status < -1 || f->status >= EXJ_STATUS_COUNT)
        return exj_err_set(err, EXJ_INVALID,
                           "a page of %zu rows of status %d: 1 to 1000, -1 to %d are allowed",
                           f->limit, f->status, EXJ_STATUS_COUNT - 1);
    if (f->error_code.n && f->status != EXJ_FAILED && f->status != EXJ_BLOCKED &&
        f->status != EXJ_CANCELED && f->status != EXJ_DROPPED)
        return exj_err_set(err, EXJ_INVALID,
                           "rows are filtered by error code only with a status that has one: "
                           "failed, blocked, canceled or dropped");
    if (f->status == -1)
        which = R_PAGE_ANY;
    else if (f->status == EXJ_QUEUED)
        which = R_PAGE_OPEN;
    else if (f->status == EXJ_WAITING || f->status == EXJ_RUNNING ||
             f->status == EXJ_SUSPENDED || f->status == EXJ_PARKED)
        which = R_PAGE_STATUS;
    else if (f->status == EXJ_COMPLETED)
        which = R_PAGE_COMPLETED;
    else if (f->status == EXJ_BLOCKED && f->error_code.n)
        which = R_PAGE_BLOCKED_CODE;
    rc = exj_sqlite_read_begin(s, which, &r, &st, err);
    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, f->after_seq);
    exj_sqlite_bind(st, 2, f->matrix);
    exj_sqlite_bind(st, 3, f->run);
    exj_sqlite_bind(st, 4, f->graph);
    sqlite3_bind_int64(st, 5, (int64_t)f->limit);
    if (which == R_PAGE_STATUS || which == R_PAGE_ENDED)
        sqlite3_bind_int64(st, 6, f->status);
    if (which == R_PAGE_ENDED || which == R_PAGE_BLOCKED_CODE)
        exj_sqlite_bind(st, 7, f->error_code);
    while ((step = sqlite3_step(st)) == SQLITE_ROW)
        if (!visit_row(s, st, visit, user, err, &seen))
            break;
    rc = exj_sqlite_read_end(s, r, st, step, err);
    return rc ? rc : seen;
}

static exj_code signal_each(exj_store *base, int64_t seq, exj_signal_visit visit, void *user,
                            exj_err *err)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_reader *r;
    sqlite3_stmt *st;
    int step;
    exj_code rc = exj_sqlite_read_begin(s, R_SIGNALS, &r, &st, err);

    if (rc)
        return rc;
    sqlite3_bind_int64(st, 1, seq);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_signal_view v = { .name = exj_sqlite_column(st, 0),
                              .body = exj_sqlite_column(st, 1),
                              .at = sqlite3_column_int64(st, 2) };

        if (!visit(user, &v))
            break;
    }
    return exj_sqlite_read_end(s, r, st, step, err);
}

static exj_msec now(exj_store *base)
{
    return exj_sqlite_now((exj_sqlite *)base);
}

const exj_store_vtable exj_sqlite_vtable = {
    .name = "sqlite",
    .submit = exj_sqlite_submit,
    .now = now,
    .load = load,
    .doc_get = doc_get,
    .doc_page = doc_page,
    .pools = pools,
    .row_get = row_get,
    .row_page = row_page,
    .row_recent = row_recent,
    .row_by_seq = row_by_seq,
    .step_get = exj_sqlite_step_get,
    .step_each = exj_sqlite_step_each,
    .failure_count = exj_sqlite_failure_count,
    .failure_each = exj_sqlite_failure_each,
    .journal = exj_sqlite_journal,
    .events = exj_sqlite_events,
    .events_span = exj_sqlite_events_span,
    .listen = exj_sqlite_listen,
    .signal_each = signal_each,
    .ended = exj_sqlite_ended,
    .kv_get = exj_sqlite_kv_get,
    .kv_page = exj_sqlite_kv_page,
    .sink_get = exj_sqlite_sink_get,
    .undelivered = exj_sqlite_undelivered,
    .dead_page = exj_sqlite_dead_page,
    .schedule_get = exj_sqlite_schedule_get,
    .schedule_page = exj_sqlite_schedule_page,
    .schedule_next = exj_sqlite_schedule_next,
    .runs = exj_sqlite_runs,
    .health = exj_sqlite_health,
    .close = exj_sqlite_close,
};
