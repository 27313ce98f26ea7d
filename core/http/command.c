#include "core/http/command.h"

#include <pthread.h>

#include "core/base/clock.h"
#include "core/base/sha256.h"

#define HOUR_MS 3600000LL

struct exj_command {
    exj_slice key;
    uint8_t fingerprint[32];
    int64_t owner;
    bool settled; /* its answer is stored, or somebody else's was given */
};

/* ---- one group of operations ---------------------------------------------------------------- */

struct group {
    exj_exchange *x;
    exj_op *ops; /* the effect; NULL: the answer stands already */
    exj_effect_answer answer;
    void *user;
    pthread_mutex_t mu;
    pthread_cond_t ended;
    bool over; /* guarded by mu */
};

static void wake(exj_op *op)
{
    struct group *g = op->user;

    /* Signalled under the lock: the waiter's stack may be gone right after it. */
    pthread_mutex_lock(&g->mu);
    g->over = true;
    pthread_cond_signal(&g->ended);
    pthread_mutex_unlock(&g->mu);
}

/* The last operation of a group tells of all: they are given back in order. */
static void submit_and_wait(exj_store *s, struct group *g, exj_op *first, exj_op *last)
{
    pthread_mutex_init(&g->mu, NULL);
    pthread_cond_init(&g->ended, NULL);
    last->next = NULL;
    last->with_next = false;
    last->done = wake;
    last->user = g;
    exj_store_submit(s, first);
    pthread_mutex_lock(&g->mu);
    while (!g->over)
        pthread_cond_wait(&g->ended, &g->mu);
    pthread_mutex_unlock(&g->mu);
    pthread_cond_destroy(&g->ended);
    pthread_mutex_destroy(&g->mu);
}

static void link_ops(exj_op *op, exj_op *next)
{
    op->done = NULL;
    op->next = next;
    op->with_next = true;
}

static bool render(exj_op *op)
{
    struct group *g = op->user;
    exj_response *ret = g->x->ret;

    exj_json_told_short(); /* what another answer lacked is not about this one */
    if (g->ops)
        g->answer(g->x, g->ops, g->user);
    if (ret->status >= 500)
        return false;
    op->u.command.status = ret->status;
    op->u.command.body = exj_buf_slice(&ret->body);
    return true;
}

/* ---- keys ----------------------------------------------------------------------------------- */

static exj_op command_op(const exj_exchange *x, exj_op_kind kind)
{
    exj_op op = { .kind = kind };
    const struct exj_command *c = x->command;
    uint32_t hours = x->api->idempotency_hours;

    op.u.command.key = c->key;
    memcpy(op.u.command.fingerprint, c->fingerprint, sizeof c->fingerprint);
    op.u.command.owner = c->owner;
    op.u.command.keep_ms = (hours ? hours : EXJ_COMMAND_KEEP_HOURS) * HOUR_MS;
    return op;
}

static void replay(exj_exchange *x, const exj_op *take)
{
    exj_buf_reset(&x->ret->body);
    if (!exj_buf_add_slice(&x->ret->body, exj_buf_slice(&take->u.command.ret_body))) {
        exj_answer_take(x, 500, NULL);
        return;
    }
    x->ret->status = take->u.command.ret_status;
    x->ret->content_type = EXJ_TYPE_JSON;
    x->ret->replayed = true;
}

/* What taking the key said. True: it is ours; or a later operation of the group failed, and
 * nothing is taken. False: answered. */
static bool take_said(exj_exchange *x, exj_op *take)
{
    bool ours = take->rc == EXJ_OK || (take->rc == EXJ_CANCELLED && !take->u.command.ret_replay);

    if (!ours)
        x->command->settled = true;
    if (ours)
        ; /* go on */
    else if (take->rc == EXJ_CANCELLED)
        replay(x, take);
    else if (take->rc == EXJ_BUSY)
        exj_answer_error(x, 409, "in_progress", "%s", take->err.text);
    else if (take->rc == EXJ_CONFLICT)
        exj_answer_error(x, 422, "IdempotencyKeyReused", "%s", take->err.text);
    else
        exj_answer_failure(x, &take->err);
    exj_buf_release(&take->u.command.ret_body);
    return ours;
}

