/* store_io: every operation and every read of the embedded store, with each call to the
 * disk failing in turn.
 *
 * For each kind of operation, for n = 1, 2, 3, …: on a store with content the nth call
 * that the operation makes to the disk fails: with an I/O error (once, or it and all that
 * follow), with a full disk, with a write of which only half is made. What the operation
 * answers is held against what core/store/store.h promises, and the tables against what
 * they were before and would be after it. The same for each read.
 *
 * Usage: store_io [--seed S]. Exit status: 0 as promised, 1 not, 2 the arguments are
 * wrong.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/sqlite/internal.h"
#include "tests/support/power_vfs.h"
#include "tests/support/store_load.h"
#include "tests/support/store_look.h"
#include "tests/support/support.h"

#define START 1700000000000
#define NTH_MOST 2000 /* an operation that calls the disk more often is wrong itself */
#define TRIES 3000    /* to find an operation that is done */
#define DONE_TRIES 20 /* of these, to find one that changes something */

struct bench {
    exj_tmp tmp;
    char dir[240], path[300];
    exj_power *disk;
    exj_power_image *full; /* a store with content */
    exj_store *s;
    exj_batch batch;
    exj_known known; /* of `full` */
    exj_look_sum before;
    atomic_int_least64_t ms;
    uint64_t random;
    uint64_t points, failed_ops, unknown, unknown_applied, full_disk, untouched, reads;
    char why[700];
};

static exj_msec wall(void *user)
{
    return atomic_load(&((struct bench *)user)->ms);
}

static exj_nsec mono(void *user)
{
    return (atomic_load(&((struct bench *)user)->ms) - START + 1000) * 1000000;
}

