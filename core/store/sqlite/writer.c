/* core/store/sqlite/writer.c - the only thread that writes, and the only checkpointer.
 *
 *   submit ──▶ queue ──▶ [BEGIN IMMEDIATE, apply each op, COMMIT] ──▶ done of each op
 *
 * No timer gathers a batch: it forms while the previous commit waits for the disk. What
 * goes into one transaction is bounded by items and by time, so that nobody's answer waits
 * for a crowd.
 *
 * An op that fails for a reason of its own (no memory, a full disk, our own mistake) rolls
 * its transaction back; the others of that transaction are then tried again one by one.
 */
#include "core/store/sqlite/internal.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#include "core/base/clock.h"

#define TICK_ITEMS 8192
#define TICK_NS (8 * (exj_nsec)1000000)
#define PAGE_BYTES 4096
#define WAL_BUSY_BYTES (64 * (int64_t)1024 * 1024) /* worth a checkpoint although busy */
#define WAL_IDLE_BYTES (4 * (int64_t)1024 * 1024)  /* worth one when idle */
#define IDLE_MS 20
#define CLOCK_SAVE_MS 1000

static int64_t busy_bytes(const exj_sqlite *s)
{
    return s->seam.wal_bytes ? s->seam.wal_bytes : WAL_BUSY_BYTES;
}

static int wal_grew(void *store, sqlite3 *db, const char *name, int frames)
{
    exj_sqlite *s = store;

    (void)db;
    (void)name;
    atomic_store_explicit(&s->wal_bytes, 32 + (int64_t)frames * (PAGE_BYTES + 24),
                          memory_order_relaxed);
    return SQLITE_OK;
}

exj_code exj_sqlite_prepare(exj_sqlite *s, exj_err *err)
{
    for (int i = 0; i < W_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, exj_sqlite_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &s->st[i],
                               NULL) != SQLITE_OK)
            return exj_sqlite_fail(s, s->db, exj_sqlite_texts[i], err);
    sqlite3_wal_hook(s->db, wal_grew, s); /* takes the place of automatic checkpoints */
    return EXJ_OK;
}

bool exj_sqlite_run(exj_sqlite *s, enum exj_sqlite_write which, const char *what)
{
    bool good = sqlite3_step(s->st[which]) == SQLITE_DONE;

    if (!good)
        exj_sqlite_fail(s, s->db, what, &s->err);
    sqlite3_reset(s->st[which]);
    return good;
}

static size_t items_of(const exj_op *op)
{
    switch (op->kind) {
    case EXJ_OP_INSERT:
        return op->u.insert.len;
    case EXJ_OP_FINISH:
        return op->u.finish.len;
    case EXJ_OP_RENEW:
    case EXJ_OP_RELEASE:
        return op->u.held.len;
    case EXJ_OP_CLAIM:
        return op->u.claim.ret_len;
    case EXJ_OP_REAP:
        return op->u.reap.ret_len;
    case EXJ_OP_PROMOTE:
        return op->u.promote.ret_promoted;
    case EXJ_OP_SINK_SAVE:
        return op->u.sink.len + 1;
    case EXJ_OP_REMOVE:
        return 16 * op->u.remove.len; /* a row is in many tables */
    case EXJ_OP_COMPACT:
        return op->u.compact.limit;
    default:
        return 1;
    }
}

