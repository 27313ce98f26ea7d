/* core/history/recorded_op.c - what an operation of the store says in a history. */
#include <stdlib.h>

#include "core/history/recorded_inside.h"
#include "core/job/record.h"

#define CODE_BYTES 32 /* "fenced" and the like */

/* "EXJ_NOT_FOUND" says "not_found". */
static exj_slice code_word(exj_code code, char ret[CODE_BYTES])
{
    const char *name = exj_code_name(code);
    size_t n = 0;

    if (strncmp(name, "EXJ_", 4) == 0)
        name += 4;
    for (; name[n] && n + 1 < CODE_BYTES; n++)
        ret[n] = (char)(name[n] >= 'A' && name[n] <= 'Z' ? name[n] - 'A' + 'a' : name[n]);
    return (exj_slice){ ret, n };
}

static exj_slice status_word(exj_status s)
{
    return exj_slice_of(exj_status_word(s));
}

static exj_slice outcome_word(exj_event e)
{
    switch (e) {
    case EXJ_EV_SUCCEED:
        return EXJ_SLICE_LITERAL("succeed");
    case EXJ_EV_FAIL_RETRY:
        return EXJ_SLICE_LITERAL("fail_retry");
    case EXJ_EV_FAIL_DEAD:
        return EXJ_SLICE_LITERAL("fail_dead");
    case EXJ_EV_BLOCK:
        return EXJ_SLICE_LITERAL("block");
    case EXJ_EV_SUSPEND:
        return EXJ_SLICE_LITERAL("suspend");
    case EXJ_EV_CANCEL:
        return EXJ_SLICE_LITERAL("cancel");
    default:
        return exj_slice_of(exj_event_word(e));
    }
}

/* ---- claims and pools that are known --------------------------------------------------- */

static int64_t token_of(exj_recorded *r, int64_t seq, int64_t nonce)
{
    exj_recorded_entry **at;
    int64_t token = 0;

    pthread_mutex_lock(&r->mu);
    at = exj_recorded_find_locked(&r->claims, (uint64_t)seq, (uint64_t)nonce);
    if (at)
        token = (*at)->token;
    pthread_mutex_unlock(&r->mu);
    return token;
}

static void keep_claim(exj_recorded *r, const exj_claim *c)
{
    exj_recorded_entry *e = calloc(1, sizeof(*e));

    if (!e)
        return;
    e->a = (uint64_t)c->seq;
    e->b = (uint64_t)c->nonce;
    e->token = c->token;
    pthread_mutex_lock(&r->mu);
    exj_recorded_put_locked(&r->claims, e);
    pthread_mutex_unlock(&r->mu);
}

/* Its holder ended it, or was told that it is over. */
static void forget_claim(exj_recorded *r, int64_t seq, int64_t nonce)
{
    exj_recorded_entry *e;

    pthread_mutex_lock(&r->mu);
    e = exj_recorded_take_locked(&r->claims, (uint64_t)seq, (uint64_t)nonce);
    pthread_mutex_unlock(&r->mu);
    free(e);
}

void exj_recorded_note_pool(exj_recorded *r, int64_t pool, exj_slice matrix, exj_slice run,
                            exj_slice graph)
{
    exj_recorded_entry *e;
    exj_buf name = EXJ_BUF_INIT;

    pthread_mutex_lock(&r->mu);
    if (exj_recorded_find_locked(&r->pools, (uint64_t)pool, 0))
        goto out;
    e = calloc(1, sizeof(*e));
    if (!e || !exj_row_name_add(&name, matrix, run, graph, (exj_slice){ 0 })) {
        free(e);
        goto out;
    }
    e->a = (uint64_t)pool;
    e->prefix = exj_buf_take(&name);
    exj_recorded_put_locked(&r->pools, e);
out:
    pthread_mutex_unlock(&r->mu);
    exj_buf_release(&name);
}

/* Room for the name of a row as long as a line may hold, and for what is clipped of it. */
#define JOB_BYTES (2u * EXJ_HIST_JOB_MAX)

/* The name of a record's row in `room`; empty when the pool is not known. */
static exj_slice job_of(exj_recorded *r, int64_t pool, exj_slice record, char room[JOB_BYTES])
{
    exj_recorded_entry **at;
    exj_buf b = { .p = room, .cap = JOB_BYTES };
    size_t left;
    char *bars;

    pthread_mutex_lock(&r->mu);
    at = exj_recorded_find_locked(&r->pools, (uint64_t)pool, 0);
    if (at) /* entries stay as long as the store */
        b.n = strlen((*at)->prefix);
    if (b.n > EXJ_HIST_JOB_MAX)
        b.n = EXJ_HIST_JOB_MAX;
    if (at)
        memcpy(room, (*at)->prefix, b.n);
    pthread_mutex_unlock(&r->mu);
    if (!at)
        return (exj_slice){ 0 };
    left = (JOB_BYTES - b.n - 8) / 3; /* each byte may become %XX */
    if (record.n > left)
        record.n = left;
    bars = room + b.n;
    exj_row_name_add(&b, (exj_slice){ 0 }, (exj_slice){ 0 }, (exj_slice){ 0 }, record);
    memmove(bars, bars + 3, b.n - (size_t)(bars - room) - 3); /* the names before it are there */
    return (exj_slice){ room, b.n - 3 };
}

