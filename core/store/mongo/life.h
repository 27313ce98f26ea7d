/* core/store/mongo/life.h - what may happen to one row, decided: its holder's outcomes, its lease,
 * an operator's orders, signals and waits (spec 2.1 to 2.5). What each means is said in
 * core/store/store.h; here it becomes a change of the row's document.
 *
 * Deciding only. The caller has read the row, and writes it as exj_mrow_guard and exj_mrow_update
 * say; when somebody was faster he reads and asks again.
 *
 * Threads: functions only.
 */
#ifndef EXJ_CORE_STORE_MONGO_LIFE_H
#define EXJ_CORE_STORE_MONGO_LIFE_H

#include "core/store/mongo/row.h"

/* A value of a user: JSON text, or a reference to chunks that are there already
 * ({n, bytes, sha256}). Both empty: none. */
typedef struct exj_mvalue {
    exj_slice text;
    const bson_t *ref;
} exj_mvalue;

/* Append the value under `name`, or its reference under `name` + "Ref"; nothing when it is none.
 * Errors: EXJ_INVALID, EXJ_NOMEM. */
exj_code exj_mvalue_add(bson_t *d, const char *name, const exj_mvalue *v, exj_err *err);

/* Has the row a step of that name? For names that the store makes itself. */
typedef struct exj_msteps {
    bool (*has)(void *user, exj_slice key);
    void *user;
} exj_msteps;

/* Running, under this claim. */
bool exj_life_holds(const exj_mrow *r, int64_t nonce, int64_t token);

/* Errors: EXJ_REFUSED: it is not queued. */
exj_code exj_life_claim(exj_mrow *r, int64_t nonce, exj_slice holder, exj_msec now,
                        exj_msec until, exj_err *err);

/* The outcome `o` of the claim that holds the row; sets o->to and o->verdict. `value`: what
 * o->result became. Errors: EXJ_INVALID (the result is no JSON). */
exj_code exj_life_finish(exj_mrow *r, exj_outcome *o, const exj_mvalue *value,
                         const exj_msteps *steps, exj_msec now, exj_err *err);
/* The claim of `o` is over. True: this outcome had ended it, and o->verdict and o->to say so.
 * False: o->verdict is EXJ_FENCED, unless a failure of that claim is on record. */
bool exj_life_finished(const exj_mrow *r, exj_outcome *o);

/* Given back unstarted. */
exj_code exj_life_release(exj_mrow *r, exj_msec now, exj_err *err);
/* Its lease is over: queued again, failed when its attempts are used up, canceled when that was
 * asked for. */
exj_code exj_life_reap(exj_mrow *r, exj_msec now, exj_reaped *ret, exj_err *err);
/* It was waiting or suspended, and its time has come. Errors: EXJ_REFUSED: it is neither. */
exj_code exj_life_go_on(exj_mrow *r, const exj_msteps *steps, exj_msec now, exj_err *err);

/* EXJ_OP_RETRY, EXJ_OP_RERUN (`step`: from which on steps are forgotten, empty: all; `from`: the
 * number of its entry, 0: all). Its unique key is the caller's business. */
exj_code exj_life_retry(exj_mrow *r, exj_msec now, exj_err *err);
exj_code exj_life_rerun(exj_mrow *r, exj_slice step, int64_t from, exj_msec now, exj_err *err);
/* *ret_to: what it became; RUNNING: its holder is asked. *ret_changed false: asked before. */
exj_code exj_life_cancel(exj_mrow *r, exj_slice why, exj_msec now, exj_status *ret_to,
                         bool *ret_changed, exj_err *err);
/* A signal came. *ret_delivered false: it is kept. */
exj_code exj_life_signal(exj_mrow *r, exj_slice name, const exj_mvalue *body, size_t bytes,
                         const exj_msteps *steps, exj_msec now, bool *ret_delivered,
                         exj_err *err);
/* The overflow policy takes it away. */
exj_code exj_life_drop(exj_mrow *r, exj_slice why, exj_msec now, exj_err *err);

/* A step of the claim that holds the row: begun, or finished with `value`. */
exj_code exj_life_step(exj_mrow *r, exj_slice key, bool done, uint32_t attempt,
                       const exj_mvalue *value, size_t bytes, exj_msec now, exj_err *err);
void exj_life_progress(exj_mrow *r, double at, exj_slice note, exj_msec now);

#endif /* EXJ_CORE_STORE_MONGO_LIFE_H */
