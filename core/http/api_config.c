/* Config documents: shown, put (with the difference), deleted. */
#include <stdlib.h>
#include <string.h>

#include "core/http/command.h"
#include "core/job/config.h"
#include "core/job/schedule.h"

#define CHANGES_MAX 1000u /* shown in one answer */
#define PAGE 200u
#define TRIES 5 /* a put without expectedVersion that others keep overtaking */

static const char *const owned_by_store[] = { "version", "createdAt", "updatedAt" };

const char *exj_kind_word(exj_doc_kind kind)
{
    switch (kind) {
    case EXJ_DOC_GRAPH: return "graph";
    case EXJ_DOC_MATRIX: return "matrix";
    case EXJ_DOC_SCHEDULE: return "schedule";
    }
    return "document";
}

/* ---- reading --------------------------------------------------------------------------- */

struct document_read {
    exj_document *ret;
    exj_code rc;
    exj_err *err;
};

/* A stored text into what `ret` holds; whatever it says of version and times is not true. */
static exj_code document_read(exj_slice id, int64_t version, exj_slice body,
                              exj_msec created_at, exj_msec updated_at, exj_document *ret,
                              exj_err *err)
{
    exj_code rc = exj_json_parse(body, &ret->json, err);

    if (rc == EXJ_INVALID)
        rc = EXJ_CORRUPT;
    if (rc == EXJ_OK && !json_is_object(ret->json))
        rc = exj_err_set(err, EXJ_CORRUPT, "not an object");
    if (rc != EXJ_OK) {
        if (err)
            err->code = rc;
        exj_err_prefix(err, "stored document \"%.*s\"", (int)id.n, id.p);
        return rc;
    }
    for (size_t i = 0; i < sizeof owned_by_store / sizeof owned_by_store[0]; i++)
        json_object_del(ret->json, owned_by_store[i]);
    ret->version = version;
    ret->created_at = created_at;
    ret->updated_at = updated_at;
    return EXJ_OK;
}

static bool visit_one(void *user, exj_slice id, int64_t version, exj_slice body,
                      exj_msec created_at, exj_msec updated_at)
{
    struct document_read *r = user;

    r->rc = document_read(id, version, body, created_at, updated_at, r->ret, r->err);
    return false;
}

void exj_document_release(exj_document *d)
{
    json_decref(d->json);
    *d = (exj_document){ 0 };
}

exj_code exj_document_load(const exj_api *api, exj_doc_kind kind, exj_slice id,
                           exj_document *ret, exj_err *err)
{
    struct document_read r = { ret, EXJ_OK, err };
    exj_code rc;

    *ret = (exj_document){ 0 };
    rc = api->store->v->doc_get(api->store, kind, id, visit_one, &r, err);
    if (rc == EXJ_OK)
        rc = r.rc;
    if (rc != EXJ_OK)
        exj_document_release(ret);
    return rc;
}

struct pages {
    exj_doc_visit visit;
    void *user;
    exj_buf last;
    size_t seen;
    bool stopped;
};

static bool visit_page(void *user, exj_slice id, int64_t version, exj_slice body,
                       exj_msec created_at, exj_msec updated_at)
{
    struct pages *p = user;

    p->seen++;
    exj_buf_reset(&p->last);
    if (!exj_buf_add_slice(&p->last, id) ||
        !p->visit(p->user, id, version, body, created_at, updated_at))
        p->stopped = true;
    return !p->stopped;
}

