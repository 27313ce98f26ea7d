/* The keys that plugins keep for a graph (exellix.kv/1): to be read and removed, not written:
 * a value has one author. */
#include "core/http/command.h"
#include "core/job/record.h"

#define KEY_MAX EXJ_STORE_KV_KEY_MAX

/* Answers 404 or what lies below it. */
static void answer_no_key(exj_exchange *x, exj_slice key, const exj_err *err)
{
    if (err->code == EXJ_NOT_FOUND)
        exj_answer_error(x, 404, "KeyNotFound", "graph \"%.*s\" has no key \"%.*s\"",
                         (int)x->id.n, x->id.p, (int)key.n, key.p);
    else
        exj_answer_failure(x, err);
}

/* False: answered 400. An absent one stays empty unless it is `needed`. */
static bool take_key(exj_exchange *x, const char *name, bool needed, exj_slice *ret)
{
    const exj_slice *v = exj_param_find(x, name);

    *ret = v ? *v : (exj_slice){ NULL, 0 };
    if ((v || needed) && (ret->n == 0 || ret->n > KEY_MAX)) {
        exj_answer_error(x, 400, "ValidationError", "%s is a key of 1 to %u bytes%s", name,
                         KEY_MAX, v ? "" : "; it is missing");
        return false;
    }
    return true;
}

/* Values are checked when they are written; what is broken since is shown as text. */
static json_t *value_shown(exj_slice text)
{
    json_t *v = NULL;

    return exj_json_parse(text, &v, NULL) == EXJ_OK ? v : exj_json_text(text);
}

static json_t *writer_shown(const exj_kv_view *v)
{
    exj_buf name = EXJ_BUF_INIT;
    json_t *o = NULL;

    if (v->record_id.n == 0)
        return json_null();
    if (exj_row_name_add(&name, v->matrix, v->run, v->graph, v->record_id))
        o = exj_json_text(exj_buf_slice(&name));
    exj_buf_release(&name);
    return o;
}

struct page {
    json_t *keys;
    exj_buf last;
    size_t seen;
    bool failed;
};

static bool visit_key(void *user, const exj_kv_view *v)
{
    struct page *p = user;

    exj_buf_reset(&p->last);
    p->seen++;
    if (!exj_buf_add_slice(&p->last, v->key) ||
        json_array_append_new(p->keys,
                              json_pack("{s:o,s:o,s:o,s:o}", "key", exj_json_text(v->key),
                                        "value", value_shown(v->value), "updatedAt",
                                        exj_json_instant(v->updated_at), "writtenBy",
                                        writer_shown(v))))
        p->failed = true;
    return !p->failed;
}

static bool visit_one_more(void *user, const exj_kv_view *v)
{
    (void)v;
    *(bool *)user = true;
    return false;
}

static void page_of_keys(exj_exchange *x)
{
    exj_store *s = x->api->store;
    struct page p = { 0 };
    exj_err err = { 0 };
    exj_slice after;
    bool more = false;
    int64_t limit;
    exj_code rc;

    if (!take_key(x, "after", false, &after) || !exj_take_i64(x, "limit", 1, 1000, 100, &limit))
        return;
    p.keys = json_array();
    rc = p.keys ? s->v->kv_page(s, x->id, after, (size_t)limit, visit_key, &p, &err)
                : exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_OK && p.failed)
        rc = exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_OK && p.seen == (size_t)limit)
        rc = s->v->kv_page(s, x->id, exj_buf_slice(&p.last), 1, visit_one_more, &more, &err);
    if (rc != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200,
                        json_pack("{s:o,s:O,s:o}", "graphId", exj_json_text(x->id), "keys",
                                  p.keys, "next",
                                  more ? exj_json_text(exj_buf_slice(&p.last)) : json_null()));
    json_decref(p.keys);
    exj_buf_release(&p.last);
}

void exj_route_kv(exj_exchange *x)
{
    exj_store *s = x->api->store;
    exj_buf value = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_slice key;

    if (!take_key(x, "key", false, &key))
        return;
    if (!key.n) {
        page_of_keys(x);
        return;
    }
    if (exj_param_find(x, "after") || exj_param_find(x, "limit")) {
        exj_answer_error(x, 400, "ValidationError", "key names one; after and limit are of lists");
        return;
    }
    if (s->v->kv_get(s, x->id, key, &value, &err) != EXJ_OK)
        answer_no_key(x, key, &err);
    else
        exj_answer_take(x, 200,
                        json_pack("{s:o,s:o,s:o}", "graphId", exj_json_text(x->id), "key",
                                  exj_json_text(key), "value",
                                  value_shown(exj_buf_slice(&value))));
    exj_buf_release(&value);
}

static void answer_deleted(exj_exchange *x, const exj_op *op, void *user)
{
    (void)user;
    exj_answer_take(x, 200,
                    json_pack("{s:o,s:o,s:s}", "graphId", exj_json_text(x->id), "key",
                              exj_json_text(op->u.kv.key), "action", "deleted"));
}

void exj_route_kv_delete(exj_exchange *x)
{
    exj_op op = { .kind = EXJ_OP_KV_REMOVE };
    exj_err err = { 0 };
    exj_slice key;

    if (!take_key(x, "key", true, &key))
        return;
    op.u.kv.graph = x->id;
    op.u.kv.key = key;
    if (exj_effect(x, &op, 1, answer_deleted, NULL, &err) != EXJ_OK)
        answer_no_key(x, key, &err);
}
