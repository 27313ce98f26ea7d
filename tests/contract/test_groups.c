/* Operations that belong together, and commands with idempotency keys. */
#include "durable.h"

static void make_insert(exj_op *op, exj_insert_item *it, int64_t p, const char *id)
{
    *it = (exj_insert_item){ .record_id = exj_slice_of(id), .input = EXJ_SLICE_LITERAL("{}") };
    *op = (exj_op){ .kind = EXJ_OP_INSERT };
    op->u.insert.pool = p;
    op->u.insert.max_attempts = 3;
    op->u.insert.items = it;
    op->u.insert.len = 1;
}

static void make_cancel(exj_op *op, int64_t seq)
{
    *op = (exj_op){ .kind = EXJ_OP_CANCEL };
    op->u.cancel.seq = seq;
}

static bool see(void *user, const exj_row_view *v)
{
    (void)v;
    *(bool *)user = true;
    return true;
}

static bool there(struct fixture *f, const char *id)
{
    bool yes = false;

    f->s->v->row_get(f->s, exj_slice_of("m"), exj_slice_of(""), exj_slice_of("g"),
                     exj_slice_of(id), see, &yes, NULL);
    return yes;
}

CONTRACT(groups, all_of_a_group_is_applied_or_nothing_of_it)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "old");
    exj_insert_item it[4];
    exj_op op[6];
    int64_t last = look(f, seq).v.last_entry;

    /* insert a | { insert b, cancel old, cancel nobody, insert c } | insert d */
    make_insert(&op[0], &it[0], p, "a");
    make_insert(&op[1], &it[1], p, "b");
    make_cancel(&op[2], seq);
    make_cancel(&op[3], NO_ROW);
    make_insert(&op[4], &it[2], p, "c");
    make_insert(&op[5], &it[3], p, "d");
    op[1].with_next = op[2].with_next = op[3].with_next = true;
    do_all(f, op, 6);
    expect_code(op[0].rc, EXJ_OK);
    expect_code(op[1].rc, EXJ_CANCELLED);
    expect_code(op[2].rc, EXJ_CANCELLED);
    expect_code(op[3].rc, EXJ_NOT_FOUND);
    cr_assert(strstr(op[3].err.text, "4711"));
    expect_code(op[4].rc, EXJ_CANCELLED);
    expect_code(op[5].rc, EXJ_OK);
    cr_assert(there(f, "a") && !there(f, "b") && !there(f, "c") && there(f, "d"));
    expect_int(status_of(f, seq), EXJ_QUEUED);
    expect_int(look(f, seq).v.last_entry, last);
    expect_int(count(f, p, EXJ_QUEUED), 3);
    expect_int(count(f, p, EXJ_CANCELED), 0);
    /* And whole. */
    make_insert(&op[0], &it[0], p, "b");
    make_cancel(&op[1], seq);
    op[0].with_next = true;
    do_all(f, op, 2);
    expect_code(op[0].rc, EXJ_OK);
    expect_code(op[1].rc, EXJ_OK);
    expect_int(status_of(f, seq), EXJ_CANCELED);
    fixture_reopen(f);
    cr_assert(there(f, "b"));
    expect_folds(f, seq);
}

CONTRACT(groups, verdicts_of_items_do_not_end_a_group)
{
    int64_t p = pool(f, "m", "", "g"), seq = insert(f, p, "a");
    exj_insert_item it;
    exj_op op[2];

    make_insert(&op[0], &it, p, "a");
    make_cancel(&op[1], seq);
    op[0].with_next = true;
    do_all(f, op, 2);
    expect_code(op[0].rc, EXJ_OK);
    expect_code(it.verdict, EXJ_CONFLICT);
    expect_code(op[1].rc, EXJ_OK);
    expect_int(status_of(f, seq), EXJ_CANCELED);
}

CONTRACT(groups, a_mark_on_the_last_one_means_nothing)
{
    int64_t p = pool(f, "m", "", "g");
    exj_insert_item it;
    exj_op op[1];

    make_insert(&op[0], &it, p, "a");
    op[0].with_next = true;
    do_all(f, op, 1);
    expect_code(op[0].rc, EXJ_OK);
    cr_assert(there(f, "a"));
}

/* ---- commands ----------------------------------------------------------------------------- */

#define DAY 86400000