/* False: answered 400. */
static bool read_key(exj_exchange *x, struct exj_command *c)
{
    static const char separator = '\0';
    exj_slice key = x->q->idempotency_key, parts[4];
    exj_sha256 s;
    bool good = key.n >= 1 && key.n <= EXJ_COMMAND_KEY_MAX;

    for (size_t i = 0; i < key.n && good; i++)
        good = key.p[i] >= 0x20 && key.p[i] < 0x7f;
    if (!good) {
        exj_answer_error(x, 400, "ValidationError",
                         "Idempotency-Key must be 1 to %u printable ASCII characters, sent once; "
                         "it has %zu bytes", EXJ_COMMAND_KEY_MAX, key.n);
        return false;
    }
    if (!x->api->store) {
        exj_answer_error(x, 503, "Unavailable",
                         "no store is open here to remember an Idempotency-Key");
        return false;
    }
    c->key = key;
    c->owner = (int64_t)(exj_random_u64() >> 1 | 1);
    parts[0] = exj_slice_of(x->q->method);
    parts[1] = x->q->path;
    parts[2] = x->q->query;
    parts[3] = x->q->body;
    exj_sha256_init(&s);
    for (size_t i = 0; i < 4; i++) {
        if (parts[i].n)
            exj_sha256_update(&s, parts[i].p, parts[i].n);
        exj_sha256_update(&s, &separator, 1);
    }
    exj_sha256_final(&s, c->fingerprint);
    return true;
}

/* ---- the two ways --------------------------------------------------------------------------- */

exj_code exj_effect(exj_exchange *x, exj_op *ops, size_t n, exj_effect_answer answer,
                    void *user, exj_err *err)
{
    struct group g = { .x = x, .ops = ops, .answer = answer, .user = user };
    exj_op take, keep;

    for (size_t i = 0; i < n; i++)
        link_ops(&ops[i], i + 1 < n ? &ops[i + 1] : NULL);
    if (!x->command) {
        submit_and_wait(x->api->store, &g, ops, &ops[n - 1]);
    } else {
        take = command_op(x, EXJ_OP_COMMAND_TAKE);
        keep = command_op(x, EXJ_OP_COMMAND_KEEP);
        keep.u.command.answer = render;
        link_ops(&take, ops);
        link_ops(&ops[n - 1], &keep);
        submit_and_wait(x->api->store, &g, &take, &keep);
        if (!take_said(x, &take))
            return EXJ_OK;
        if (keep.rc == EXJ_OK)
            x->command->settled = true;
    }
    for (size_t i = 0; i < n; i++)
        if (ops[i].rc != EXJ_OK && ops[i].rc != EXJ_CANCELLED)
            return exj_err_set(err, ops[i].rc, "%s", ops[i].err.text);
    if (x->command && keep.rc != EXJ_OK)
        return exj_err_set(err, keep.rc, "%s", keep.err.text);
    if (!x->command)
        answer(x, ops, user);
    return EXJ_OK;
}

/* The route ended without an effect: keep the answer, or free the key and let an answer
 * that was kept meanwhile, or another request's key, stand before ours. */
static void settle_without_effect(exj_exchange *x)
{
    struct group g = { .x = x };
    bool keeps = x->ret->status < 400;
    exj_op take = command_op(x, EXJ_OP_COMMAND_TAKE);
    exj_op end = command_op(x, keeps ? EXJ_OP_COMMAND_KEEP : EXJ_OP_COMMAND_DROP);

    if (keeps)
        end.u.command.answer = render;
    link_ops(&take, &end);
    submit_and_wait(x->api->store, &g, &take, &end);
    if (take_said(x, &take) && keeps && end.rc != EXJ_OK)
        exj_answer_failure(x, &end.err);
}

static bool take_alone(exj_exchange *x)
{
    exj_op take = command_op(x, EXJ_OP_COMMAND_TAKE);
    exj_err err = { 0 };

    exj_store_do(x->api->store, &take, &err);
    return take_said(x, &take);
}

static void end_alone(exj_exchange *x)
{
    struct group g = { .x = x };
    bool keeps = x->ret->status < 400;
    exj_op end = command_op(x, keeps ? EXJ_OP_COMMAND_KEEP : EXJ_OP_COMMAND_DROP);

    if (keeps)
        end.u.command.answer = render;
    submit_and_wait(x->api->store, &g, &end, &end);
    /* Done is done: when its answer cannot be kept, it is given all the same. */
}

void exj_command_run(exj_exchange *x, exj_route_fn route, bool in_store)
{
    struct exj_command c = { .owner = 0 };

    if (!x->q->idempotency_key.p) {
        route(x);
        return;
    }
    if (!read_key(x, &c))
        return;
    x->command = &c;
    if (in_store) {
        route(x);
        if (!c.settled)
            settle_without_effect(x);
    } else if (take_alone(x)) {
        route(x);
        if (!c.settled)
            end_alone(x);
    }
    x->command = NULL;
}