static bool wrong(struct bench *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static bool wrong(struct bench *b, const char *format, ...)
{
    va_list ap;

    if (b->why[0])
        return false;
    va_start(ap, format);
    vsnprintf(b->why, sizeof(b->why), format, ap);
    va_end(ap);
    return false;
}

static bool open_store(struct bench *b)
{
    exj_sqlite_options o = { .dir = b->dir, .lock_note = "store_io" };
    exj_sqlite_seam seam = {
        .wall_ms = wall, .mono_ns = mono, .user = b, .wal_bytes = 1 << 30
    };
    exj_err err = { 0 };

    if (exj_sqlite_open_seam(&o, &seam, &b->s, &err) == EXJ_OK)
        return true;
    b->s = NULL;
    return wrong(b, "the store does not open: %s", err.text);
}

static void close_store(struct bench *b)
{
    if (b->s)
        b->s->v->close(b->s);
    b->s = NULL;
}

static bool look(struct bench *b, exj_look_sum *ret, exj_known *ret_known)
{
    char why[256];
    exj_look *l = exj_look_new(NULL, b->path, why);
    bool good = l && exj_look_at(l, ret, why) &&
                (!ret_known || exj_look_known(l, ret_known, why));

    exj_look_free(l);
    return good || wrong(b, "the store cannot be read: %s", why);
}

/* A store in which there is something of everything. */
static bool fill(struct bench *b)
{
    static const exj_op_kind last[] = { EXJ_OP_SINK_SAVE, EXJ_OP_DOC_PUT, EXJ_OP_INSERT,
                                        EXJ_OP_CLAIM };

    if (!open_store(b))
        return false;
    for (int i = 0; i < 150; i++) {
        atomic_fetch_add(&b->ms, 500);
        if (!look(b, &b->before, &b->known))
            return false;
        if (i < 110)
            exj_batch_make(&b->batch, exj_test_random(&b->random), &b->known);
        else /* of these there shall be some in the end */
            exj_batch_make_kind(&b->batch, exj_test_random(&b->random), &b->known,
                                last[i % 4]);
        exj_batch_do(&b->batch, b->s, 0, b->batch.groups);
    }
    /* Later than any time that a row waits for, but for those inserted from here on. */
    atomic_fetch_add(&b->ms, 1000000);
    close_store(b);
    b->full = exj_power_save(b->disk);
    return look(b, &b->before, &b->known);
}

/* ---- operations
 * ------------------------------------------------------------------------------- */

/* The operation, made ready: what it needs is done. */
static exj_op *make(struct bench *b, exj_op_kind kind, uint64_t random)
{
    exj_batch_make_kind(&b->batch, random, &b->known, kind);
    exj_batch_do(&b->batch, b->s, 0, b->batch.groups - 1);
    return b->batch.ops[b->batch.len - 1];
}

static void do_it(struct bench *b)
{
    exj_batch_do(&b->batch, b->s, b->batch.groups - 1, b->batch.groups);
}

/* The number of an operation of this kind that is done and changes something; where none
 * of them does, one that is done. *ret_after: what is there then. */
static bool choose(struct bench *b, exj_op_kind kind, uint64_t *ret,
                   exj_look_sum *ret_after)
{
    uint64_t done = 0;
    int times = 0;

    for (int i = 0; i < TRIES && times < DONE_TRIES; i++) {
        uint64_t random = exj_test_random(&b->random);
        exj_op *op;

        if (!b->s) {
            exj_power_load(b->disk, b->full);
            if (!open_store(b))
                return false;
        }
        op = make(b, kind, random);
        do_it(b);
        if (op->rc != EXJ_OK)
            continue;
        times++;
        done = random;
        if (!look(b, ret_after, NULL))
            return false;
        close_store(b); /* the next one begins with the full store */
        if (ret_after->all != b->before.all)
            break;
    }
    close_store(b);
    *ret = done;
    return done || wrong(b, "%s: none is ever done", exj_op_name(kind));
}

static bool still_works(struct bench *b)
{
    exj_op op = { .kind = EXJ_OP_POOL };

    op.u.pool.matrix = op.u.pool.graph = EXJ_SLICE_LITERAL("works");
    return exj_store_do(b->s, &op, NULL) == EXJ_OK;
}

/* Is what is there what this answer promises? */
static bool hold(struct bench *b, const char *at, const exj_op *op,
                 const exj_look_sum *after)
{
    exj_look_sum now;
    char names[400];

    if (!look(b, &now, NULL))
        return false;
    if (now.all != b->before.all && now.all != after->all) {
        exj_look_differ(&now, &b->before, names, sizeof(names));
        return wrong(b, "%s: answered %s: it is neither as before nor as after: %s", at,
                     exj_code_name(op->rc), names);
    }
    if (op->rc == EXJ_OK && now.all != after->all)
        return wrong(b, "%s: answered EXJ_OK and is not done", at);
    if (op->rc != EXJ_OK && op->rc != EXJ_UNKNOWN && now.all != b->before.all)
        return wrong(b, "%s: answered %s and is done", at, exj_code_name(op->rc));
    b->unknown_applied +=
        op->rc == EXJ_UNKNOWN && now.all == after->all && now.all != b->before.all;
    return true;
}

/* *ret_hit: the operation calls the disk n times or more. */
static bool try_op(struct bench *b, exj_op_kind kind, uint64_t random,
                   const exj_look_sum *after, unsigned calls, uint64_t n, bool on,
                   exj_power_how how, bool *ret_hit)
{
    static const char *const hows[] = { "I/O error", "full", "short write" };
    exj_op *op;
    char at[120];
    bool works;

    snprintf(at, sizeof(at), "%s, call %" PRIu64 " (%s%s)", exj_op_name(kind), n,
             hows[how], on ? ", and all after it" : "");
    exj_power_load(b->disk, b->full);
    if (!open_store(b))
        return false;
    op = make(b, kind, random);
    exj_power_fail(b->disk, calls, n, on, how);
    do_it(b);
    *ret_hit = exj_power_heal(b->disk) >= n;
    b->points += *ret_hit;
    if (op->rc != EXJ_OK && op->rc != EXJ_IO && op->rc != EXJ_UNKNOWN &&
        op->rc != EXJ_FULL)
        return wrong(b, "%s: answered %s: %s", at, exj_code_name(op->rc), op->err.text);
    if (op->rc != EXJ_OK && !op->err.text[0])
        return wrong(b, "%s: answered %s without a word", at, exj_code_name(op->rc));
    if (op->rc == EXJ_FULL && how == EXJ_POWER_IOERR)
        return wrong(b, "%s: answered EXJ_FULL", at);
    b->failed_ops += op->rc == EXJ_IO;
    b->unknown += op->rc == EXJ_UNKNOWN;
    b->full_disk += op->rc == EXJ_FULL;
    b->untouched += op->rc == EXJ_OK && *ret_hit;
    if (!hold(b, at, op, after))
        return false;
    works = still_works(b);
    if (works && (op->rc == EXJ_IO || op->rc == EXJ_UNKNOWN))
        return wrong(b, "%s: answered %s, and goes on", at, exj_code_name(op->rc));
    if (!works && (op->rc == EXJ_OK || op->rc == EXJ_FULL))
        return wrong(b, "%s: answered %s, and does not go on", at, exj_code_name(op->rc));
    if (op->rc == EXJ_FULL) { /* there is room again: now it is done */
        op = make(b, kind, random);
        do_it(b);
        if (op->rc != EXJ_OK)
            return wrong(b, "%s: with room again: %s", at, op->err.text);
    }
    close_store(b);
    /* What the operation found, closing may have moved into the database: nothing else.
     */
    return works || hold(b, at, op, after);
}

static bool try_all(struct bench *b, exj_op_kind kind)
{
    static const struct {
        unsigned calls, step;
        bool on;
        exj_power_how how;
    } ways[] = { { EXJ_POWER_ANY, 1, false, EXJ_POWER_IOERR },
                 { EXJ_POWER_ANY, 8, true, EXJ_POWER_IOERR },
                 { EXJ_POWER_WRITE, 5, false, EXJ_POWER_FULL },
                 { EXJ_POWER_WRITE, 4, true, EXJ_POWER_SHORT } };
    exj_look_sum after;
    uint64_t random;

    if (!choose(b, kind, &random, &after))
        return false;
    for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
        bool hit = true;

        for (uint64_t n = 1; hit && n < NTH_MOST; n += ways[w].step)
            if (!try_op(b, kind, random, &after, ways[w].calls, n, ways[w].on,
                        ways[w].how, &hit))
                return false;
        if (hit)
            return wrong(b, "%s: calls the disk more than %d times", exj_op_name(kind),
                         NTH_MOST);
    }
    return true;
}

