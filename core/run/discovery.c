/* Discovery: config documents become matrices with loops and pools with specs. It looks
 * every few seconds and whenever it is woken; between looks the claims themselves notice a
 * changed graph (their guard is the version of its config). */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/run/inside.h"

/* ---- specs ------------------------------------------------------------------------------ */

struct spec *exj_spec_ref(struct spec *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void exj_spec_unref(struct spec *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    exj_graph_config_release(&s->graph);
    free(s->model);
    free(s->job_fields);
    free(s);
}

struct doc { /* a copy of a stored document */
    int64_t version;
    exj_buf body;
};

static bool copy_doc(void *user, exj_slice id, int64_t version, exj_slice body,
                     exj_msec created, exj_msec updated)
{
    struct doc *d = user;

    (void)id, (void)created, (void)updated;
    d->version = version;
    exj_buf_reset(&d->body);
    return exj_buf_add_slice(&d->body, body); /* else body.failed tells */
}

static char *make_job_fields(const struct pool *p)
{
    exj_buf b = EXJ_BUF_INIT;

    exj_buf_add_text(&b, ",\"matrixCatalogId\":");
    exj_buf_add_json_string(&b, exj_slice_of(p->matrix_id));
    exj_buf_add_text(&b, ",\"matrixRunId\":");
    if (p->run_id[0])
        exj_buf_add_json_string(&b, exj_slice_of(p->run_id));
    else
        exj_buf_add_text(&b, "null");
    exj_buf_add_text(&b, ",\"graphId\":");
    exj_buf_add_json_string(&b, exj_slice_of(p->graph_id));
    exj_buf_add_text(&b, ",\"attempt\":");
    return exj_buf_take(&b);
}

/* The plugin's resolver first, then the config's payload.model, then the empty model. */
static char *choose_model(const struct pool *p, const struct spec *s, const struct deck *deck)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_err err = { 0 };
    exj_code rc;

    rc = exj_instance_model(deck->control, exj_slice_of(p->graph_id), &b, &err);
    if (rc == EXJ_OK && exj_json_check(exj_buf_slice(&b), EXJ_JSON_MAX_DEPTH, NULL, &err) ==
                            EXJ_OK)
        return exj_buf_take(&b);
    if (rc == EXJ_NOMEM || b.failed) { /* the next look asks again */
        exj_buf_release(&b);
        return NULL;
    }
    if (rc != EXJ_NOT_FOUND)
        exj_log(EXJ_LOG_WARN, "discovery", "model of graph %s from plugin %s: %s",
                p->graph_id, deck->label, err.text);
    exj_buf_reset(&b);
    if (s->graph.model) {
        exj_buf_add_text(&b, s->graph.model);
    } else {
        exj_buf_add_text(&b, "{\"id\":");
        exj_buf_add_json_string(&b, exj_slice_of(p->graph_id));
        exj_buf_add_text(&b, ",\"nodes\":[]}");
    }
    return exj_buf_take(&b);
}

/* What the spec's rows will run on, taken; NULL: why_not says why there is none. */
static struct deck *look_at_executor(exj_engine *e, struct spec *s, const char *name)
{
    struct executor *x = s->executor;
    struct deck *d = NULL;

    pthread_mutex_lock(&e->mu);
    s->turn = x->turn;
    if (x->error.code)
        exj_err_set(&s->why_not, x->error.code, "executor %s: %s", name, x->error.text);
    else if ((d = x->current))
        d->users++;
    pthread_mutex_unlock(&e->mu);
    return d;
}

static bool turn_is_over(exj_engine *e, const struct spec *s)
{
    bool over;

    pthread_mutex_lock(&e->mu);
    over = s->turn != s->executor->turn;
    pthread_mutex_unlock(&e->mu);
    return over;
}

static_assert((int)EXJ_ISOLATION_UNSET == (int)EXJ_LANE_DEFAULT &&
                  (int)EXJ_ISOLATION_IN_PROCESS == (int)EXJ_LANE_IN_PROCESS &&
                  (int)EXJ_ISOLATION_HOST == (int)EXJ_LANE_HOST &&
                  (int)EXJ_ISOLATION_SANDBOX == (int)EXJ_LANE_SANDBOX,
              "a graph's isolation is a lane");

