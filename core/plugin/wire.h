/* core/plugin/wire.h - what core and plugin host say to each other.
 *
 * A Unix stream socket pair. A FRAME is a head of 16 bytes, little-endian, and a payload:
 *
 *     u32 bytes of payload | u8 type | u8 flags | u16 zero | u64 call
 *
 * A payload above EXJ_WIRE_INLINE does not go through the socket: it lies in a memfd sealed
 * against every change, sent with the head (SCM_RIGHTS), flag EXJ_WIRE_FD. Fields of a
 * payload are u32, u64, f64 (little-endian) and texts (u32 length, bytes).
 *
 * The first frame of each side is HELLO. The core says which versions it speaks, the host
 * picks one. Then the core says CREATE once and, after CREATED, sends CALLs without waiting
 * for their RESULTs (pipelining); the host executes them in that order, one at a time, and
 * sends each RESULT before it begins the next call: what is not answered when the host dies
 * was not begun, save the first of them. (A call that answered PENDING is the exception: its
 * RESULT comes when it completes; PENDING says that the next one may begin.)
 *
 * The core trusts nothing in here: sizes are bounded before memory is taken, types and
 * fields are checked, a call is only believed while it is open; whatever breaks these rules
 * ends the host.
 *
 * Memory:  a reader's texts lie inside the frame it was given.
 * Threads: a connection's sending side is one thread's at a time, its receiving side too.
 */
#ifndef EXJ_CORE_PLUGIN_WIRE_H
#define EXJ_CORE_PLUGIN_WIRE_H

#include "core/base/str.h"

#define EXJ_WIRE_VERSION 1u
#define EXJ_WIRE_HEAD 16u
#define EXJ_WIRE_INLINE (64u * 1024u)
#define EXJ_WIRE_MAX (32u * 1024u * 1024u) /* the largest payload, also in a memfd */

/* Descriptors that a plugin host is born with; 0 is /dev/null, 1 and 2 a pipe whose lines
 * the core logs. */
#define EXJ_HOST_FD_SOCKET 3
#define EXJ_HOST_FD_CANCEL 4 /* a pipe: u64 calls to be cancelled, each with its reason u64 */
#define EXJ_HOST_FD_CRASH 5  /* a memfd: the crash handler writes struct exj_crash and text */
#define EXJ_HOST_FD_RECORD 6 /* a history that it appends to; there when its arguments say so */

typedef enum exj_frame_type {
    /* core -> host */
    EXJ_F_HELLO = 1, /* u32 lowest, u32 highest version, u32 answer_max, text copy, text shown,
                        text plugin id ("": describe only, no CREATE will follow) */
    EXJ_F_CREATE,    /* u32 index in the bundle, text config */
    EXJ_F_CALL,      /* u32 attempt, u64 timeout ns from its start (0: none), u64 token,
                        u32 1: same model as the call before (then text model is empty),
                        text model, runtime, job_id, record_id */
    EXJ_F_MODEL,     /* text graph_id: resolve_model */
    EXJ_F_TEST,      /* self_test */
    EXJ_F_SAVE,      /* save_state */
    EXJ_F_LOAD,      /* u32 from_version, text state: load_state */
    EXJ_F_REPLY,     /* to a question of the host, same call: u32 exj_code, text: what was asked
                        for, or (not EXJ_OK) what went wrong; to EMIT: u32 exj_result, text "".
                        Questions of one call are answered in the order in which they came */
    EXJ_F_BYE,       /* destroy and exit */
    /* host -> core */
    EXJ_F_HOST_HELLO = 64, /* u32 version, u32 cage (EXJ_CAGE_*), u32 n, then n of: text id,
                        version, u32 kind, flags, state_version, has (EXJ_VT_*), text describe */
    EXJ_F_REFUSED,   /* text: why the file cannot be used; the host exits */
    EXJ_F_CREATED,   /* u32 exj_result, text what error() said */
    EXJ_F_RESULT,    /* u32 exj_result, u32 emits, text code, text, answer (engine, MODEL, SAVE);
                        u64 ns it took */
    EXJ_F_PENDING,   /* the call goes on; the next one may begin */
    EXJ_F_EMIT,      /* text json (a resolver's; REPLY follows) */
    EXJ_F_PROGRESS,  /* f64 at, text note */
    EXJ_F_LOG,       /* u32 level, text */
    EXJ_F_MISDEED,   /* text */
    EXJ_F_STEP_GET,  /* text key; REPLY */
    EXJ_F_STEP_PUT,  /* text key, body; REPLY */
    EXJ_F_KV_GET,    /* text key; REPLY */
    EXJ_F_KV_PUT,    /* text key, value; REPLY */
    EXJ_F_KV_REMOVE, /* text key; REPLY */
    EXJ_F_METRIC,    /* u32 exj_sample_kind, text series, f64 value */
    EXJ_F_KV_ADD,    /* text key, u64 delta (two's complement); REPLY: a text of 8 bytes, the
                        sum as a u64 */
    EXJ_F_STEP_BEGIN /* text key; REPLY */
} exj_frame_type;

