#include "large.h"

#include <stdlib.h>

size_t large_of(const struct fixture *f)
{
    return 4 * f->maker->large_bytes + 7;
}

exj_slice text_of(char letter, size_t n)
{
    static char *rooms[8];
    static unsigned turn;
    char **room = &rooms[turn++ % 8], *p = realloc(*room, n);

    cr_assert(p, "no memory for %zu bytes", n);
    *room = p;
    memset(p, letter, n);
    p[0] = p[n - 1] = '"';
    return (exj_slice){ p, n };
}

exj_slice large_text(const struct fixture *f, char letter)
{
    return text_of(letter, large_of(f));
}

exj_code insert_large(struct fixture *f, int64_t p, const char *id, exj_slice input,
                      exj_insert_item *it, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_INSERT };

    *it = (exj_insert_item){ .record_id = exj_slice_of(id), .input = input };
    op.u.insert.pool = p;
    op.u.insert.max_attempts = 3;
    op.u.insert.items = it;
    op.u.insert.len = 1;
    return exj_store_do(f->s, &op, err);
}

exj_code end_large(struct fixture *f, const exj_claim *c, exj_event event, exj_slice result)
{
    exj_outcome o = { .seq = c->seq, .nonce = c->nonce, .token = c->token,
                      .event = event, .result = result };
    exj_op op = { .kind = EXJ_OP_FINISH };

    op.u.finish.items = &o;
    op.u.finish.len = 1;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    cr_assert_eq(o.result.p, result.p, "the outcome is its owner's again");
    return o.verdict;
}

exj_code finish_large(struct fixture *f, const exj_claim *c, exj_slice result)
{
    return end_large(f, c, EXJ_EV_SUCCEED, result);
}

exj_code step_large(struct fixture *f, const exj_claim *c, const char *key, exj_slice body)
{
    exj_op op = { .kind = EXJ_OP_STEP_PUT };

    op.u.step.seq = c->seq;
    op.u.step.nonce = c->nonce;
    op.u.step.token = c->token;
    op.u.step.attempt = c->attempt;
    op.u.step.key = exj_slice_of(key);
    op.u.step.body = body;
    expect_code(exj_store_do(f->s, &op, NULL), EXJ_OK);
    return op.u.step.verdict;
}

bool keep_texts(void *user, const exj_row_view *r)
{
    struct texts *t = user;

    exj_buf_reset(&t->input);
    exj_buf_reset(&t->result);
    exj_buf_add_slice(&t->input, r->input);
    exj_buf_add_slice(&t->result, r->result);
    t->rows++;
    return true;
}

void expect_texts(struct fixture *f, int64_t seq, exj_slice input, exj_slice result)
{
    exj_row_filter all = { .status = -1, .after_seq = seq - 1, .limit = 1 };
    struct texts t = { 0 };
    exj_err err = { 0 };

    for (int way = 0; way < 2; way++) {
        expect_code(way ? f->s->v->row_page(f->s, &all, keep_texts, &t, &err)
                        : f->s->v->row_by_seq(f->s, seq, keep_texts, &t, &err),
                    EXJ_OK);
        cr_assert(exj_slice_equal(exj_buf_slice(&t.input), input));
        cr_assert(exj_slice_equal(exj_buf_slice(&t.result), result));
    }
    expect_int(t.rows, 2);
    exj_buf_release(&t.input);
    exj_buf_release(&t.result);
}

bool keep_body(void *user, const exj_step_view *v)
{
    exj_buf_add_slice(user, v->body);
    return true;
}