/* NULL only on lack of memory; otherwise why_not says what is wrong, and that will stay so. */
static struct spec *make_spec(exj_engine *e, const struct pool *p, const exj_matrix_config *m,
                              const struct doc *graph)
{
    struct spec *s = calloc(1, sizeof(*s));
    const char *name = e->o.executor ? e->o.executor : "stub";
    struct deck *deck;

    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    s->version = graph->version;
    if (!graph->version) {
        if (e->o.strict)
            exj_err_set(&s->why_not, EXJ_REFUSED,
                        "GraphNotSchedulableError: graph %s has no config and "
                        "EXELLIX_JOBS_GRAPH_SCHEDULABILITY_STRICT is true",
                        p->graph_id);
    } else if (exj_graph_config_read(exj_buf_slice(&graph->body), &s->graph, &s->why_not) ==
               EXJ_OK) {
        exj_graph_schedulable(&s->graph, e->o.running_states, &s->why_not);
        if (s->graph.executor)
            name = s->graph.executor;
    }
    if (s->why_not.code == EXJ_NOMEM)
        goto nomem;
    s->eff = exj_effective_of(m, graph->version ? &s->graph : NULL);
    s->schedulable = s->why_not.code == EXJ_OK;
    s->executor = exj_run_executor(e, name, (exj_lane)s->graph.isolation);
    s->job_fields = make_job_fields(p);
    if (!s->executor || !s->job_fields)
        goto nomem;
    deck = look_at_executor(e, s, name);
    if (deck) {
        s->model = choose_model(p, s, deck);
        pthread_mutex_lock(&e->mu);
        exj_deck_leave_locked(e, deck);
        pthread_mutex_unlock(&e->mu);
    }
    if (!s->why_not.code && !s->model)
        goto nomem;
    s->runnable = s->why_not.code == EXJ_OK;
    return s;
nomem:
    exj_spec_unref(s);
    return NULL;
}

/* ---- pools ------------------------------------------------------------------------------- */

void exj_pool_free(struct pool *p)
{
    if (!p)
        return;
    exj_spec_unref(p->spec);
    free(p->matrix_id);
    free(p->run_id);
    free(p->graph_id);
    free(p);
}

static struct gate *gate_of(exj_engine *e, const char *graph)
{
    struct gate *g;

    for (g = e->gates; g; g = g->next)
        if (!strcmp(g->graph_id, graph))
            return g;
    g = calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    g->graph_id = strdup(graph);
    if (!g->graph_id) {
        free(g);
        return NULL;
    }
    g->next = e->gates;
    e->gates = g;
    return g;
}

static struct pool *find_pool(exj_engine *e, const char *matrix, const char *run,
                              const char *graph)
{
    for (struct pool *p = e->pools; p; p = p->next) /* only discovery adds pools */
        if (!strcmp(p->graph_id, graph) && !strcmp(p->matrix_id, matrix) &&
            !strcmp(p->run_id, run))
            return p;
    return NULL;
}

static void name_series(exj_engine *e, struct pool *p)
{
    exj_slice graph = exj_slice_of(p->graph_id), none = { 0 };
    exj_metrics *m = e->o.metrics;

    p->started = exj_metric_series(m, EXJ_M_CLAIMS_STARTED, graph, exj_slice_of(p->matrix_id));
    p->failed = exj_metric_series(m, EXJ_M_CLAIMS_FAILED, graph, none);
    p->fenced = exj_metric_series(m, EXJ_M_CLAIMS_FENCED, graph, none);
    p->retries = exj_metric_series(m, EXJ_M_RETRIES, graph, none);
    p->execute = exj_metric_series(m, EXJ_M_EXECUTE, graph, none);
    for (exj_status s = EXJ_COMPLETED; s <= EXJ_CANCELED; s++)
        p->completed[s] = exj_metric_series(m, EXJ_M_CLAIMS_COMPLETED, graph,
                                            exj_slice_of(exj_status_word(s)));
}