#define EXJ_F_CORE_LAST EXJ_F_BYE
#define EXJ_F_HOST_LAST EXJ_F_STEP_BEGIN

#define EXJ_WIRE_FD 1u /* flag: the payload is in a memfd */

/* Optional members that the plugin has. */
#define EXJ_VT_CANCEL 1u
#define EXJ_VT_SELF_TEST 2u
#define EXJ_VT_SAVE_STATE 4u
#define EXJ_VT_LOAD_STATE 8u
#define EXJ_VT_RESOLVE_MODEL 16u

/* How well the host is caged; what it reached, not what was wished. */
#define EXJ_CAGE_NO_NEW_PRIVS 1u
#define EXJ_CAGE_LIMITS 2u    /* rlimits */
#define EXJ_CAGE_SECCOMP 4u
#define EXJ_CAGE_LANDLOCK 8u  /* Landlock; without MOUNT it is what hides the folder */
#define EXJ_CAGE_MOUNT 16u    /* the hidden folder is not even there, by a mount namespace: sockets
                                 in it cannot be connected to either */

/* At the start of the crash memfd, written by the signal handler, then text: one line a
 * frame of the backtrace. */
typedef struct exj_crash {
    uint32_t signal; /* 0: none */
    uint32_t bytes;  /* of text behind this struct, at most EXJ_CRASH_TEXT */
    uint64_t call;   /* that the crashing thread was in; 0: none */
} exj_crash;
#define EXJ_CRASH_TEXT 8192u

typedef struct exj_frame {
    exj_frame_type type;
    uint64_t call;
    exj_slice body; /* valid until the next receive, or exj_frame_release */
    void *map;      /* not NULL: body is a mapping */
    size_t map_bytes;
} exj_frame;

/* ---- writing ------------------------------------------------------------------------------ */
void exj_wire_u32(exj_buf *b, uint32_t v);
void exj_wire_u64(exj_buf *b, uint64_t v);
void exj_wire_f64(exj_buf *b, double v);
void exj_wire_text(exj_buf *b, exj_slice s);

/* ---- reading: sticky failure --------------------------------------------------------------- */
typedef struct exj_wire_reader {
    exj_slice left;
    bool failed; /* a field was missing or longer than what is left */
} exj_wire_reader;
uint32_t exj_wire_get_u32(exj_wire_reader *r);
uint64_t exj_wire_get_u64(exj_wire_reader *r);
double exj_wire_get_f64(exj_wire_reader *r);
exj_slice exj_wire_get_text(exj_wire_reader *r);
/* Everything was read and nothing failed. */
bool exj_wire_done(const exj_wire_reader *r);

/* ---- a connection ---------------------------------------------------------------------------- */
typedef struct exj_wire exj_wire;
/* Takes over `fd` (a stream socket). `max`: largest payload that is accepted, at most
 * EXJ_WIRE_MAX. */
exj_code exj_wire_new(int fd, size_t max, exj_wire **ret, exj_err *err);
void exj_wire_free(exj_wire *w); /* closes; drops what was not sent */
int exj_wire_fd(const exj_wire *w);

/* Queue one frame for the next flush. Errors: EXJ_NOMEM, EXJ_FULL (payload over EXJ_WIRE_MAX,
 * more than 64 MiB unsent, or no descriptor left for a memfd), EXJ_IO (the peer is gone). The
 * frames before it are whole in any case. */
exj_code exj_wire_queue(exj_wire *w, exj_frame_type type, uint64_t call, exj_slice body,
                        exj_err *err);
/* The same, and send what goes without blocking. */
exj_code exj_wire_send(exj_wire *w, exj_frame_type type, uint64_t call, exj_slice body,
                       exj_err *err);
/* Send on without blocking. EXJ_OK: nothing is left; EXJ_BUSY: poll for POLLOUT. */
exj_code exj_wire_flush(exj_wire *w, exj_err *err);
/* Send all, waiting as long as it takes (the host's side). */
exj_code exj_wire_drain(exj_wire *w, exj_err *err);

/* The next whole frame, without blocking. EXJ_BUSY: none yet; EXJ_NOT_FOUND: the peer closed
 * between frames; EXJ_IO: it closed within one; EXJ_INVALID: broken rules (text says which);
 * EXJ_NOMEM. Frames that were received together come without a system call each. */
exj_code exj_wire_receive(exj_wire *w, exj_frame *ret, exj_err *err);
void exj_frame_release(exj_frame *f); /* unmaps; accepts a zeroed one */

#endif /* EXJ_CORE_PLUGIN_WIRE_H */