/* ---- before ------------------------------------------------------------------------------ */

static void describe_held(exj_recorded *r, const exj_op *op, exj_hist_event *e)
{
    const exj_held *h = op->u.held.items;

    if (op->u.held.len != 1)
        return;
    e->row = h->seq;
    e->token = token_of(r, h->seq, h->nonce);
}

static void describe_write(const exj_op *op, exj_hist_event *e)
{
    e->op = EXJ_HIST_WRITE;
    switch (op->kind) {
    case EXJ_OP_STEP_BEGIN:
        e->outcome = EXJ_SLICE_LITERAL("step_begin");
        e->key = op->u.step.key;
        e->row = op->u.step.seq;
        e->token = op->u.step.token;
        e->attempt = op->u.step.attempt;
        return;
    case EXJ_OP_PROGRESS:
        e->outcome = EXJ_SLICE_LITERAL("progress");
        e->row = op->u.progress.seq;
        e->token = op->u.progress.token;
        return;
    case EXJ_OP_KV_PUT:
        e->outcome = EXJ_SLICE_LITERAL("kv_put");
        break;
    case EXJ_OP_KV_REMOVE:
        e->outcome = EXJ_SLICE_LITERAL("kv_remove");
        break;
    default:
        e->outcome = EXJ_SLICE_LITERAL("kv_add");
        break;
    }
    e->key = op->u.kv.key;
    e->row = op->u.kv.seq;
    e->token = op->u.kv.seq ? op->u.kv.token : 0;
}

static void describe_tick(const exj_op *op, exj_hist_event *e)
{
    e->op = EXJ_HIST_TICK;
    e->key = op->u.tick.id;
    e->value = op->u.tick.last_fired; /* 0: this change of the state starts nothing */
    e->outcome = e->value ? EXJ_SLICE_LITERAL("fired") : EXJ_SLICE_LITERAL("kept");
}

bool exj_recorded_describe(exj_recorded *r, const exj_op *op, exj_hist_event *e)
{
    *e = (exj_hist_event){ .phase = EXJ_HIST_INVOKE };
    switch (op->kind) {
    case EXJ_OP_INSERT:
    case EXJ_OP_RESTORE:
        e->op = EXJ_HIST_ENQUEUE;
        break;
    case EXJ_OP_CLAIM:
        e->op = EXJ_HIST_CLAIM;
        e->worker = exj_slice_of(op->u.claim.holder);
        break;
    case EXJ_OP_FINISH:
        e->op = EXJ_HIST_COMPLETE;
        if (op->u.finish.len == 1) {
            e->row = op->u.finish.items->seq;
            e->token = op->u.finish.items->token;
            e->outcome = outcome_word(op->u.finish.items->event);
        }
        break;
    case EXJ_OP_RENEW:
        e->op = EXJ_HIST_RENEW;
        describe_held(r, op, e);
        break;
    case EXJ_OP_RELEASE:
        e->op = EXJ_HIST_RELEASE;
        describe_held(r, op, e);
        break;
    case EXJ_OP_REAP:
        e->op = EXJ_HIST_REAP;
        break;
    case EXJ_OP_RETRY:
        e->op = EXJ_HIST_RETRY;
        e->row = op->u.retry.seq;
        break;
    case EXJ_OP_RERUN:
        e->op = EXJ_HIST_RERUN;
        e->row = op->u.rerun.seq;
        e->key = op->u.rerun.step;
        break;
    case EXJ_OP_CANCEL:
        e->op = EXJ_HIST_CANCEL;
        e->row = op->u.cancel.seq;
        break;
    case EXJ_OP_SIGNAL:
        e->op = EXJ_HIST_SIGNAL;
        e->row = op->u.signal.seq;
        e->key = op->u.signal.name;
        break;
    case EXJ_OP_STEP_PUT:
        e->op = EXJ_HIST_STEP;
        e->row = op->u.step.seq;
        e->token = op->u.step.token;
        e->attempt = op->u.step.attempt;
        e->key = op->u.step.key;
        break;
    case EXJ_OP_STEP_BEGIN:
    case EXJ_OP_PROGRESS:
    case EXJ_OP_KV_PUT:
    case EXJ_OP_KV_REMOVE:
    case EXJ_OP_KV_ADD:
        describe_write(op, e);
        break;
    case EXJ_OP_COMMAND_TAKE:
    case EXJ_OP_COMMAND_KEEP:
    case EXJ_OP_COMMAND_DROP:
        e->op = EXJ_HIST_COMMAND;
        e->key = op->u.command.key;
        break;
    case EXJ_OP_REMOVE:
        e->op = EXJ_HIST_REMOVE;
        if (op->u.remove.len == 1) {
            e->row = op->u.remove.items->seq;
            e->token = op->u.remove.items->token;
        }
        break;
    case EXJ_OP_SCHEDULE_TICK:
        describe_tick(op, e);
        break;
    default:
        return false;
    }
    return true;
}