static struct pool *make_pool(exj_engine *e, const char *matrix, const char *run,
                              const char *graph)
{
    struct pool *p = calloc(1, sizeof(*p));
    exj_op op = { .kind = EXJ_OP_POOL };

    if (!p)
        return NULL;
    p->matrix_id = strdup(matrix);
    p->run_id = strdup(run);
    p->graph_id = strdup(graph);
    p->gate = gate_of(e, graph);
    if (!p->matrix_id || !p->run_id || !p->graph_id || !p->gate)
        goto fail;
    op.u.pool.matrix = exj_slice_of(matrix);
    op.u.pool.run = exj_slice_of(run);
    op.u.pool.graph = exj_slice_of(graph);
    exj_store_do(e->o.store, &op, NULL);
    if (exj_run_store_said(e, "pools", &op) != STORE_OK)
        goto fail;
    p->id = op.u.pool.ret_pool;
    p->maybe_work = true; /* rows of an earlier life */
    p->depth = e->o.prefetch < 64 ? e->o.prefetch : 64;
    name_series(e, p);
    return p;
fail:
    exj_pool_free(p);
    return NULL;
}

/* Errors of a look are said; those of the looks soon after it would be the same ones. */
static bool may_tell(exj_engine *e)
{
    return exj_clock_mono_ns() >= e->look_tell_at;
}

/* The pool of one graph of one matrix and run, with a spec of what the documents say now.
 * False: memory was short; it stays as it was. */
static bool refresh_pool(exj_engine *e, const exj_matrix_config *m, const char *matrix_id,
                         const char *run_id, bool matrix_changed, const char *graph_id,
                         struct doc *graph)
{
    struct pool *p = find_pool(e, matrix_id, run_id, graph_id);
    struct spec *fresh = NULL, *old = NULL;
    bool is_new = !p, had_why_not, made = true;
    exj_err err = { 0 };
    exj_code rc;

    graph->version = 0;
    rc = e->o.store->v->doc_get(e->o.store, EXJ_DOC_GRAPH, exj_slice_of(graph_id), copy_doc,
                                graph, &err);
    if (rc == EXJ_OK && graph->body.failed)
        rc = exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (rc != EXJ_OK && rc != EXJ_NOT_FOUND) {
        if (may_tell(e))
            exj_log(EXJ_LOG_ERROR, "discovery", "graph %s: %s", graph_id, err.text);
        /* What is damaged does not get well by looking again; of anything else nothing is known:
         * its rows stay, and so do the matrices that were not seen. */
        return rc == EXJ_CORRUPT;
    }
    if (!p)
        p = make_pool(e, matrix_id, run_id, graph_id);
    if (!p)
        return false;
    if (is_new || matrix_changed || !p->spec || p->spec->version != graph->version ||
        turn_is_over(e, p->spec)) {
        fresh = make_spec(e, p, m, graph);
        made = fresh != NULL;
    }
    had_why_not = p->spec && !p->spec->runnable;
    if (fresh && !fresh->runnable && !had_why_not)
        exj_log(EXJ_LOG_INFO, "discovery", "matrix %s: %s", matrix_id, fresh->why_not.text);

    pthread_mutex_lock(&e->mu);
    if (is_new) {
        p->next = e->pools;
        e->pools = p;
    }
    if (fresh) {
        old = p->spec;
        p->spec = fresh;
        p->rate_at = 0;
        if (fresh->runnable)
            p->maybe_work = true;
        else
            exj_run_release_locked(e, p);
    }
    p->wanted = true;
    p->stale = false;
    p->seen = true;
    pthread_cond_signal(&e->claim);
    pthread_mutex_unlock(&e->mu);
    exj_spec_unref(old);
    return made;
}

/* ---- matrices ----------------------------------------------------------------------------- */

void exj_matrix_free(struct matrix *m)
{
    if (!m)
        return;
    exj_matrix_config_release(&m->config);
    exj_matrix_config_release(&m->config_next);
    while (m->asked) {
        struct asked *a = m->asked;

        m->asked = a->next;
        free(a->run);
        free(a);
    }
    free(m->id);
    free(m);
}

static struct matrix *make_matrix(exj_engine *e, exj_slice id)
{
    struct matrix *m = calloc(1, sizeof(*m));
    exj_slice none = { 0 };

