/* host.pml - rows run in a plugin host, which may die at any step, for spin.
 * tests/model/run.sh runs it.
 *
 * ROWS rows, each claimed by a worker of the engine; the pump of one remote instance
 * (core/plugin/remote_pump.c, remote_frames.c) with its queues `waiting`, `sent` (in order, the
 * host is in the first) and `pending`; hosts one after the other, each with a socket of its own
 * in both directions; a clock that ends deadlines. A host reads calls in order, says RESULT
 * before it begins the next (core/host/serve.c) or says PENDING and answers later, and dies
 * anywhere: the core then reads what it had said, and buries it. A crash counts against the
 * content (core/plugin/shelf_crash.c) and against the row that did it (core/run/outbox.c).
 * Each call has an id that no other call has (core/plugin/call.c): a row's second attempt is
 * another call. What is done under the instance's lock is one atomic step.
 *
 * Properties
 *   OWNED   a call that was given and is not over is in exactly one queue, and a call is
 *           over once
 *   MATCH   the answer that a call gets is the one that the plugin gave in this very call
 *   BEGUN   (I9) no call is begun twice: only what was not begun waits again
 *   BLAME   whoever is said to have crashed its host had begun in it, or nobody had: what
 *           waits behind a call that ran is not blamed
 *   BUDGET  (I10) after CRASHES_MAX crashes no host begins a call of that content, and a row
 *           is not tried again after ROW_CRASHES of its own
 *   LATE    what a host says after its call was taken from it is not heard
 *   ends    (-DLIVE, weak fairness) each row ends or its plugin is quarantined, whatever dies
 *
 * Mutants (-D)
 *   ONE_WIRE       the next host inherits what the last one had said
 *   MATCH_BY_ORDER  a result is taken for the first call's that was sent, whatever its id
 *   DROP_SENT      calls behind the first are forgotten when their host dies
 *   SEND_AGAIN     the call that ran is sent again with those behind it
 *   BLAME_LAST     the newest call is blamed instead of the one that may have run
 *   LOSE_PENDING   PENDING calls are forgotten when their host dies
 *   RESULT_LATER   the host begins the next call before it says its result
 *   NOT_ALL_HEARD  what a dead host had said is not read
 *   HEAR_THE_LATE  a result after the deadline's end is taken
 *   NO_QUARANTINE  crashes are not counted against the content
 *   AHEAD_STAYS    a host that is ready runs calls of a quarantined content
 *   ROW_UNCOUNTED  crashes are not counted against the row
 *   WAITS_FOREVER  who waits when no host may start is not told
 */
#ifndef ROWS
#define ROWS 2
#endif
#ifndef DEATHS /* hosts that die, at most */
#define DEATHS 1
#endif
#ifndef CRASHES_MAX
#define CRASHES_MAX 3
#endif
#ifndef ROW_CRASHES
#define ROW_CRASHES 2
#endif
#ifndef LATES /* deadlines that pass */
#define LATES 0
#endif
#ifndef ASYNC
#define ASYNC 0
#endif
#ifndef AHEAD /* lane sandbox: the next host is started while this one works */
#define AHEAD 0
#endif
#define CALLS 8 /* ids */
#define ATTEMPTS 3
hidden byte OWNED = 1, MATCH = 1, BEGUN = 1, BLAME = 1, BUDGET = 1, LATE = 1;

/* where a call is */
#define NOWHERE 0
#define WAITS 1
#define SENT 2
#define PENDS 3
#define OVER 4

byte where[CALLS];
byte row_of[CALLS];
byte calls = 1; /* the next id */

chan waiting = [ROWS] of { byte };
chan sent = [ROWS] of { byte };

/* The sockets of the host that is now. An answer: type, call, and what it was the answer of. */
#define RESULT 1
#define PENDING 2
chan to_host = [ROWS] of { byte };
chan said = [4] of { byte, byte };
bool lives;       /* its process */
byte host;        /* which one; 0: none was started */
bool is_now;      /* the core has a host */
bool ready_ahead; /* another one is ready to follow it */
bool our_fault;   /* TERM or KILL was sent */
byte inside;      /* the call that it is in */
byte keeps;       /* the call that it has said PENDING of */
byte named;       /* the call that its crash handler named; 0: none */

/* rows: 0 to be given, 1 given, 2 over for good */
byte row[ROWS + 1], row_attempts[ROWS + 1], row_crashes[ROWS + 1];
byte crashes;
bool quarantined;

