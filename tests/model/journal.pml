/* journal.pml - durable steps, attempts and reruns, for spin. tests/model/run.sh runs it.
 *
 * One row whose executor makes STEPS steps in order, each from the value of the one before.
 * Two workers (either may stall anywhere, lose its lease, crash, and write late), a reaper and
 * an operator who runs the row again from a step. Every operation on the store is one
 * transaction, one atomic step here: core/store/sqlite/steps.c (begin, put), order.c (rerun),
 * keep.c (reap), and the read of core/run/worker.c get_step, which is not fenced and spares
 * itself where the row was claimed once only. Every entry is applied to a view of the row as
 * core/job/journal.c does.
 *
 * Properties
 *   FENCE   (I6) no step is begun or written but by the claim that holds the row
 *   ONCE    an entry is written once: a second writer does not change it
 *   REPLAY  a step that is finished is not run again by whoever holds the row; a rerun keeps
 *           what is before its step
 *   AGAIN   who begins a step that may have run before is told so
 *   CHAIN   a completed row: each step was made from the value that stands before it (a rerun
 *           keeps no later step), and the result is the last one's
 *   VIEW    the row is what its entries tell
 *   TABLE   every move is one of the table
 *   ends    (-DLIVE, weak fairness) with one crash the row completes, and stays so
 *
 * Mutants (-D)
 *   SECOND_WRITES     a second writer overwrites a finished step
 *   KEEP_LATER        a rerun forgets its step and keeps the later ones
 *   DROP_ALL          a rerun forgets the earlier ones, too
 *   DROP_LATER        a rerun queues the row in one commit and forgets steps in another
 *   PUT_BLIND         a step is written by whoever held the row once
 *   BEGIN_BLIND       a step is begun by whoever held the row once
 *   NO_BEGIN          that a step begins is not written
 *   RUN_AGAIN         a later attempt does not look for steps
 *   SHORTCUT_ATTEMPT  "it has no steps yet" is told from the attempt instead of the token
 *   NO_REAP           nobody looks for leases that are over
 *   RERUN_NO_TOKEN    a rerun does not raise the token
 */
#include "moves.pml"

#ifndef STEPS
#define STEPS 3
#endif
#define MAX 2
#define IDS 8

#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef EXPIRIES
#define EXPIRIES 1
#endif
#ifndef RERUNS
#define RERUNS 0
#endif
#ifndef TWICE
#define TWICE 0
#endif
hidden byte FENCE = 1, ONCE = 1, REPLAY = 1, AGAIN = 1, CHAIN = 1, VIEW = 1;

/* ---- the row and its steps, as the store has them ---- */
byte status = QUEUED;
byte attempts, token, nonce;
typedef Step {
    bool there, done; /* there and not done: begun */
    byte number, value
};
Step step[STEPS + 1];
byte next_number = 1;

/* ---- the view that the entries make ---- */
byte view_status = QUEUED, view_token, view_attempts;

/* ---- ghosts ---- */
byte ids, holder;           /* claims; the one that holds the row */
bool dead;                  /* and its worker is no more */
byte run_no;                /* reruns so far */
byte stamp;                 /* values made */
byte made_from[STEPS + 1];  /* the value before, from which this one was made */
bool finished[STEPS + 1];   /* in this run, whatever the store says */
bool may_have_run[STEPS + 1];

byte crashes = CRASHES, expiries = EXPIRIES, reruns = RERUNS, twice = TWICE;

/* exj_journal_apply: an entry of an event, or one that moves nothing */
inline told_claim()
{
    view_token++;
    view_attempts++;
    view_status = INTO_CLAIM;
    told()
}
inline told_rerun()
{
    view_token++;
    view_attempts = 0;
    view_status = INTO_RERUN;
    told()
}
inline told_move(into)
{
    view_status = into;
    told()
}
inline told()
{
    assert(VIEW && view_token == token && view_attempts == attempts && view_status == status)
}

#define HELD (status == RUNNING && nonce == my && token == my_token)

#ifdef PUT_BLIND
#define MAY_PUT true
#else
#define MAY_PUT HELD
#endif
#ifdef BEGIN_BLIND
#define MAY_BEGIN true
#else
#define MAY_BEGIN HELD
#endif

/* W_STEP_ADD: nothing happens to a step that is done */
inline put(i, v, from)
{
    if
#ifdef SECOND_WRITES
    :: true ->
#else
    :: !step[i].done ->
#endif
        assert(ONCE && !(step[i].done && step[i].value != v));
        step[i].there = true;
        step[i].done = true;
        step[i].value = v;
        step[i].number = next_number;
        next_number++;
        made_from[i] = from;
        finished[i] = true;
        may_have_run[i] = false;
        told()
    :: else /* CONFLICT: it stands there already */
    fi
}