    if (!m)
        return NULL;
    m->engine = e;
    m->id = exj_slice_dup(id);
    if (!m->id) {
        free(m);
        return NULL;
    }
    m->m_materialized = exj_metric_series(e->o.metrics, EXJ_M_MATERIALIZED, id, none);
    m->m_idle = exj_metric_series(e->o.metrics, EXJ_M_IDLE_SECONDS, id, none);
    m->m_cycles[0] = exj_metric_series(e->o.metrics, EXJ_M_CYCLES, id,
                                       EXJ_SLICE_LITERAL("false"));
    m->m_cycles[1] = exj_metric_series(e->o.metrics, EXJ_M_CYCLES, id,
                                       EXJ_SLICE_LITERAL("true"));
    return m;
}

static bool start_loop(exj_engine *e, struct matrix *m)
{
    pthread_attr_t attr;
    bool started;

    pthread_mutex_lock(&e->mu);
    m->ended = false;
    pthread_mutex_unlock(&e->mu);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 * 1024);
    started = pthread_create(&m->thread, &attr, exj_run_cycle, m) == 0;
    pthread_attr_destroy(&attr);
    pthread_mutex_lock(&e->mu);
    m->has_thread = started;
    m->last_error = (exj_err){ 0 };
    if (!started) {
        m->ended = true; /* the next look tries again */
        exj_err_set(&m->last_error, EXJ_FULL, "no thread for the loop of this matrix");
        exj_log(EXJ_LOG_ERROR, "discovery", "matrix %s: %s", m->id, m->last_error.text);
    }
    pthread_mutex_unlock(&e->mu);
    return started;
}

struct look {
    exj_engine *e;
    exj_buf last_id;
    size_t page;
    struct found {
        struct found *next;
        char *id;
        int64_t version;
        exj_buf body;
    } *found, **end;
    struct run {
        struct run *next;
        char *matrix, *run;
        bool asked; /* else it has open rows */
        bool made;  /* its pools could be, of the matrix that is being looked at */
    } *runs, **runs_end;
    bool failed; /* what is not seen may be there all the same */
    bool again;  /* something could not be made: look again soon */
};

static bool note_matrix(void *user, exj_slice id, int64_t version, exj_slice body,
                        exj_msec created, exj_msec updated)
{
    struct look *l = user;
    struct found *f;

    (void)created, (void)updated;
    l->page++;
    exj_buf_reset(&l->last_id);
    if (!exj_buf_add_slice(&l->last_id, id)) {
        l->failed = true;
        return false;
    }
    if (l->e->o.only_matrix && !exj_slice_is(id, l->e->o.only_matrix))
        return true;
    f = calloc(1, sizeof(*f));
    if (!f || !(f->id = exj_slice_dup(id)) || !exj_buf_add_slice(&f->body, body)) {
        if (f)
            free(f->id);
        free(f);
        l->failed = true;
        return false;
    }
    f->version = version;
    *l->end = f;
    l->end = &f->next;
    return true;
}

/* ---- runs that schedules ask for ----------------------------------------------------------- */

static void run_free(struct run *r)
{
    if (!r)
        return;
    free(r->matrix);
    free(r->run);
    free(r);
}

static bool note_run(void *user, exj_slice matrix, exj_slice run, bool asked)
{
    struct look *l = user;
    struct run *r;

    if (l->e->o.only_matrix && !exj_slice_is(matrix, l->e->o.only_matrix))
        return true;
    r = calloc(1, sizeof(*r));
    if (!r || !(r->matrix = exj_slice_dup(matrix)) || !(r->run = exj_slice_dup(run))) {
        run_free(r);
        l->failed = true;
        return false;
    }
    r->asked = asked;
    *l->runs_end = r;
    l->runs_end = &r->next;
    return true;
}

/* One that was done after we asked the store stays on the list, done, until the next look. */
static bool ask_locked(struct matrix *m, const char *run)
{
    struct asked **end = &m->asked, *a;

    for (; (a = *end); end = &a->next)
        if (!strcmp(a->run, run)) {
            a->seen = true;
            return true;
        }
    a = calloc(1, sizeof(*a));
    if (!a || !(a->run = strdup(run))) { /* with the next look */
        free(a);
        return false;
    }
    a->seen = true;
    *end = a;
    pthread_cond_broadcast(&m->engine->cycle);
    return true;
}