/* ---- ghosts ---- */
byte begun_in[CALLS]; /* the host that began it */
bool answered[CALLS]; /* by the plugin */
bool over_late[CALLS]; /* ended for its deadline */
byte all_crashes, all_row_crashes[ROWS + 1];
byte deaths = DEATHS, lates = LATES;

#define OK 0
#define AGAIN 1   /* EXJ_R_RETRY: another call's fault, or no host */
#define CRASHED 2
#define DEADLINE 3
#define NOT_STARTED 4

/* complete(): the engine hears how the call ended, and what becomes of its row. */
inline over(c, how)
{
    assert(OWNED && where[c] != OVER && where[c] != NOWHERE);
    where[c] = OVER;
    if
    :: how == OK -> assert(MATCH && answered[c]); row[row_of[c]] = 2
    :: how == CRASHED ->
        assert(BLAME && (begun_in[c] != 0 || inside == 0));
        all_row_crashes[row_of[c]]++;
#ifndef ROW_UNCOUNTED
        row_crashes[row_of[c]]++;
#endif
        row[row_of[c]] = (row_crashes[row_of[c]] < ROW_CRASHES &&
                          row_attempts[row_of[c]] < ATTEMPTS -> 0 : 2)
    :: how == AGAIN || how == DEADLINE ->
        row[row_of[c]] = (row_attempts[row_of[c]] < ATTEMPTS -> 0 : 2)
    :: how == NOT_STARTED -> row[row_of[c]] = 2 /* it is given back; its executor is stopped */
    fi
}

/* Workers give rows to the instance (execute -> submit). */
proctype Engine()
{
    byte r, c;
end_give:
    do
    :: atomic { row[1] == 0 || row[ROWS] == 0 ->
        if
        :: row[1] == 0 -> r = 1
        :: row[ROWS] == 0 -> r = ROWS
        fi;
        c = calls;
        calls++;
        assert(c < CALLS);
        assert(BUDGET && row_attempts[r] < ATTEMPTS && all_row_crashes[r] < ROW_CRASHES);
        row[r] = 1; row_attempts[r]++; row_of[c] = r;
        where[c] = WAITS;
        waiting!c;
        r = 0; c = 0 }
    od
}

/* The plugin's process. */
proctype Host()
{
    byte c;
end_read:
    do
    :: atomic { lives && inside == 0 && to_host?[c] -> to_host?c;
        inside = c;
        assert(BEGUN && begun_in[c] == 0);
        assert(BUDGET && all_crashes < CRASHES_MAX);
        begun_in[c] = host }
    :: atomic { lives && inside != 0 -> /* it answers */
        answered[inside] = true;
#ifdef RESULT_LATER
        if
        :: nempty(to_host) -> to_host?c; assert(BEGUN && begun_in[c] == 0); begun_in[c] = host
        :: true -> c = 0; said!RESULT, inside
        fi;
        inside = c;
#else
        said!RESULT, inside;
        inside = 0;
#endif
        c = 0 }
    :: atomic { ASYNC == 1 && lives && inside != 0 && keeps == 0 ->
        said!PENDING, inside; keeps = inside; inside = 0 }
    :: atomic { lives && keeps != 0 -> answered[keeps] = true; said!RESULT, keeps; keeps = 0 }
    :: atomic { lives && deaths > 0 -> deaths--; lives = false; /* a crash, anywhere */
        if
        :: named = inside
        :: named = keeps
        :: named = 0
        fi }
    od
}

/* The call that ran is the first that was sent; another thread of the plugin's may have
 * crashed, then the crash handler names what this one was in. */
