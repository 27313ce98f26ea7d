/* cron.pml - a tick fires once, over several schedulers, for spin. tests/model/run.sh runs it.
 *
 * One schedule with a tick at each of TICKS times; two schedulers (either may stall anywhere,
 * crash and start anew), a clock, an operator who pauses, resumes, changes, and deletes and
 * makes anew. A scheduler reads where the schedule stands (schedule_page, exj_schedule_now_of),
 * decides which ticks are due (exj_schedule_due), and then, in one commit, notes the tick and
 * inserts its rows (exj_store_do_group in core/run/schedules.c). That commit happens only while
 * version and turn are what was read (core/store/sqlite/schedules.c); versions of one name
 * never repeat (core/store/sqlite/docs.c). The operator's pause goes the same way.
 *
 * Properties (ghosts say for each tick what became of it)
 *   ONCE    no tick is fired twice
 *   MISSED  each tick up to last_tick was fired, or skipped knowingly: by the policy, by a
 *           pause, by a change
 *   PAUSED  no tick fires while the schedule is paused, nor one that passed meanwhile
 *   STALE   no tick of a document that is not there any more is fired
 *   fires   (-DLIVE, weak fairness) every tick is fired or skipped in the end, also when a
 *           scheduler crashed and a tick could not start at first
 *
 * Mutants (-D)
 *   NO_TURN          a tick is noted without a look at the turn
 *   NO_VERSION       ... without a look at the version
 *   VERSIONS_REPEAT  a schedule that is made anew begins with version 1 again
 *   NOTE_FIRST       the tick is noted in one commit, its rows are inserted in the next
 *   ROWS_FIRST       the rows are inserted in one commit, the tick is noted in the next
 *   IN_MEMORY        after a crash ticks begin at now instead of at last_tick
 *   PAUSE_NO_TURN    a pause does not count as a change
 *   RESUME_FIRES     what passed during a pause is due when it ends
 *   FAILURE_SKIPS    a tick that could not start is taken for done
 *   NO_RETRY         ... is never looked at again
 */
#ifndef TICKS
#define TICKS 3
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef PAUSES
#define PAUSES 0
#endif
#ifndef EDITS
#define EDITS 0
#endif
#ifndef DELETES
#define DELETES 0
#endif
#ifndef FAILS
#define FAILS 0
#endif
#ifndef LATEST /* 1: catch up with the latest missed tick only */
#define LATEST 0
#endif
hidden byte ONCE = 1, MISSED = 1, PAUSED = 1, STALE = 1;

/* ---- the document and where it stands, as the store has them ---- */
byte version = 1; /* 0: deleted */
byte gone;        /* the version that a deleted one had */
byte updated_at;
byte turn;        /* 0: there is no row of its state */
byte last_tick;
bool due_never;   /* next_due is 0 because it is paused */
bool paused;
byte now;

/* ---- ghosts ---- */
byte document = 1; /* counts documents, over deletes, too; 0: none */
byte documents = 1;
bool fired[TICKS + 1], skipped[TICKS + 1];
bool passed_paused[TICKS + 1];

byte crashes = CRASHES, pauses = PAUSES, edits = EDITS, deletes = DELETES, fails = FAILS;

#ifdef NO_TURN
#define SAME (version == my_version)
#elif defined(NO_VERSION)
#define SAME (version != 0 && turn == my_turn)
#else
#define SAME (version != 0 && version == my_version && turn == my_turn)
#endif

/* Rows of the ticks from..to are inserted. */
inline insert(from, to, doc)
{
    t = from;
    do
    :: t <= to ->
        assert(STALE && doc == document);
        assert(PAUSED && !paused && !passed_paused[t]);
        assert(ONCE && !fired[t]);
        fired[t] = true;
        t++
    :: else -> break
    od;
    t = 0
}

/* The state's row is written: ticks before `first` that were due are skipped by the policy. */
inline note(last, first)
{
    t = (my_last < last -> my_last + 1 : last + 1);
    do
    :: t < first -> skipped[t] = true; t++
    :: else -> break
    od;
    t = 0;
    last_tick = last;
    turn++
}

/* Nothing between the schedule's beginning and last_tick was forgotten. */
inline none_missed()
{
    t = 1;
    do
    :: t <= last_tick -> assert(MISSED && (fired[t] || skipped[t])); t++
    :: else -> break
    od;
    t = 0
}

