#include "tests/support/store_load.h"

#include <inttypes.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOM_BYTES ((size_t)1 << 20)

/* ---- the batch
 * -------------------------------------------------------------------------------- */

static uint32_t chance(exj_batch *b, uint32_t below)
{
    uint64_t z = b->random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 33) % below;
}

static void *room(exj_batch *b, size_t n)
{
    char *p = b->room + b->used;

    n = (n + 15) & ~(size_t)15;
    if (n > b->cap - b->used) {
        fprintf(stderr, "store_load: a batch of more than %zu bytes\n", b->cap);
        abort();
    }
    b->used += n;
    memset(p, 0, n);
    return p;
}

static exj_slice text(exj_batch *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static exj_slice text(exj_batch *b, const char *format, ...)
{
    char *p = room(b, 96);
    va_list ap;

    va_start(ap, format);
    vsnprintf(p, 96, format, ap);
    va_end(ap);
    return exj_slice_of(p);
}

/* A JSON text; sometimes a large one. */
static exj_slice value(exj_batch *b)
{
    size_t n = b->large && chance(b, 4) == 0 ? b->large + chance(b, 2000) : chance(b, 60);
    unsigned fill = chance(b, 26), mark = chance(b, 5);
    char *p = room(b, n + 40);
    int head = snprintf(p, 40, "\"%u-", mark);

    memset(p + head, (int)('a' + fill), n);
    p[(size_t)head + n] = '"';
    return (exj_slice){ p, (size_t)head + n + 1 };
}

static exj_op *add(exj_batch *b, exj_op_kind kind)
{
    exj_op *op = room(b, sizeof(*op));

    op->kind = kind;
    b->ops[b->len++] = op;
    return op;
}

static int64_t some_pool(exj_batch *b)
{
    return b->known->pools_len ? b->known->pools[chance(b, (uint32_t)b->known->pools_len)]
                               : 1;
}

/* A row of that status (-1: any; -2: any that ended), or one that is not there. */
static exj_known_row some_row(exj_batch *b, int status)
{
    const exj_known *k = b->known;
    size_t from = k->rows_len ? chance(b, (uint32_t)k->rows_len) : 0;

    for (size_t i = 0; i < k->rows_len; i++) {
        const exj_known_row *r = &k->rows[(from + i) % k->rows_len];

        if (status == -1 || r->status == status || (status == -2 && !r->hot))
            return *r;
    }
    return (exj_known_row){ .seq = 1 + chance(b, 50), .nonce = 1, .token = 1, .pool = 1 };
}

/* ---- one of each kind
 * -------------------------------------------------------------------------- */

static void add_pool(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_POOL);

    op->u.pool.matrix = text(b, "m%u", chance(b, 2));
    op->u.pool.run = chance(b, 3) ? exj_slice_of("") : text(b, "run%u", chance(b, 2));
    op->u.pool.graph = text(b, "g%u", chance(b, 2));
}

static void add_insert(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_INSERT);
    size_t n = 1 + chance(b, 4);

    op->u.insert.pool = some_pool(b);
    op->u.insert.priority = (int32_t)chance(b, 3) - 1;
    op->u.insert.max_attempts = 1 + chance(b, 4);
    op->u.insert.find_existing = chance(b, 2);
    if (chance(b, 6) == 0)
        op->u.insert.overflow = (exj_overflow_rule){ .on = true,
                                                     .drop = chance(b, 2),
                                                     .cap = 1 + chance(b, 40),
                                                     .max_queue = 5 + chance(b, 40) };
    if (chance(b, 8) == 0)
        op->u.insert.snapshot = text(b, "snap%u", chance(b, 3));
    op->u.insert.items = room(b, n * sizeof(exj_insert_item));
    op->u.insert.len = n;
    for (size_t i = 0; i < n; i++) {
        exj_insert_item *it = &op->u.insert.items[i];

        it->record_id =
            chance(b, 8) ? text(b, "r%08x%04x", chance(b, UINT32_MAX), chance(b, 65536))
                         : text(b, "again%u", chance(b, 20));
        it->input = value(b);
        /* Far enough that no clock of a test comes near by accident. */
        it->run_after = chance(b, 6) ? 0 : 1700000000000 + chance(b, 2000000);
        it->has_priority = chance(b, 4) == 0;
        it->priority = (int32_t)chance(b, 5);
        if (chance(b, 6) == 0) {
            it->unique_key = text(b, "u%u", chance(b, 8));
            it->unique_ms = chance(b, 2) ? 0 : 5000;
        }
        if (chance(b, 5) == 0)
            it->concurrency_key = text(b, "c%u", chance(b, 3));
    }
}

