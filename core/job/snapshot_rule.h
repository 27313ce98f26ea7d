/* core/job/snapshot_rule.h - what a matrix of kind query-snapshot says of its snapshots:
 * dataSource.transform and dataSource.maxBytes. */
#ifndef EXJ_CORE_JOB_SNAPSHOT_RULE_H
#define EXJ_CORE_JOB_SNAPSHOT_RULE_H

#include "core/job/field.h"

#define EXJ_JQ_MAX_BYTES 65536u

typedef struct exj_snapshot_rule {
    char *jq;              /* owned; NULL: the query's result is the snapshot */
    uint32_t memory_mb;    /* 32..1024; default 256 */
    uint32_t seconds;      /* 1..3600; default 30 */
    uint64_t bytes;        /* of the snapshot, 1024..1 GiB; default 64 MiB */
    uint64_t records;      /* of the snapshot, 1..10000000; default 1000000 */
    uint64_t query_bytes;  /* of the query's result, 1024..4 GiB; default 256 MiB */
} exj_snapshot_rule;

/* From `source`, the document's dataSource (NULL: absent). Unless `is_snapshot` the members are
 * refused. */
void exj_snapshot_rule_read(exj_field_reader *r, const json_t *source, bool is_snapshot,
                            exj_snapshot_rule *ret);

#endif /* EXJ_CORE_JOB_SNAPSHOT_RULE_H */
