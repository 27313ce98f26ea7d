/* moves.pml - the table of allowed moves. Printed by table.c from core/job/state.c;
 * `tests/model/run.sh --accept-table` writes it anew.
 *
 * MAY_x(s): the event x is allowed in the status s. INTO_x: where it leads. MOVE(x):
 * make it, and assert that the table allows it. */
#define QUEUED 0
#define WAITING 1
#define RUNNING 2
#define COMPLETED 3
#define FAILED 4
#define BLOCKED 5
#define SUSPENDED 6
#define CANCELED 7
#define DROPPED 8
#define PARKED 9

#define TERMINAL(s) (false || s == COMPLETED || s == FAILED || s == CANCELED || s == DROPPED)

#define MAY_PROMOTE(s) (false || s == WAITING)
#define INTO_PROMOTE QUEUED
#define MAY_CLAIM(s) (false || s == QUEUED)
#define INTO_CLAIM RUNNING
#define MAY_SUCCEED(s) (false || s == RUNNING)
#define INTO_SUCCEED COMPLETED
#define MAY_FAIL_RETRY(s) (false || s == RUNNING)
#define INTO_FAIL_RETRY WAITING
#define MAY_FAIL_DEAD(s) (false || s == RUNNING)
#define INTO_FAIL_DEAD FAILED
#define MAY_BLOCK(s) (false || s == RUNNING)
#define INTO_BLOCK BLOCKED
#define MAY_SUSPEND(s) (false || s == RUNNING)
#define INTO_SUSPEND SUSPENDED
#define MAY_RELEASE(s) (false || s == RUNNING)
#define INTO_RELEASE QUEUED
#define MAY_REAP(s) (false || s == RUNNING)
#define INTO_REAP QUEUED
#define MAY_REAP_DEAD(s) (false || s == RUNNING)
#define INTO_REAP_DEAD FAILED
#define MAY_RETRY(s) (false || s == FAILED || s == BLOCKED || s == CANCELED || s == DROPPED)
#define INTO_RETRY QUEUED
#define MAY_CANCEL(s) (false || s == QUEUED || s == WAITING || s == RUNNING || s == BLOCKED || s == SUSPENDED || s == PARKED)
#define INTO_CANCEL CANCELED
#define MAY_DROP(s) (false || s == QUEUED || s == WAITING || s == PARKED)
#define INTO_DROP DROPPED
#define MAY_RESUME(s) (false || s == SUSPENDED)
#define INTO_RESUME QUEUED
#define MAY_PARK(s) (false || s == QUEUED)
#define INTO_PARK PARKED
#define MAY_UNPARK(s) (false || s == PARKED)
#define INTO_UNPARK QUEUED
#define MAY_UNBLOCK(s) (false || s == BLOCKED)
#define INTO_UNBLOCK QUEUED
#define MAY_RERUN(s) (false || s == COMPLETED || s == FAILED || s == CANCELED || s == DROPPED)
#define INTO_RERUN QUEUED
#define MAY_CANCEL_ASK(s) (false || s == RUNNING)
#define INTO_CANCEL_ASK RUNNING

hidden byte TABLE = 1; /* gives the assertion its name */
#define MOVE(x) assert(TABLE && MAY_##x(status)); status = INTO_##x
