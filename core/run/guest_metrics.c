#include "core/run/guest_metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "exellix/ext/metrics.h"

_Static_assert(EXJ_GUEST_SERIES == EXJ_METRIC_SERIES, "the header promises as many");

/* A name, over all plugins: Prometheus wants one TYPE and its series together. */
struct family {
    struct family *next;
    exj_sample_kind kind;
    struct series *first, **last; /* in the order they came */
    size_t name_n;
    char name[];
};

struct series {
    struct series *next;    /* of the family */
    struct series *of_same; /* of the plugin */
    struct family *family;
    double value; /* sum of a histogram */
    uint64_t count, *buckets; /* owned; of a histogram */
    char *labels;             /* `plugin="id",a="x"`; owned */
    size_t text_n;
    char text[]; /* as the plugin gives it */
};

struct guest {
    struct guest *next;
    struct series *series;
    uint32_t len;
    char id[];
};

struct exj_guest_metrics {
    pthread_mutex_t mu; /* guards all below */
    struct guest *guests;
    uint32_t guests_len;
    struct family *families;
};

exj_guest_metrics *exj_guest_metrics_new(void)
{
    exj_guest_metrics *g = calloc(1, sizeof(*g));

    if (g)
        pthread_mutex_init(&g->mu, NULL);
    return g;
}

static void series_free(struct series *s)
{
    if (!s)
        return;
    free(s->buckets);
    free(s->labels);
    free(s);
}

void exj_guest_metrics_free(exj_guest_metrics *g)
{
    if (!g)
        return;
    for (struct family *f = g->families, *next; f; f = next) {
        next = f->next;
        for (struct series *s = f->first, *after; s; s = after) {
            after = s->next;
            series_free(s);
        }
        free(f);
    }
    for (struct guest *p = g->guests, *next; p; p = next) {
        next = p->next;
        free(p);
    }
    pthread_mutex_destroy(&g->mu);
    free(g);
}

/* ---- finding and making ------------------------------------------------------------------- */

static const char *kind_word(exj_sample_kind kind)
{
    return kind == EXJ_SAMPLE_COUNTER ? "counter"
           : kind == EXJ_SAMPLE_GAUGE ? "gauge"
                                      : "histogram";
}

static struct guest *guest_locked(exj_guest_metrics *g, exj_slice id, exj_err *err)
{
    struct guest *p = g->guests;

    while (p && !exj_slice_is(id, p->id))
        p = p->next;
    if (p)
        return p;
    if (g->guests_len >= EXJ_GUESTS_MAX) {
        exj_err_set(err, EXJ_REFUSED, "%u plugins have numbers of their own already",
                    EXJ_GUESTS_MAX);
        return NULL;
    }
    p = calloc(1, sizeof(*p) + id.n + 1);
    if (!p) {
        exj_err_set(err, EXJ_NOMEM, "no memory for a plugin's numbers");
        return NULL;
    }
    memcpy(p->id, id.p, id.n);
    p->next = g->guests;
    g->guests = p;
    g->guests_len++;
    return p;
}

static struct series *find(const struct guest *p, exj_slice text)
{
    struct series *s = p->series;

    while (s && (s->text_n != text.n || memcmp(s->text, text.p, text.n) != 0))
        s = s->of_same;
    return s;
}

static exj_slice name_of(exj_slice series)
{
    const char *brace = memchr(series.p, '{', series.n);

    return (exj_slice){ series.p, brace ? (size_t)(brace - series.p) : series.n };
}

static struct family *family_locked(exj_guest_metrics *g, exj_slice name, exj_sample_kind kind,
                                    exj_err *err)
{
    struct family *f = g->families;

    while (f && (f->name_n != name.n || memcmp(f->name, name.p, name.n) != 0))
        f = f->next;
    if (f && f->kind != kind) {
        exj_err_set(err, EXJ_INVALID, "%.*s is a %s, not a %s: a name has one kind, the first "
                    "that any plugin gave it",
                    (int)name.n, name.p, kind_word(f->kind), kind_word(kind));
        return NULL;
    }
    if (f)
        return f;
    f = calloc(1, sizeof(*f) + name.n + 1);
    if (!f) {
        exj_err_set(err, EXJ_NOMEM, "no memory for a plugin's numbers");
        return NULL;
    }
    f->kind = kind;
    f->last = &f->first;
    f->name_n = name.n;
    memcpy(f->name, name.p, name.n);
    f->next = g->families;
    g->families = f;
    return f;
}

static struct series *series_new(const struct guest *p, exj_slice text, exj_sample_kind kind)
{
    size_t name_n = name_of(text).n;
    struct series *s = calloc(1, sizeof(*s) + text.n + 1);
    exj_buf labels = EXJ_BUF_INIT;