static void add_claim(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_CLAIM);
    size_t n = 1 + chance(b, 2), sum = 0;
    exj_want *w = room(b, n * sizeof(*w));

    for (size_t i = 0; i < n; i++) {
        w[i] = (exj_want){ .pool = some_pool(b),
                           .want = 1 + chance(b, 4),
                           .key_cap = 1 + chance(b, b->key_caps) };
        if (b->known->docs_len && chance(b, 8) == 0) {
            size_t d = chance(b, (uint32_t)b->known->docs_len);

            if (b->known->docs[d].kind != EXJ_DOC_SCHEDULE) {
                w[i].guard_id = text(b, "%s", b->known->docs[d].id);
                w[i].guard_kind = (exj_doc_kind)b->known->docs[d].kind;
                w[i].guard_version = b->known->docs[d].version + (chance(b, 4) == 0);
            }
        }
        if (chance(b, 8) == 0) {
            w[i].rate = 1 + chance(b, 4);
            w[i].rate_ms = 1000;
        }
        sum += w[i].want;
    }
    op->u.claim.wants = w;
    op->u.claim.wants_len = n;
    op->u.claim.holder = text(b, "w-%u", chance(b, 3)).p;
    op->u.claim.nonce = 1 + (int64_t)chance(b, UINT32_MAX);
    op->u.claim.lease_ms = 2000 + chance(b, 60000);
    op->u.claim.ret = room(b, sum * sizeof(exj_claim));
}

static void add_finish(exj_batch *b)
{
    static const exj_event events[] = { EXJ_EV_SUCCEED,    EXJ_EV_SUCCEED,
                                        EXJ_EV_SUCCEED,    EXJ_EV_CANCEL,
                                        EXJ_EV_FAIL_RETRY, EXJ_EV_FAIL_DEAD,
                                        EXJ_EV_BLOCK,      EXJ_EV_SUSPEND };
    exj_op *op = add(b, EXJ_OP_FINISH);
    size_t n = 1 + chance(b, 4);

    op->u.finish.items = room(b, n * sizeof(exj_outcome));
    op->u.finish.len = n;
    for (size_t i = 0; i < n; i++) {
        exj_outcome *o = &op->u.finish.items[i];
        exj_known_row r = some_row(b, EXJ_RUNNING);

        o->seq = r.seq;
        o->nonce = r.nonce + (chance(b, 16) == 0);
        o->token = r.token;
        o->event = events[chance(b, sizeof(events) / sizeof(*events))];
        o->crashed = chance(b, 16) == 0;
        if (o->event == EXJ_EV_FAIL_RETRY || o->event == EXJ_EV_SUSPEND)
            o->run_after = 1700000000000 + chance(b, 2000000);
        if (o->event == EXJ_EV_SUSPEND) {
            o->wait = (exj_wait_kind)chance(b, 3);
            if (o->wait == EXJ_WAIT_SIGNAL)
                o->signal = text(b, "s%u", chance(b, 2));
        }
        if (o->event == EXJ_EV_FAIL_RETRY || o->event == EXJ_EV_FAIL_DEAD ||
            o->event == EXJ_EV_BLOCK) {
            o->error_code = text(b, "E_%u", chance(b, 3));
            o->error_text = text(b, "it went wrong %u", chance(b, 100));
        } else {
            o->result = value(b);
        }
    }
}

static void add_held(exj_batch *b, exj_op_kind kind)
{
    exj_op *op = add(b, kind);
    size_t n = 1 + chance(b, 3);

    op->u.held.items = room(b, n * sizeof(exj_held));
    op->u.held.len = n;
    op->u.held.lease_ms = 2000 + chance(b, 60000);
    for (size_t i = 0; i < n; i++) {
        exj_known_row r = some_row(b, EXJ_RUNNING);

        op->u.held.items[i] =
            (exj_held){ .seq = r.seq, .nonce = r.nonce + (chance(b, 16) == 0) };
    }
}

static void add_reap(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_REAP);

    op->u.reap.all_but = chance(b, 8) ? NULL : "w-0";
    op->u.reap.limit = 1 + chance(b, 16);
    op->u.reap.ret = room(b, op->u.reap.limit * sizeof(exj_reaped));
}

