/* plugins/source-file/run.h - one call: what is asked, what came of it so far. Inside of the plugin.
 *
 * Threads: one call at a time. */
#ifndef EXJ_PLUGINS_SOURCE_FILE_RUN_H
#define EXJ_PLUGINS_SOURCE_FILE_RUN_H

#include "bad.h"

typedef struct exj_src_run {
    const exj_host *host;
    exj_call call;
    const exj_src_ask *ask;
    const exj_src_place *place;
    exj_src_kept *kept;
    const char *aside_path;  /* the quarantine file */
    bool pages;              /* kind storage: so many records, then a cursor */
    exj_str cursor;          /* quoted; empty: the beginning */
    exj_src_aside aside;
    exj_json_out out, record;
    uint64_t records, bad;   /* of the whole scan, pages before this one included */
    uint64_t here, bad_here; /* of this call */
    unsigned asked;
} exj_src_run;

/* The error of the call, once, and its result. */
exj_result exj_src_refuse(exj_src_run *r, exj_result result, const char *code, const char *format,
                          ...) __attribute__((format(printf, 4, 5)));

/* Emit a record. EXJ_R_OK: go on. */
exj_result exj_src_yield(exj_src_run *r, exj_str id, exj_str record, uint64_t line);
/* A bad line, by policy. EXJ_R_OK: go on. */
exj_result exj_src_bad_line(exj_src_run *r, uint64_t line, const exj_src_trouble *t, exj_str text,
                            uint64_t bytes);
/* Everything that was put aside is on the disk. */
exj_result exj_src_settle(exj_src_run *r);
/* Was it asked to stop? Looks every 64th time. EXJ_R_OK: no. */
exj_result exj_src_stopped(exj_src_run *r);

/* The two ways to scan. */
exj_result exj_src_scan_lines(exj_src_run *r);
exj_result exj_src_scan_folder(exj_src_run *r);

#endif /* EXJ_PLUGINS_SOURCE_FILE_RUN_H */