/* Errors that belong to the op alone go into op->rc and keep the result true. */
static bool apply(exj_sqlite *s, exj_op *op)
{
    op->rc = EXJ_OK;
    exj_err_clear(&op->err);
    op->rc = exj_sqlite_offload_error(op, &op->err);
    if (op->rc)
        return true;
    switch (op->kind) {
    case EXJ_OP_POOL:
        return exj_sqlite_pool(s, op);
    case EXJ_OP_INSERT:
        return exj_sqlite_insert(s, op);
    case EXJ_OP_CLAIM:
        return exj_sqlite_claim(s, op);
    case EXJ_OP_FINISH:
        return exj_sqlite_finish(s, op);
    case EXJ_OP_RENEW:
        return exj_sqlite_renew(s, op);
    case EXJ_OP_RELEASE:
        return exj_sqlite_release(s, op);
    case EXJ_OP_REAP:
        return exj_sqlite_reap(s, op);
    case EXJ_OP_PROMOTE:
        return exj_sqlite_promote(s, op);
    case EXJ_OP_RETRY:
        return exj_sqlite_retry(s, op);
    case EXJ_OP_DOC_PUT:
        return exj_sqlite_doc_put(s, op);
    case EXJ_OP_DOC_DELETE:
        return exj_sqlite_doc_delete(s, op);
    case EXJ_OP_RERUN:
        return exj_sqlite_rerun(s, op);
    case EXJ_OP_REMOVE:
        return exj_sqlite_remove(s, op);
    case EXJ_OP_COMPACT:
        return exj_sqlite_compact(s, op);
    case EXJ_OP_RESTORE:
        return exj_sqlite_restore(s, op);
    case EXJ_OP_CANCEL:
        return exj_sqlite_cancel(s, op);
    case EXJ_OP_SIGNAL:
        return exj_sqlite_signal(s, op);
    case EXJ_OP_STEP_BEGIN:
        return exj_sqlite_step_begin(s, op);
    case EXJ_OP_STEP_PUT:
        return exj_sqlite_step_put(s, op);
    case EXJ_OP_PROGRESS:
        return exj_sqlite_progress(s, op);
    case EXJ_OP_COMMAND_TAKE:
    case EXJ_OP_COMMAND_KEEP:
    case EXJ_OP_COMMAND_DROP:
        return exj_sqlite_command(s, op);
    case EXJ_OP_KV_PUT:
    case EXJ_OP_KV_REMOVE:
    case EXJ_OP_KV_ADD:
        return exj_sqlite_kv(s, op);
    case EXJ_OP_SINK_SAVE:
        return exj_sqlite_sink_save(s, op);
    case EXJ_OP_DEAD_REPLAY:
    case EXJ_OP_DEAD_DROP:
        return exj_sqlite_dead(s, op);
    case EXJ_OP_SCHEDULE_TICK:
        return exj_sqlite_schedule_tick(s, op);
    case EXJ_OP_RUN_ASK:
    case EXJ_OP_RUN_DONE:
        return exj_sqlite_run_change(s, op);
    default:
        break;
    }
    if (op->kind == EXJ_OP_PING) {
        s->clock_force = true;
        return true;
    }
    op->rc = exj_err_set(&op->err, EXJ_BUG, "unknown operation %d", (int)op->kind);
    return true;
}

static void mark_failed(exj_sqlite *s)
{
    if (!atomic_load(&s->failed))
        s->failure = s->err;
    atomic_store(&s->failed, true);
}

static void roll_back(exj_sqlite *s)
{
    for (int i = 0; i < W_COUNT; i++)
        sqlite3_reset(s->st[i]);
    /* SQLite may have rolled back by itself; then there is nothing left to end. */
    if (!sqlite3_get_autocommit(s->db)) {
        sqlite3_step(s->st[W_ROLLBACK]);
        sqlite3_reset(s->st[W_ROLLBACK]);
    }
    if (s->holder)
        s->holder[0] = '\0'; /* its id may have been rolled back */
    exj_sqlite_settle_pools(s, false);
    if (s->err.code == EXJ_IO || s->err.code == EXJ_UNKNOWN || s->err.code == EXJ_CORRUPT)
        mark_failed(s);
}

static bool save_clock(exj_sqlite *s, int changes_before)
{
    bool due = s->now - s->clock_saved >= CLOCK_SAVE_MS &&
               sqlite3_total_changes(s->db) != changes_before;

    if (!due && !s->clock_force)
        return true;
    sqlite3_bind_int64(s->st[W_CLOCK], 1, s->now);
    s->clock_saved = s->now; /* after a roll-back it is only saved a little later */
    return exj_sqlite_run(s, W_CLOCK, "cannot save the clock");
}

