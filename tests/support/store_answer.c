/* What operations answered, and their names: see store_load.h. */
#include "tests/support/store_load.h"

static void mix(uint64_t *h, int64_t v)
{
    *h = (*h ^ (uint64_t)v) * 0x9e3779b97f4a7c15u;
    *h ^= *h >> 29;
}

static void mix_text(uint64_t *h, exj_slice s)
{
    for (size_t i = 0; i < s.n; i++)
        mix(h, s.p[i]);
    mix(h, (int64_t)s.n);
}

static void mix_insert(uint64_t *h, const exj_op *op)
{
    mix(h, (int64_t)op->u.insert.ret_inserted);
    mix(h, (int64_t)op->u.insert.ret_dropped);
    for (size_t i = 0; i < op->u.insert.len; i++) {
        const exj_insert_item *it = &op->u.insert.items[i];

        mix(h, it->verdict);
        mix(h, it->verdict == EXJ_OK ? (int64_t)it->status : 0);
        mix(h, it->seq);
    }
}

static void mix_claim(uint64_t *h, const exj_op *op)
{
    mix(h, op->u.claim.ret_until);
    for (size_t i = 0; i < op->u.claim.wants_len; i++) {
        mix(h, op->u.claim.wants[i].verdict);
        mix(h, op->u.claim.wants[i].got);
    }
    for (size_t i = 0; i < op->u.claim.ret_len; i++) {
        const exj_claim *c = &op->u.claim.ret[i];

        mix(h, c->seq);
        mix(h, c->token);
        mix(h, c->nonce);
        mix(h, c->attempt);
    }
}

static void mix_reap(uint64_t *h, const exj_op *op)
{
    for (size_t i = 0; i < op->u.reap.ret_len; i++) {
        mix(h, op->u.reap.ret[i].seq);
        mix(h, op->u.reap.ret[i].token);
        mix(h, op->u.reap.ret[i].to);
    }
}

uint64_t exj_op_answer(const exj_op *op)
{
    uint64_t h = (uint64_t)op->kind;

    mix(&h, op->rc);
    if (op->rc != EXJ_OK && op->rc != EXJ_CANCELLED)
        return h;
    switch (op->kind) {
    case EXJ_OP_POOL:
        mix(&h, op->u.pool.ret_pool);
        break;
    case EXJ_OP_INSERT:
        mix_insert(&h, op);
        break;
    case EXJ_OP_CLAIM:
        mix_claim(&h, op);
        break;
    case EXJ_OP_FINISH:
        for (size_t i = 0; i < op->u.finish.len; i++) {
            mix(&h, op->u.finish.items[i].verdict);
            mix(&h, op->u.finish.items[i].to);
        }
        break;
    case EXJ_OP_RENEW:
    case EXJ_OP_RELEASE:
        for (size_t i = 0; i < op->u.held.len; i++) {
            mix(&h, op->u.held.items[i].verdict);
            mix(&h, op->u.held.items[i].ret_cancel);
        }
        break;
    case EXJ_OP_REAP:
        mix_reap(&h, op);
        break;
    case EXJ_OP_PROMOTE:
        mix(&h, (int64_t)op->u.promote.ret_promoted);
        mix(&h, op->u.promote.ret_next_due);
        break;
    case EXJ_OP_RERUN:
        mix(&h, (int64_t)op->u.rerun.ret_dropped);
        mix(&h, (int64_t)op->u.rerun.ret_kept);
        break;
    case EXJ_OP_CANCEL:
        mix(&h, op->u.cancel.ret_to);
        break;
    case EXJ_OP_SIGNAL:
        mix(&h, op->u.signal.ret_delivered);
        mix(&h, op->u.signal.ret_to);
        break;
    case EXJ_OP_DOC_PUT:
    case EXJ_OP_DOC_DELETE:
        mix(&h, op->u.doc.ret_version);
        break;
    case EXJ_OP_STEP_BEGIN:
    case EXJ_OP_STEP_PUT:
        mix(&h, op->u.step.verdict);
        mix(&h, op->u.step.ret_again);
        break;
    case EXJ_OP_PROGRESS:
        mix(&h, op->u.progress.verdict);
        break;
    case EXJ_OP_COMMAND_TAKE:
        mix(&h, op->u.command.ret_replay);
        if (op->u.command.ret_replay) {
            mix(&h, op->u.command.ret_status);
            mix_text(&h, exj_buf_slice(&op->u.command.ret_body));
        }
        break;
    case EXJ_OP_KV_ADD:
        mix(&h, op->u.kv.ret_sum);
        break;
    case EXJ_OP_SINK_SAVE:
        mix(&h, (int64_t)op->u.sink.ret_kept);
        break;
    case EXJ_OP_REMOVE:
        for (size_t i = 0; i < op->u.remove.len; i++)
            mix(&h, op->u.remove.items[i].verdict);
        break;
    case EXJ_OP_COMPACT:
        mix(&h, (int64_t)op->u.compact.ret_dropped);
        break;
    case EXJ_OP_RESTORE:
        mix(&h, op->u.restore.ret_seq);
        break;
    default:
        break;
    }
    return h;
}

const char *exj_op_name(exj_op_kind kind)
{
    static const char *const names[EXJ_OP_COUNT] = {
        [EXJ_OP_POOL] = "pool",
        [EXJ_OP_INSERT] = "insert",
        [EXJ_OP_CLAIM] = "claim",
        [EXJ_OP_FINISH] = "finish",
        [EXJ_OP_RENEW] = "renew",
        [EXJ_OP_RELEASE] = "release",
        [EXJ_OP_REAP] = "reap",
        [EXJ_OP_PROMOTE] = "promote",
        [EXJ_OP_RETRY] = "retry",
        [EXJ_OP_RERUN] = "rerun",
        [EXJ_OP_CANCEL] = "cancel",
        [EXJ_OP_SIGNAL] = "signal",
        [EXJ_OP_DOC_PUT] = "doc_put",
        [EXJ_OP_DOC_DELETE] = "doc_delete",
        [EXJ_OP_STEP_BEGIN] = "step_begin",
        [EXJ_OP_STEP_PUT] = "step_put",
        [EXJ_OP_PROGRESS] = "progress",
        [EXJ_OP_COMMAND_TAKE] = "command_take",
        [EXJ_OP_COMMAND_KEEP] = "command_keep",
        [EXJ_OP_COMMAND_DROP] = "command_drop",
        [EXJ_OP_KV_PUT] = "kv_put",
        [EXJ_OP_KV_REMOVE] = "kv_remove",
        [EXJ_OP_KV_ADD] = "kv_add",
        [EXJ_OP_SINK_SAVE] = "sink_save",
        [EXJ_OP_DEAD_REPLAY] = "dead_replay",
        [EXJ_OP_DEAD_DROP] = "dead_drop",
        [EXJ_OP_REMOVE] = "remove",
        [EXJ_OP_COMPACT] = "compact",
        [EXJ_OP_RESTORE] = "restore",
        [EXJ_OP_SCHEDULE_TICK] = "schedule_tick",
        [EXJ_OP_RUN_ASK] = "run_ask",
        [EXJ_OP_RUN_DONE] = "run_done",
    };

    return kind < EXJ_OP_COUNT ? names[kind] : "?";
}