exj_code exj_documents_each(const exj_api *api, exj_doc_kind kind, exj_slice after,
                            size_t limit, exj_doc_visit visit, void *user, exj_err *err)
{
    struct pages p = { .visit = visit, .user = user };
    exj_buf key = EXJ_BUF_INIT; /* `last` is written while the store reads `key` */
    exj_code rc = EXJ_OK;

    if (!exj_buf_add_slice(&key, after))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    while (rc == EXJ_OK && limit > 0) {
        size_t want = limit < PAGE ? limit : PAGE;

        p.seen = 0;
        rc = api->store->v->doc_page(api->store, kind, exj_buf_slice(&key), want, visit_page,
                                     &p, err);
        if (rc == EXJ_OK && p.last.failed)
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
        if (rc != EXJ_OK || p.stopped || p.seen < want)
            break;
        limit -= want;
        exj_buf_reset(&key);
        if (!exj_buf_add_slice(&key, exj_buf_slice(&p.last)))
            rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    exj_buf_release(&p.last);
    exj_buf_release(&key);
    return rc;
}

/* The document as a client sees it. New reference; NULL: no memory. */
static json_t *document_shown(const exj_document *d)
{
    json_t *o = json_copy(d->json); /* shallow: only members of the top are added */

    if (!o)
        return NULL;
    if (json_object_set_new(o, "version", json_integer(d->version)) ||
        json_object_set_new(o, "createdAt", exj_json_instant(d->created_at)) ||
        json_object_set_new(o, "updatedAt", exj_json_instant(d->updated_at))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

struct listing {
    json_t *list;
    exj_buf last;
    exj_code rc;
    exj_err *err;
};

static bool visit_listing(void *user, exj_slice id, int64_t version, exj_slice body,
                          exj_msec created_at, exj_msec updated_at)
{
    struct listing *l = user;
    exj_document d = { 0 };

    l->rc = document_read(id, version, body, created_at, updated_at, &d, l->err);
    exj_buf_reset(&l->last);
    if (l->rc == EXJ_OK && (json_array_append_new(l->list, document_shown(&d)) ||
                            !exj_buf_add_slice(&l->last, id)))
        l->rc = exj_err_set(l->err, EXJ_NOMEM, "out of memory");
    exj_document_release(&d);
    return l->rc == EXJ_OK;
}

void exj_route_documents(exj_exchange *x)
{
    exj_err err = { 0 };
    struct listing l = { .list = json_array(), .err = &err };
    json_t *next = NULL;
    int64_t limit;
    exj_code rc;

    /* Without a limit: all of them, which is what a backup wants. */
    if (!exj_take_i64(x, "limit", 1, 1000, INT64_MAX, &limit))
        goto out;
    rc = exj_documents_each(x->api, x->kind, exj_param_text(x, "after"), (size_t)limit,
                            visit_listing, &l, &err);
    if (rc == EXJ_OK)
        rc = l.rc;
    if (rc != EXJ_OK) {
        exj_answer_failure(x, &err);
        goto out;
    }
    next = json_array_size(l.list) == (size_t)limit ? exj_json_text(exj_buf_slice(&l.last))
                                                    : json_null();
    exj_answer_take(x, 200, json_pack("{s:O,s:o}", "documents", l.list, "next", next));
out:
    json_decref(l.list);
    exj_buf_release(&l.last);
}

void exj_route_document(exj_exchange *x)
{
    exj_err err = { 0 };
    exj_document d;
    exj_code rc = exj_document_load(x->api, x->kind, x->id, &d, &err);

    if (rc == EXJ_NOT_FOUND)
        exj_answer_no_document(x);
    else if (rc != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, document_shown(&d));
    if (rc == EXJ_OK)
        exj_document_release(&d);
}

/* ---- the difference ---------------------------------------------------------------------- */

/* One step of a JSON pointer (RFC 6901), appended to `path`. */
static bool add_pointer_step(exj_buf *path, const char *key)
{
    exj_buf_add_char(path, '/');
    for (; *key; key++) {
        if (*key == '~')
            exj_buf_add_text(path, "~0");
        else if (*key == '/')
            exj_buf_add_text(path, "~1");
        else
            exj_buf_add_char(path, *key);
    }
    return !path->failed;
}

static bool add_change(json_t *changes, const exj_buf *path, json_t *from, json_t *to)
{
    json_t *change = json_pack("{s:o,s:O?,s:O?}", "path", exj_json_text(exj_buf_slice(path)),
                               "from", from, "to", to);

    /* "O?" leaves null for what is absent. */
    return json_array_append_new(changes, change) == 0;
}

static bool diff_add(json_t *changes, exj_buf *path, json_t *from, json_t *to);

static bool diff_member(json_t *changes, exj_buf *path, const char *key, json_t *from,
                        json_t *to)
{
    size_t before = path->n;
    bool good = add_pointer_step(path, key) && diff_add(changes, path, from, to);

    path->n = before;
    if (path->p)
        path->p[before] = '\0';
    return good;
}

static bool diff_objects(json_t *changes, exj_buf *path, json_t *from, json_t *to)
{
    const char *key;
    json_t *value;

    json_object_foreach(from, key, value) {
        if (!diff_member(changes, path, key, value, json_object_get(to, key)))
            return false;
    }
    json_object_foreach(to, key, value) {
        if (!json_object_get(from, key) && !diff_member(changes, path, key, NULL, value))
            return false;
    }
    return true;
}

static bool diff_arrays(json_t *changes, exj_buf *path, json_t *from, json_t *to)
{
    size_t a = json_array_size(from), b = json_array_size(to);

    for (size_t i = 0; i < (a > b ? a : b); i++) {
        char index[24];

        snprintf(index, sizeof index, "%zu", i);
        if (!diff_member(changes, path, index, json_array_get(from, i),
                         json_array_get(to, i)))
            return false;
    }
    return true;
}

/* Either side may be NULL: absent. Depth is bounded by what the parser lets through.
 * False: no memory. */
static bool diff_add(json_t *changes, exj_buf *path, json_t *from, json_t *to)
{
    if (json_array_size(changes) > CHANGES_MAX)
        return true;
    if (from && to && json_equal(from, to))
        return true;
    if (json_is_object(from) && json_is_object(to))
        return diff_objects(changes, path, from, to);
    if (json_is_array(from) && json_is_array(to))
        return diff_arrays(changes, path, from, to);
    return add_change(changes, path, from, to);
}

/* ---- writing ------------------------------------------------------------------------------ */

static exj_code save_text(exj_exchange *x, int64_t expected, exj_slice text,
                          exj_effect_answer answer, void *user, int64_t *ret_version,
                          exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_DOC_PUT };
    exj_code rc;

    op.u.doc.kind = x->kind;
    op.u.doc.id = x->id;
    op.u.doc.expected = expected;
    op.u.doc.body = text;
    rc = exj_effect(x, &op, 1, answer, user, err);
    *ret_version = op.u.doc.ret_version;
    if (rc == EXJ_OK && x->api->engine)
        exj_engine_wake(x->api->engine);
    return rc;
}

exj_code exj_document_save(exj_exchange *x, int64_t expected, const json_t *json,
                           exj_effect_answer answer, void *user, int64_t *ret_version,
                           exj_err *err)
{
    exj_buf text = EXJ_BUF_INIT;
    exj_code rc = exj_json_print(json, false, &text, err);

    if (rc == EXJ_OK)
        rc = save_text(x, expected, exj_buf_slice(&text), answer, user, ret_version, err);
    exj_buf_release(&text);
    return rc;
}

/* The text of the body, checked for its kind, as it will be stored. */
static exj_code check_document(const exj_exchange *x, exj_buf *ret_canonical, exj_err *err)
{
    exj_code rc;

    if (x->kind == EXJ_DOC_GRAPH) {
        exj_graph_config c = { 0 };

        rc = exj_graph_config_parse(x->q->body, x->id, &c, ret_canonical, err);
        exj_graph_config_release(&c);
    } else if (x->kind == EXJ_DOC_SCHEDULE) {
        exj_schedule s = { 0 };

        rc = exj_schedule_parse(x->q->body, x->id, &s, ret_canonical, err);
        exj_schedule_release(&s);
    } else {
        exj_matrix_config c = { 0 };

        rc = exj_matrix_config_parse(x->q->body, x->id, &c, ret_canonical, err);
        exj_matrix_config_release(&c);
    }
    return rc;
}

static void answer_put(exj_exchange *x, const char *action, int64_t version, bool dry_run,
                       json_t *changes, bool cut)
{
    json_t *o;

    o = json_pack("{s:s,s:o,s:s,s:I,s:b,s:O}", "kind", exj_kind_word(x->kind), "id",
                  exj_json_text(x->id), "action", action, "version", (json_int_t)version,
                  "dryRun", (int)dry_run, "changes", changes);
    if (o && cut)
        json_object_set_new(o, "changesCut", json_true());
    exj_answer_take(x, strcmp(action, "created") == 0 && !dry_run ? 201 : 200, o);
}

struct put {
    bool absent, cut;
    json_t *changes;
};

static const char *put_action(const struct put *p)
{
    return p->absent ? "created" : "updated";
}

static void answer_put_done(exj_exchange *x, const exj_op *op, void *user)
{
    const struct put *p = user;

    answer_put(x, put_action(p), op->u.doc.ret_version, false, p->changes, p->cut);
}

static void answer_deleted(exj_exchange *x, int64_t version, bool dry_run)
{
    exj_answer_take(x, 200, json_pack("{s:s,s:o,s:s,s:I,s:b}", "kind", exj_kind_word(x->kind),
                                      "id", exj_json_text(x->id), "action", "deleted",
                                      "version", (json_int_t)version, "dryRun",
                                      (int)dry_run));
}

static void answer_delete_done(exj_exchange *x, const exj_op *op, void *user)
{
    const int64_t *version = user;

    (void)op;
    answer_deleted(x, *version, false);
}

/* Compare, then write what was compared against. False: somebody was faster, try anew. */
static bool put_once(exj_exchange *x, exj_slice canonical, json_t *json, bool dry_run,
                     int64_t expected)
{
    exj_err err = { 0 };
    exj_document old = { 0 };
    exj_buf path = EXJ_BUF_INIT;
    json_t *changes = json_array(), *nothing = json_object();
    int64_t version = 0;
    exj_code rc = exj_document_load(x->api, x->kind, x->id, &old, &err);
    struct put put = { .absent = rc == EXJ_NOT_FOUND, .changes = changes };
    bool settled = true;

    if (rc != EXJ_OK && !put.absent) {
        exj_answer_failure(x, &err);
        goto out;
    }
    exj_err_clear(&err);
    if (expected >= 0 && expected != old.version) {
        if (put.absent)
            exj_answer_no_document(x);
        else
            exj_answer_stale(x, old.version);
        goto out;
    }
    if (!changes || !nothing ||
        !diff_add(changes, &path, put.absent ? nothing : old.json, json)) {
        exj_answer_take(x, 500, NULL);
        goto out;
    }
    put.cut = json_array_size(changes) > CHANGES_MAX;
    if (put.cut)
        json_array_remove(changes, CHANGES_MAX);
    if (!put.absent && json_array_size(changes) == 0) {
        answer_put(x, "unchanged", old.version, dry_run, changes, false);
        goto out;
    }
    if (dry_run) {
        answer_put(x, put_action(&put), old.version + 1, true, changes, put.cut);
        goto out;
    }
    rc = save_text(x, old.version, canonical, answer_put_done, &put, &version, &err);
    if (rc == EXJ_OK) {
        ; /* answered */
    } else if (rc == EXJ_CONFLICT || rc == EXJ_NOT_FOUND) {
        if (rc == EXJ_NOT_FOUND)
            version = 0;
        exj_answer_stale(x, version); /* stands when no try is left */
        settled = expected >= 0;
    } else {
        exj_answer_failure(x, &err);
    }
out:
    json_decref(changes);
    json_decref(nothing);
    exj_buf_release(&path);
    exj_document_release(&old);
    return settled;
}

void exj_route_document_put(exj_exchange *x)
{
    exj_err err = { 0 };
    exj_buf canonical = EXJ_BUF_INIT;
    json_t *json = NULL;
    int64_t expected;
    bool dry_run;

    if (!exj_take_bool(x, "dryRun", &dry_run) ||
        !exj_take_i64(x, "expectedVersion", 0, INT64_MAX, -1, &expected) ||
        !exj_take_object(x, &json))
        return;
    json_decref(json); /* only what the schema makes of it counts */
    json = NULL;
    if (check_document(x, &canonical, &err) != EXJ_OK ||
        exj_json_parse(exj_buf_slice(&canonical), &json, &err) != EXJ_OK) {
        exj_answer_failure(x, &err);
        goto out;
    }
    for (int i = 0; i < TRIES; i++) {
        if (put_once(x, exj_buf_slice(&canonical), json, dry_run, expected))
            break;
    }
out:
    json_decref(json);
    exj_buf_release(&canonical);
}

void exj_route_document_delete(exj_exchange *x)
{
    exj_err err = { 0 };
    exj_op op = { .kind = EXJ_OP_DOC_DELETE };
    exj_document d;
    int64_t expected, version;
    bool dry_run;
    exj_code rc;

    if (!exj_take_bool(x, "dryRun", &dry_run) ||
        !exj_take_i64(x, "expectedVersion", 0, INT64_MAX, -1, &expected))
        return;
    rc = exj_document_load(x->api, x->kind, x->id, &d, &err);
    if (rc == EXJ_NOT_FOUND) {
        exj_answer_no_document(x);
        return;
    }
    /* A document that cannot be read any more must still be deletable. */
    if (rc != EXJ_OK && (rc != EXJ_CORRUPT || expected >= 0 || dry_run)) {
        exj_answer_failure(x, &err);
        return;
    }
    version = d.version;
    exj_document_release(&d);
    exj_err_clear(&err);
    if (expected >= 0 && expected != version) {
        exj_answer_stale(x, version);
        return;
    }
    if (!dry_run) {
        op.u.doc.kind = x->kind;
        op.u.doc.id = x->id;
        op.u.doc.expected = expected;
        rc = exj_effect(x, &op, 1, answer_delete_done, &version, &err);
        if (rc == EXJ_CONFLICT) {
            exj_answer_stale(x, op.u.doc.ret_version);
            return;
        }
        if (rc == EXJ_NOT_FOUND) {
            exj_answer_no_document(x);
            return;
        }
        if (rc != EXJ_OK) {
            exj_answer_failure(x, &err);
            return;
        }
        if (x->api->engine)
            exj_engine_wake(x->api->engine);
        return;
    }
    answer_deleted(x, version, dry_run);
}
