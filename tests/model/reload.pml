/* reload.pml - the code of a plugin is replaced while rows run on it, for spin.
 * tests/model/run.sh runs it.
 *
 * One executor; two workers, each with ROWS rows; the reloader's thread, which obeys CONTENTS
 * new contents (a file that changed, an order), judges canaries and what is watched, and frees
 * decks; and a sweeper for the other threads that close what nobody uses. A worker takes a deck
 * with its row and leaves it under the engine's lock (core/run/deck.c, worker.c); the reloader
 * tries, carries state, switches, rolls back and drains (core/run/reload.c); a generation is
 * mapped while somebody holds or uses it (core/plugin/generation.c). What is done under one
 * lock is one atomic step. A content that is put back finds its generation still living.
 *
 * Properties
 *   MAPPED   (I14) the generation that a row runs on is mapped when it calls, while it runs and
 *            when it returns; so is the one whose instances are made, saved, loaded and ended
 *   LIVE1    there is a current deck at all times, not freed; what fails leaves it as it was
 *   STATE    a state that is carried over holds every row that ended before. (After a roll
 *            back the version before goes on with the state that it had when it was left.)
 *   COUNTED  a deck is freed once, and nobody is on it
 *   freed    (-DLIVE, weak fairness) in the end only the current generation is mapped
 *
 * Mutants (-D)
 *   COUNT_LATE      a worker reads the pointer, and counts itself in later
 *   NO_DRAIN        a deck is freed while rows run on it
 *   SWEEP_BLIND     a generation is closed by its state alone, whoever uses it
 *   FIND_THEN_HOLD  a living generation is found under the lock and held after it
 *   FAILED_DROPS    the old deck is drained before the new one is known to work
 *   CARRY_RUNNING   the state is saved while rows run
 *   TWO_RELOADERS   two threads reload at once, nothing keeps them apart
 *   KEEP_BAD        a canary that is rolled back is never drained
 *   HOLD_FOREVER    a candidate that failed its trial is not let go
 */
#ifndef ROWS
#define ROWS 1
#endif
#ifndef CONTENTS
#define CONTENTS 2
#endif
#ifndef FAILS /* how often loading, creating or a trial may fail */
#define FAILS 0
#endif
#ifndef BACKS /* contents that are put back: they may have a living generation */
#define BACKS 0
#endif
#ifndef STATEFUL
#define STATEFUL 0
#endif
#ifndef CANARIES
#define CANARIES 0
#endif
#define GENS 4  /* 1.. */
#define DECKS 5 /* 1.. */
hidden byte MAPPED = 1, LIVE1 = 1, STATE = 1, COUNTED = 1;

#define TRIAL 0 /* or canary: a sweep may take either when nobody holds it */
#define CURRENT 1
#define DRAINING 2

typedef Gen { bool mapped, listed; byte state, holds, uses };
typedef Deck { byte gen, users, state; bool old, freed };
Gen gens[GENS];
Deck decks[DECKS];
byte current = 1, canary, before; /* decks; 0: none */
bool held;                        /* no row is given to the executor */
bool loading;                     /* the registry's lock while it loads and sweeps */
byte next_gen = 2, next_deck = 2;

byte rows = 2 * ROWS, contents = CONTENTS, fails = FAILS, backs = BACKS;
byte canaries = CANARIES;
byte ended; /* rows that ended, for STATE; each adds one to its deck's state */

inline check()
{
    assert(LIVE1 && current != 0 && !decks[current].freed && gens[decks[current].gen].mapped)
}

proctype Worker()
{
    byte d;
end_idle:
    if
    :: atomic { rows > 0 && !held ->
        rows--;
        if
        :: canary != 0 -> d = canary /* it falls to its share */
        :: d = current
        fi;
#ifndef COUNT_LATE
        decks[d].users++
#endif
        }
#ifdef LIVE
    :: rows == 0 -> goto end
#endif
    fi;
#ifdef COUNT_LATE
    atomic { decks[d].users++ }
#endif
    atomic { assert(MAPPED && !decks[d].freed && gens[decks[d].gen].mapped) } /* the call */
    atomic { assert(MAPPED && !decks[d].freed && gens[decks[d].gen].mapped); /* its return */
        decks[d].state++;
        decks[d].users--;
        if
        :: STATEFUL && (d == current || d == before) -> ended++ /* else it is given up */
        :: else
        fi;
        d = 0 }
    goto end_idle;
#ifdef LIVE
end:
    skip
#endif
}

