/* Lines of an archive: what is let through is inside the bounds of a row, and the store takes it or
 * says why not; what it took is read again, and its events, without harm.
 * sources: core/main/archive_line.c
 * options: -max_len=3000 */
#include "kept_store.h"

#include "core/job/record.h"
#include "core/main/archive_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fill(exj_store *s)
{
    (void)s;
}

static bool look_at_row(void *user, const exj_row_view *v)
{
    const exj_archived *a = user;

    must(v->status == a->status && v->attempts == a->attempts && v->token == a->token);
    must(v->priority == a->priority && v->max_attempts == a->max_attempts);
    must(exj_slice_equal(v->record_id, a->record_id) && exj_slice_equal(v->input, a->input));
    must(exj_slice_equal(v->result, a->result));
    return true;
}

static bool look_at_step(void *user, const exj_step_view *v)
{
    must(v->done || v->body.n == 0);
    ++*(size_t *)user;
    return true;
}

static bool look_at_event(void *user, const exj_event_view *v)
{
    int64_t *last = user;

    must(v->entry.number > *last);
    must(exj_utf8_is_valid(v->entry.key) && exj_utf8_is_valid(v->entry.text));
    *last = v->entry.number;
    return true;
}

static void restore(exj_archive_line *l)
{
    exj_store *s = store_fresh(fill);
    exj_op pool = { .kind = EXJ_OP_POOL }, op = { .kind = EXJ_OP_RESTORE };
    int64_t last = 0;
    size_t steps = 0;
    exj_err err = { 0 };
    exj_code rc;

    kept.dirty = true;
    pool.u.pool.matrix = l->matrix;
    pool.u.pool.run = l->run;
    pool.u.pool.graph = l->graph;
    go(s, &pool);
    op.u.restore.pool = pool.u.pool.ret_pool;
    op.u.restore.row = &l->row;
    rc = exj_store_do(s, &op, &err);
    must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
    must(rc == EXJ_OK || !exj_status_is_terminal(l->row.status) || l->row.entries_len);
    if (rc)
        return;
    must(op.u.restore.ret_seq > 0);
    must(s->v->row_by_seq(s, op.u.restore.ret_seq, look_at_row, &l->row, &err) == EXJ_OK);
    must(s->v->step_each(s, op.u.restore.ret_seq, look_at_step, &steps, &err) == EXJ_OK);
    must(steps <= l->row.steps_len);
    must(s->v->events(s, 0, 1000, look_at_event, &last, &err) == EXJ_OK);
    last = 0;
    must(s->v->journal(s, op.u.restore.ret_seq, 1000, look_at_event, &last, &err) == EXJ_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* of exact length: one byte too far is seen */
    exj_archive_line l = EXJ_ARCHIVE_LINE_INIT;
    exj_err err = { 0 };
    exj_code rc;

    must(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    rc = exj_archive_line_parse((exj_slice){ copy, size }, &l, &err);
    must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
    if (rc == EXJ_OK) {
        must(exj_id_check(l.matrix, "", NULL) == EXJ_OK && exj_id_check(l.graph, "", NULL) == EXJ_OK);
        must(exj_json_check(l.row.input, EXJ_ARCHIVE_DEPTH, NULL, NULL) == EXJ_OK);
        must(l.row.max_attempts > 0 && l.row.token >= 0);
        restore(&l);
    }
    exj_archive_line_release(&l);
    free(copy);
    return 0;
}
