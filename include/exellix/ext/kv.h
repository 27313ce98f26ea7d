/* exellix/ext/kv.h - extension "exellix.kv/1": small durable state of a graph.
 *
 *     const exj_ext_kv *kv = host->extension(host->ctx, EXJ_EXT_KV);
 *     if (kv && EXJ_HAS(kv, exj_ext_kv, add))
 *         r = kv->add(host->ctx, c, key, 1, &total);
 *
 * Ask for it in create or later; NULL: this host has none. The table is the host's and stays
 * for ever; `ctx` is exj_host.ctx.
 *
 * SCOPE. A key belongs to the graph of the call: all rows of all matrices that run the graph
 * see the same value; no other graph does. State outlives plugins, versions and restarts,
 * and a graph's removal: an operator lists and deletes it (exellix-jobs kv).
 *
 * LIMITS. A key is UTF-8 of 1 to EXJ_KV_KEY_MAX bytes without control bytes; a value is one
 * JSON text of at most EXJ_KV_VALUE_MAX bytes, so that operators can read it. A graph holds
 * EXJ_KV_GRAPH_KEYS keys and EXJ_KV_GRAPH_BYTES bytes of keys and values at most. It is a
 * place for cursors, totals and small tables, not for records: each write is a commit.
 *
 * WRITES are durable when they return and are fenced by the row's claim: when the row is no
 * longer ours they change nothing and answer EXJ_R_CANCELLED. They are not part of the row's
 * outcome: an attempt that fails after a write leaves it written, and the next attempt writes
 * again. Put what must happen once a row into a journal step beside it (exj_host). Two rows
 * that get and then put may overwrite each other; add never loses anything.
 *
 * THREADS. [any], inside a call of a graph engine only: a resolver, self_test, a model and
 * c = 0 have no graph and get EXJ_R_UNSUPPORTED or EXJ_R_INTERNAL.
 *
 * RESULTS of all functions, besides those named with each: EXJ_R_CANCELLED (the row is no
 * longer ours: stop), EXJ_R_INPUT (key or value breaks the rules above; the log says which),
 * EXJ_R_RETRY (disk full, memory short: later), EXJ_R_UNSUPPORTED (not offered in this call),
 * EXJ_R_INTERNAL (the call is over, or the store failed).
 */
#ifndef EXELLIX_EXT_KV_H
#define EXELLIX_EXT_KV_H

#include "exellix/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EXJ_EXT_KV "exellix.kv/1"

#define EXJ_KV_KEY_MAX 256u
#define EXJ_KV_VALUE_MAX 65536u
#define EXJ_KV_GRAPH_KEYS 10000u
#define EXJ_KV_GRAPH_BYTES 67108864u

typedef struct exj_ext_kv {
    uint32_t size_of, reserved;
    /* EXJ_R_OK and the JSON text, borrowed until the next get of this call or its end;
     * EXJ_R_MISS: no such key. */
    exj_result (*get)(void *ctx, exj_call c, exj_str key, exj_str *ret);
    /* EXJ_R_FAILED: the graph has no room for another key or for so many bytes. */
    exj_result (*put)(void *ctx, exj_call c, exj_str key, exj_str json);
    /* EXJ_R_MISS: there was none. */
    exj_result (*remove)(void *ctx, exj_call c, exj_str key);
    /* Add `delta` to an integer (one that is absent counts as 0) in one step. *ret, which may
     * be NULL, is the sum. EXJ_R_INPUT: the value is no integer, or the sum does not fit;
     * EXJ_R_FAILED: as put. */
    exj_result (*add)(void *ctx, exj_call c, exj_str key, int64_t delta, int64_t *ret);
} exj_ext_kv;

#ifdef __cplusplus
}
#endif

#endif /* EXELLIX_EXT_KV_H */
