#include "core/run/retire.h"

#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/job/config.h"
#include "core/run/inside.h"

#define LOOK_AT_ONCE 1000u    /* ended rows a read */
#define REMOVE_AT_ONCE 100u   /* rows an operation: some ten milliseconds of the writer */
#define COMPACT_AT_ONCE 2000u /* entries an operation */
#define PASS_EVERY_NS (60 * (exj_nsec)1000000000)
#define COMPACT_EVERY_NS (3600 * (exj_nsec)1000000000) /* it reads the whole journal */
#define PAUSE_NS (10 * (exj_nsec)1000000)

/* How long rows of one pool are kept. */
struct rule {
    int64_t pool;
    char *matrix;        /* owned */
    exj_msec keep, keep_failed; /* 0: for ever */
};

struct pass {
    exj_store *store;
    struct rule *rules; /* by pool, ascending */
    size_t rules_len, rules_cap;
    bool any, no_memory;
    exj_msec now, least; /* least: the shortest time that anything is kept */
    exj_removal gone[REMOVE_AT_ONCE];
    size_t gone_len;
    int64_t after; /* seq of the last row looked at */
    size_t looked;
};

static bool add_rule(void *user, const exj_pool_info *p)
{
    struct pass *w = user;
    char *matrix = exj_slice_dup(p->matrix);

    if (matrix && w->rules_len == w->rules_cap) {
        size_t cap = w->rules_cap ? w->rules_cap * 2 : 64;
        struct rule *more = realloc(w->rules, cap * sizeof(*more));

        if (more) {
            w->rules = more;
            w->rules_cap = cap;
        }
    }
    if (!matrix || w->rules_len == w->rules_cap) {
        free(matrix);
        w->no_memory = true;
        return false;
    }
    w->rules[w->rules_len++] = (struct rule){ .pool = p->pool, .matrix = matrix };
    return true;
}

static bool read_rule(void *user, exj_slice id, int64_t version, exj_slice body,
                      exj_msec created_at, exj_msec updated_at)
{
    struct rule *r = user;
    exj_matrix_config c = { 0 };

    (void)id;
    (void)version;
    (void)created_at;
    (void)updated_at;
    if (exj_matrix_config_read(body, &c, NULL) == EXJ_OK) {
        r->keep = c.retention_ms;
        r->keep_failed = c.retention_failed_ms;
    }
    exj_matrix_config_release(&c);
    return false;
}

static void note_least(struct pass *w, exj_msec keep)
{
    if (keep && (!w->any || keep < w->least))
        w->least = keep;
    w->any = w->any || keep;
}

/* A matrix that is gone says nothing: its rows stay. */
static exj_code read_rules(struct pass *w, exj_err *err)
{
    exj_code rc = w->store->v->pools(w->store, add_rule, w, err);

    if (w->no_memory)
        return exj_err_set(err, EXJ_NOMEM, "retention: out of memory");
    for (size_t i = 0; i < w->rules_len && !rc; i++) {
        struct rule *r = &w->rules[i];

        rc = w->store->v->doc_get(w->store, EXJ_DOC_MATRIX, exj_slice_of(r->matrix), read_rule,
                                  r, NULL);
        if (rc == EXJ_NOT_FOUND)
            rc = EXJ_OK;
        else if (rc)
            exj_err_set(err, rc, "retention: cannot read matrix %.200s", r->matrix);
        note_least(w, r->keep);
        note_least(w, r->keep_failed);
    }
    return rc;
}

static int by_pool(const void *a, const void *b)
{
    int64_t x = ((const struct rule *)a)->pool, y = ((const struct rule *)b)->pool;

    return (x > y) - (x < y);
}

static bool look(void *user, const exj_ended_view *v)
{
    struct pass *w = user;
    struct rule key = { .pool = v->pool };
    const struct rule *r = bsearch(&key, w->rules, w->rules_len, sizeof(key), by_pool);
    exj_msec keep = !r ? 0 : v->status == EXJ_FAILED ? r->keep_failed : r->keep;

    if (keep && exj_status_is_terminal(v->status) && v->finished_at <= w->now - keep)
        w->gone[w->gone_len++] = (exj_removal){ .seq = v->seq,
                                                .token = v->token,
                                                .finished_at = v->finished_at };
    w->after = v->seq;
    w->looked++;
    return w->gone_len < REMOVE_AT_ONCE;
}