/* What nobody holds or uses and is not current is closed. Under `loading`. */
inline sweep()
{
    if
    :: atomic { !loading -> loading = true }
    fi;
    atomic {
        g = 1;
        do
        :: g < GENS ->
            if
#ifdef SWEEP_BLIND
            :: gens[g].listed && gens[g].state == DRAINING ->
#else
            :: gens[g].listed && gens[g].state != CURRENT && gens[g].holds == 0 &&
                gens[g].uses == 0 ->
#endif
                gens[g].listed = false
            :: else
            fi;
            g++
        :: else -> break
        od
    }
    atomic { /* dlclose, without the inner lock */
        g = 1;
        do
        :: g < GENS ->
            if
            :: !gens[g].listed -> gens[g].mapped = false
            :: else
            fi;
            g++
        :: else -> break
        od;
        g = 0;
        loading = false
    }
}

#define SWEEPABLE(n) (gens[n].listed && gens[n].state != CURRENT && gens[n].holds == 0 && \
                      gens[n].uses == 0)

proctype Sweeper()
{
    byte g;
end:
    do
    :: SWEEPABLE(1) || SWEEPABLE(2) || SWEEPABLE(3) -> sweep()
    od
}

/* exj_guest_candidate: `n` is held, or `n` is 0. The content is `wanted`. */
inline candidate()
{
    if
    :: atomic { !loading -> loading = true }
    fi;
    if
    :: atomic { gens[wanted].listed ->
        n = wanted;
#ifndef FIND_THEN_HOLD
        gens[n].holds++
#else
        loading = false
#endif
        }
#ifdef FIND_THEN_HOLD
        atomic { gens[n].holds++ }
#endif
    :: atomic { !gens[wanted].listed && fails > 0 -> fails--; n = 0 } /* or it crashed: in a host */
    :: atomic { !gens[wanted].listed -> /* loaded, and found good */
        n = wanted; gens[n].mapped = true }
        atomic { gens[n].listed = true; gens[n].state = TRIAL; gens[n].holds = 1 }
    fi;
    atomic { loading = false }
}

/* Instances are made, or are ended: the plugin's code runs. */
inline use(x)
{
    assert(MAPPED && gens[x].mapped)
}

inline free_deck(x)
{
    atomic { assert(COUNTED && !decks[x].freed); use(decks[x].gen) }
    atomic {
        assert(COUNTED && decks[x].users == 0);
        decks[x].freed = true;
        gens[decks[x].gen].uses--;
        gens[decks[x].gen].holds--;
        check()
    }
}

inline to_current(x)
{
    gens[decks[x].gen].state = CURRENT;
    g = 1;
    do
    :: g < GENS ->
        if
        :: g != decks[x].gen && gens[g].listed && gens[g].state == CURRENT ->
            gens[g].state = DRAINING
        :: else
        fi;
        g++
    :: else -> break
    od;
    g = 0
}

inline drain(x)
{
    decks[x].old = true
}

/* make_current: `x` takes all rows. `watched`: what was current waits until it is proven. */
inline make_current(x, watched)
{
    atomic {
        if
        :: before != 0 -> drain(before)
        :: else
        fi;
        before = 0;
        if
        :: canary == x -> canary = 0
        :: else
        fi;
        if
        :: watched -> before = current
        :: else -> drain(current)
        fi;
        current = x;
        check()
    }
    atomic { to_current(x) }
}

/* exj_reload_back */
inline back(bad)
{
    atomic {
        if
        :: canary == bad -> canary = 0
        :: else -> current = before; before = 0;
            ended = (STATEFUL -> decks[current].state : 0) /* it goes on with its own state */
        fi;
#ifndef KEEP_BAD
        drain(bad);
#endif
        check()
    }
    atomic { gens[decks[bad].gen].state = DRAINING; to_current(current) }
}