inline bury()
{
    lives = false;
    is_now = false;
    first = 0;
    if
    :: sent?[c] -> sent?<c>; first = c
    :: else
    fi;
    /* find_guilty */
    guilty = first;
    if
    :: !our_fault && named != 0 && (named == first || where[named] == PENDS) -> guilty = named
    :: else ->
        c = 1;
        do
        :: c < CALLS && !(where[c] == PENDS) -> c++
        :: else -> break
        od;
        if
        :: first == 0 && c < CALLS && !our_fault -> guilty = c /* the only one */
        :: else
        fi
    fi;
#ifdef BLAME_LAST
    if
    :: len(sent) == 2 && !our_fault -> sent?c; sent!c; sent?<c>; first = c; guilty = c
    :: else
    fi;
#endif
    if
    :: !our_fault && guilty != 0 ->
        all_crashes++;
#ifndef NO_QUARANTINE
        crashes++;
#endif
        quarantined = (crashes >= CRASHES_MAX)
#ifndef AHEAD_STAYS
        ;
        if
        :: quarantined -> ready_ahead = false
        :: else
        fi
#endif
    :: else
    fi;
    /* those behind the first wait again, in their order, before all that wait */
    n = len(waiting);
    if
    :: first != 0 -> sent?c
    :: else
    fi;
#ifdef SEND_AGAIN
    if
    :: first != 0 -> where[first] = WAITS; waiting!first; first = 0; guilty = 0
    :: else
    fi;
#endif
    do
    :: nempty(sent) -> sent?c;
#ifndef DROP_SENT
        where[c] = WAITS; waiting!c
#endif
    :: empty(sent) -> break
    od;
    do
    :: n > 0 -> waiting?c; waiting!c; n--
    :: else -> break
    od;
    if
    :: first != 0 -> over(first, (our_fault -> DEADLINE : (first == guilty -> CRASHED : AGAIN)));
        if
        :: our_fault -> over_late[first] = true
        :: else
        fi
    :: else
    fi;
    c = 1;
    do
    :: c < CALLS ->
        if
        :: where[c] == PENDS ->
#ifndef LOSE_PENDING
            over(c, (c == guilty -> CRASHED : AGAIN))
#else
            where[c] = where[c]
#endif
        :: else
        fi;
        c++
    :: else -> break
    od;
    c = 1;
    do /* nobody is left behind in queues of a host that is gone */
    :: c < CALLS -> assert(OWNED && where[c] != SENT && where[c] != PENDS); c++
    :: else -> break
    od;
    c = 0; guilty = 0; first = 0; our_fault = false; named = 0;
    inside = 0; keeps = 0;
#ifndef ONE_WIRE
    do /* its wires are closed */
    :: nempty(to_host) -> to_host?c
    :: empty(to_host) -> break
    od;
    do
    :: nempty(said) -> said?n, c
    :: empty(said) -> break
    od;
#endif
    c = 0; n = 0
}

/* exj_remote_take */
inline take()
{
    said?n, c;
    if
    :: n == PENDING ->
        if
        :: sent?[eval(c)] -> sent?eval(c); where[c] = PENDS
        :: else -> our_fault = false; lives = false /* a rule is broken */
        fi
    :: n == RESULT ->
        if
#ifdef MATCH_BY_ORDER
        :: sent?[c] -> sent?c; over(c, OK)
#endif
        :: where[c] == PENDS -> over(c, OK)
        :: where[c] == SENT && sent?[eval(c)] -> sent?eval(c); over(c, OK)
#ifdef HEAR_THE_LATE
        :: where[c] == OVER -> assert(LATE && !over_late[c]); row[row_of[c]] = 2
#endif
        :: else -> lives = false
        fi
    fi;
    c = 0; n = 0
}

proctype Pump()
{
    byte c, n, guilty, first;
end_pump:
    do
    :: atomic { !is_now && nempty(waiting) && ready_ahead -> /* the one that is ready follows */
        ready_ahead = false; is_now = true; lives = true; host++ }
    :: atomic { !is_now && nempty(waiting) && !ready_ahead && !quarantined -> /* may_start */
        is_now = true; lives = true; host++ }
    :: atomic { AHEAD == 1 && is_now && !ready_ahead && !quarantined && nempty(sent) ->
        ready_ahead = true }
#ifndef WAITS_FOREVER
    :: atomic { !is_now && nempty(waiting) && !ready_ahead && quarantined ->
        do /* end_waiting */
        :: nempty(waiting) -> waiting?c; over(c, NOT_STARTED)
        :: empty(waiting) -> break
        od;
        c = 0 }
#endif
    :: atomic { is_now && lives && !our_fault && nempty(waiting) && (AHEAD == 0 || empty(sent)) ->
        waiting?c; sent!c; where[c] = SENT; to_host!c; c = 0 }
    :: atomic { is_now && nempty(said) -> take() }
#ifdef NOT_ALL_HEARD
    :: atomic { is_now && !lives -> bury() }
#else
    :: atomic { is_now && !lives && empty(said) -> bury() } /* all it said counts */
#endif
    :: atomic { is_now && lives && lates > 0 && nempty(sent) && !our_fault -> /* asked, TERM … */
        sent?<c>;
        if
        :: begun_in[c] != 0 -> lates--; our_fault = true;
#ifdef HEAR_THE_LATE
            sent?c; over_late[c] = true; over(c, DEADLINE)
#endif
        :: else
        fi;
        c = 0 }
    :: atomic { is_now && lives && our_fault -> lives = false } /* … KILL */
    od
}

init {
    atomic {
        run Engine();
        run Host();
        run Pump()
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

ltl ends { <>[](row[1] == 2 && row[ROWS] == 2) }
#endif
