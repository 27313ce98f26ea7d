/* cancel.pml - an operator wants a row to stop, for spin. tests/model/run.sh runs it.
 *
 * One row; two workers, a reaper, a clock, a timer (what waits becomes due, what is suspended
 * resumes), a signaller and an operator who cancels and retries. Every operation on the store
 * is one transaction, one atomic step here: core/store/sqlite/order.c (cancel, retry),
 * claim.c (claim, finish, renew, release), keep.c (reap, promote, resume), wait.c (signal).
 * A worker pauses anywhere, crashes, and sends an outcome again when the reply was lost.
 * Every move is held against the table of core/job/state.c (moves.pml).
 *
 * Properties
 *   TABLE  every move is one of the table (silo's cancellation cases)
 *   I4     what is terminal changes by an operator's retry only
 *   I11    cancel accepted: no later claim. Said "canceled": the row is and stays canceled.
 *          Said "asked": the row runs on with its mark, or it ended canceled or completed
 *   ASKED  a row is canceled only where somebody asked for it since it last came back
 *   TOLD   who is told that an outcome was taken ended the row by it
 *   ends   (-DLIVE -DLONG, weak fairness) a row that was asked to stop ends, also when its
 *          executor never ends by itself: the next renewal tells its holder
 *
 * Mutants (-D)
 *   CLAIM_BLIND       a claim takes what it looked at before, whatever it is by now
 *   PROMOTE_BLIND     the timer queues what was due when it looked
 *   FAIL_FORGETS      a failure of an asked row is retried
 *   REAP_FORGETS      an asked row whose holder died is queued again
 *   RELEASE_FORGETS   an asked row that is given back unstarted is queued again
 *   SUSPEND_FORGETS   an asked row is suspended
 *   CANCEL_ENDED      a cancel does not look whether the row is over
 *   RETRY_KEEPS_MARK  a retried row bears the mark of the cancel before
 *   LATE_IS_MINE      a late outcome is taken for the one that ended the row
 *   RENEW_SILENT      a renewal does not say that the row was asked to stop
 */
#include "moves.pml"

#define MAX 2 /* attempts */
#ifndef CLAIMS
#define CLAIMS 4 /* that may be sent: what keeps the state space finite */
#endif
#define IDS 9

#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef CANCELS
#define CANCELS 2
#endif
#ifndef RETRIES
#define RETRIES 0
#endif
#ifndef SIGNALS
#define SIGNALS 0
#endif
#ifndef PARKS
#define PARKS 0
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
hidden byte I4 = 1, I11 = 1, ASKED = 1, TOLD = 1;

/* ---- the row, as the store has it ---- */
byte status = QUEUED;
byte attempts, nonce; /* nonce 0: none */
bool mark;            /* EXJ_LIVE_CANCEL */
bool expired;
byte done_nonce;      /* of the result */

/* ---- ghosts ---- */
byte ids;
bool said_canceled, said_asked; /* to the operator, since the row last came back */
byte final;                     /* the terminal status that was seen; 0: none */
bool ended_by[IDS];             /* this claim's outcome was accepted */
bool failed_by[IDS];            /* the table of failures has this claim's nonce */

byte crashes = CRASHES, cancels = CANCELS, retries = RETRIES, signals = SIGNALS;
byte parks = PARKS;

inline check()
{
    assert(I11 && (!said_canceled || status == CANCELED));
    assert(I11 && (!said_asked || (status == RUNNING && mark) || status == CANCELED ||
                   status == COMPLETED));
    assert(ASKED && (status != CANCELED || said_canceled || said_asked));
    assert(I4 && (final == 0 || status == final));
    if
    :: TERMINAL(status) -> final = status
    :: else
    fi
}

inline leave()
{
    nonce = 0;
    expired = false
}

inline take(id)
{
    assert(I11 && !said_canceled && !said_asked);
#ifdef CLAIM_BLIND
    status = RUNNING;
#else
    MOVE(CLAIM);
#endif
    attempts++;
    nonce = id;
    expired = false;
    check()
}

#define MINE (status == RUNNING && nonce == my)

/* The outcome is there: what does it mean (event_of), and what becomes of the row. */
inline finish(o)
{
    if
    :: MINE ->
        ended_by[my] = true;
        if
        :: o == FAILED -> failed_by[my] = true
        :: else
        fi;
        if
#if !defined(FAIL_FORGETS) && !defined(SUSPEND_FORGETS)
        :: mark && o != COMPLETED -> MOVE(CANCEL); done_nonce = my
        :: !(mark && o != COMPLETED) && o == FAILED && attempts < MAX -> MOVE(FAIL_RETRY)
        :: !(mark && o != COMPLETED) && o == FAILED && attempts >= MAX ->
#elif defined(FAIL_FORGETS)
        :: o == FAILED && attempts < MAX -> MOVE(FAIL_RETRY)
        :: o == FAILED && attempts >= MAX ->
#else
        :: mark && o == FAILED -> MOVE(CANCEL); done_nonce = my
        :: !mark && o == FAILED && attempts < MAX -> MOVE(FAIL_RETRY)
        :: !mark && o == FAILED && attempts >= MAX ->
#endif
            MOVE(FAIL_DEAD); done_nonce = my
        :: o == COMPLETED -> MOVE(SUCCEED); done_nonce = my
#ifdef SUSPEND_FORGETS
        :: o == BLOCKED -> MOVE(BLOCK); done_nonce = my
        :: o == SUSPENDED -> MOVE(SUSPEND); attempts--
#else
        :: !mark && o == BLOCKED -> MOVE(BLOCK); done_nonce = my
        :: !mark && o == SUSPENDED -> MOVE(SUSPEND); attempts--
#endif
        fi;
        leave();
        check()
#ifdef LATE_IS_MINE
    :: !(MINE) && TERMINAL(status) -> assert(TOLD && ended_by[my])
    :: !(MINE) && !TERMINAL(status) -> skip
#else
    /* judge_late: "OK" only if this very claim is the one behind the result or a failure */
    :: !(MINE) && ((done_nonce == my &&
                    (status == o || (status == CANCELED && o != COMPLETED) ||
                     (status == FAILED && o == FAILED))) ||
                   (o == FAILED && failed_by[my])) -> assert(TOLD && ended_by[my])
    :: else
#endif
    fi
}