static void make_command(exj_op *op, exj_op_kind kind, const char *key, int body, int64_t owner)
{
    *op = (exj_op){ .kind = kind };
    op->u.command.key = exj_slice_of(key);
    memset(op->u.command.fingerprint, body, sizeof(op->u.command.fingerprint));
    op->u.command.owner = owner;
    op->u.command.keep_ms = DAY;
    op->u.command.status = 201;
    op->u.command.body = EXJ_SLICE_LITERAL("{\"answer\":1}");
}

static exj_code command(struct fixture *f, exj_op_kind kind, const char *key, int body,
                        int64_t owner, exj_op *ret)
{
    make_command(ret, kind, key, body, owner);
    return exj_store_do(f->s, ret, &ret->err);
}

static int answers;

static bool fails_once(exj_op *op)
{
    (void)op;
    return answers++ > 0;
}

/* What could not be done beside others is done again alone: all of a group, once. */
CONTRACT(groups, one_that_failed_in_its_middle_is_done_again_whole_and_once)
{
    int64_t p = pool(f, "m", "", "g");
    exj_buf got = EXJ_BUF_INIT;
    exj_insert_item it;
    exj_op op[4];

    make_insert(&op[0], &it, p, "a");
    make_command(&op[1], EXJ_OP_COMMAND_TAKE, "k", 1, 11);
    make_command(&op[2], EXJ_OP_COMMAND_KEEP, "k", 1, 11);
    op[2].u.command.answer = fails_once;
    op[3] = (exj_op){ .kind = EXJ_OP_KV_ADD };
    op[3].u.kv.graph = EXJ_SLICE_LITERAL("g");
    op[3].u.kv.key = EXJ_SLICE_LITERAL("n");
    op[3].u.kv.delta = 1;
    op[1].with_next = op[2].with_next = true;
    answers = 0;
    do_all(f, op, 4);
    expect_int(answers, 2);
    for (int i = 0; i < 4; i++)
        expect_code(op[i].rc, EXJ_OK);
    cr_assert(there(f, "a"));
    expect_code(f->s->v->kv_get(f->s, EXJ_SLICE_LITERAL("g"), EXJ_SLICE_LITERAL("n"), &got, NULL),
                EXJ_OK);
    cr_expect_str_eq(got.p, "1");
    exj_buf_release(&got);
}

/* spec 2.6: First use acquires the key, a finished one replays the stored answer, one still
 * running answers 409 `in_progress`; a command that failed before it took effect releases the
 * key. */
CONTRACT(commands, a_key_is_taken_kept_replayed_and_released)
{
    exj_op op;

    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 11, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 12, &op), EXJ_BUSY);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 12, &op), EXJ_FENCED);
    expect_code(command(f, EXJ_OP_COMMAND_DROP, "k", 1, 12, &op), EXJ_FENCED);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 11, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 11, &op), EXJ_FENCED); /* once */
    fixture_reopen(f);
    for (int i = 0; i < 2; i++) {
        expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 13 + i, &op), EXJ_CANCELLED);
        cr_assert(op.u.command.ret_replay);
        expect_int(op.u.command.ret_status, 201);
        cr_assert(exj_slice_is(exj_buf_slice(&op.u.command.ret_body), "{\"answer\":1}"));
        exj_buf_release(&op.u.command.ret_body);
    }
    expect_code(command(f, EXJ_OP_COMMAND_DROP, "k", 1, 11, &op), EXJ_FENCED);
    /* One that failed. */
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "l", 1, 11, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_DROP, "l", 1, 11, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "l", 2, 12, &op), EXJ_OK);
}

/* spec 2.6: The same key with another body is a 422. */
CONTRACT(commands, the_same_key_with_another_request_is_a_conflict)
{
    exj_op op;

    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 11, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 2, 12, &op), EXJ_CONFLICT);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 11, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 2, 12, &op), EXJ_CONFLICT);
    cr_assert(strstr(op.err.text, "\"k\""), "%s", op.err.text);
    expect_int(op.u.command.ret_body.n, 0);
}

/* spec 2.6: Keys expire (24 h by default). */
CONTRACT(commands, keys_expire)
{
    exj_op op;

    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 11, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 11, &op), EXJ_OK);
    advance(f, DAY - 1);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 2, 12, &op), EXJ_CONFLICT);
    advance(f, 1);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 2, 12, &op), EXJ_OK);
    /* Whoever was slower than its key is told so. */
    advance(f, DAY);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 3, 13, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 2, 12, &op), EXJ_FENCED);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 3, 13, &op), EXJ_OK);
}