/* ---- reads
 * ---------------------------------------------------------------------------------- */

/* What a read gave: how many, and of what length. */
struct heard {
    uint64_t n, bytes;
};

static bool hear(struct heard *h, exj_slice text)
{
    h->n++;
    h->bytes = h->bytes * 31 + text.n;
    return true;
}

static bool on_doc(void *u, exj_slice id, int64_t version, exj_slice body, exj_msec made,
                   exj_msec changed)
{
    (void)id;
    (void)made;
    (void)changed;
    ((struct heard *)u)->bytes += (uint64_t)version;
    return hear(u, body);
}

static bool on_pool(void *u, const exj_pool_info *p)
{
    return hear(u, p->graph);
}

static bool on_row(void *u, const exj_row_view *v)
{
    return hear(u, v->input);
}

static bool on_step(void *u, const exj_step_view *v)
{
    return hear(u, v->body);
}

static bool on_failure(void *u, const exj_failure_view *v)
{
    return hear(u, v->text);
}

static bool on_event(void *u, const exj_event_view *v)
{
    ((struct heard *)u)->bytes += (uint64_t)v->entry.number;
    return hear(u, v->entry.text);
}

static bool on_signal(void *u, const exj_signal_view *v)
{
    return hear(u, v->body);
}

static bool on_ended(void *u, const exj_ended_view *v)
{
    ((struct heard *)u)->bytes += (uint64_t)v->seq;
    return hear(u, (exj_slice){ NULL, 0 });
}

static bool on_kv(void *u, const exj_kv_view *v)
{
    return hear(u, v->value);
}

static bool on_undelivered(void *u, const exj_undelivered_view *v)
{
    return hear(u, v->body);
}

static bool on_dead(void *u, const exj_dead_view *v)
{
    return hear(u, v->body);
}

static bool on_schedule(void *u, const exj_schedule_view *v)
{
    return hear(u, v->times);
}

static bool on_run(void *u, exj_slice matrix, exj_slice run, bool asked)
{
    (void)run;
    (void)asked;
    return hear(u, matrix);
}

enum {
    R_READ_LOAD,
    R_READ_DOC,
    R_READ_DOCS,
    R_READ_POOLS,
    R_READ_ROW,
    R_READ_PAGE,
    R_READ_ERRORS,
    R_READ_RECENT,
    R_READ_SEQ,
    R_READ_STEP,
    R_READ_STEPS,
    R_READ_COUNT,
    R_READ_FAILURES,
    R_READ_JOURNAL,
    R_READ_EVENTS,
    R_READ_SPAN,
    R_READ_SIGNALS,
    R_READ_ENDED,
    R_READ_KV,
    R_READ_KVS,
    R_READ_SINK,
    R_READ_HELD,
    R_READ_DEAD,
    R_READ_SCHEDULE,
    R_READ_SCHEDULES,
    R_READ_NEXT,
    R_READ_RUNS,
    R_READ_HEALTH,
    R_READS
};

