#include "core/run/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/run/guest_metrics.h"

#define SERIES_MAX 500u
#define BUCKETS EXJ_BUCKETS

/* Seconds, from 5 µs (a no-op engine) to 10 minutes. */
const double exj_bucket_bounds[BUCKETS] = { 0.00001, 0.0001, 0.001, 0.005, 0.01, 0.05, 0.1,
                                            0.5,     1,      5,     10,    60,   300,  600 };

struct exj_series {
    char *labels; /* `a="x",b="y"`, owned; NULL: the spare */
    struct exj_series *next;
    _Atomic uint64_t whole;  /* counters that grow by whole numbers */
    _Atomic uint64_t nanos;  /* the rest, in billionths; sum of a histogram */
    _Atomic uint64_t count;
    _Atomic uint64_t buckets[BUCKETS];
};

static const struct family {
    const char *name, *help, *label1, *label2;
    bool histogram;
} families[EXJ_M_COUNT] = {
    [EXJ_M_CLAIMS_STARTED] = { "matrix_claims_started_total",
                               "Rows claimed, counted before execution.", "graph_id",
                               "matrix_catalog_id", false },
    [EXJ_M_CLAIMS_COMPLETED] = { "matrix_claims_completed_total",
                                 "Terminal answers stored, by status; the sum is all ends.",
                                 "graph_id", "status", false },
    [EXJ_M_CLAIMS_FAILED] = { "matrix_claims_failed_total",
                              "Attempts that failed and were stored as such.", "graph_id",
                              NULL, false },
    [EXJ_M_CLAIMS_FENCED] = { "matrix_claims_fenced_total",
                              "Writes refused because a newer claim exists.", "graph_id",
                              NULL, false },
    [EXJ_M_MATERIALIZED] = { "matrix_rows_materialized_total", "Rows inserted.",
                             "matrix_catalog_id", NULL, false },
    [EXJ_M_IDLE_SECONDS] = { "matrix_worker_idle_seconds_total",
                             "Time waited after empty passes.", "matrix_catalog_id", NULL,
                             false },
    [EXJ_M_CYCLES] = { "matrix_worker_cycles_total", "Passes over a matrix.",
                       "matrix_catalog_id", "empty", false },
    [EXJ_M_EXECUTE] = { "matrix_execute_duration_seconds", "Time in the executor.",
                        "graph_id", NULL, true },
    [EXJ_M_LEASE_EXPIRIES] = { "exellix_jobs_lease_expiries_total",
                               "Leases that ended without an outcome.", NULL, NULL, false },
    [EXJ_M_RETRIES] = { "exellix_jobs_retries_total",
                        "Failed attempts that another one follows.", "graph_id", NULL,
                        false },
    [EXJ_M_RELOADS] = { "exellix_jobs_plugin_reloads_total",
                        "Steps in the life of a plugin's versions.", "plugin", "result", false },
    [EXJ_M_CRASHES] = { "exellix_jobs_plugin_crashes_total",
                        "Plugin hosts that died with a call in them.", "plugin", NULL, false },
};

struct exj_metrics {
    pthread_mutex_t mu; /* guards the lists; values are atomic */
    struct exj_series *series[EXJ_M_COUNT];
    unsigned len[EXJ_M_COUNT];
    struct exj_series spare;
    exj_guest_metrics *guests; /* set before start, then read-only; locks itself */
};

exj_metrics *exj_metrics_new(void)
{
    exj_metrics *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->guests = exj_guest_metrics_new();
    if (!m->guests) {
        free(m);
        return NULL;
    }
    pthread_mutex_init(&m->mu, NULL);
    return m;
}

void exj_metrics_free(exj_metrics *m)
{
    if (!m)
        return;
    for (unsigned f = 0; f < EXJ_M_COUNT; f++) {
        struct exj_series *next;

        for (struct exj_series *s = m->series[f]; s; s = next) {
            next = s->next;
            free(s->labels);
            free(s);
        }
    }
    exj_guest_metrics_free(m->guests);
    pthread_mutex_destroy(&m->mu);
    free(m);
}

exj_code exj_metrics_guest(exj_metrics *m, const exj_plugin_sample *sample, exj_err *err)
{
    return exj_guest_metrics_add(m->guests, sample, err);
}

static void add_label(exj_buf *b, const char *name, exj_slice value)
{
    exj_buf_printf(b, "%s%s=\"", b->n ? "," : "", name);
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] == '\\' || value.p[i] == '"')
            exj_buf_add_char(b, '\\');
        if (value.p[i] == '\n')
            exj_buf_add_text(b, "\\n");
        else
            exj_buf_add_char(b, value.p[i]);
    }
    exj_buf_add_char(b, '"');
}

