/* core/job/config_memory.h - the members of a graph's document that seed executionMemory. Private
 * to core/job; config.c calls this while it reads a document. What seeds a row's memory from its
 * record, exj_memory_seed_add, is in config.h and lives beside it. */
#ifndef EXJ_CORE_JOB_CONFIG_MEMORY_H
#define EXJ_CORE_JOB_CONFIG_MEMORY_H

#include "core/job/config.h"
#include "core/job/field.h"

/* What executionMemory holds whatever the record says: graphEntry.inputs, then mappedInput.
 * Fills c->memory, c->memory_needs_record and c->mapped_input. */
void exj_memory_read(exj_field_reader *r, const json_t *payload, exj_graph_config *c);

#endif /* EXJ_CORE_JOB_CONFIG_MEMORY_H */