/* A store that is nobody else's knows it when it is opened; on a server only time tells. */
CONTRACT(commands, what_nobody_works_on_any_more_is_free_again)
{
    exj_op op;

    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 11, &op), EXJ_OK);
    fixture_reopen(f);
    if (f->maker->shared) {
        expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 12, &op), EXJ_BUSY);
        advance(f, DAY);
    }
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 12, &op), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 11, &op), EXJ_FENCED);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 12, &op), EXJ_OK);
}

CONTRACT_SHARED(commands, a_key_is_everybodys_who_uses_the_store)
{
    exj_store *other, *mine = f->s;
    exj_op op;

    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 11, &op), EXJ_OK);
    other = fixture_second(f);
    f->s = other;
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 12, &op), EXJ_BUSY);
    f->s = mine;
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 11, &op), EXJ_OK);
    f->s = other;
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 12, &op), EXJ_CANCELLED);
    cr_assert(op.u.command.ret_replay);
    exj_buf_release(&op.u.command.ret_body);
    f->s = mine;
    other->v->close(other);
}

static bool answer(exj_op *op)
{
    op->u.command.status = 202;
    op->u.command.body = EXJ_SLICE_LITERAL("{\"made\":true}");
    return true;
}

CONTRACT(commands, a_command_and_its_effect_are_one)
{
    int64_t p = pool(f, "m", "", "g");
    exj_insert_item it;
    exj_op op[3];

    for (int i = 0; i < 2; i++) {
        make_command(&op[0], EXJ_OP_COMMAND_TAKE, "k", 1, 21 + i);
        make_insert(&op[1], &it, p, "a");
        make_command(&op[2], EXJ_OP_COMMAND_KEEP, "k", 1, 21 + i);
        op[2].u.command.answer = answer;
        op[0].with_next = op[1].with_next = true;
        do_all(f, op, 3);
        expect_code(op[0].rc, i ? EXJ_CANCELLED : EXJ_OK);
        expect_code(op[1].rc, i ? EXJ_CANCELLED : EXJ_OK);
        expect_code(op[2].rc, i ? EXJ_CANCELLED : EXJ_OK);
        expect_int(op[0].u.command.ret_replay, i);
    }
    expect_int(op[0].u.command.ret_status, 202);
    cr_assert(exj_slice_is(exj_buf_slice(&op[0].u.command.ret_body), "{\"made\":true}"));
    exj_buf_release(&op[0].u.command.ret_body);
    /* The effect is refused: the key is free for another try. */
    make_command(&op[0], EXJ_OP_COMMAND_TAKE, "l", 1, 31);
    make_cancel(&op[1], NO_ROW);
    make_command(&op[2], EXJ_OP_COMMAND_KEEP, "l", 1, 31);
    op[0].with_next = op[1].with_next = true;
    do_all(f, op, 3);
    expect_code(op[0].rc, EXJ_CANCELLED);
    cr_assert(!op[0].u.command.ret_replay);
    expect_code(op[1].rc, EXJ_NOT_FOUND);
    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "l", 9, 32, &op[0]), EXJ_OK);
}

/* The transaction of a group that ends itself is done again without it: what was read for it
 * then is read once more. */
CONTRACT(commands, a_replay_beside_other_operations_gives_its_answer_once)
{
    int64_t p = pool(f, "m", "", "g");
    exj_insert_item it[2];
    exj_op op[4], one;

    expect_code(command(f, EXJ_OP_COMMAND_TAKE, "k", 1, 11, &one), EXJ_OK);
    expect_code(command(f, EXJ_OP_COMMAND_KEEP, "k", 1, 11, &one), EXJ_OK);
    make_insert(&op[0], &it[0], p, "before");
    make_command(&op[1], EXJ_OP_COMMAND_TAKE, "k", 1, 12);
    make_insert(&op[2], &it[1], p, "not");
    make_command(&op[3], EXJ_OP_COMMAND_KEEP, "k", 1, 12);
    op[1].with_next = op[2].with_next = true;
    do_all(f, op, 4);
    expect_code(op[0].rc, EXJ_OK);
    cr_assert(op[1].u.command.ret_replay);
    cr_assert(exj_slice_is(exj_buf_slice(&op[1].u.command.ret_body), "{\"answer\":1}"), "%.*s",
              (int)op[1].u.command.ret_body.n, op[1].u.command.ret_body.p);
    exj_buf_release(&op[1].u.command.ret_body);
    cr_assert(there(f, "before") && !there(f, "not"));
}