/* ---- after --------------------------------------------------------------------------------- */

struct ending {
    exj_recorded *r;
    exj_recorder_batch batch;
};

static void add(struct ending *x, const exj_hist_event *e)
{
    exj_hist_event line = *e;

    exj_recorder_add(x->r->recorder, &x->batch, &line);
}

/* Ends one row by its verdict. */
static void add_verdict(struct ending *x, exj_hist_event *e, exj_code verdict)
{
    char code[CODE_BYTES];

    e->phase = verdict == EXJ_OK ? EXJ_HIST_OK : EXJ_HIST_FAIL;
    e->code = verdict == EXJ_OK ? (exj_slice){ 0 } : code_word(verdict, code);
    add(x, e);
}

static void end_insert(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    char room[JOB_BYTES];

    for (size_t i = 0; i < op->u.insert.len; i++) {
        const exj_insert_item *it = &op->u.insert.items[i];
        bool is_new = it->verdict == EXJ_OK, existed = it->verdict == EXJ_CONFLICT;

        e->job = job_of(x->r, op->u.insert.pool, it->record_id, room);
        /* EXJ_BUSY names the row that has the unique key, which is another record's. */
        e->row = is_new || (existed && op->u.insert.find_existing) ? it->seq : 0;
        e->value = op->u.insert.max_attempts;
        e->outcome = is_new    ? EXJ_SLICE_LITERAL("new")
                     : existed ? EXJ_SLICE_LITERAL("existing")
                               : (exj_slice){ 0 };
        e->to = is_new ? status_word(it->status) : (exj_slice){ 0 };
        add_verdict(x, e, existed ? EXJ_OK : it->verdict);
    }
}

static void end_restore(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    const exj_archived *row = op->u.restore.row;
    char room[JOB_BYTES];

    e->job = job_of(x->r, op->u.restore.pool, row->record_id, room);
    e->row = op->u.restore.ret_seq;
    e->value = row->max_attempts;
    e->outcome = e->row ? EXJ_SLICE_LITERAL("restored") : EXJ_SLICE_LITERAL("existing");
    if (e->row) {
        e->token = row->token;
        e->attempt = row->attempts;
        e->to = status_word(row->status);
    }
    add_verdict(x, e, EXJ_OK);
}

static void end_claim(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    if (op->u.claim.ret_len == 0)
        add_verdict(x, e, EXJ_OK);
    for (size_t i = 0; i < op->u.claim.ret_len; i++) {
        const exj_claim *c = &op->u.claim.ret[i];

        keep_claim(x->r, c);
        e->row = c->seq;
        e->token = c->token;
        e->attempt = c->attempt;
        add_verdict(x, e, EXJ_OK);
    }
}

static void end_finish(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    char digest[EXJ_HIST_DIGEST_BYTES];

    for (size_t i = 0; i < op->u.finish.len; i++) {
        const exj_outcome *o = &op->u.finish.items[i];

        e->row = o->seq;
        e->token = o->token;
        e->outcome = outcome_word(o->event);
        e->to = o->verdict == EXJ_OK ? status_word(o->to) : (exj_slice){ 0 };
        e->key = o->error_code;
        e->digest = (exj_slice){ 0 };
        if (o->result.n > 0) {
            exj_hist_digest(o->result, digest);
            e->digest = exj_slice_of(digest);
        }
        forget_claim(x->r, o->seq, o->nonce);
        add_verdict(x, e, o->verdict);
    }
}

static void end_held(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    bool renew = op->kind == EXJ_OP_RENEW;

    for (size_t i = 0; i < op->u.held.len; i++) {
        const exj_held *h = &op->u.held.items[i];

        e->row = h->seq;
        e->token = token_of(x->r, h->seq, h->nonce);
        e->outcome = renew && h->verdict == EXJ_OK && h->ret_cancel
                         ? EXJ_SLICE_LITERAL("cancel")
                         : (exj_slice){ 0 };
        if (!renew || h->verdict != EXJ_OK)
            forget_claim(x->r, h->seq, h->nonce);
        add_verdict(x, e, h->verdict);
    }
}

