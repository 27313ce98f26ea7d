/* core/plugin/remote_inside.h - what the files of a remote guest share; nobody else's.
 *
 * A REMOTE is what a remote guest's create makes: one instance's queue of calls, the
 * thread that pumps, and the hosts that it has just now. A call is in one of three lists:
 *
 *     waiting ──sent──▶ sent (the first one executes) ──RESULT──▶ over
 *        ◀──host died──┘      └──PENDING──▶ pending ──RESULT──▶ over
 *
 * Threads: the pump alone takes calls off `sent` and `pending`, reads a wire, and makes
 * and ends hosts. Whoever calls execute appends to `waiting`; he sends it himself when
 * the pump sleeps and the host is about to have nothing to do, else the pump sends what
 *          has gathered. The sending side of all wires is guarded by send_mu, which is
 * taken before mu; nothing is sent through a wire with mu held.
 */
#ifndef EXJ_CORE_PLUGIN_REMOTE_INSIDE_H
#define EXJ_CORE_PLUGIN_REMOTE_INSIDE_H

#include "core/base/clock.h"
#include "core/plugin/guest.h"
#include "core/plugin/spawn.h"

#define EXJ_RCALL_OWN 2u /* the id of our own LOAD; no call of the core's has it */
#define EXJ_LINE_BYTES 1024u
#define EXJ_LEAVING_MAX 4u

typedef enum exj_rcall_kind {
    EXJ_RCALL_EXECUTE,
    EXJ_RCALL_MODEL,
    EXJ_RCALL_TEST,
    EXJ_RCALL_SAVE,
    EXJ_RCALL_LOAD
} exj_rcall_kind;

typedef struct exj_rcall {
    struct exj_rcall *next, *prev;
    exj_call id;
    exj_rcall_kind kind;
    const exj_args *args; /* EXECUTE; valid until the call is completed */
    exj_str text;         /* MODEL: the graph's id */
    exj_nsec timeout;     /* 0: none */
    exj_nsec begun;       /* when the host began it; 0: not yet */
    /* the pump's: how far it is being stopped, and why */
    enum { EXJ_STOP_NOT, EXJ_STOP_ASKED, EXJ_STOP_TERM, EXJ_STOP_KILL } stop;
    exj_nsec stop_at; /* when the next step is due */
    exj_result why;
} exj_rcall;

typedef struct exj_rcalls {
    exj_rcall *first, *last;
    uint32_t n;
} exj_rcalls;

typedef struct exj_rhost {
    struct exj_rhost *next; /* of those that leave */
    const exj_remote_settings *settings; /* borrowed */
    int seen_pid; /* host_seen was told of its start, and not yet of its end */
    exj_child child;
    exj_wire *wire; /* sending: guarded by send_mu; receiving: the pump's */
    enum { EXJ_RHOST_HELLO, EXJ_RHOST_CREATE, EXJ_RHOST_READY, EXJ_RHOST_LEAVES } state;
    exj_nsec until;         /* HELLO, CREATE: must be ready; LEAVES: must be gone */
    atomic_bool has_unsent; /* poll for POLLOUT; written with send_mu */
    atomic_bool broken;     /* it does not take frames any more */
    atomic_bool our_fault;  /* and not because of what it did: memory was short */
    bool ending;  /* we sent TERM or KILL: what dies now did not crash. guarded by mu */
    bool deaf;    /* nothing more can be read. the pump's, as all below */
    bool more;    /* frames were left unread for the others' sake */
    bool bye_due; /* it LEAVES and was not told */
    uint32_t cage;
    exj_buf model; /* the last one sent. guarded by send_mu */
    bool has_model;
    /* Records that were on their way when one was refused get the same answer, unseen. */
    exj_call refused_call;
    exj_result refused;
    /* what it prints */
    char line[EXJ_LINE_BYTES];
    size_t line_n;
    bool line_cut;
    exj_nsec lines_since;
    unsigned lines, lines_dropped;
} exj_rhost;

/* How a host died, for people. */
typedef struct exj_death {
    uint32_t signal; /* 0: none */
    uint64_t call;   /* that the crash handler names; 0: none */
    char name[24];   /* "SIGSEGV", "exit status 3" */
    char what[256];  /* "crashed with SIGSEGV" */
    size_t trace_n;
    char trace[EXJ_CRASH_TEXT + 1]; /* "frame1 < frame2 < …" */
} exj_death;