static void add_order(exj_batch *b, exj_op_kind kind)
{
    exj_op *op = add(b, kind);
    /* Mostly a row for which it means something. */
    int64_t seq = some_row(b, kind == EXJ_OP_SIGNAL && chance(b, 2)  ? EXJ_SUSPENDED
                              : kind == EXJ_OP_SIGNAL                ? -1
                              : kind == EXJ_OP_CANCEL                ? -1
                              : kind == EXJ_OP_RETRY && chance(b, 2) ? EXJ_FAILED
                              : kind == EXJ_OP_RETRY && chance(b, 2) ? EXJ_BLOCKED
                                                                     : -2)
                      .seq;

    switch (kind) {
    case EXJ_OP_RETRY:
        op->u.retry.seq = seq;
        break;
    case EXJ_OP_RERUN:
        op->u.rerun.seq = seq;
        op->u.rerun.step =
            chance(b, 2) ? exj_slice_of("") : text(b, "step%u", chance(b, 4));
        break;
    case EXJ_OP_CANCEL:
        op->u.cancel.seq = seq;
        op->u.cancel.why = text(b, "why %u", chance(b, 9));
        break;
    default:
        op->u.signal.seq = seq;
        op->u.signal.name = text(b, "s%u", chance(b, 2));
        op->u.signal.body = text(b, "{\"n\":%u}", chance(b, 100));
        break;
    }
}

static void add_doc(exj_batch *b, exj_op_kind kind, bool sure)
{
    exj_op *op = add(b, kind);

    op->u.doc.kind = (exj_doc_kind)chance(b, 3);
    op->u.doc.id = text(b, "%c%u", "gmt"[op->u.doc.kind], chance(b, 3));
    op->u.doc.expected = sure || chance(b, 3) ? -1 : (int64_t)chance(b, 3);
    op->u.doc.body = value(b);
}

static void add_step(exj_batch *b, exj_op_kind kind)
{
    exj_op *op = add(b, kind);
    exj_known_row r = some_row(b, EXJ_RUNNING);

    if (kind == EXJ_OP_PROGRESS) {
        op->u.progress.seq = r.seq;
        op->u.progress.nonce = r.nonce;
        op->u.progress.token = r.token;
        op->u.progress.at = chance(b, 100) / 100.0;
        op->u.progress.note = text(b, "at %u", chance(b, 100));
        return;
    }
    op->u.step.seq = r.seq;
    op->u.step.nonce = r.nonce + (chance(b, 16) == 0);
    op->u.step.token = r.token;
    op->u.step.attempt = r.attempts;
    op->u.step.key = text(b, "step%u", chance(b, 4));
    if (kind == EXJ_OP_STEP_PUT)
        op->u.step.body = value(b);
}

static void add_kv(exj_batch *b, exj_op_kind kind, bool operator)
{
    exj_op *op = add(b, kind);

    op->u.kv.graph = text(b, "g%u", chance(b, 2));
    op->u.kv.key = text(b, "%c%u", kind == EXJ_OP_KV_ADD ? 'n' : 'k', chance(b, 6));
    op->u.kv.delta = chance(b, 10);
    op->u.kv.value = text(b, "[%u]", chance(b, 1000));
    if (!operator&& chance(b, 2)) {
        exj_known_row r = some_row(b, EXJ_RUNNING);

        op->u.kv.seq = r.seq;
        op->u.kv.nonce = r.nonce;
        op->u.kv.token = r.token;
    }
}

static void set_command(exj_batch *b, exj_op *op, exj_slice key, int64_t owner)
{
    op->u.command.key = key;
    op->u.command.owner = owner;
    op->u.command.keep_ms = 3600000;
    op->u.command.status = 200;
    op->u.command.body = text(b, "{\"answer\":%u}", chance(b, 1000));
    for (size_t i = 0; i < 32; i++)
        op->u.command.fingerprint[i] = (uint8_t)(key.n + i);
}

/* Ends one that is in progress, or begins one. */
static void add_command(exj_batch *b, exj_op_kind kind)
{
    exj_op *op = add(b, kind);

    if (kind != EXJ_OP_COMMAND_TAKE && b->known->taken_len) {
        size_t i = chance(b, (uint32_t)b->known->taken_len);

        set_command(b, op, text(b, "%s", b->known->taken[i].key),
                    b->known->taken[i].owner);
    } else {
        set_command(b, op, text(b, "key%u", chance(b, 200)),
                    1 + (int64_t)chance(b, 1000));
    }
}

