/* core/job/schedule.h - schedule documents (spec 2.8) and which of their ticks are due.
 *
 * {"scheduleId", "payload": {
 *     "cron": "0 3 * * *" | "everySeconds": 1..31536000,   one of the two
 *     "anchor": "2026-01-01T00:00:00Z"   with everySeconds: its first tick; default epoch
 *     "zone": "Europe/Berlin"            with cron; default "UTC"
 *     "missed": "skip"|"once"|"all"      default "once"
 *     "maxMissed": 1..1000               of "all"; default 100
 *     "graceSeconds": 0..86400           default 60: a tick late by at most this is on time
 *     "paused": false
 *     "start": {"matrixCatalogId", "graphId"?, "input"?: flat record, "run"?: bool} }}
 * "version", "createdAt" and "updatedAt" are the store's, as in core/job/config.h.
 *
 * What a tick starts. With "run": one cycle of the matrix (its source is asked once) under
 * the tick's name as matrixRunId; graphId and input are then refused. Else one row for each
 * graph of the matrix, or for graphId alone, with `input` as its record and the tick's name
 * as record id. The name is made of schedule and tick alone (exj_schedule_tick_name): who
 * inserts it twice finds it there, hence no tick fires twice, whoever asks.
 *
 * Time:    instants are exj_msec and come from the caller; nothing here reads a clock.
 * Memory:  the structs own what they point to; _release ends it.
 * Threads: read-only after parse: any thread.
 */
#ifndef EXJ_CORE_JOB_SCHEDULE_H
#define EXJ_CORE_JOB_SCHEDULE_H

#include "core/base/json.h"
#include "core/job/cron.h"

typedef enum exj_missed { EXJ_MISSED_SKIP, EXJ_MISSED_ONCE, EXJ_MISSED_ALL } exj_missed;
const char *exj_missed_word(exj_missed m);

#define EXJ_SCHEDULE_ID_BYTES 480u      /* longest id: a tick's name adds to it */
#define EXJ_SCHEDULE_MISSED_MOST 1000u  /* maxMissed */
#define EXJ_SCHEDULE_COUNT_MOST 10000u  /* ticks of a cron that are counted as skipped */

typedef struct exj_schedule {
    char *schedule_id;    /* owned, as are all pointers here */
    char *cron_text;      /* NULL: an interval */
    exj_cron cron;
    exj_zone *zone;       /* never NULL after a parse */
    exj_msec every_ms;    /* interval, else 0 */
    exj_msec anchor_ms;
    exj_missed missed;
    uint32_t max_missed;
    exj_msec grace_ms;
    bool paused;
    char *matrix_id;
    char *graph_id;       /* NULL: every graph of the matrix */
    char *input;          /* the record, JSON object text; "{}" by default */
    bool run;             /* a cycle of the matrix in place of rows */
} exj_schedule;

/* Parse for WRITING: everything is checked; *ret_canonical (may be NULL) gets the document
 * as it will be stored. `id_expected` empty: taken from the document. Errors: EXJ_INVALID
 * (path, value, what is wanted), EXJ_NOMEM, and those of exj_zone_open. */
exj_code exj_schedule_parse(exj_slice doc, exj_slice id_expected, exj_schedule *ret,
                            exj_buf *ret_canonical, exj_err *err);
/* Parse for READING what is stored: unknown keys are let through. */
exj_code exj_schedule_read(exj_slice doc, exj_schedule *ret, exj_err *err);
void exj_schedule_release(exj_schedule *s); /* accepts a zeroed struct */

/* The first tick later than `after`; pause and missed ticks play no part: for showing the
 * next times. False: there is none. */
bool exj_schedule_next(const exj_schedule *s, exj_msec after, exj_msec *ret);

typedef struct exj_schedule_verdict {
    size_t fire;            /* how many of `ticks` were written; in order of time */
    uint64_t skipped;       /* ticks that are passed over for good */
    bool skipped_is_least;  /* it were more; EXJ_SCHEDULE_COUNT_MOST were counted */
    exj_msec last_tick;     /* to be stored in the same transaction as what the ticks start */
    bool more;              /* `cap` was too small: decide again, with this last_tick */
    bool has_next;
    exj_msec next_tick;     /* the first tick after last_tick; due at once when `more` */
} exj_schedule_verdict;

/* Which ticks later than `last_tick` and not later than `now` are to fire. last_tick: the
 * one of the verdict before; for a new schedule, one whose cron, interval or zone changed, or
 * one that is resumed: the instant of that.
 *
 * A tick is on time when now - tick <= graceSeconds: all of these fire. Those before are
 * missed:  skip  none fires;
 *          once  the newest fires, unless a tick is on time, which then stands for all;
 *          all   the newest maxMissed fire, oldest first.
 * What is missed and does not fire is skipped. Paused: none fires, all are skipped. A clock
 * that went back (now < last_tick): nothing is due until it has caught up.
 * At most `cap` (>= 1) ticks are written. Work is bounded: some ten thousand steps of the
 * cron after years of absence (milliseconds), none that grows with the absence. */
void exj_schedule_due(const exj_schedule *s, exj_msec last_tick, exj_msec now,
                      exj_msec *ticks, size_t cap, exj_schedule_verdict *ret);

/* Append "SCHEDULE@2026-01-02T03:04:05Z": the record id or matrixRunId of a tick; at most
 * EXJ_ID_MAX_BYTES, no two ticks of one schedule the same. False: out of memory. */
bool exj_schedule_tick_name(const exj_schedule *s, exj_msec tick, exj_buf *b);

#endif /* EXJ_CORE_JOB_SCHEDULE_H */