static exj_code read_load(struct bench *b, struct heard *h, exj_err *err)
{
    exj_claim c[3] = { { 0 } };
    exj_loaded got[3];
    exj_buf arena = EXJ_BUF_INIT;
    size_t n = 0;
    exj_code rc;

    for (size_t i = 0; i < b->known.rows_len && n < 3; i++)
        if (b->known.rows[i].status == EXJ_RUNNING)
            c[n++] = (exj_claim){ .seq = b->known.rows[i].seq,
                                  .pool = b->known.rows[i].pool,
                                  .token = b->known.rows[i].token,
                                  .nonce = b->known.rows[i].nonce };
    rc = b->s->v->load(b->s, c, n, got, &arena, err);
    for (size_t i = 0; !rc && i < n; i++)
        hear(h, got[i].input);
    exj_buf_release(&arena);
    return rc;
}

/* Texts into a buffer, numbers: what is left. */
static exj_code read_plain(struct bench *b, int which, int64_t seq, struct heard *h,
                           exj_err *err)
{
    const exj_store_vtable *v = b->s->v;
    exj_buf text = EXJ_BUF_INIT;
    int64_t first = 0, last = 0;
    exj_store_health health;
    uint32_t n = 0;
    exj_code rc;

    switch (which) {
    case R_READ_STEP:
        rc = v->step_get(b->s, seq, exj_slice_of("step1"), &text, err);
        break;
    case R_READ_COUNT:
        rc = v->failure_count(b->s, seq, exj_slice_of("E_1"), &n, err);
        break;
    case R_READ_SPAN:
        rc = v->events_span(b->s, &first, &last, err);
        break;
    case R_READ_KV:
        rc = v->kv_get(b->s, exj_slice_of("g0"), exj_slice_of("k1"), &text, err);
        break;
    case R_READ_SINK:
        rc = v->sink_get(b->s, exj_slice_of("sink0"), &last, err);
        break;
    case R_READ_NEXT:
        rc = v->schedule_next(b->s, &last, err);
        break;
    default:
        rc = v->health(b->s, &health);
        if (rc)
            exj_err_set(err, rc, "%s", health.text);
        break;
    }
    h->bytes += (uint64_t)first * 7 + (uint64_t)last * 13 + n;
    hear(h, exj_buf_slice(&text));
    exj_buf_release(&text);
    return rc;
}

static exj_code do_read(struct bench *b, int which, struct heard *h, exj_err *err)
{
    const exj_store_vtable *v = b->s->v;
    int64_t seq = b->known.rows[b->known.rows_len / 2].seq, pool = b->known.pools[0];
    exj_slice none = exj_slice_of(""), m = exj_slice_of("m0"), g = exj_slice_of("g0");
    exj_row_filter f = { .status = -1, .limit = 100 };

    *h = (struct heard){ 0, 0 };
    switch (which) {
    case R_READ_LOAD:
        return read_load(b, h, err);
    case R_READ_DOC:
        return v->doc_get(b->s, EXJ_DOC_GRAPH, g, on_doc, h, err);
    case R_READ_DOCS:
        return v->doc_page(b->s, EXJ_DOC_MATRIX, none, 100, on_doc, h, err);
    case R_READ_POOLS:
        return v->pools(b->s, on_pool, h, err);
    case R_READ_ROW:
        return v->row_get(b->s, m, none, g, exj_slice_of("again1"), on_row, h, err);
    case R_READ_ERRORS:
        f.error_code = exj_slice_of("E_1");
        f.status = EXJ_FAILED;
        return v->row_page(b->s, &f, on_row, h, err);
    case R_READ_PAGE:
        return v->row_page(b->s, &f, on_row, h, err);
    case R_READ_RECENT:
        return v->row_recent(b->s, pool, EXJ_COMPLETED, 100, on_row, h, err);
    case R_READ_SEQ:
        return v->row_by_seq(b->s, seq, on_row, h, err);
    case R_READ_STEPS:
        return v->step_each(b->s, seq, on_step, h, err);
    case R_READ_FAILURES:
        return v->failure_each(b->s, seq, 100, on_failure, h, err);
    case R_READ_JOURNAL:
        return v->journal(b->s, seq, 1000, on_event, h, err);
    case R_READ_EVENTS:
        return v->events(b->s, 0, 1000, on_event, h, err);
    case R_READ_SIGNALS:
        return v->signal_each(b->s, seq, on_signal, h, err);
    case R_READ_ENDED:
        return v->ended(b->s, 0, INT64_MAX, 100, on_ended, h, err);
    case R_READ_KVS:
        return v->kv_page(b->s, g, none, 100, on_kv, h, err);
    case R_READ_HELD:
        return v->undelivered(b->s, exj_slice_of("sink0"), 100, on_undelivered, h, err);
    case R_READ_DEAD:
        return v->dead_page(b->s, none, 0, 100, on_dead, h, err);
    case R_READ_SCHEDULE:
        return v->schedule_get(b->s, exj_slice_of("t0"), on_schedule, h, err);
    case R_READ_SCHEDULES:
        return v->schedule_page(b->s, none, 0, 100, on_schedule, h, err);
    case R_READ_RUNS:
        return v->runs(b->s, on_run, h, err);
    default:
        return read_plain(b, which, seq, h, err);
    }
}

