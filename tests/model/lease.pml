/* lease.pml - the claim protocol of one row, for spin. tests/model/run.sh runs it.
 *
 * Two workers, a reaper, a clock, a promoter, an operator and a network that delivers late.
 * Workers pause at any point (interleaving), crash, lose the reply of a claim and the reply
 * of an outcome. Every operation on the store is one atomic step with a guard, as in the
 * embedded store's transactions:
 *
 *   T1 promote  waiting -> queued     T5 fail     running -> waiting | failed
 *   T2 claim    queued -> running     T6 release  running -> queued (not started)
 *   T3 renew    running -> running    T7 reap     running -> queued | failed
 *   T4 succeed  running -> completed  T8 cancel   queued, waiting -> canceled
 *   T9 retry    terminal -> queued (an operator)
 *
 * Invariants, asserted where they could break:
 *   I1  at most one worker holds a nonce equal to that of a running row
 *   I3  attempts <= MAX and counts the claims since the last T9, without releases
 *   I4  a terminal row changes by T9 only
 *   I5  a row leaves running once per claim; a claim is reaped only when its lease is over
 *   I6  completed: the accepted claim has executed and bears the row's token; and who is
 *       told "accepted" was accepted
 *   I7  no operation of somebody who is not the owner changes any field
 *   I9  no effect bears a newer token than the row
 * and, with -DLIVE and fairness, I10: the row ends.
 *
 * Mutants (each must be found; -D):
 *   NO_OWNER     an outcome is accepted without comparing the nonce
 *   NO_STATUS    the nonce stays on the row when it leaves running, nobody asks its status
 *   NO_MAX       the reaper forgets the limit of attempts
 *   FENCE_ONLY   claims are told apart by the token alone; an undone claim repeats it
 *   REAP_BLIND   the reaper does not compare the nonce it has read
 *   RENEW_BLIND  a renewal asks the status only
 *   RELEASE_COUNTS  a released row keeps the attempt that was never made
 *   ACK_BLIND    a refused outcome is taken for one that had landed before
 *   NO_REAP      nobody looks for leases that are over
 *   RETRY_BLIND  an operator's retry does not look at the row again
 */
#include "moves.pml"

#ifndef MAX
#define MAX 2
#endif
#define WORKERS 2
#define IDS 12 /* claims ever sent, at most; asserted */

hidden byte I1 = 1, I3 = 1, I4 = 1, I5 = 1, I6 = 1, I7 = 1, I9 = 1; /* names of assertions */

/* ---- the row, as the store has it ---- */
byte status = QUEUED;
byte attempts, token, nonce; /* nonce 0: none */
bool expired;                /* set by the clock: until < now - grace */
byte done_nonce, done_token;

/* ---- ghosts: what is true, whatever the row says ---- */
byte ids;                 /* claims sent */
byte current;             /* the claim that holds the row; 0: none */
byte counted;             /* claims since the last T9, without releases */
bool executed[IDS], accepted[IDS], left[IDS];
byte effect;              /* the newest token that a fence-checking resource has seen */
byte holds[WORKERS];      /* the nonce each worker believes in; 0: none */
byte unacknowledged;      /* a claim that may still be undone */

/* ---- budgets: what keeps the state space finite; run.sh sets them by scenario ---- */
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LATES
#define LATES 0
#endif
#ifndef RELEASES
#define RELEASES 0
#endif
#ifndef UNDOS
#define UNDOS 0
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef RETRIES
#define RETRIES 0
#endif
byte crashes = CRASHES, lates = LATES, releases = RELEASES, undos = UNDOS;
byte cancels = CANCELS, retries = RETRIES;
#ifdef LIVE
byte renewals = 1;
#endif

#ifdef FENCE_ONLY
#define NONCE_OF(id) token
#else
#define NONCE_OF(id) id
#endif

#ifdef NO_OWNER
#define MINE (status == RUNNING)
#elif defined(NO_STATUS)
#define MINE (nonce == my)
#else
#define MINE (status == RUNNING && nonce == my)
#endif

#ifdef RENEW_BLIND
#define MINE_TO_RENEW (status == RUNNING)
#else
#define MINE_TO_RENEW MINE
#endif

inline check()
{
    assert(I3 && attempts <= MAX && attempts == counted);
    assert(I6 && (status != COMPLETED || (done_token == token && executed[done_nonce_id])));
    assert(I9 && effect <= token);
    assert(I1 && !(status == RUNNING && holds[0] != 0 && holds[0] == holds[1] &&
                   holds[0] == nonce))
}
byte done_nonce_id; /* ghost: the claim behind done_nonce */

/* LEAVE(x): the move x, which takes the row away from its holder. */
#define LEAVE(x) leave(MAY_##x(status), INTO_##x)

inline leave(may, into)
{
    assert(I4 && !TERMINAL(status));
    assert(I5 && status == RUNNING && !left[current]);
    assert(TABLE && may);
    left[current] = true;
    status = into;
    current = 0;
    expired = false;
#ifndef NO_STATUS
    nonce = 0;
#endif
}

/* T2, at the store. `id` was chosen by the worker before it sent the request. */
inline claim(id)
{
    MOVE(CLAIM);
    token++;
    attempts++;
    counted++;
    nonce = NONCE_OF(id);
    current = id;
    expired = false;
}