static struct exj_series *find_locked(exj_metrics *m, exj_metric which, const char *labels)
{
    for (struct exj_series *s = m->series[which]; s; s = s->next)
        if (!strcmp(s->labels, labels))
            return s;
    return NULL;
}

exj_series *exj_metric_series(exj_metrics *m, exj_metric which, exj_slice l1, exj_slice l2)
{
    const struct family *f = &families[which];
    exj_buf text = EXJ_BUF_INIT;
    struct exj_series *s = NULL;

    assert(which < EXJ_M_COUNT);
    exj_buf_add_text(&text, "");
    pthread_mutex_lock(&m->mu);
    if (m->len[which] >= SERIES_MAX)
        l1 = EXJ_SLICE_LITERAL("other");
    if (f->label1)
        add_label(&text, f->label1, l1);
    if (f->label2)
        add_label(&text, f->label2, l2);
    if (!text.failed)
        s = find_locked(m, which, text.p ? text.p : "");
    if (!s && !text.failed) {
        s = calloc(1, sizeof(*s));
        if (s) {
            s->labels = text.p ? exj_buf_take(&text) : calloc(1, 1);
            if (!s->labels) {
                free(s);
                s = NULL;
            }
        }
        if (s) {
            s->next = m->series[which];
            m->series[which] = s;
            m->len[which]++;
        }
    }
    pthread_mutex_unlock(&m->mu);
    exj_buf_release(&text);
    return s ? s : &m->spare;
}

void exj_series_add(exj_series *s, double by)
{
    uint64_t whole = (uint64_t)by;
    uint64_t nanos = (uint64_t)((by - (double)whole) * 1e9);

    if (whole)
        atomic_fetch_add_explicit(&s->whole, whole, memory_order_relaxed);
    if (nanos)
        atomic_fetch_add_explicit(&s->nanos, nanos, memory_order_relaxed);
}

void exj_series_observe_n(exj_series *s, double seconds_each, uint64_t n)
{
    unsigned i = 0;

    while (i < BUCKETS && seconds_each > exj_bucket_bounds[i])
        i++;
    if (i < BUCKETS)
        atomic_fetch_add_explicit(&s->buckets[i], n, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->count, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->nanos, (uint64_t)(seconds_each * 1e9) * n,
                              memory_order_relaxed);
}

void exj_series_observe(exj_series *s, double seconds)
{
    exj_series_observe_n(s, seconds, 1);
}

static double sum_of(const exj_series *s)
{
    return (double)atomic_load_explicit(&s->whole, memory_order_relaxed) +
           (double)atomic_load_explicit(&s->nanos, memory_order_relaxed) / 1e9;
}

double exj_series_value(const exj_series *s)
{
    return sum_of(s);
}

static void render_histogram(const struct family *f, const struct exj_series *s,
                             exj_buf *ret)
{
    const char *comma = s->labels[0] ? "," : "";
    uint64_t below = 0;
    uint64_t count = atomic_load_explicit(&s->count, memory_order_relaxed);

    for (unsigned i = 0; i < BUCKETS; i++) {
        below += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
        exj_buf_printf(ret, "%s_bucket{%s%sle=\"%g\"} %llu\n", f->name, s->labels, comma,
                       exj_bucket_bounds[i], (unsigned long long)below);
    }
    /* A scrape may fall between two additions: +Inf is never below the last bucket. */
    if (count < below)
        count = below;
    exj_buf_printf(ret, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", f->name, s->labels, comma,
                   (unsigned long long)count);
    exj_buf_printf(ret, "%s_sum{%s} %.9g\n", f->name, s->labels, sum_of(s));
    exj_buf_printf(ret, "%s_count{%s} %llu\n", f->name, s->labels,
                   (unsigned long long)count);
}

exj_code exj_metrics_render(exj_metrics *m, exj_buf *ret, exj_err *err)
{
    pthread_mutex_lock(&m->mu);
    for (unsigned i = 0; i < EXJ_M_COUNT; i++) {
        const struct family *f = &families[i];

        exj_buf_printf(ret, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
                       f->histogram ? "histogram" : "counter");
        if (!f->label1 && !m->series[i])
            exj_buf_printf(ret, "%s 0\n", f->name);
        for (const struct exj_series *s = m->series[i]; s; s = s->next) {
            if (f->histogram)
                render_histogram(f, s, ret);
            else if (s->labels[0])
                exj_buf_printf(ret, "%s{%s} %.15g\n", f->name, s->labels, sum_of(s));
            else
                exj_buf_printf(ret, "%s %.15g\n", f->name, sum_of(s));
        }
    }
    pthread_mutex_unlock(&m->mu);
    exj_guest_metrics_render(m->guests, ret);
    if (ret->failed)
        return exj_err_set(err, EXJ_NOMEM, "metrics: out of memory");
    return EXJ_OK;
}