static void end_reap(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    if (op->u.reap.ret_len == 0)
        add_verdict(x, e, EXJ_OK);
    for (size_t i = 0; i < op->u.reap.ret_len; i++) {
        const exj_reaped *d = &op->u.reap.ret[i];

        e->row = d->seq;
        e->token = d->token;
        e->attempt = d->attempt;
        e->to = status_word(d->to);
        add_verdict(x, e, EXJ_OK);
    }
}

static void end_remove(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    for (size_t i = 0; i < op->u.remove.len; i++) {
        e->row = op->u.remove.items[i].seq;
        e->token = op->u.remove.items[i].token;
        add_verdict(x, e, op->u.remove.items[i].verdict);
    }
}

static void end_step(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    char digest[EXJ_HIST_DIGEST_BYTES];

    exj_hist_digest(op->u.step.body, digest);
    e->digest = exj_slice_of(digest);
    add_verdict(x, e, op->u.step.verdict);
}

static void end_command(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    bool replayed = op->kind == EXJ_OP_COMMAND_TAKE && op->u.command.ret_replay;
    char digest[EXJ_HIST_DIGEST_BYTES];
    exj_slice answer = { 0 };

    e->outcome = op->kind == EXJ_OP_COMMAND_KEEP   ? EXJ_SLICE_LITERAL("kept")
                 : op->kind == EXJ_OP_COMMAND_DROP ? EXJ_SLICE_LITERAL("dropped")
                 : replayed                        ? EXJ_SLICE_LITERAL("replayed")
                                                   : EXJ_SLICE_LITERAL("taken");
    if (replayed)
        answer = exj_buf_slice(&op->u.command.ret_body);
    else if (op->kind == EXJ_OP_COMMAND_KEEP)
        answer = op->u.command.body;
    if (replayed || op->kind == EXJ_OP_COMMAND_KEEP) {
        e->value = replayed ? op->u.command.ret_status : op->u.command.status;
        exj_hist_digest(answer, digest);
        e->digest = exj_slice_of(digest);
    }
    add_verdict(x, e, EXJ_OK);
}

/* Operations on one row, or on none. */
static void end_one(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    exj_code verdict = EXJ_OK;

    switch (op->kind) {
    case EXJ_OP_CANCEL:
        e->to = status_word(op->u.cancel.ret_to);
        break;
    case EXJ_OP_SIGNAL:
        e->to = status_word(op->u.signal.ret_to);
        e->outcome = op->u.signal.ret_delivered ? EXJ_SLICE_LITERAL("delivered")
                                                : EXJ_SLICE_LITERAL("kept");
        break;
    case EXJ_OP_PROGRESS:
        verdict = op->u.progress.verdict;
        break;
    case EXJ_OP_STEP_BEGIN:
        verdict = op->u.step.verdict;
        break;
    default: /* rc said all */
        break;
    }
    add_verdict(x, e, verdict);
}

/* The operation failed as a whole. */
static void end_failed(struct ending *x, const exj_op *op, exj_hist_event *e)
{
    char code[CODE_BYTES];
    bool unknown = op->rc == EXJ_UNKNOWN || op->rc == EXJ_IO || op->rc == EXJ_CORRUPT;

    e->phase = unknown ? EXJ_HIST_INFO : EXJ_HIST_FAIL;
    e->code = code_word(op->rc, code);
    add(x, e);
}

void exj_recorded_end(exj_recorded *r, const exj_op *op, exj_hist_event *e)
{
    struct ending x; /* large: its room is not cleared */
    bool replayed = op->kind == EXJ_OP_COMMAND_TAKE && op->rc == EXJ_CANCELLED &&
                    op->u.command.ret_replay;

    x.r = r;
    x.batch.n = x.batch.lines = 0;
    if (op->rc != EXJ_OK && !replayed) {
        end_failed(&x, op, e);
    } else {
        switch (op->kind) {
        case EXJ_OP_INSERT:
            end_insert(&x, op, e);
            break;
        case EXJ_OP_RESTORE:
            end_restore(&x, op, e);
            break;
        case EXJ_OP_CLAIM:
            end_claim(&x, op, e);
            break;
        case EXJ_OP_FINISH:
            end_finish(&x, op, e);
            break;
        case EXJ_OP_RENEW:
        case EXJ_OP_RELEASE:
            end_held(&x, op, e);
            break;
        case EXJ_OP_REAP:
            end_reap(&x, op, e);
            break;
        case EXJ_OP_REMOVE:
            end_remove(&x, op, e);
            break;
        case EXJ_OP_STEP_PUT:
            end_step(&x, op, e);
            break;
        case EXJ_OP_COMMAND_TAKE:
        case EXJ_OP_COMMAND_KEEP:
        case EXJ_OP_COMMAND_DROP:
            end_command(&x, op, e);
            break;
        default:
            end_one(&x, op, e);
            break;
        }
    }
    exj_recorder_flush(r->recorder, &x.batch);
}