    if (!s)
        return NULL;
    s->text_n = text.n;
    memcpy(s->text, text.p, text.n);
    exj_buf_printf(&labels, "plugin=\"%s\"", p->id);
    if (text.n > name_n + 2) {
        exj_buf_add_char(&labels, ',');
        exj_buf_add(&labels, text.p + name_n + 1, text.n - name_n - 2); /* between the braces */
    }
    if (!labels.failed)
        s->labels = exj_buf_take(&labels);
    if (kind == EXJ_SAMPLE_SECONDS)
        s->buckets = calloc(EXJ_BUCKETS, sizeof(*s->buckets));
    exj_buf_release(&labels);
    if (!s->labels || (kind == EXJ_SAMPLE_SECONDS && !s->buckets)) {
        series_free(s);
        return NULL;
    }
    return s;
}

static struct series *series_locked(exj_guest_metrics *g, struct guest *p, exj_slice text,
                                    exj_sample_kind kind, exj_err *err)
{
    struct series *s = find(p, text);
    struct family *f;

    if (s && s->family->kind == kind)
        return s;
    if (!s && p->len >= EXJ_GUEST_SERIES) {
        exj_err_set(err, EXJ_REFUSED, "%.*s would be one series more than the %u a plugin may "
                    "have: a label is for a handful of values, never for ids",
                    (int)(text.n < 120 ? text.n : 120), text.p, EXJ_GUEST_SERIES);
        return NULL;
    }
    f = family_locked(g, name_of(text), kind, err);
    if (!f)
        return NULL;
    s = series_new(p, text, kind);
    if (!s) {
        exj_err_set(err, EXJ_NOMEM, "no memory for a plugin's numbers");
        return NULL; /* a family without series is not shown */
    }
    s->family = f;
    *f->last = s;
    f->last = &s->next;
    s->of_same = p->series;
    p->series = s;
    p->len++;
    return s;
}

exj_code exj_guest_metrics_add(exj_guest_metrics *g, const exj_plugin_sample *m, exj_err *err)
{
    exj_err why = { 0 };
    struct guest *p;
    struct series *s;

    assert(m->plugin.n && m->series.n);
    pthread_mutex_lock(&g->mu);
    p = guest_locked(g, m->plugin, &why);
    s = p ? series_locked(g, p, m->series, m->kind, &why) : NULL;
    if (s && m->kind == EXJ_SAMPLE_GAUGE) {
        s->value = m->value;
    } else if (s) {
        s->value += m->value;
        s->count++;
    }
    if (s && s->buckets) {
        unsigned k = 0;

        while (k < EXJ_BUCKETS && m->value > exj_bucket_bounds[k])
            k++;
        if (k < EXJ_BUCKETS)
            s->buckets[k]++;
    }
    pthread_mutex_unlock(&g->mu);
    return s ? EXJ_OK : exj_err_set(err, why.code, "%s", why.text);
}

/* ---- printing ----------------------------------------------------------------------------- */

#define PREFIX "exellix_plugin_"

static void render_series(const struct family *f, const struct series *s, exj_buf *ret)
{
    uint64_t below = 0;

    if (f->kind != EXJ_SAMPLE_SECONDS) {
        exj_buf_printf(ret, PREFIX "%s{%s} %.15g\n", f->name, s->labels, s->value);
        return;
    }
    for (unsigned k = 0; k < EXJ_BUCKETS; k++) {
        below += s->buckets[k];
        exj_buf_printf(ret, PREFIX "%s_bucket{%s,le=\"%g\"} %llu\n", f->name, s->labels,
                       exj_bucket_bounds[k], (unsigned long long)below);
    }
    exj_buf_printf(ret, PREFIX "%s_bucket{%s,le=\"+Inf\"} %llu\n", f->name, s->labels,
                   (unsigned long long)s->count);
    exj_buf_printf(ret, PREFIX "%s_sum{%s} %.9g\n", f->name, s->labels, s->value);
    exj_buf_printf(ret, PREFIX "%s_count{%s} %llu\n", f->name, s->labels,
                   (unsigned long long)s->count);
}

void exj_guest_metrics_render(exj_guest_metrics *g, exj_buf *ret)
{
    pthread_mutex_lock(&g->mu);
    for (const struct family *f = g->families; f; f = f->next) {
        if (!f->first)
            continue;
        exj_buf_printf(ret, "# HELP " PREFIX "%s Given by the plugin named in the label.\n"
                            "# TYPE " PREFIX "%s %s\n",
                       f->name, f->name, kind_word(f->kind));
        for (const struct series *s = f->first; s; s = s->next)
            render_series(f, s, ret);
    }
    pthread_mutex_unlock(&g->mu);
}
