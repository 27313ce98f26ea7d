/* core/store/sqlite/offload.c - large values leave the database for the blob directory.
 *
 * Where a value would stand (input of a row, result, step) stands "@HASH:BYTES". JSON
 * never begins so, and a value that did would be offloaded whatever its size. The value is in
 * core/store/blobs.h's directory before the operation that points to it enters the queue, put
 * there by the thread that submits: the writer never waits for it.
 *
 * Pointers are counted in exj_blobs, in the transaction that makes or drops them: by whoever
 * writes one (exj_sqlite_point), by triggers of the schema where one goes. What nobody points
 * to is removed by the writer after the commit:
 *
 *   an operation is answered     each of its values that got no pointer goes (its row was there
 *                                already, its claim was over, the transaction was rolled back)
 *   pointers were dropped        values whose count is 0 go, then their lines of exj_blobs; so
 *                                a crash in between is made up for when the store opens
 *
 * A file goes for good, so what dropped its last pointer has to be durable first: with `fast`,
 * and when the store opens, the log is synced before anything is removed. Else a loss of power
 * could bring back the pointer, and not the value.
 *
 * A value that is submitted is pinned from before it is looked for until its operation is
 * answered, so it is not removed as somebody else's remainder. After a commit of which nobody
 * knows whether it happened nothing is removed: doctor finds what is left.
 */
#include "core/store/sqlite/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MARK '@'
#define REF_BYTES 96
#define COLLECT_AT_ONCE 64
#define LOOKS 5 /* for a value that is missing */

struct place {
    exj_slice *at, was;
    exj_blob_ref ref;
    char text[REF_BYTES];
};

struct exj_offloaded {
    exj_err err; /* why the operation cannot be done; EXJ_OK: it can */
    size_t n;    /* places that hold a reference now */
    struct place places[];
};

/* For when there is no memory even for the above. */
static struct exj_offloaded no_memory = { .err = { EXJ_NOMEM, "out of memory for large values" } };

/* ---- submitting [any thread] ---------------------------------------------------------------- */

static bool is_large(const exj_sqlite *s, exj_slice v)
{
    return v.n > s->blob_bytes || (v.n && v.p[0] == MARK);
}

/* The i-th value of an operation that may be large; NULL: no more. */
static exj_slice *value_of(exj_op *op, size_t i)
{
    switch (op->kind) {
    case EXJ_OP_INSERT:
        return i < op->u.insert.len ? &op->u.insert.items[i].input : NULL;
    case EXJ_OP_FINISH:
        return i < op->u.finish.len ? &op->u.finish.items[i].result : NULL;
    case EXJ_OP_STEP_PUT:
        return i ? NULL : &op->u.step.body;
    default:
        return NULL;
    }
}

void exj_sqlite_offload(exj_sqlite *s, exj_op *op)
{
    struct exj_offloaded *o;
    size_t large = 0;
    exj_slice *v;

    op->kept = NULL;
    for (size_t i = 0; (v = value_of(op, i)) != NULL; i++)
        large += is_large(s, *v);
    if (!large)
        return;
    o = calloc(1, sizeof(*o) + large * sizeof(o->places[0]));
    op->kept = o ? o : &no_memory;
    for (size_t i = 0; o && o->n < large && (v = value_of(op, i)) != NULL; i++) {
        struct place *p = &o->places[o->n];
        exj_blob_ref ref;

        if (!is_large(s, *v))
            continue;
        if (exj_blobs_put(s->blobs, *v, &ref, &o->err) != EXJ_OK) {
            exj_err_prefix(&o->err, "a value of %zu bytes", v->n);
            return;
        }
        snprintf(p->text, sizeof(p->text), "%c%s:%" PRId64, MARK, ref.hash, ref.bytes);
        p->ref = ref;
        p->at = v;
        p->was = *v;
        *v = exj_slice_of(p->text);
        o->n++;
    }
}

exj_code exj_sqlite_offload_error(const exj_op *op, exj_err *err)
{
    const struct exj_offloaded *o = op->kept;

    return o && o->err.code ? exj_err_set(err, o->err.code, "%s", o->err.text) : EXJ_OK;
}

/* ---- references ------------------------------------------------------------------------------ */