static exj_code remove_rows(struct pass *w, exj_retired *ret, exj_err *err)
{
    exj_op op = { .kind = EXJ_OP_REMOVE };
    exj_code rc;

    if (!w->gone_len)
        return EXJ_OK;
    op.u.remove.items = w->gone;
    op.u.remove.len = w->gone_len;
    rc = exj_store_do(w->store, &op, err);
    w->gone_len = 0;
    if (!rc)
        ret->rows += op.u.remove.ret_removed;
    return rc;
}

exj_code exj_retire_rows(exj_store *s, exj_retire_go_on go_on, void *user, exj_retired *ret,
                         exj_err *err)
{
    struct pass *w = calloc(1, sizeof(*w));
    exj_code rc;

    ret->rows = 0;
    if (!w)
        return exj_err_set(err, EXJ_NOMEM, "retention: out of memory");
    w->store = s;
    w->now = s->v->now(s);
    rc = read_rules(w, err);
    if (w->rules_len)
        qsort(w->rules, w->rules_len, sizeof(*w->rules), by_pool);
    /* A row that ended so long ago came in even earlier, and rows come in in the order of seq. */
    for (bool more = w->any; more && !rc;) {
        if (go_on && !go_on(user)) {
            rc = exj_err_set(err, EXJ_CANCELLED, "retention: stopped");
            break;
        }
        w->looked = 0;
        rc = s->v->ended(s, w->after, w->now - w->least + 1, LOOK_AT_ONCE, look, w, err);
        more = w->looked == LOOK_AT_ONCE || w->gone_len == REMOVE_AT_ONCE;
        if (!rc)
            rc = remove_rows(w, ret, err);
    }
    for (size_t i = 0; i < w->rules_len; i++)
        free(w->rules[i].matrix);
    free(w->rules);
    free(w);
    return rc;
}

exj_code exj_retire_entries(exj_store *s, exj_retire_go_on go_on, void *user, exj_retired *ret,
                            exj_err *err)
{
    int64_t after = 0;
    exj_op op;
    exj_code rc;

    ret->entries = 0;
    do {
        if (go_on && !go_on(user))
            return exj_err_set(err, EXJ_CANCELLED, "retention: stopped");
        op = (exj_op){ .kind = EXJ_OP_COMPACT };
        op.u.compact.after = after;
        op.u.compact.limit = COMPACT_AT_ONCE;
        rc = exj_store_do(s, &op, err);
        after = op.u.compact.ret_after;
        ret->entries += rc ? 0 : op.u.compact.ret_dropped;
    } while (!rc && !op.u.compact.ret_end);
    return rc;
}

/* ---- the thread --------------------------------------------------------------------------------- */

/* Wait a little; false: the engine ends. */
static bool wait_ns(exj_engine *e, exj_nsec ns)
{
    exj_nsec until = exj_clock_mono_ns() + ns;
    bool go_on;

    pthread_mutex_lock(&e->mu);
    while (!e->stopping && !e->failed && exj_run_wait_locked(e, &e->retire, until))
        ;
    go_on = !e->stopping && !e->failed;
    pthread_mutex_unlock(&e->mu);
    return go_on;
}

static bool after_a_pause(void *engine)
{
    return wait_ns(engine, PAUSE_NS);
}

void *exj_run_retirer(void *engine)
{
    exj_engine *e = engine;
    exj_nsec compacted = exj_clock_mono_ns();
    size_t removed = 0; /* since then */

    do {
        exj_retired gone = { 0 };
        exj_err err = { 0 };
        exj_code rc = exj_retire_rows(e->o.store, after_a_pause, e, &gone, &err);

        removed += gone.rows;
        if (!rc && removed && exj_clock_mono_ns() - compacted >= COMPACT_EVERY_NS) {
            rc = exj_retire_entries(e->o.store, after_a_pause, e, &gone, &err);
            compacted = exj_clock_mono_ns();
            removed = 0;
        }
        if (rc && rc != EXJ_CANCELLED)
            exj_log(EXJ_LOG_WARN, "retention", "%s", err.text);
        if (gone.rows || gone.entries)
            exj_log(EXJ_LOG_INFO, "retention",
                    "%zu ended rows are over and were removed, %zu entries of the journal",
                    gone.rows, gone.entries);
    } while (wait_ns(e, PASS_EVERY_NS));
    return NULL;
}