static bool commit(exj_sqlite *s)
{
    int rc;

    do
        rc = sqlite3_step(s->st[W_COMMIT]);
    while ((rc & 0xff) == SQLITE_BUSY && (sqlite3_reset(s->st[W_COMMIT]), true));
    if (rc != SQLITE_DONE) {
        exj_sqlite_fail(s, s->db, "cannot commit", &s->err);
        /* A full disk stops the write before the commit's last frame. Anything else may
         * have happened after it: a restart may find the transaction whole. */
        if (s->err.code != EXJ_FULL)
            s->err.code = EXJ_UNKNOWN;
    }
    sqlite3_reset(s->st[W_COMMIT]);
    return rc == SQLITE_DONE;
}

/* Apply ops up to the end of their group. *ret_len: how many the group has. False: roll back;
 * when s->err says nothing, the group refused itself and its ops say why. */
static bool apply_group(exj_sqlite *s, exj_op *first, size_t *ret_len, size_t *ret_items)
{
    exj_op *op = first, *why = NULL;
    bool grouped = first->with_next;

    *ret_len = 0;
    for (;; op = op->next) {
        ++*ret_len;
        if (why) {
            op->rc = EXJ_CANCELLED;
            exj_err_clear(&op->err);
        } else if (!apply(s, op)) {
            return false;
        } else if (grouped && op->rc) {
            why = op;
        }
        *ret_items += items_of(op);
        if (!op->with_next || !op->next)
            break;
    }
    for (op = first; why && op != why; op = op->next)
        op->rc = EXJ_CANCELLED;
    return !why;
}

/* Apply groups from `first` on, at most `most` of them, in one transaction. *ret_tried: how
 * many ops the transaction was about. */
static bool transact(exj_sqlite *s, exj_op *first, size_t most, size_t *ret_tried)
{
    size_t items = 0, len;
    exj_nsec until = exj_clock_mono_ns() + TICK_NS;
    int changes = sqlite3_total_changes(s->db);

    exj_err_clear(&s->err);
    s->clock_force = false;
    s->now = exj_sqlite_now(s);
    exj_sqlite_begin_events(s);
    *ret_tried = 1;
    if (!exj_sqlite_run(s, W_BEGIN, "cannot begin"))
        return false;
    *ret_tried = 0;
    for (exj_op *op = first; op && most; most--) {
        bool good = apply_group(s, op, &len, &items);

        *ret_tried += len;
        if (!good)
            return false;
        while (len--)
            op = op->next;
        if (items >= TICK_ITEMS || exj_clock_mono_ns() >= until)
            break;
    }
    if (!exj_sqlite_save_events(s) || !exj_sqlite_save_pools(s) || !save_clock(s, changes) ||
        !commit(s))
        return false;
    exj_sqlite_settle_pools(s, true);
    exj_sqlite_tell_events(s);
    if (s->collect)
        exj_sqlite_collect(s, !s->fast);
    atomic_fetch_add_explicit(&s->commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->ops, (int64_t)*ret_tried, memory_order_relaxed);
    return true;
}

static size_t group_len(const exj_op *op)
{
    size_t n = 1;

    for (; op->with_next && op->next; op = op->next)
        n++;
    return n;
}

static void answer_error(exj_op *op, const exj_err *e, exj_code code)
{
    op->rc = code;
    op->err = *e;
    op->err.code = code;
}

/* Give `n` ops back to their owners; returns the op after them. */
static exj_op *answer(exj_sqlite *s, exj_op *first, size_t n)
{
    while (n--) {
        exj_op *op = first;

        first = op->next; /* the op may be gone after done */
        op->next = NULL;
        if (op->kept)
            exj_sqlite_offload_end(s, op);
        if (op->done)
            op->done(op);
    }
    return first;
}

/* Roll a group's transaction back and say why to its ops, unless they know it. */
static void give_up(exj_sqlite *s, exj_op *first, size_t n)
{
    roll_back(s);
    if (s->err.code == EXJ_OK)
        return;
    for (; n--; first = first->next)
        answer_error(first, &s->err, s->err.code);
}