static bool parse_ref(exj_slice text, exj_blob_ref *ret)
{
    int64_t bytes = 0;

    if (text.n < 67 || text.n > REF_BYTES || text.p[0] != MARK || text.p[65] != ':' ||
        !exj_blob_hash_is_valid((exj_slice){ text.p + 1, 64 }))
        return false;
    for (size_t i = 66; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9' || bytes > EXJ_BLOB_MAX_BYTES)
            return false;
        bytes = bytes * 10 + (text.p[i] - '0');
    }
    memcpy(ret->hash, text.p + 1, 64);
    ret->hash[64] = '\0';
    ret->bytes = bytes;
    return true;
}

static bool is_ref(exj_slice text)
{
    return text.n && text.p[0] == MARK;
}

int64_t exj_sqlite_value_bytes(exj_slice text)
{
    exj_blob_ref ref;

    return is_ref(text) && parse_ref(text, &ref) ? ref.bytes : (int64_t)text.n;
}

bool exj_sqlite_point(exj_sqlite *s, exj_slice value)
{
    sqlite3_stmt *st = s->st[W_BLOB_POINT];
    exj_blob_ref ref;

    if (!is_ref(value))
        return true;
    if (!parse_ref(value, &ref)) {
        exj_err_set(&s->err, EXJ_BUG, "a value that begins with %c was not offloaded", MARK);
        return false;
    }
    exj_sqlite_bind(st, 1, exj_slice_of(ref.hash));
    sqlite3_bind_int64(st, 2, ref.bytes);
    return exj_sqlite_run(s, W_BLOB_POINT, "cannot count a large value");
}

/* ---- reading [any thread] -------------------------------------------------------------------- */

/* Does anything point to the value now? A reader's view may be older than that. */
bool exj_sqlite_blob_is_pointed_to(exj_sqlite *s, const exj_blob_ref *ref)
{
    exj_reader *r;
    sqlite3_stmt *st;
    bool yes = true;
    int step;

    if (exj_sqlite_read_begin(s, R_BLOB, &r, &st, NULL) != EXJ_OK)
        return true;
    exj_sqlite_bind(st, 1, exj_slice_of(ref->hash));
    step = sqlite3_step(st);
    if (step == SQLITE_ROW || step == SQLITE_DONE)
        yes = step == SQLITE_ROW && sqlite3_column_int64(st, 0) > 0;
    exj_sqlite_read_end(s, r, st, step, NULL);
    return yes;
}

exj_code exj_sqlite_value(exj_sqlite *s, int64_t seq, const char *what, exj_slice text,
                          exj_buf *ret, exj_err *err)
{
    exj_blob_ref ref;
    exj_err why = { 0 };
    exj_code rc;

    if (!is_ref(text))
        return exj_buf_add_slice(ret, text)
                   ? EXJ_OK
                   : exj_err_set(err, EXJ_NOMEM, "store %s: no memory for %s of row %" PRId64,
                                 s->path, what, seq);
    if (!parse_ref(text, &ref))
        return exj_err_set(err, EXJ_CORRUPT,
                           "store %s: %s of row %" PRId64 " is neither JSON nor a reference to "
                           "a blob: run exellix-jobs doctor",
                           s->path, what, seq);
    rc = exj_blobs_get(s->blobs, &ref, ret, &why);
    /* The caller's view may be older than the last pointer's end; then the value may even have
     * come again since. */
    for (int i = 0; i < LOOKS && rc == EXJ_CORRUPT; i++) {
        if (!exj_sqlite_blob_is_pointed_to(s, &ref))
            return exj_err_set(err, EXJ_BUSY, "store %s: row %" PRId64 " was changed meanwhile: "
                               "read it again", s->path, seq);
        exj_err_clear(&why);
        rc = exj_blobs_get(s->blobs, &ref, ret, &why);
    }
    return rc ? exj_err_set(err, rc, "store %s: %s of row %" PRId64 ": %s", s->path, what, seq,
                            why.text)
              : EXJ_OK;
}

exj_code exj_sqlite_value_of(exj_sqlite *s, int64_t seq, const char *what, exj_slice *text,
                             exj_buf *room, exj_err *err)
{
    exj_code rc;

    if (!is_ref(*text))
        return EXJ_OK;
    exj_buf_reset(room);
    rc = exj_sqlite_value(s, seq, what, *text, room, err);
    if (!rc)
        *text = exj_buf_slice(room);
    return rc;
}

/* ---- removing [writer] ----------------------------------------------------------------------- */