static void forget_done_locked(struct matrix *m)
{
    struct asked **at = &m->asked, *a;

    while ((a = *at)) {
        if (a->seen || !a->done) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        free(a->run);
        free(a);
    }
}

/* Pools of every run that is asked for or has open rows, and cycles for those asked for. */
static bool see_runs(exj_engine *e, struct matrix *m, const exj_matrix_config *c, bool changed,
                     struct run *runs, struct doc *graph)
{
    bool whole = true;

    for (struct run *r = runs; r; r = r->next) {
        r->made = true;
        for (size_t i = 0; i < c->graphs_len && !strcmp(r->matrix, m->id); i++)
            r->made &= refresh_pool(e, c, m->id, r->run, changed, c->graphs[i], graph);
        whole &= r->made;
    }
    for (size_t i = 0; i < c->graphs_len && e->o.only_run; i++)
        whole &= refresh_pool(e, c, m->id, e->o.only_run, changed, c->graphs[i], graph);
    pthread_mutex_lock(&e->mu);
    for (struct asked *a = m->asked; a; a = a->next)
        a->seen = false;
    for (const struct run *r = runs; r; r = r->next)
        if (r->asked && r->made && !strcmp(r->matrix, m->id)) /* else its rows had no pool */
            whole &= ask_locked(m, r->run);
    forget_done_locked(m);
    pthread_mutex_unlock(&e->mu);
    return whole;
}

/* ---- matrices as they are ------------------------------------------------------------------- */

/* False: not all of it could be made. What is missing then counts as changed next time. */
static bool see_matrix(exj_engine *e, const struct found *f, struct run *runs,
                       struct doc *graph, bool *ret_unseen)
{
    exj_matrix_config c = { 0 }, kept = { 0 };
    exj_err err = { 0 };
    struct matrix *m;
    bool is_new = false, changed, whole = true;

    for (m = e->matrices; m && strcmp(m->id, f->id); m = m->next)
        ; /* only discovery changes the list */
    if (exj_matrix_config_read(exj_buf_slice(&f->body), &c, &err) != EXJ_OK ||
        exj_matrix_config_read(exj_buf_slice(&f->body), &kept, &err) != EXJ_OK) {
        if (!m || m->version != f->version)
            exj_log(EXJ_LOG_ERROR, "discovery", "matrix %s is not run: %s", f->id, err.text);
        exj_matrix_config_release(&c);
        if (err.code == EXJ_NOMEM) { /* nothing is known of it: let it run as it does */
            *ret_unseen = true;
            return false;
        }
        if (m)
            m->version = f->version;
        return true;
    }
    if (!m) {
        m = make_matrix(e, exj_slice_of(f->id));
        is_new = true;
        if (!m) {
            exj_matrix_config_release(&c);
            exj_matrix_config_release(&kept);
            return false;
        }
    }
    changed = is_new || m->version != f->version;
    for (size_t i = 0; i < c.graphs_len; i++)
        whole &= refresh_pool(e, &c, f->id, c.run_id, changed, c.graphs[i], graph);
    whole &= see_runs(e, m, &c, changed, runs, graph);
    exj_matrix_config_release(&c);
    *ret_unseen |= !whole;

    pthread_mutex_lock(&e->mu);
    if (whole)
        m->version = f->version;
    m->seen = true;
    if (is_new) {
        m->config = kept;
        m->next = e->matrices;
        e->matrices = m;
    } else if (changed) {
        exj_matrix_config_release(&m->config_next);
        m->config_next = kept;
        m->has_next = true;
        pthread_cond_broadcast(&e->cycle);
    } else {
        exj_matrix_config_release(&kept);
    }
    pthread_mutex_unlock(&e->mu);
    /* New, or there was no thread to be had. The one cycle of a one-shot command has to find all
     * pools there: it asks its source once. */
    if (!m->has_thread && (is_new || !m->gone) && (whole || !e->o.one_cycle))
        whole &= start_loop(e, m);
    return whole;
}