typedef struct exj_remote {
    /* set at create, then read-only */
    exj_instance *instance;
    const exj_guest *guest;
    const exj_host *table;
    const exj_remote_settings *settings;
    exj_buf config;
    int wake;      /* eventfd */
    bool one_call; /* lane SANDBOX */

    pthread_mutex_t send_mu; /* taken before mu */
    exj_buf scratch;         /* guarded by send_mu: for encoding */

    pthread_mutex_t mu;
    pthread_cond_t loaded; /* our own LOAD is over */
    /* guarded by mu */
    exj_rcalls waiting, sent, pending;
    exj_rcall *spare;
    bool pumping;      /* the thread lives, or ended and is not joined: see `over` */
    bool over;         /* the thread has ended */
    bool stop;         /* destroy */
    bool warm;         /* start a host though nobody waits */
    exj_nsec wakes_at; /* the pump sleeps until then; 0: it is awake and will look */
    exj_nsec check_at; /* when a call that runs must be looked at; 0: none does */
    pthread_t thread;
    exj_rhost *now;   /* takes calls */
    exj_rhost *ahead; /* SANDBOX: started, for the next call */
    exj_rhost *leaving;
    unsigned leaving_n;
    exj_nsec used_at;  /* a call was sent or answered */
    exj_nsec start_at; /* no host before that */
    unsigned crashes_in_row, failures_in_row;
    uint64_t starts, crashes;
    uint32_t cage;
    uint32_t state_version;
    exj_buf state; /* what load_state was given; each new host gets it */
    bool has_state, load_over;
    exj_result load_result;
} exj_remote;

#define EXJ_TICK_NS                                                                      \
    ((exj_nsec)100 * 1000000) /* between two questions whether a call is wanted */

/* ---- lists ------------------------------------------------------------------------ */
static inline void exj_rcalls_add(exj_rcalls *l, exj_rcall *c)
{
    c->next = NULL;
    c->prev = l->last;
    if (l->last)
        l->last->next = c;
    else
        l->first = c;
    l->last = c;
    l->n++;
}

static inline void exj_rcalls_add_first(exj_rcalls *l, exj_rcall *c)
{
    c->prev = NULL;
    c->next = l->first;
    if (l->first)
        l->first->prev = c;
    else
        l->last = c;
    l->first = c;
    l->n++;
}

static inline void exj_rcalls_drop(exj_rcalls *l, exj_rcall *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        l->first = c->next;
    if (c->next)
        c->next->prev = c->prev;
    else
        l->last = c->prev;
    c->next = c->prev = NULL;
    l->n--;
}

/* ---- remote_host.c: one host ------------------------------------------------------ */
/* Start a process and say HELLO. `g` NULL: it shall only describe itself. */
exj_code exj_rhost_start(const exj_remote_settings *s, exj_lane lane, const char *copy,
                         const char *shown, const char *id, exj_rhost **ret,
                         exj_err *err);
/* Kills and reaps it if it lives. */
void exj_rhost_free(exj_rhost *h);
/* Log what it printed. `id` stands in front of each line. */
void exj_rhost_print(exj_rhost *h, const char *id);
/* It is dead, or shall be: reap it and say how it died. `rule`: what it broke; ""
 * nothing. */
void exj_rhost_autopsy(exj_rhost *h, const char *id, const char *rule, exj_death *ret);
/* "of plugin ID": how long a start may take. */
exj_nsec exj_rhost_start_ns(const exj_remote_settings *s);

/* ---- remote_frames.c: what frames say --------------------------------------------- */
/* Read HOST_HELLO. False: it breaks the rules. `ret` NULL: only version and cage. */
bool exj_remote_read_hello(const exj_frame *f, uint32_t *ret_cage,
                           exj_remote_plugin **ret, size_t *ret_len, exj_err *err);
/* Do what one frame of `h` says. Not EXJ_OK: the host is to be ended; EXJ_INVALID with
 * the rule that it broke, or (while it starts) EXJ_REFUSED with why it could not start.
 */
exj_code exj_remote_take(exj_remote *r, exj_rhost *h, const exj_frame *f, exj_err *err);
/* `c` runs from now on. */
void exj_remote_begin_locked(exj_remote *r, exj_rcall *c);
/* Is there a call that could be sent now? */
bool exj_remote_can_send_locked(const exj_remote *r);
/* Send what can be sent, unless somebody does it already, who then sends this as well.
 * False: it cannot be done now, though it should (memory is short). */
bool exj_remote_push(exj_remote *r);
/* CREATE, BYE, REPLY. */
void exj_remote_say(exj_remote *r, exj_rhost *h, exj_frame_type type, uint64_t call,
                    exj_slice body);

/* ---- remote_pump.c ---------------------------------------------------------------- */
void *exj_remote_pump(void *remote);
void exj_remote_wake_locked(exj_remote *r);
/* End a call that is in no list any more. */
void exj_remote_end(exj_remote *r, exj_rcall *c, exj_result result, const char *code,
                    const char *text);
/* The host goes: no more calls for it; the pump will say BYE. */
void exj_remote_leave_locked(exj_remote *r, exj_rhost *h);

#endif /* EXJ_CORE_PLUGIN_REMOTE_INSIDE_H */