static bool try_read(struct bench *b, int which, uint64_t n, bool *ret_hit)
{
    struct heard good, bad, again;
    exj_err err = { 0 };
    exj_code rc, right;

    exj_power_load(b->disk, b->full);
    if (!open_store(b))
        return false;
    exj_power_fail(b->disk, EXJ_POWER_ANY, n, false, EXJ_POWER_IOERR);
    rc = do_read(b, which, &bad, &err);
    *ret_hit = exj_power_heal(b->disk) >= n;
    right = do_read(b, which, &good, NULL);
    b->reads += *ret_hit;
    if (rc != right && rc != EXJ_IO && !(which == R_READ_HEALTH && rc == EXJ_UNKNOWN))
        return wrong(b, "read %d, call %" PRIu64 ": answered %s: %s", which, n,
                     exj_code_name(rc), err.text);
    if (rc == EXJ_IO && !err.text[0])
        return wrong(b, "read %d, call %" PRIu64 ": answered EXJ_IO without a word",
                     which, n);
    if (rc == right && !rc && memcmp(&good, &bad, sizeof(good)) != 0)
        return wrong(b, "read %d, call %" PRIu64 ": answered EXJ_OK, and not all", which,
                     n);
    if (do_read(b, which, &again, NULL) != right ||
        memcmp(&good, &again, sizeof(good)) != 0)
        return wrong(b, "read %d, call %" PRIu64 ": two answers afterwards differ", which,
                     n);
    /* Health writes, so that it may have been the store that failed. */
    if (which != R_READ_HEALTH && (right != EXJ_OK && right != EXJ_NOT_FOUND))
        return wrong(b, "read %d, call %" PRIu64 ": never answers again: %s", which, n,
                     exj_code_name(right));
    if (which != R_READ_HEALTH && !still_works(b))
        return wrong(b, "read %d, call %" PRIu64 ": a read made the store fail", which,
                     n);
    close_store(b);
    return true;
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof(*b));
    uint64_t seed =
        argc == 3 && strcmp(argv[1], "--seed") == 0 ? strtoull(argv[2], NULL, 10) : 0;
    int64_t began = exj_test_now_ms();
    bool good;

    if (!b || (argc != 1 && !seed)) {
        fprintf(stderr, "usage: store_io [--seed S]\n");
        return 2;
    }
    if (!seed)
        seed = exj_test_seed("store_io");
    b->random = seed;
    exj_sqlite_own_process();
    b->disk = exj_power_new("store_io", true, seed);
    atomic_store(&b->ms, START);
    exj_tmp_make(&b->tmp);
    snprintf(b->dir, sizeof(b->dir), "%s", b->tmp.path);
    snprintf(b->path, sizeof(b->path), "%s/" EXJ_SQLITE_FILE, b->dir);
    exj_batch_init(&b->batch, 0);
    good = fill(b);
    for (int k = 0; good && k < EXJ_OP_COUNT; k++)
        good = try_all(b, (exj_op_kind)k);
    for (int i = 0; good && i < R_READS; i++) {
        bool hit = true;

        for (uint64_t n = 1; good && hit && n < NTH_MOST; n++)
            good = try_read(b, i, n, &hit);
    }
    printf("store_io: %s: %d kinds of operations, %" PRIu64 " failed calls: %" PRIu64
           " answered EXJ_IO, %" PRIu64 " EXJ_UNKNOWN (%" PRIu64
           " were applied), %" PRIu64 " EXJ_FULL, %" PRIu64
           " were done all the same; %d reads, %" PRIu64
           " failed calls; %.1f s; seed %" PRIu64 "\n",
           good ? "ok" : "FAILED", EXJ_OP_COUNT, b->points, b->failed_ops, b->unknown,
           b->unknown_applied, b->full_disk, b->untouched, R_READS, b->reads,
           (double)(exj_test_now_ms() - began) / 1000, seed);
    if (!good)
        fprintf(stderr,
                "store_io: %s\nstore_io: again with: store_io --seed %" PRIu64 "\n",
                b->why, seed);
    close_store(b);
    exj_power_image_free(b->full);
    exj_power_free(b->disk);
    exj_batch_release(&b->batch);
    exj_support_clean();
    free(b);
    return good ? 0 : 1;
}