static void add_sink(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_SINK_SAVE);
    size_t n = chance(b, 4);
    exj_sink_item *items = room(b, (n + 1) * sizeof(*items));

    for (size_t i = 0; i < n; i++) {
        items[i] = (exj_sink_item){ .fate = (exj_sink_fate)chance(b, 3),
                                    .number = 1 + (int64_t)chance(b, 60),
                                    .seq = 1 + (int64_t)chance(b, 20),
                                    .tries = chance(b, 5),
                                    .at = 1700000000000 + chance(b, 100000),
                                    .error = text(b, "no %u", chance(b, 9)),
                                    .body = text(b, "{\"e\":%u}", chance(b, 99)) };
    }
    op->u.sink.name = text(b, "sink%u", chance(b, 2));
    op->u.sink.position = b->known->last_entry;
    op->u.sink.items = items;
    op->u.sink.len = n;
    op->u.sink.dead_most = chance(b, 3) ? 0 : 3;
}

static void add_dead(exj_batch *b, exj_op_kind kind)
{
    exj_op *op = add(b, kind);

    op->u.dead.id =
        b->known->dead_len ? b->known->dead[chance(b, (uint32_t)b->known->dead_len)] : 1;
}

static void add_remove(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_REMOVE);
    size_t n = 1 + chance(b, 3);

    op->u.remove.items = room(b, n * sizeof(exj_removal));
    op->u.remove.len = n;
    for (size_t i = 0; i < n; i++) {
        exj_known_row r = some_row(b, chance(b, 2) ? EXJ_COMPLETED : -2);

        op->u.remove.items[i] =
            (exj_removal){ .seq = r.seq, .token = r.token, .finished_at = r.at };
    }
}

static void add_compact(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_COMPACT);

    /* All of it: where a part ends depends on how entries were batched. */
    op->u.compact.limit = 1000000;
    b->compacts = true;
}

static void add_restore(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_RESTORE);
    exj_archived *a = room(b, sizeof(*a));
    exj_journal_entry *e = room(b, 3 * sizeof(*e));
    exj_step_view *step = room(b, sizeof(*step));
    static const exj_entry_kind kinds[] = { EXJ_ENTRY_QUEUED, EXJ_ENTRY_CLAIMED,
                                            EXJ_ENTRY_COMPLETED };

    for (int i = 0; i < 3; i++)
        e[i] = (exj_journal_entry){ .kind = kinds[i],
                                    .number = i + 1,
                                    .previous = i,
                                    .at = 1600000000000 + i,
                                    .seq = 1,
                                    .token = i ? 1 : 0,
                                    .attempt = i ? 1 : 0 };
    *step = (exj_step_view){ .key = exj_slice_of("step0"),
                             .body = exj_slice_of("7"),
                             .done = true,
                             .token = 1,
                             .number = 2,
                             .attempt = 1,
                             .began_at = 1600000000000,
                             .at = 1600000000001 };
    *a = (exj_archived){ .record_id = text(b, "old%08x", chance(b, UINT32_MAX)),
                         .input = exj_slice_of("{}"),
                         .result = exj_slice_of("1"),
                         .error_code = exj_slice_of(""),
                         .error_text = exj_slice_of(""),
                         .status = EXJ_COMPLETED,
                         .attempts = 1,
                         .max_attempts = 3,
                         .token = 1,
                         .created_at = 1600000000000,
                         .finished_at = 1600000000002,
                         .steps = step,
                         .steps_len = 1,
                         .entries = e,
                         .entries_len = 3 };
    op->u.restore.pool = some_pool(b);
    op->u.restore.row = a;
}

static void add_run(exj_batch *b, exj_op_kind kind)
{
    exj_op *op = add(b, kind);

    op->u.run.matrix = text(b, "m%u", chance(b, 2));
    op->u.run.run = text(b, "run%u", chance(b, 4));
}

static void add_tick(exj_batch *b)
{
    exj_op *op = add(b, EXJ_OP_SCHEDULE_TICK);
    const exj_known *k = b->known;

    op->u.tick.id = exj_slice_of("t0");
    for (size_t i = 0; i < k->docs_len; i++)
        if (k->docs[i].kind == EXJ_DOC_SCHEDULE &&
            (i + 1 == k->docs_len || chance(b, 2))) {
            op->u.tick.id = text(b, "%s", k->docs[i].id);
            op->u.tick.version = k->docs[i].version;
            op->u.tick.turn = k->docs[i].turn;
            break;
        }
    op->u.tick.last_tick = 1700000000000 + chance(b, 1000000);
    op->u.tick.next_due = op->u.tick.last_tick + 60000;
    op->u.tick.last_fired = op->u.tick.last_tick;
    op->u.tick.times = text(b, "%u %u", chance(b, 60), chance(b, 24));
    op->u.tick.error = chance(b, 4) ? exj_slice_of("") : text(b, "no %u", chance(b, 3));
    op->u.tick.fired = 1;
}