proctype Worker()
{
    byte my, outcome;
    bool told, started;

end_idle:
    atomic { my = 0; outcome = 0; told = false; started = false }
end_wait:
    if
#ifdef CLAIM_BLIND
    :: status == QUEUED && ids < CLAIMS -> atomic { ids++; my = ids; take(my) }
#else
    :: atomic { status == QUEUED && ids < CLAIMS -> ids++; my = ids; take(my) }
#endif
    :: atomic { parks > 0 && status == QUEUED -> /* its concurrency key is full */
        parks--; MOVE(PARK); check() }
        goto end_idle
#ifdef LIVE
    :: TERMINAL(status) && cancels == 0 -> goto end
#endif
    fi;
holding:
    if
    :: atomic {
#ifdef LIVE
        !told ->
#endif
        if
        :: MINE -> expired = false;
#ifndef RENEW_SILENT
            told = told || mark
#endif
        :: else -> goto end_idle
        fi }
        goto holding
    :: atomic { !started -> /* given back */
        if
        :: MINE ->
            if
#ifndef RELEASE_FORGETS
            :: mark -> MOVE(CANCEL)
            :: !mark ->
#else
            :: true ->
#endif
                MOVE(RELEASE); attempts--
            fi;
            leave();
            check()
        :: else
        fi }
        goto end_idle
    :: atomic { !started -> started = true }
        goto holding
#ifdef LONG
    :: atomic { told -> outcome = FAILED } /* it ends because it was told */
#else
    :: atomic { started -> outcome = COMPLETED }
    :: atomic { started || told -> outcome = FAILED }
    :: atomic { started -> outcome = BLOCKED }
    :: atomic { started -> outcome = SUSPENDED }
#endif
    :: atomic { crashes > 0 -> crashes-- }
        goto end_idle
    fi;
send:
    atomic { finish(outcome) }
    if
    :: goto end_idle
#ifndef LIVE
    :: goto send /* the reply was lost */
#endif
    fi;
#ifdef LIVE
end:
    skip
#endif
}

proctype Clock()
{
end:
    do
    :: atomic { status == RUNNING && !expired -> expired = true }
    od
}

proctype Reaper()
{
end:
    do
    :: atomic { status == RUNNING && expired ->
        if
#ifndef REAP_FORGETS
        :: mark -> MOVE(CANCEL); done_nonce = 0
        :: !mark && attempts >= MAX -> MOVE(REAP_DEAD); done_nonce = 0
        :: !mark && attempts < MAX -> MOVE(REAP)
#else
        :: attempts >= MAX -> MOVE(REAP_DEAD); done_nonce = 0
        :: attempts < MAX -> MOVE(REAP)
#endif
        fi;
        leave();
        check() }
    od
}

/* What waits becomes due; what is suspended resumes; room for what is parked. */
proctype Timer()
{
end:
    do
#ifdef PROMOTE_BLIND
    :: status == WAITING -> atomic { status = QUEUED; check() }
#else
    :: atomic { status == WAITING -> MOVE(PROMOTE); check() }
#endif
    :: atomic { status == SUSPENDED -> MOVE(RESUME); check() }
    :: atomic { status == PARKED -> MOVE(UNPARK); check() }
    od
}

proctype Signaller()
{
end:
    do
    :: atomic { signals > 0 && status == SUSPENDED -> signals--; MOVE(RESUME); check() }
    :: atomic { signals > 0 && status == BLOCKED ->
        signals--; MOVE(UNBLOCK); attempts = 0; done_nonce = 0; check() }
    od
}

inline come_back()
{
    attempts = 0;
    done_nonce = 0;
#ifndef RETRY_KEEPS_MARK
    mark = false;
#endif
    said_canceled = false;
    said_asked = false;
    final = 0
}

proctype Operator()
{
end:
    do
    :: atomic { cancels > 0 ->
        cancels--;
        if
        :: status == RUNNING ->
            if
            :: mark /* asked before */
            :: !mark -> MOVE(CANCEL_ASK); mark = true
            fi;
            said_asked = true
#ifdef CANCEL_ENDED
        :: status != RUNNING -> status = CANCELED; said_canceled = true; done_nonce = 0
#else
        :: status != RUNNING && MAY_CANCEL(status) ->
            MOVE(CANCEL); said_canceled = true; done_nonce = 0
        :: status != RUNNING && !MAY_CANCEL(status) -> skip /* refused */
#endif
        fi;
        check() }
    :: atomic { retries > 0 && MAY_RETRY(status) ->
        retries--; come_back(); MOVE(RETRY); check() }
    od
}

init {
    atomic {
        byte n = 0;
        do
        :: n < WORKERS -> run Worker(); n++
        :: else -> break
        od;
        n = 0;
        run Clock();
        run Reaper();
        run Timer();
        run Operator();
        if
        :: SIGNALS > 0 -> run Signaller()
        :: else
        fi
    }
}

#ifdef LIVE
/* So that a run that is stuck goes on for ever and is found: spin looks for cycles. */
active proctype Pulse()
{
end:
    do
    :: true -> skip
    od
}

ltl ends { [](mark -> <>(status == CANCELED || status == COMPLETED)) }
#endif