proctype Worker(byte me)
{
    byte id, my, my_token;
    bool started;

end_idle:
    atomic { id = 0; my = 0; my_token = 0; started = false; holds[me] = 0 }
end_wait:
    if
    :: atomic { status == QUEUED -> /* claimed, and the reply comes */
        ids++; assert(ids < IDS); id = ids;
        claim(id); my = nonce; my_token = token; holds[me] = my; check() }
        goto holding
    :: atomic { status == QUEUED -> /* claimed, the reply is lost: may even be undone */
        ids++; assert(ids < IDS); id = ids;
        claim(id); my = nonce; unacknowledged = id; check() }
        goto end_unknown
    :: atomic { lates > 0 -> /* sent, and still under way */
        lates--; ids++; assert(ids < IDS); id = ids; my = id;
        run Late(id) }
        goto end_unknown
#ifdef LIVE
    :: TERMINAL(status) -> goto end
#endif
    fi;

end_unknown: /* read back, at a majority: what is found can no longer be undone */
    if
    :: atomic { status == RUNNING && nonce == my ->
        if
        :: unacknowledged == id -> unacknowledged = 0
        :: else
        fi;
        my_token = token; holds[me] = my; check() }
        goto holding
    :: atomic { !(status == RUNNING && nonce == my) -> skip }
        goto end_idle
    fi;

holding:
    if
    :: atomic { /* T3 */
#ifdef LIVE
        renewals > 0 -> renewals--;
#endif
        if
        :: MINE_TO_RENEW -> assert(I7 && current == id); expired = false; check()
        :: else -> goto end_idle
        fi }
        goto holding
    :: atomic { releases > 0 && !started -> /* T6 */
        releases--;
        if
        :: MINE ->
            assert(I7 && current == id);
            LEAVE(RELEASE);
            counted--;
#ifndef RELEASE_COUNTS
            attempts--;
#endif
            check()
        :: else
        fi }
        goto end_idle
    :: atomic { !started -> /* an effect on a resource that compares tokens */
        started = true;
        if
        :: my_token >= effect -> effect = my_token
        :: else
        fi;
        check() }
        goto holding
    :: atomic { started -> executed[id] = true }
        goto succeed
    :: started -> goto fail
    :: atomic { crashes > 0 -> crashes-- }
        goto end_idle
    fi;

succeed: /* T4; sent again when the reply is lost */
    atomic {
        if
        :: MINE ->
            assert(I7 && current == id);
            done_nonce = my; done_nonce_id = id; done_token = token;
            accepted[id] = true;
            LEAVE(SUCCEED);
            check()
#ifdef ACK_BLIND
        :: else -> assert(I6 && accepted[id]); goto end_idle
#else
        :: !(MINE) && done_nonce == my -> assert(I6 && accepted[id]); goto end_idle
        :: !(MINE) && done_nonce != my -> goto end_idle /* fenced: the work is lost */
#endif
        fi
    }
    if
    :: goto end_idle
    :: goto succeed
    fi;

fail: /* T5 */
    atomic {
        if
        :: MINE ->
            assert(I7 && current == id);
            done_nonce = my; done_nonce_id = id; done_token = token;
            accepted[id] = true;
            if
            :: attempts < MAX -> LEAVE(FAIL_RETRY)
            :: else -> LEAVE(FAIL_DEAD)
            fi;
            check()
        :: !(MINE) && done_nonce == my -> assert(I6 && accepted[id]); goto end_idle
        :: !(MINE) && done_nonce != my -> goto end_idle
        fi
    }
    if
    :: goto end_idle
    :: goto fail
    fi;
#ifdef LIVE
end:
    skip
#endif
}

/* A claim that arrives after its sender gave up waiting; or never. */
proctype Late(byte id)
{
    if
    :: atomic { status == QUEUED -> claim(id); check() }
    :: skip
    fi
}

/* A claim that nobody acknowledged is undone (a primary that lost its election). */
proctype Undo()
{
end:
    atomic {
        undos > 0 && unacknowledged != 0 && current == unacknowledged ->
        undos--;
        unacknowledged = 0;
        status = QUEUED;
        token--;
        attempts--;
        counted--;
        nonce = 0;
        current = 0;
        expired = false;
        check()
    }
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
    byte seen;
end:
    do
    :: atomic { status == RUNNING && expired -> seen = nonce }
        atomic { /* T7 */
            if
#ifdef REAP_BLIND
            :: status == RUNNING ->
#else
            :: status == RUNNING && nonce == seen && expired ->
#endif
                assert(I5 && expired);
                if
#ifndef NO_MAX
                :: attempts >= MAX -> LEAVE(REAP_DEAD)
                :: else -> LEAVE(REAP)
#else
                :: LEAVE(REAP)
#endif
                fi;
                check()
            :: else
            fi;
            seen = 0
        }
    od
}

proctype Promoter()
{
end:
    do
    :: atomic { status == WAITING -> MOVE(PROMOTE) } /* T1 */
    od
}

proctype Operator()
{
    byte seen;
end:
    do
    :: atomic { cancels > 0 && (status == QUEUED || status == WAITING) -> /* T8 */
        cancels--; MOVE(CANCEL); check() }
    :: atomic { retries > 0 && MAY_RETRY(status) -> seen = done_nonce }
        atomic { /* T9 */
            if
#ifdef RETRY_BLIND
            :: true ->
#else
            :: MAY_RETRY(status) && done_nonce == seen && retries > 0 ->
#endif
                assert(I4 && TERMINAL(status));
                retries--; attempts = 0; counted = 0; MOVE(RETRY); check()
            :: else
            fi;
            seen = 0
        }
    od
}

init {
    atomic {
        run Worker(0);
        run Worker(1);
        if
        :: UNDOS > 0 -> run Undo()
        :: else
        fi;
        run Clock();
#ifndef NO_REAP
        run Reaper();
#endif
        run Promoter();
        /* two of them, so that one may act on what it has read too long ago */
        if
        :: CANCELS + RETRIES > 0 -> run Operator(); run Operator()
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

ltl ends { <>[](status == COMPLETED || status == FAILED || status == CANCELED) }
#endif