static void add_kind(exj_batch *b, exj_op_kind kind)
{
    switch (kind) {
    case EXJ_OP_POOL:
        add_pool(b);
        break;
    case EXJ_OP_INSERT:
        add_insert(b);
        break;
    case EXJ_OP_CLAIM:
        add_claim(b);
        break;
    case EXJ_OP_FINISH:
        add_finish(b);
        break;
    case EXJ_OP_RENEW:
    case EXJ_OP_RELEASE:
        add_held(b, kind);
        break;
    case EXJ_OP_REAP:
        add_reap(b);
        break;
    case EXJ_OP_PROMOTE:
        add(b, kind)->u.promote.limit = 16;
        break;
    case EXJ_OP_RETRY:
    case EXJ_OP_RERUN:
    case EXJ_OP_CANCEL:
    case EXJ_OP_SIGNAL:
        add_order(b, kind);
        break;
    case EXJ_OP_DOC_PUT:
    case EXJ_OP_DOC_DELETE:
        add_doc(b, kind, false);
        break;
    case EXJ_OP_STEP_BEGIN:
    case EXJ_OP_STEP_PUT:
    case EXJ_OP_PROGRESS:
        add_step(b, kind);
        break;
    case EXJ_OP_COMMAND_TAKE:
    case EXJ_OP_COMMAND_KEEP:
    case EXJ_OP_COMMAND_DROP:
        add_command(b, kind);
        break;
    case EXJ_OP_KV_PUT:
    case EXJ_OP_KV_REMOVE:
    case EXJ_OP_KV_ADD:
        add_kv(b, kind, false);
        break;
    case EXJ_OP_SINK_SAVE:
        add_sink(b);
        break;
    case EXJ_OP_DEAD_REPLAY:
    case EXJ_OP_DEAD_DROP:
        add_dead(b, kind);
        break;
    case EXJ_OP_REMOVE:
        add_remove(b);
        break;
    case EXJ_OP_COMPACT:
        add_compact(b);
        break;
    case EXJ_OP_RESTORE:
        add_restore(b);
        break;
    case EXJ_OP_SCHEDULE_TICK:
        add_tick(b);
        break;
    case EXJ_OP_RUN_ASK:
    case EXJ_OP_RUN_DONE:
        add_run(b, kind);
        break;
    case EXJ_OP_COUNT:
        break;
    }
}

/* ---- groups
 */

static void end_group(exj_batch *b)
{
    for (size_t i = b->group[b->groups]; i + 1 < b->len; i++)
        b->ops[i]->with_next = true;
    b->group[++b->groups] = b->len;
}

/* What a group that may refuse itself does to numbers depends on what shares its
 * transaction: it is alone in its batch. */
static void make_group_alone(exj_batch *b)
{
    exj_slice key = text(b, "key%u", chance(b, 200));
    int64_t owner = 1 + (int64_t)chance(b, UINT32_MAX);

    if (chance(b, 3) == 0) {
        add_tick(b);
        if (chance(b, 2))
            add_insert(b);
        else
            add_run(b, EXJ_OP_RUN_ASK);
        end_group(b);
        return;
    }
    set_command(b, add(b, EXJ_OP_COMMAND_TAKE), key, owner);
    switch (chance(b, 5)) {
    case 0:
        add_insert(b);
        break;
    case 1:
        add_order(b, EXJ_OP_RETRY);
        break;
    case 2:
        add_order(b, EXJ_OP_SIGNAL);
        break;
    case 3:
        add_order(b, EXJ_OP_CANCEL);
        break;
    default:
        add_doc(b, EXJ_OP_DOC_PUT, false);
        break;
    }
    set_command(b, add(b, EXJ_OP_COMMAND_KEEP), key, owner);
    end_group(b);
}

static void make_group(exj_batch *b)
{
    add_pool(b);
    add_insert(b);
    if (chance(b, 2))
        add_doc(b, EXJ_OP_DOC_PUT, true);
    if (chance(b, 2))
        add_kv(b, EXJ_OP_KV_PUT, true);
    end_group(b);
}

