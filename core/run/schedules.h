/* core/run/schedules.h - the ticks of schedules become rows or cycles (spec 2.8).
 *
 * core/job/schedule.h decides which ticks are due; here they are fired: what a tick starts and
 * the state that says that it was fired are one group of operations, guarded by the state as it
 * was read. So a tick fires once, whoever asks, and is not lost: a crash leaves both or nothing.
 *
 * A schedule that was never looked at counts from when its document was last written; one whose
 * times (cron, interval, zone) or pause changed, from that write on; one that an operator
 * resumed, from then on.
 *
 * A tick that cannot start what it names (no such matrix, no graph that takes rows) stays due and
 * is tried again every half a minute; the policy for missed ticks says what is left of it then.
 *
 * Time:    the store's (v->now).
 * Threads: any. In a worker one thread waits for the earliest tick of all schedules, or for a
 *          change (exj_run_scheduler); it never polls.
 */
#ifndef EXJ_CORE_RUN_SCHEDULES_H
#define EXJ_CORE_RUN_SCHEDULES_H

#include "core/job/schedule.h"
#include "core/run/admit.h"

typedef struct exj_fired {
    uint64_t ticks;   /* that started something */
    uint64_t rows;    /* new ones */
    uint64_t runs;    /* cycles that were asked for */
    uint64_t skipped; /* ticks that were passed over for good */
    uint64_t failed;  /* schedules whose tick could not start; GET /schedules says why */
} exj_fired;

/* Fire all that is due. `engine` may be NULL: then nobody is woken. *ret is filled also on
 * failure. *ret_next: the store's time at which to call again; 0: nothing is scheduled. It is
 * past when there is more to do at once.
 * Errors: those of the store, EXJ_NOMEM. */
exj_code exj_schedules_fire(exj_store *s, exj_engine *engine, exj_fired *ret,
                            exj_msec *ret_next, exj_err *err);

/* One schedule as it stands, for those who show or change it. */
typedef struct exj_schedule_now {
    exj_schedule schedule; /* pause of its document included */
    exj_schedule_view view; /* texts below */
    exj_buf id, body, times, error;
    bool paused;           /* by its document or by an operator */
    exj_msec last_tick;    /* what counts as the last one now: set also before a state is */
} exj_schedule_now;

/* Errors: EXJ_NOT_FOUND, EXJ_CORRUPT (the stored document cannot be read: why; then *ret has all
 * but `schedule`, and is to be released, too), EXJ_NOMEM, … */
exj_code exj_schedule_now_get(exj_store *s, exj_slice id, exj_schedule_now *ret, exj_err *err);
/* The same from a view that is being visited. */
exj_code exj_schedule_now_of(const exj_schedule_view *v, exj_schedule_now *ret, exj_err *err);
void exj_schedule_now_release(exj_schedule_now *n);

/* The operation that pauses or resumes it (an operator's pause, beside the document's); texts
 * belong to `n`. EXJ_CONFLICT as rc of the operation: read it again.
 * Errors: EXJ_REFUSED (resume: its document pauses it), EXJ_NOMEM. */
exj_code exj_schedule_pause_op(exj_store *s, exj_schedule_now *n, bool paused, exj_op *ret,
                               exj_err *err);

/* What ticks start: rows through an admission, or cycles. */
typedef struct exj_start exj_start;
#define EXJ_START_MOST 32u /* ticks at once */

/* `names` (n, 1..EXJ_START_MOST) and the schedule are borrowed until exj_start_free.
 * Errors: those of core/run/admit.h. */
exj_code exj_start_new(exj_store *s, exj_engine *engine, const exj_schedule *schedule,
                       const exj_slice *names, size_t n, exj_start **ret, exj_err *err);
/* An array of *ret_n operations for one group. */
exj_op *exj_start_ops(exj_start *st, size_t *ret_n);
/* They were committed: wake whoever may go on with them. */
void exj_start_landed(exj_start *st);
/* NULL: they are cycles. */
exj_admission *exj_start_admission(exj_start *st);
uint64_t exj_start_rows(const exj_start *st); /* new ones; after that */
void exj_start_free(exj_start *st);           /* accepts NULL */

/* "SCHEDULE@manual-0123456789abcdef": of a trigger by hand. No tick is ever called so. */
bool exj_schedule_manual_name(const exj_schedule *s, exj_buf *b);

#endif /* EXJ_CORE_RUN_SCHEDULES_H */
