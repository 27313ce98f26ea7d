/* core/plugin/call_inside.h - what the files about a call share: call.c has its life and the host
 * functions, call_journal.c those of its steps. Nobody else includes this. */
#ifndef EXJ_CORE_PLUGIN_CALL_INSIDE_H
#define EXJ_CORE_PLUGIN_CALL_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/plugin/extension.h"
#include "core/plugin/guest.h"

#define EXJ_CALL_CODE_BYTES 96
#define EXJ_CALL_TEXT_BYTES 2048

struct exj_call_slot {
    _Atomic uint64_t life;
    /* set before the call begins, then read-only until it is over */
    exj_instance *instance;
    const exj_call_ports *ports;
    exj_args args;
    void (*done)(void *user, exj_call_slot *s, const exj_call_end *end);
    size_t answer_max;
    bool single;          /* one emission at most */
    bool answer_due;      /* and OK needs it */
    bool may_miss;        /* EXJ_R_MISS is an answer */
    atomic_bool ended;    /* complete() came, or execute returned: the first wins */
    atomic_bool detached; /* nobody waits: the last pin runs `done` */
    exj_result result;    /* written by who set `ended` */
    pthread_mutex_t mu;   /* what the plugin's threads write; not held while plugin code runs */
    pthread_cond_t over;
    bool quiet;           /* guarded by mu: the last pin is gone, and somebody waits */
    bool too_large;       /* guarded by mu, as all below */
    uint32_t emits;
    exj_buf answer, step, kv;
    size_t code_n, text_n;
    char code[EXJ_CALL_CODE_BYTES], text[EXJ_CALL_TEXT_BYTES];
    bool made;            /* guarded by table_mu: mu and over exist */
    exj_call_slot *free_next; /* guarded by table_mu */
};

/* Can these be bytes that a plugin has? Says nothing of what they are. */
static inline bool exj_call_text_is_sane(exj_str s)
{
    return (s.p || s.n == 0) && s.n <= SIZE_MAX / 4;
}

static inline exj_slice exj_call_slice(exj_str s)
{
    return (exj_slice){ s.p, (size_t)s.n };
}

/* The host's journal functions: what a plugin knows and says of the steps of its call. */
exj_result exj_call_journal_lookup(void *ctx, exj_call c, exj_str step, exj_str *ret);
exj_result exj_call_journal_intent(void *ctx, exj_call c, exj_str step);
exj_result exj_call_journal_commit(void *ctx, exj_call c, exj_str step, exj_str json);

#endif /* EXJ_CORE_PLUGIN_CALL_INSIDE_H */