static exj_op_kind some_kind(exj_batch *b)
{
    static const exj_op_kind often[] = { EXJ_OP_INSERT, EXJ_OP_INSERT,  EXJ_OP_CLAIM,
                                         EXJ_OP_CLAIM,  EXJ_OP_FINISH,  EXJ_OP_FINISH,
                                         EXJ_OP_FINISH, EXJ_OP_STEP_PUT };

    if (chance(b, 2))
        return often[chance(b, sizeof(often) / sizeof(*often))];
    for (;;) {
        exj_op_kind k = (exj_op_kind)chance(b, EXJ_OP_COUNT);

        if (k != EXJ_OP_COMPACT && (k != EXJ_OP_INSERT || b->known->rows_len < 200))
            return k;
    }
}

void exj_batch_init(exj_batch *b, size_t large)
{
    *b = (exj_batch){ .large = large, .key_caps = 1, .cap = ROOM_BYTES };
    b->room = malloc(b->cap);
    if (!b->room)
        abort();
}

void exj_batch_release(exj_batch *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->ops[i]->kind == EXJ_OP_COMMAND_TAKE)
            exj_buf_release(&b->ops[i]->u.command.ret_body);
    b->len = 0;
    free(b->room);
    b->room = NULL;
}

static void begin(exj_batch *b, uint64_t random, const exj_known *k)
{
    char *kept = b->room;

    b->room = NULL;
    exj_batch_release(b); /* what its operations own */
    b->room = kept;
    b->used = b->groups = 0;
    b->compacts = false;
    b->random = random;
    b->known = k;
}

void exj_batch_make(exj_batch *b, uint64_t random, const exj_known *k)
{
    uint32_t n, what;

    begin(b, random, k);
    what = chance(b, 40);
    if (k->pools_len < 2 || what == 0) {
        make_group(b);
        return;
    }
    if (what < 7) {
        make_group_alone(b);
        return;
    }
    if (what == 7 && chance(b, 3) == 0) {
        add_compact(b);
        end_group(b);
        return;
    }
    n = 1 + chance(b, 8);
    while (b->groups < n) {
        if (chance(b, 20) == 0) {
            make_group(b);
        } else {
            add_kind(b, some_kind(b));
            end_group(b);
        }
    }
    b->known = NULL;
}

void exj_batch_make_kind(exj_batch *b, uint64_t random, const exj_known *k,
                         exj_op_kind kind)
{
    begin(b, random, k);
    if (kind == EXJ_OP_COMMAND_KEEP || kind == EXJ_OP_COMMAND_DROP) {
        add_command(b, EXJ_OP_COMMAND_TAKE);
        end_group(b);
        add(b, kind)->u.command = b->ops[0]->u.command;
    } else {
        add_kind(b, kind);
    }
    end_group(b);
    b->known = NULL;
}

/* ---- doing ------------------------------------------------------------------------- */

static void answered(exj_op *op)
{
    sem_post(op->user);
}

void exj_batch_do(exj_batch *b, exj_store *s, size_t from, size_t to)
{
    size_t first = b->group[from], end = b->group[to];
    sem_t all;

    if (first == end)
        return;
    sem_init(&all, 0, 0);
    for (size_t i = first; i < end; i++) {
        b->ops[i]->done = answered;
        b->ops[i]->user = &all;
        b->ops[i]->next = i + 1 < end ? b->ops[i + 1] : NULL;
    }
    exj_store_submit(s, b->ops[first]);
    for (size_t i = first; i < end; i++)
        while (sem_wait(&all) != 0)
            ;
    sem_destroy(&all);
}

const exj_op *exj_batch_failed(const exj_batch *b, size_t group)
{
    for (size_t i = b->group[group]; i < b->group[group + 1]; i++) {
        exj_code rc = b->ops[i]->rc;

        if (rc == EXJ_IO || rc == EXJ_UNKNOWN || rc == EXJ_FULL || rc == EXJ_NOMEM ||
            rc == EXJ_CORRUPT || rc == EXJ_BUG)
            return b->ops[i];
    }
    return NULL;
}

exj_fate exj_batch_fate(const exj_batch *b, size_t group)
{
    const exj_op *op = exj_batch_failed(b, group);

    if (!op)
        return EXJ_FATE_DONE;
    return op->rc == EXJ_UNKNOWN ? EXJ_FATE_UNKNOWN : EXJ_FATE_NOTHING;
}