proctype Scheduler()
{
    byte my_version, my_turn, my_last, first, last, doc, t;
    bool my_paused, fails_now;

end_look:
    if
    :: atomic { version != 0 && !due_never && /* next_due <= now */
                now > (turn == 0 -> updated_at : last_tick) ->
        my_version = version; my_turn = turn; my_paused = paused; doc = document;
        my_last = (turn == 0 -> updated_at : last_tick);
#ifdef IN_MEMORY
        my_last = (crashes < CRASHES && my_last < now - 1 -> now - 1 : my_last);
#endif
        last = now;
        first = (LATEST == 1 -> last : my_last + 1) }
#ifdef LIVE
    :: now == TICKS && last_tick == TICKS -> goto end
#endif
    fi;

    if
    :: atomic { my_paused -> /* look again when it is resumed */
        if
        :: SAME -> due_never = true; turn++
        :: else
        fi }
        goto again
    :: !my_paused
    fi;

    if /* does what it names start? */
    :: atomic { fails > 0 -> fails--; /* its matrix is gone: note_failure */
        if
        :: SAME -> turn++;
            /* next_due = now + RETRY_MS, which passes as every time does; last_tick stays */
#ifdef FAILURE_SKIPS
            last_tick = last;
#endif
#ifdef NO_RETRY
            due_never = true;
#endif
            none_missed()
        :: else
        fi }
        goto again
    :: atomic { crashes > 0 -> crashes-- }
        goto again
    :: skip
    fi;

#if defined(NOTE_FIRST)
    atomic {
        if
        :: SAME -> note(last, first)
        :: else -> goto again
        fi
    }
    if
    :: atomic { crashes > 0 -> crashes--; none_missed() }
        goto again
    :: skip
    fi;
    atomic { insert(first, last, doc); none_missed() }
#elif defined(ROWS_FIRST)
    atomic {
        if
        :: SAME -> insert(first, last, doc)
        :: else -> goto again
        fi
    }
    if
    :: atomic { crashes > 0 -> crashes-- }
        goto again
    :: skip
    fi;
    atomic {
        if
        :: SAME -> note(last, first); none_missed()
        :: else
        fi
    }
#else
    atomic { /* the group: all or nothing; else CONFLICT, and the next look finds the rest */
        if
        :: SAME -> note(last, first); insert(first, last, doc); none_missed()
        :: else
        fi
    }
#endif
again: /* with the same memory whether it crashed or not: nothing is kept in it */
    atomic { my_version = 0; my_turn = 0; my_last = 0; first = 0; last = 0; doc = 0;
        my_paused = false }
    goto end_look;
#ifdef LIVE
end:
    skip
#endif
}

proctype Clock()
{
end:
    do
    :: atomic { now < TICKS ->
        now++;
        if
        :: version == 0 -> skipped[now] = true
        :: version != 0 && paused -> passed_paused[now] = true
        :: else
        fi }
    od
}

proctype Operator()
{
    byte my_version, my_turn, my_last, t;
    bool my_paused;
end:
    do
    :: atomic { pauses > 0 && version != 0 ->
        my_version = version; my_turn = turn; my_paused = paused;
        my_last = (turn == 0 -> updated_at : last_tick) }
        atomic { /* exj_schedule_pause_op */
            if
            :: SAME && !my_paused ->
                paused = true; due_never = true; last_tick = my_last;
#ifndef PAUSE_NO_TURN
                turn++;
#endif
                pauses--
            :: SAME && my_paused -> /* resume: what passed meanwhile is skipped for good */
                paused = false; due_never = false;
                t = my_last + 1;
                do
                :: t <= now -> skipped[t] = true; t++
                :: else -> break
                od;
                t = 0;
#ifdef RESUME_FIRES
                last_tick = my_last;
#else
                last_tick = now;
#endif
                turn++;
                none_missed();
                pauses--
            :: else /* CONFLICT: tried again */
            fi;
            my_version = 0; my_turn = 0; my_last = 0; my_paused = false
        }
    :: atomic { edits > 0 && version != 0 && !paused -> /* other times, from now on */
        edits--;
        version++; documents++; document = documents;
        updated_at = now;
        t = (turn == 0 -> 1 : last_tick + 1);
        do /* of the old times; the new ones begin at updated_at */
        :: t <= now -> skipped[t] = !fired[t]; t++
        :: else -> break
        od;
        t = 0;
        last_tick = (turn != 0 -> now : last_tick) }
    :: atomic { deletes > 0 && version != 0 && !paused ->
        gone = version; version = 0; document = 0;
        turn = 0; last_tick = 0; due_never = false;
        t = 1;
        do
        :: t <= now -> skipped[t] = !fired[t]; t++
        :: else -> break
        od;
        t = 0 }
    :: atomic { deletes > 0 && version == 0 ->
        deletes--;
#ifdef VERSIONS_REPEAT
        version = 1;
#else
        version = gone + 1;
#endif
        documents++; document = documents; updated_at = now }
    od
}

init {
    atomic {
        run Scheduler();
        run Scheduler();
        run Clock();
        if
        :: PAUSES + EDITS + DELETES > 0 -> run Operator()
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

ltl fires { <>(now == TICKS && (fired[1] || skipped[1]) && (fired[TICKS] || skipped[TICKS])) }
#endif
