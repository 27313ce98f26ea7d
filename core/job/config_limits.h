/* core/job/config_limits.h - the members of config documents about limits: rate, keys, which
 * errors are final. Private to core/job; config.c calls these while it reads a document. */
#ifndef EXJ_CORE_JOB_CONFIG_LIMITS_H
#define EXJ_CORE_JOB_CONFIG_LIMITS_H

#include "core/job/config.h"
#include "core/job/field.h"

/* rateLimit, concurrencyPerKey, finalErrors of payload.execution. */
void exj_limits_read(exj_field_reader *r, const json_t *execution, exj_graph_config *c);
/* payload.keys of a matrix. */
void exj_key_fields_read(exj_field_reader *r, const json_t *payload, exj_key_fields *ret);

#endif /* EXJ_CORE_JOB_CONFIG_LIMITS_H */