proctype Worker()
{
    byte my, my_token, my_attempt, my_run, i, value, before;
    bool again, found, own[STEPS + 1];

end_idle:
    atomic { my = 0; my_token = 0; my_attempt = 0; my_run = 0; i = 0; value = 0; before = 0;
        again = false; found = false;
        do
        :: i <= STEPS -> own[i] = false; i++
        :: else -> break
        od;
        i = 1 }
end_wait:
    if
    :: atomic { status == QUEUED ->
        ids++; assert(ids < IDS);
        MOVE(CLAIM); token++; attempts++; nonce = ids; holder = ids; dead = false;
        my = nonce; my_token = token; my_attempt = attempts; my_run = run_no;
        told_claim() }
#ifdef LIVE
    :: status == COMPLETED && reruns == 0 -> goto end
#endif
    fi;
next:
    if
    :: atomic { i > STEPS ->
        if
        :: HELD ->
            MOVE(SUCCEED); nonce = 0; holder = 0;
            told_move(COMPLETED);
            do /* the result was made of what stands here */
            :: i > 1 -> i--;
                assert(CHAIN && step[i].done && made_from[i] == step[i - 1].value &&
                       (i < STEPS || before == step[i].value))
            :: else -> break
            od
        :: else /* fenced */
        fi }
        goto end_idle
    :: atomic { i <= STEPS -> /* journal_lookup; not fenced */
#ifdef SHORTCUT_ATTEMPT
        found = step[i].done && !(my_attempt == 1 && !own[i]);
#else
        found = step[i].done && !(my_token == 1 && !own[i]);
#endif
#ifdef RUN_AGAIN
        found = false;
#endif
        if
        :: found -> before = step[i].value; i++
        :: else
        fi }
        if
        :: found -> goto next
        :: else
        fi
    fi;

    atomic { /* journal_intent: begin */
        if
        :: MAY_BEGIN ->
            assert(FENCE && holder == my);
            again = step[i].there && !step[i].done;
            if
            :: !step[i].done ->
#ifndef NO_BEGIN
                step[i].there = true;
                step[i].number = next_number;
                next_number++;
#endif
                told()
            :: else /* CONFLICT: done */
            fi;
            assert(AGAIN && (again || !may_have_run[i]))
        :: else -> goto end_idle
        fi
    }
    atomic { /* the effect, by whoever stalled before it, too */
        assert(REPLAY && !(holder == my && finished[i]));
        stamp++;
        value = stamp;
        if
        :: my_run == run_no && !finished[i] -> may_have_run[i] = true
        :: else
        fi
    }
    if
    :: skip
    :: atomic { crashes > 0 ->
        crashes--;
        if
        :: holder == my -> dead = true
        :: else
        fi }
        goto end_idle
    fi;
    atomic { /* journal_commit: put */
        own[i] = true;
        if
        :: MAY_PUT -> assert(FENCE && holder == my); put(i, value, before)
        :: else -> goto end_idle
        fi
    }
    if
    :: atomic { twice > 0 -> /* a second thread of the plugin's made the same step */
        twice--;
        if
        :: MAY_PUT -> stamp++; put(i, stamp, before)
        :: else
        fi }
    :: skip
    fi;
    atomic { before = value; i++ }
    goto next;
#ifdef LIVE
end:
    skip
#endif
}

proctype Reaper()
{
end:
    do
    :: atomic { status == RUNNING && (dead || expiries > 0) -> /* its lease is over */
        if
        :: dead
        :: !dead -> expiries--
        fi;
        nonce = 0; holder = 0; dead = false;
        if
        :: attempts >= MAX -> MOVE(REAP_DEAD); told_move(FAILED)
        :: else -> MOVE(REAP); told_move(QUEUED)
        fi }
    od
}

/* from: the number from which on steps are forgotten */
inline drop(from, s)
{
    k = 1;
    do
    :: k <= STEPS ->
        if
#if defined(KEEP_LATER)
        :: step[k].there && k == s ->
#elif defined(DROP_ALL)
        :: step[k].there ->
#else
        :: step[k].there && step[k].number >= from ->
#endif
            step[k].there = false; step[k].done = false;
            step[k].value = 0; step[k].number = 0;
            made_from[k] = 0
        :: else
        fi;
        k++
    :: else -> break
    od;
    k = 0
}

proctype Operator()
{
    byte s, k, from;
end:
    do
    :: atomic { reruns > 0 && MAY_RERUN(status) && token > 0 && !dead ->
        reruns--;
        select(s : 1 .. STEPS);
        if
        :: step[s].there
        :: !step[s].there -> s = 1
        fi;
        from = step[s].number;
        run_no++;
        MOVE(RERUN);
#ifndef RERUN_NO_TOKEN
        token++;
#endif
        attempts = 0; nonce = 0; holder = 0;
        told_rerun();
        k = s;
        do
        :: k <= STEPS -> finished[k] = false; may_have_run[k] = false; k++
        :: else -> break
        od;
        k = 0;
#ifndef DROP_LATER
        drop(from, s)
#endif
        }
#ifdef DROP_LATER
        atomic { drop(from, s) }
#endif
        atomic { s = 0; from = 0 }
    od
}

init {
    atomic {
        run Worker();
        run Worker();
#ifndef NO_REAP
        run Reaper();
#endif
        if
        :: RERUNS > 0 -> run Operator()
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

ltl ends { <>[](status == COMPLETED) }
#endif
