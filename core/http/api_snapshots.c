/* Query snapshots: where one came from, and what it begins with. */
#include "core/http/exchange.h"
#include "core/run/snapshot.h"

#define SHOWN_BYTES (1024u * 1024u) /* of the records in one answer */

struct beginning {
    json_t *records;
    size_t left, bytes;
    bool failed;
};

static bool visit_line(void *user, exj_slice line)
{
    struct beginning *b = user;
    json_t *v = NULL;

    b->bytes += line.n;
    if (!b->left || b->bytes > SHOWN_BYTES)
        return false;
    b->left--;
    if (exj_json_parse(line, &v, NULL) != EXJ_OK || json_array_append_new(b->records, v))
        b->failed = true;
    return !b->failed;
}

static json_t *about_shown(const exj_snapshot_about *a, json_t *records)
{
    return json_pack("{s:s,s:s,s:s,s:o,s:o,s:I,s:I,s:b,s:{s:I,s:I,s:s},s:O}", "snapshot", a->id,
                     "sha256", a->id, "matrixCatalogId", a->matrix, "matrixRunId",
                     *a->run ? json_string(a->run) : json_null(), "at",
                     exj_json_instant(a->at), "bytes", (json_int_t)a->bytes, "records",
                     (json_int_t)a->records, "transformed", (int)a->transformed, "query",
                     "bytes", (json_int_t)a->query_bytes, "records",
                     (json_int_t)a->query_records, "sha256", a->query_sha256, "first", records);
}

void exj_route_snapshot(exj_exchange *x)
{
    struct beginning b = { .records = json_array() };
    exj_snapshot_about about = { 0 };
    const char *dir = x->api->snapshots_dir;
    exj_err err = { 0 };
    char id[EXJ_SNAPSHOT_ID_BYTES];
    int64_t limit;
    exj_code rc = EXJ_NOT_FOUND;

    if (!exj_take_i64(x, "limit", 0, 100, 10, &limit)) {
        json_decref(b.records);
        return;
    }
    b.left = (size_t)limit;
    if (dir && exj_snapshot_id_is_valid(x->id)) {
        memcpy(id, x->id.p, x->id.n);
        id[x->id.n] = 0;
        rc = exj_snapshot_read(dir, id, &about, &err);
    }
    if (rc == EXJ_OK)
        rc = exj_snapshot_each(dir, id, visit_line, &b, &err);
    if (rc == EXJ_NOT_FOUND)
        exj_answer_error(x, 404, "SnapshotNotFound",
                         "no snapshot \"%.*s\": its id is the 64 digits that rows name",
                         (int)(x->id.n < 80 ? x->id.n : 80), x->id.p);
    else if (rc != EXJ_OK)
        exj_answer_failure(x, &err);
    else
        exj_answer_take(x, 200, b.failed || !b.records ? NULL : about_shown(&about, b.records));
    json_decref(b.records);
    exj_snapshot_about_release(&about);
}