#ifdef NO_DRAIN
#define DRAINED(x) decks[x].old
#else
#define DRAINED(x) (decks[x].old && decks[x].users == 0)
#endif

proctype Reloader()
{
    byte wanted, n, d, g, old;
    bool failed;
end_wait:
    if
    :: atomic { contents > 0 ->
        contents--;
        old = current;
        if
        :: backs > 0 && before != 0 -> backs--; wanted = decks[before].gen
        :: wanted = next_gen; next_gen++
        fi }
        goto take
    :: atomic { canary != 0 -> d = canary } /* judge */
        if
        :: true -> make_current(d, false)
        :: true -> back(d)
        fi;
        atomic { d = 0 }
        goto end_wait
    :: atomic { canary == 0 && before != 0 -> d = current }
        if
        :: atomic { drain(before); before = 0 } /* it is proven */
        :: true -> back(d)
        fi;
        atomic { d = 0 }
        goto end_wait
    :: atomic { DRAINED(1) || DRAINED(2) || DRAINED(3) || DRAINED(4) -> /* drain */
        d = 1;
        do
        :: !DRAINED(d) -> d++
        :: else -> break
        od;
        decks[d].old = false }
        free_deck(d);
        atomic { d = 0 }
        sweep();
        goto end_wait
    fi;

take: /* exj_reload_take */
#ifdef FAILED_DROPS
    atomic { drain(current); d = current; current = 0 }
#endif
    candidate();
    if
    :: n == 0 -> goto refused
    :: else
    fi;
    atomic { gens[n].uses++; use(n) } /* the trial: an instance, a call, its end */
    atomic { use(n); gens[n].uses--;
        if
        :: fails > 0 -> fails--; failed = true
        :: skip
        fi;
#ifdef HOLD_FOREVER
        if
        :: !failed -> gens[n].holds--
        :: else
        fi
#else
        gens[n].holds--
#endif
        }
    if
    :: failed -> goto refused
    :: else
    fi;
    candidate(); /* install: it may have been closed meanwhile */
    if
    :: n == 0 -> goto refused
    :: else
    fi;
    atomic { /* exj_deck_new */
        use(n);
        gens[n].uses++;
        d = next_deck; next_deck++; assert(next_deck <= DECKS);
        decks[d].gen = n }
    if
    :: STATEFUL ->
        atomic { held = true }
        if
#ifdef CARRY_RUNNING
        :: skip
#else
        :: decks[old].users == 0
#endif
        :: decks[old].users > 0 -> /* drain_ms is over: it stays as it is, it is tried again */
            atomic { held = false }
            free_deck(d);
            goto refused
        fi;
        atomic { use(decks[old].gen); decks[d].state = decks[old].state }
    :: else
    fi;
    if
    :: atomic { !STATEFUL && canaries > 0 ->
        canaries--;
        if
        :: canary != 0 -> drain(canary)
        :: else
        fi;
        canary = d }
        atomic { gens[n].state = TRIAL }
    :: atomic { canaries == 0 || STATEFUL ->
        if
        :: canary != 0 -> drain(canary); canary = 0
        :: else
        fi }
        if
        :: true -> make_current(d, true)  /* by itself: watched */
        :: true -> make_current(d, false) /* by an order */
        fi;
        assert(STATE && (!STATEFUL || decks[current].state >= ended));
        atomic { held = false }
    fi;
    goto over;
refused:
#ifndef TWO_RELOADERS
    atomic { assert(LIVE1 && current == old); check() }
#endif
over:
    atomic { d = 0; n = 0; wanted = 0; old = 0; failed = false }
    sweep();
    goto end_wait
}

init {
    atomic {
        gens[1].mapped = true; gens[1].listed = true; gens[1].state = CURRENT;
        gens[1].holds = 1; gens[1].uses = 1;
        decks[1].gen = 1;
        run Worker();
        run Worker();
        run Reloader();
#ifdef TWO_RELOADERS
        run Reloader();
#endif
        run Sweeper()
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

#define MAPPED_ALONE(x) (gens[x].mapped == (decks[current].gen == x))
ltl freed { <>[](contents == 0 && MAPPED_ALONE(1) && MAPPED_ALONE(2) && MAPPED_ALONE(3)) }
#endif
