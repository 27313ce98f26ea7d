/* Bodies of pushed events: whatever is sent, what reaches the store is well-formed and inside its
 * bounds, and the answer is JSON. The first byte chooses the form; the store is one that looks at
 * what it is given and keeps nothing. */
#include <stdlib.h>

#include "core/http/api.h"
#include "core/job/keys.h"
#include "core/job/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char matrix[] =
    "{\"matrixCatalogId\":\"m\",\"payload\":{\"graphs\":[\"g\",\"h\"],\"dataSource\":{\"kind\":"
    "\"event\"},\"overflow\":\"drop\",\"concurrency\":3,\"keys\":{\"unique\":\"u\","
    "\"concurrency\":\"c\",\"priority\":\"p\",\"runAfter\":\"r\"}}}";

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void look_at_rows(exj_op *op)
{
    static const exj_code verdicts[] = { EXJ_OK, EXJ_OK, EXJ_CONFLICT, EXJ_BUSY };

    must(op->u.insert.len > 0 && op->u.insert.len <= 10000);
    for (size_t i = 0; i < op->u.insert.len; i++) {
        exj_insert_item *it = &op->u.insert.items[i];

        must(exj_id_check(it->record_id, "id", NULL) == EXJ_OK);
        must(exj_record_check(it->input, NULL) == EXJ_OK);
        must(it->unique_key.n <= EXJ_KEY_MAX_BYTES && it->concurrency_key.n <= EXJ_KEY_MAX_BYTES);
        must(it->run_after >= 0);
        must(!it->has_priority || (it->priority >= -1000 && it->priority <= 1000));
        it->verdict = verdicts[(it->record_id.n + i) % 4];
        it->status = it->record_id.n % 2 ? EXJ_QUEUED : EXJ_DROPPED;
        op->u.insert.ret_inserted += it->verdict == EXJ_OK;
        op->u.insert.ret_dropped += it->verdict == EXJ_OK && it->status == EXJ_DROPPED;
    }
}

static void submit(exj_store *s, exj_op *first)
{
    (void)s;
    for (exj_op *op = first, *next; op; op = next) {
        next = op->next;
        op->rc = EXJ_OK;
        if (op->kind == EXJ_OP_POOL)
            op->u.pool.ret_pool = 1;
        else
            look_at_rows(op);
        if (op->done)
            op->done(op);
    }
}

static exj_code doc_get(exj_store *s, exj_doc_kind kind, exj_slice id, exj_doc_visit visit,
                        void *user, exj_err *err)
{
    (void)s;
    if (kind != EXJ_DOC_MATRIX)
        return exj_err_set(err, EXJ_NOT_FOUND, "no such document");
    visit(user, id, 1, exj_slice_of(matrix), 1, 1);
    return EXJ_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const targets[] = { "/v1/matrices/m/events", "/v1/matrices/m/trigger" };
    static const char *const queries[] = { "", "autoId=true", "atomic=true", "brief=true" };
    static const exj_store_vtable table = { .name = "fuzz", .submit = submit,
                                            .doc_get = doc_get };
    exj_store store = { &table };
    exj_api api = { .store = &store, .prefix = "/v1" };
    uint8_t form = size ? data[0] : 0;
    bool is_trigger = form & 1;
    exj_request q = { .method = "POST",
                      .path = exj_slice_of(targets[is_trigger]),
                      .query = exj_slice_of(is_trigger ? "" : queries[form >> 1 & 3]),
                      .body = { (const char *)data + (size > 0), size - (size > 0) },
                      .content_type = exj_slice_of(form & 8 ? "application/x-ndjson" : NULL),
                      .trusted = true };
    exj_response r;

    exj_api_call(&api, &q, &r);
    must(r.status >= 200 && r.status < 500);
    must(exj_json_check(exj_buf_slice(&r.body), EXJ_JSON_MAX_DEPTH, NULL, NULL) == EXJ_OK);
    exj_response_release(&r);
    return 0;
}