/* Matrices that vanished: their pools are not claimed any more, their loops end. */
static void forget_unseen(exj_engine *e)
{
    struct matrix **at = &e->matrices;

    pthread_mutex_lock(&e->mu);
    for (struct pool *p = e->pools; p; p = p->next) {
        if (!p->seen && p->wanted) {
            p->wanted = false;
            exj_run_release_locked(e, p);
        }
    }
    for (struct matrix *m = e->matrices; m; m = m->next)
        if (!m->seen)
            m->gone = true;
    pthread_cond_broadcast(&e->cycle);
    pthread_mutex_unlock(&e->mu);
    while (*at) {
        struct matrix *m = *at;
        bool over;

        pthread_mutex_lock(&e->mu);
        over = m->gone && m->ended;
        if (over)
            *at = m->next;
        pthread_mutex_unlock(&e->mu);
        if (!over) {
            at = &m->next;
            continue;
        }
        if (m->has_thread)
            pthread_join(m->thread, NULL);
        exj_matrix_free(m);
    }
}

/* False: it was not a whole one; look again soon. */
static bool look(exj_engine *e)
{
    struct look l = { .e = e };
    struct doc graph = { 0 };
    exj_err err = { 0 };
    struct found *f, *next;
    bool unseen = false;

    l.end = &l.found;
    l.runs_end = &l.runs;
    pthread_mutex_lock(&e->mu);
    for (struct pool *p = e->pools; p; p = p->next)
        p->seen = false;
    for (struct matrix *m = e->matrices; m; m = m->next)
        m->seen = false;
    pthread_mutex_unlock(&e->mu);
    do {
        exj_buf after = EXJ_BUF_INIT;

        l.page = 0;
        if (!exj_buf_add_slice(&after, exj_buf_slice(&l.last_id)) || e->o.store->v->doc_page(e->o.store, EXJ_DOC_MATRIX, exj_buf_slice(&after), 200,
                                    note_matrix, &l, &err) != EXJ_OK)
            l.failed = true;
        exj_buf_release(&after);
    } while (l.page == 200 && !l.failed);
    if (!l.failed && e->o.store->v->runs(e->o.store, note_run, &l, &err) != EXJ_OK)
        l.failed = true;
    for (f = l.found; f; f = next) {
        next = f->next;
        if (!l.failed)
            l.again |= !see_matrix(e, f, l.runs, &graph, &unseen);
        free(f->id);
        exj_buf_release(&f->body);
        free(f);
    }
    if (l.failed && !err.code)
        exj_err_set(&err, EXJ_NOMEM, "out of memory");
    if (l.failed && may_tell(e))
        exj_log(EXJ_LOG_ERROR, "discovery", "matrices could not be listed: %s", err.text);
    exj_run_note_read(e, &e->unlisted, "to list matrices", l.failed && err.code != EXJ_NOMEM ? &err : NULL);
    if (!l.failed && !unseen)
        forget_unseen(e);
    while (l.runs) {
        struct run *r = l.runs;

        l.runs = r->next;
        run_free(r);
    }
    exj_buf_release(&l.last_id);
    exj_buf_release(&graph.body);
    l.again |= l.failed && err.code != EXJ_CORRUPT;
    if (!l.again)
        e->look_tell_at = 0;
    else if (may_tell(e))
        e->look_tell_at = exj_clock_mono_ns() + (exj_nsec)POLL_MS * 1000000;
    pthread_mutex_lock(&e->mu);
    e->discovered |= !l.again;
    pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->mu);
    return !l.again;
}

void *exj_run_discovery(void *engine)
{
    exj_engine *e = engine;

    pthread_mutex_lock(&e->mu);
    while (!e->stopping && !e->failed) {
        exj_nsec until;

        /* The look before may have ended after it was asked for this one. */
        e->discovered &= !e->look_now;
        e->look_now = false;
        pthread_mutex_unlock(&e->mu);
        until = look(e) ? POLL_MS : POLL_AGAIN_MS;
        until = exj_clock_mono_ns() + until * 1000000;
        pthread_mutex_lock(&e->mu);
        while (!e->stopping && !e->look_now && exj_run_wait_locked(e, &e->look, until))
            ;
    }
    pthread_mutex_unlock(&e->mu);
    return NULL;
}
