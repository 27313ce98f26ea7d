/* core/job/state.h - the life of a row: one table of allowed moves (spec 2.1).
 *
 * docs/rows.md shows the whole table, drawn from it by a test. In short:
 *
 *               claim                 succeed
 *   queued ───────────────▶ running ──────────▶ completed
 *     ▲  ▲                     ├─ fail, none left ─▶ failed (dead letter)
 *     │  └──── promote         ├─ fail, attempts left ─▶ waiting (queued, not yet due)
 *     │           ▲            ├─ block ─▶ blocked        ├─ suspend ─▶ suspended
 *     │        waiting         ├─ release, reap ─▶ queued └─ cancel ─▶ canceled
 *     ├── retry (operator) ── failed, blocked, canceled, dropped
 *     ├── rerun (operator) ── completed, failed, canceled, dropped
 *     ├── unblock (signal) ── blocked
 *     └── resume (time, signal, poll) ── suspended
 *
 * Two states are forms of `queued` that claims never walk over; operators see "queued":
 * `waiting` has a runAfter in the future, `parked` waits for room under its concurrency key.
 * The numbers are stored; they never change meaning.
 */
#ifndef EXJ_CORE_JOB_STATE_H
#define EXJ_CORE_JOB_STATE_H

#include "core/base/err.h"

typedef enum exj_status {
    EXJ_QUEUED = 0,
    EXJ_WAITING = 1,
    EXJ_RUNNING = 2,
    EXJ_COMPLETED = 3,
    EXJ_FAILED = 4, /* dead: no attempt left */
    EXJ_BLOCKED = 5,
    EXJ_SUSPENDED = 6,
    EXJ_CANCELED = 7,
    EXJ_DROPPED = 8,
    EXJ_PARKED = 9,
    EXJ_STATUS_COUNT = 10
} exj_status;

typedef enum exj_event {
    EXJ_EV_PROMOTE, EXJ_EV_CLAIM, EXJ_EV_SUCCEED, EXJ_EV_FAIL_RETRY, EXJ_EV_FAIL_DEAD,
    EXJ_EV_BLOCK, EXJ_EV_SUSPEND, EXJ_EV_RELEASE, EXJ_EV_REAP, EXJ_EV_REAP_DEAD,
    EXJ_EV_RETRY, EXJ_EV_CANCEL, EXJ_EV_DROP, EXJ_EV_RESUME, EXJ_EV_PARK, EXJ_EV_UNPARK,
    EXJ_EV_UNBLOCK, EXJ_EV_RERUN,
    EXJ_EV_CANCEL_ASK, /* of a running row: its holder is told, and ends it with CANCEL */
    EXJ_EV_COUNT
} exj_event;

/* The word an operator sees ("queued" for QUEUED, WAITING and PARKED). Never NULL. */
const char *exj_status_word(exj_status s);
/* The word of the table, which tells these three apart ("waiting", "parked"). Never NULL. */
const char *exj_status_name(exj_status s);
/* From a word; WAITING and PARKED cannot be named. Errors: EXJ_INVALID (lists the words). */
exj_code exj_status_parse(exj_slice word, exj_status *ret, exj_err *err);
const char *exj_event_word(exj_event e);
bool exj_status_is_terminal(exj_status s);
/* The only place that decides a move. Errors: EXJ_REFUSED with the table's reason. */
exj_code exj_state_move(exj_status from, exj_event event, exj_status *ret, exj_err *err);

#endif /* EXJ_CORE_JOB_STATE_H */