static exj_op *tick(exj_sqlite *s, exj_op *first)
{
    size_t n = 1, len, tried;
    exj_op *op = first;

    if (atomic_load_explicit(&s->failed, memory_order_relaxed)) {
        answer_error(first, &s->failure, EXJ_IO);
        return answer(s, first, 1);
    }
    if (transact(s, first, SIZE_MAX, &n))
        return answer(s, first, n);
    if (n <= group_len(first)) {
        n = group_len(first);
        give_up(s, first, n);
        return answer(s, first, n);
    }
    roll_back(s);
    /* The last group may have failed in its middle: its rest belongs to what is done anew. */
    for (size_t i = 0, most = n; i < most; i += len, n = i) {
        len = group_len(op);
        if (atomic_load(&s->failed) || !transact(s, op, 1, &tried))
            give_up(s, op, len);
        for (size_t k = 0; k < len; k++)
            op = op->next;
    }
    return answer(s, first, n);
}

static void checkpoint(exj_sqlite *s, int mode)
{
    int frames = -1, moved = -1;

    if (atomic_load_explicit(&s->failed, memory_order_relaxed))
        return;
    /* Never wait for a reader here: writers would wait with us. */
    sqlite3_busy_timeout(s->db, 0);
    sqlite3_wal_checkpoint_v2(s->db, "main", mode, &frames, &moved);
    sqlite3_busy_timeout(s->db, 10000);
    /* All moved: the next commit starts the log anew. */
    if (frames >= 0 && frames == moved)
        atomic_store_explicit(&s->wal_bytes, 0, memory_order_relaxed);
}

/* Wait for work. NULL: closing, and all is answered. */
static exj_op *take(exj_sqlite *s)
{
    exj_op *first;
    struct timespec until;
    bool tidy;

    pthread_mutex_lock(&s->mu);
    while (!s->head && !s->closing) {
        tidy = atomic_load_explicit(&s->wal_bytes, memory_order_relaxed) > WAL_IDLE_BYTES &&
               !s->seam.wal_bytes;
        if (!tidy) {
            pthread_cond_wait(&s->work, &s->mu);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += IDLE_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        if (pthread_cond_timedwait(&s->work, &s->mu, &until) == ETIMEDOUT && !s->head) {
            pthread_mutex_unlock(&s->mu);
            checkpoint(s, SQLITE_CHECKPOINT_PASSIVE);
            pthread_mutex_lock(&s->mu);
            /* A reader may have kept it from finishing: wait for the next commit. */
            if (!s->head && !s->closing)
                pthread_cond_wait(&s->work, &s->mu);
        }
    }
    first = s->head;
    s->head = NULL;
    s->tail = &s->head;
    pthread_mutex_unlock(&s->mu);
    return first;
}

/* Move what was submitted meanwhile behind `last`. */
static void join_queue(exj_sqlite *s, exj_op *last)
{
    pthread_mutex_lock(&s->mu);
    last->next = s->head;
    s->head = NULL;
    s->tail = &s->head;
    pthread_mutex_unlock(&s->mu);
}

void *exj_sqlite_writer(void *store)
{
    exj_sqlite *s = store;
    exj_op *todo;
    int64_t wal;

    while ((todo = take(s)) != NULL) {
        while (todo) {
            todo = tick(s, todo);
            wal = atomic_load_explicit(&s->wal_bytes, memory_order_relaxed);
            if (wal > 2 * busy_bytes(s))
                checkpoint(s, SQLITE_CHECKPOINT_TRUNCATE);
            else if (wal > busy_bytes(s))
                checkpoint(s, SQLITE_CHECKPOINT_RESTART);
            if (todo && !todo->next)
                join_queue(s, todo);
        }
    }
    return NULL;
}

void exj_sqlite_submit(exj_store *base, exj_op *first)
{
    exj_sqlite *s = (exj_sqlite *)base;
    exj_op *last = first;
    bool was_empty;

    assert(first);
    if (s->read_only) {
        for (exj_op *op = first; op; op = op->next) {
            exj_err_clear(&op->err);
            op->kept = NULL;
            op->rc = exj_err_set(&op->err, EXJ_REFUSED,
                                 "store %s is open for reading only", s->path);
        }
        while (first)
            first = answer(s, first, 1);
        return;
    }
    for (exj_op *op = first; op; op = op->next)
        exj_sqlite_offload(s, op);
    while (last->next)
        last = last->next;
    pthread_mutex_lock(&s->mu);
    was_empty = !s->head;
    *s->tail = first;
    s->tail = &last->next;
    if (was_empty)
        pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mu);
}
