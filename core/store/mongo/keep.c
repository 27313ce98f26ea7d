/* core/store/mongo/keep.c - what a keeper does: reap, promote, resume. [writer] */
#include <stdlib.h>

#include "core/store/mongo/inside.h"
#include "core/store/mongo/value.h"

#define AT_ONCE 256u
#define FAR 253402300799999 /* the end of year 9999: servers refuse later dates */

struct found {
    exj_mrow rows[AT_ONCE];
    size_t len;
};

static bool keep_row(void *user, exj_mrow *r)
{
    struct found *f = user;

    f->rows[f->len++] = *r;
    *r = (exj_mrow){ 0 }; /* moved */
    return f->len < AT_ONCE;
}

/* {status, at: {$lte: bound}} sorted by `at`. */
static exj_code find_over(exj_mstore *s, const char *status, const char *at, const char *hint,
                          exj_msec bound, size_t most, struct found *f, exj_err *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, sub;
    exj_code rc;

    f->len = 0;
    BSON_APPEND_UTF8(&filter, "status", status);
    BSON_APPEND_DOCUMENT_BEGIN(&filter, at, &sub);
    exj_bson_add_msec(&sub, "$lte", bound);
    bson_append_document_end(&filter, &sub);
    BSON_APPEND_UTF8(&opts, "hint", hint);
    BSON_APPEND_DOCUMENT_BEGIN(&opts, "sort", &sub);
    BSON_APPEND_INT32(&sub, at, 1);
    bson_append_document_end(&opts, &sub);
    BSON_APPEND_INT64(&opts, "limit", (int64_t)(most < AT_ONCE ? most : AT_ONCE));
    rc = exj_mstore_find(s, s->c, &filter, &opts, keep_row, f, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return rc;
}

static void drop(struct found *f)
{
    for (size_t i = 0; i < f->len; i++)
        exj_mrow_release(&f->rows[i]);
    f->len = 0;
}

exj_code exj_mstore_reap(exj_mstore *s, exj_op *op)
{
    struct found *f = calloc(1, sizeof(*f));
    exj_mrow *rows[AT_ONCE];
    exj_code verdicts[AT_ONCE], rc = EXJ_OK;
    exj_reaped ended[AT_ONCE];
    size_t len = 0, got;

    op->u.reap.ret_len = 0;
    if (op->u.reap.all_but) {
        rc = exj_err_set(&op->err, EXJ_REFUSED,
                         "this store has several workers: nobody takes all rows of the others");
        goto out;
    }
    if (!f) {
        rc = exj_err_set(&op->err, EXJ_NOMEM, "no memory to look for ended leases");
        goto out;
    }
    do {
        /* A lease that ends now is over. */
        rc = find_over(s, "running", "claim.until", "exj_leases", s->now - op->u.reap.grace_ms,
                       op->u.reap.limit - len, f, &op->err);
        got = f->len;
        for (size_t i = 0; i < got && !rc; i++) {
            rows[i] = &f->rows[i];
            rows[i]->guard_until = rows[i]->until;
            rc = exj_life_reap(rows[i], s->now, &ended[i], &op->err);
        }
        if (!rc && got)
            rc = exj_mstore_save(s, s->c, rows, got, verdicts, &op->err);
        for (size_t i = 0; i < got && !rc; i++)
            if (verdicts[i] == EXJ_OK) /* else it was renewed, or is somebody else's business */
                op->u.reap.ret[len++] = ended[i];
        drop(f);
    } while (!rc && got == AT_ONCE && len < op->u.reap.limit);
    op->u.reap.ret_len = len;
out:
    free(f);
    return rc;
}

static bool has_no_step(void *user, exj_slice key)
{
    (void)user;
    (void)key;
    return false;
}

static exj_code next_due(exj_mstore *s, const char *status, const char *hint, exj_msec *ret,
                         exj_err *err)
{
    struct found *f = calloc(1, sizeof(*f));
    exj_code rc;

    if (!f)
        return exj_err_set(err, EXJ_NOMEM, "no memory to look for rows that wait");
    rc = find_over(s, status, "runAfter", hint, FAR, 1, f, err);
    if (!rc && f->len && (!*ret || f->rows[0].run_after < *ret))
        *ret = f->rows[0].run_after;
    drop(f);
    free(f);
    return rc;
}

static exj_code go_on(exj_mstore *s, exj_op *op, const char *status, const char *hint,
                      size_t *done)
{
    static const exj_msteps steps = { .has = has_no_step };
    struct found *f = calloc(1, sizeof(*f));
    exj_mrow *rows[AT_ONCE];
    exj_code verdicts[AT_ONCE], rc = EXJ_OK;
    size_t got = 0;

    if (!f)
        return exj_err_set(&op->err, EXJ_NOMEM, "no memory to look for rows that wait");
    do {
        rc = find_over(s, status, "runAfter", hint, s->now, op->u.promote.limit - *done, f,
                       &op->err);
        got = f->len;
        for (size_t i = 0; i < got && !rc; i++) {
            rows[i] = &f->rows[i];
            rc = exj_life_go_on(rows[i], &steps, s->now, &op->err);
        }
        if (!rc && got)
            rc = exj_mstore_save(s, s->c, rows, got, verdicts, &op->err);
        for (size_t i = 0; i < got && !rc; i++)
            *done += verdicts[i] == EXJ_OK;
        drop(f);
    } while (!rc && got == AT_ONCE && *done < op->u.promote.limit);
    free(f);
    return rc;
}

exj_code exj_mstore_promote(exj_mstore *s, exj_op *op)
{
    size_t done = 0;
    exj_code rc;

    op->u.promote.ret_next_due = 0;
    rc = go_on(s, op, "waiting", "exj_due_waiting", &done);
    if (!rc && done < op->u.promote.limit)
        rc = go_on(s, op, "suspended", "exj_due_suspended", &done);
    op->u.promote.ret_promoted = done;
    if (!rc)
        rc = next_due(s, "waiting", "exj_due_waiting", &op->u.promote.ret_next_due, &op->err);
    if (!rc)
        rc = next_due(s, "suspended", "exj_due_suspended", &op->u.promote.ret_next_due, &op->err);
    return rc;
}
