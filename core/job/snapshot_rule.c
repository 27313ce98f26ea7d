#include "core/job/snapshot_rule.h"

static const char source_path[] = "payload.dataSource";
static const char path[] = "payload.dataSource.transform";

static void refuse(exj_field_reader *r, const json_t *source)
{
    static const char *const names[] = { "transform", "maxBytes" };

    for (size_t k = 0; k < 2 && r->strict && r->code == EXJ_OK; k++)
        if (json_object_get(source, names[k]))
            r->code = exj_err_set(r->err, EXJ_INVALID,
                                  "%s.%s: only kind query-snapshot has it", source_path, names[k]);
}

void exj_snapshot_rule_read(exj_field_reader *r, const json_t *source, bool is_snapshot,
                            exj_snapshot_rule *ret)
{
    static const char *const known[] = { "jq", "memoryMB", "timeoutSeconds", "maxBytes",
                                         "maxRecords", NULL };
    int64_t memory = 256, seconds = 30, bytes = 64 << 20, records = 1000000, query = 256 << 20;
    const json_t *o;
    exj_slice jq;

    if (!is_snapshot) {
        refuse(r, source);
        return;
    }
    o = exj_field_object(r, source, source_path, "transform");
    if (o)
        exj_field_known(r, o, path, known);
    jq = exj_field_text(r, o, path, "jq");
    exj_field_int(r, o, path, "memoryMB", 32, 1024, &memory);
    exj_field_int(r, o, path, "timeoutSeconds", 1, 3600, &seconds);
    exj_field_int(r, o, path, "maxBytes", 1024, 1 << 30, &bytes);
    exj_field_int(r, o, path, "maxRecords", 1, 10000000, &records);
    exj_field_int(r, source, source_path, "maxBytes", 1024, (int64_t)4 << 30, &query);
    if (r->code != EXJ_OK)
        return;
    *ret = (exj_snapshot_rule){ .memory_mb = (uint32_t)memory, .seconds = (uint32_t)seconds,
                                .bytes = (uint64_t)bytes, .records = (uint64_t)records,
                                .query_bytes = (uint64_t)query };
    if (!o)
        return;
    if (jq.n < 1 || jq.n > EXJ_JQ_MAX_BYTES) {
        r->code = exj_err_set(r->err, EXJ_INVALID,
                              "%s.jq: found %zu bytes; wanted a jq program of 1 to %u bytes", path,
                              jq.n, EXJ_JQ_MAX_BYTES);
        return;
    }
    ret->jq = exj_slice_dup(jq);
    if (!ret->jq)
        exj_field_nomem(r);
}