/* Its operation is answered: without a pointer to it, it goes. What cannot be looked up or
 * removed stays; it costs nothing but room. */
static void drop_unless_pointed_to(exj_sqlite *s, const char *hash)
{
    sqlite3_stmt *st = s->st[W_BLOB];
    int step;
    bool stays;

    exj_sqlite_bind(st, 1, exj_slice_of(hash));
    step = sqlite3_step(st);
    stays = step != SQLITE_DONE && !(step == SQLITE_ROW && sqlite3_column_int64(st, 0) <= 0);
    if (step == SQLITE_ROW && !stays && s->fast)
        stays = s->collect = true; /* its last pointer may come back yet */
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    if (!stays)
        exj_blobs_remove(s->blobs, hash, NULL);
}

void exj_sqlite_offload_end(exj_sqlite *s, exj_op *op)
{
    struct exj_offloaded *o = op->kept;
    bool sure = !s->read_only && !atomic_load(&s->failed) && op->rc != EXJ_UNKNOWN;

    op->kept = NULL;
    if (!o || o == &no_memory)
        return;
    for (size_t i = 0; i < o->n; i++) {
        struct place *p = &o->places[i];

        *p->at = p->was;
        exj_blobs_unpin(s->blobs, p->ref.hash);
        if (sure)
            drop_unless_pointed_to(s, p->ref.hash);
    }
    free(o);
}

/* Puts everything that was committed on the disk: a commit that is synced syncs all before it. It
 * must change something, or SQLite writes nothing. Not within a transaction. */
static bool make_durable(exj_sqlite *s)
{
    bool good = sqlite3_exec(s->db,
                             "PRAGMA synchronous=FULL; BEGIN IMMEDIATE;"
                             "INSERT INTO exj_meta(key, value) VALUES('synced', 1)"
                             " ON CONFLICT(key) DO UPDATE SET value=value+1; COMMIT",
                             NULL, NULL, NULL) == SQLITE_OK;

    if (!sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    if (s->fast)
        sqlite3_exec(s->db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
    return good;
}

/* One batch; *ret_more: there may be more. */
static bool collect_some(exj_sqlite *s, bool *durable, bool *ret_more)
{
    char gone[COLLECT_AT_ONCE][EXJ_BLOB_HASH_BYTES];
    sqlite3_stmt *st = s->st[W_BLOBS_FREE];
    size_t n = 0, seen = 0, removed = 0;
    int step;

    *ret_more = false;
    sqlite3_bind_int64(st, 1, COLLECT_AT_ONCE);
    while ((step = sqlite3_step(st)) == SQLITE_ROW) {
        exj_slice hash = exj_sqlite_column(st, 0);

        seen++;
        if (!exj_blob_hash_is_valid(hash))
            continue;
        memcpy(gone[n], hash.p, hash.n);
        gone[n++][hash.n] = '\0';
    }
    sqlite3_reset(st);
    if (step != SQLITE_DONE || !n)
        return step == SQLITE_DONE;
    if (!*durable && !make_durable(s)) {
        s->collect = true; /* after the next commit */
        return true;
    }
    *durable = true;
    for (size_t i = 0; i < n; i++)
        if (exj_blobs_remove(s->blobs, gone[i], NULL) == EXJ_OK && removed++ != i)
            memcpy(gone[removed - 1], gone[i], sizeof(gone[i]));
    n = removed;
    *ret_more = seen == COLLECT_AT_ONCE && n;
    if (!n)
        return true;
    if (!exj_sqlite_run(s, W_BEGIN, "cannot begin"))
        return false;
    for (size_t i = 0; i < n; i++) {
        exj_sqlite_bind(s->st[W_BLOB_FORGET], 1, exj_slice_of(gone[i]));
        if (!exj_sqlite_run(s, W_BLOB_FORGET, "cannot forget a blob"))
            return false;
    }
    return exj_sqlite_run(s, W_COMMIT, "cannot commit");
}

void exj_sqlite_collect(exj_sqlite *s, bool durable)
{
    bool more = true;

    s->collect = false;
    while (more && collect_some(s, &durable, &more))
        ;
    /* A batch that failed is left for the next time. Without memory only what is prepared
     * already ends the transaction, and nothing could be written while it stays open. */
    if (!sqlite3_get_autocommit(s->db)) {
        sqlite3_step(s->st[W_ROLLBACK]);
        sqlite3_reset(s->st[W_ROLLBACK]);
    }
}
