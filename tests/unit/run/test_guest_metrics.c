/* Numbers that plugins give: what /metrics shows of them, and where they stop. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/run/metrics.h"
#include "tests/support/fault.h"

static exj_code give(exj_metrics *m, const char *plugin, exj_sample_kind kind,
                     const char *series, double value, exj_err *err)
{
    exj_plugin_sample sample = { .plugin = exj_slice_of(plugin),
                                 .kind = kind,
                                 .series = exj_slice_of(series),
                                 .value = value };

    return exj_metrics_guest(m, &sample, err);
}

static void count(exj_metrics *m, const char *plugin, const char *series, double by)
{
    cr_assert_eq(give(m, plugin, EXJ_SAMPLE_COUNTER, series, by, NULL), EXJ_OK);
}

/* The part of the text that plugins gave; free() it. */
static char *shown(exj_metrics *m)
{
    exj_buf b = EXJ_BUF_INIT;
    const char *part;
    char *ret;

    cr_assert_eq(exj_metrics_render(m, &b, NULL), EXJ_OK);
    part = strstr(b.p, "# HELP exellix_plugin_");
    ret = strdup(part ? part : "");
    exj_buf_release(&b);
    return ret;
}

Test(guest_metrics, counters_grow_and_gauges_stand)
{
    exj_metrics *m = exj_metrics_new();
    char *text;

    count(m, "acme.fetch", "pages_total{code=\"200\"}", 2);
    count(m, "acme.fetch", "pages_total{code=\"404\"}", 1);
    count(m, "acme.fetch", "pages_total{code=\"200\"}", 0.5);
    cr_assert_eq(give(m, "acme.fetch", EXJ_SAMPLE_GAUGE, "queue", 9, NULL), EXJ_OK);
    cr_assert_eq(give(m, "acme.fetch", EXJ_SAMPLE_GAUGE, "queue", -3, NULL), EXJ_OK);
    text = shown(m);
    cr_assert_str_eq(text,
                     "# HELP exellix_plugin_queue Given by the plugin named in the label.\n"
                     "# TYPE exellix_plugin_queue gauge\n"
                     "exellix_plugin_queue{plugin=\"acme.fetch\"} -3\n"
                     "# HELP exellix_plugin_pages_total Given by the plugin named in the label.\n"
                     "# TYPE exellix_plugin_pages_total counter\n"
                     "exellix_plugin_pages_total{plugin=\"acme.fetch\",code=\"200\"} 2.5\n"
                     "exellix_plugin_pages_total{plugin=\"acme.fetch\",code=\"404\"} 1\n");
    free(text);
    exj_metrics_free(m);
}

Test(guest_metrics, plugins_share_a_name_and_its_type_line)
{
    exj_metrics *m = exj_metrics_new();
    char *text;

    count(m, "a", "hits_total", 1);
    count(m, "b", "hits_total", 2);
    text = shown(m);
    cr_assert_str_eq(text,
                     "# HELP exellix_plugin_hits_total Given by the plugin named in the label.\n"
                     "# TYPE exellix_plugin_hits_total counter\n"
                     "exellix_plugin_hits_total{plugin=\"a\"} 1\n"
                     "exellix_plugin_hits_total{plugin=\"b\"} 2\n");
    free(text);
    exj_metrics_free(m);
}

Test(guest_metrics, a_histogram_counts_into_buckets)
{
    exj_metrics *m = exj_metrics_new();
    char *text;

    cr_assert_eq(give(m, "a", EXJ_SAMPLE_SECONDS, "t_seconds", 0.0005, NULL), EXJ_OK);
    cr_assert_eq(give(m, "a", EXJ_SAMPLE_SECONDS, "t_seconds", 0.001, NULL), EXJ_OK);
    cr_assert_eq(give(m, "a", EXJ_SAMPLE_SECONDS, "t_seconds", 7000, NULL), EXJ_OK);
    text = shown(m);
    cr_assert(strstr(text, "# TYPE exellix_plugin_t_seconds histogram\n"));
    cr_assert(strstr(text, "t_seconds_bucket{plugin=\"a\",le=\"0.0001\"} 0\n"));
    cr_assert(strstr(text, "t_seconds_bucket{plugin=\"a\",le=\"0.001\"} 2\n"));
    cr_assert(strstr(text, "t_seconds_bucket{plugin=\"a\",le=\"600\"} 2\n"));
    cr_assert(strstr(text, "t_seconds_bucket{plugin=\"a\",le=\"+Inf\"} 3\n"));
    cr_assert(strstr(text, "t_seconds_sum{plugin=\"a\"} 7000.0015\n"));
    cr_assert(strstr(text, "t_seconds_count{plugin=\"a\"} 3\n"));
    free(text);
    exj_metrics_free(m);
}

Test(guest_metrics, a_name_has_one_kind_over_all_plugins)
{
    exj_metrics *m = exj_metrics_new();
    exj_err err = { 0 };

    count(m, "a", "x", 1);
    cr_assert_eq(give(m, "a", EXJ_SAMPLE_GAUGE, "x", 1, NULL), EXJ_INVALID);
    cr_assert_eq(give(m, "b", EXJ_SAMPLE_SECONDS, "x{l=\"1\"}", 1, &err), EXJ_INVALID);
    cr_assert(strstr(err.text, "x is a counter, not a histogram"), "%s", err.text);
    count(m, "b", "x", 1);
    exj_metrics_free(m);
}

Test(guest_metrics, a_plugin_that_labels_by_id_stops_at_its_own_bound)
{
    exj_metrics *m = exj_metrics_new();
    exj_err err = { 0 };
    char series[64];
    char *text;

    for (unsigned k = 0; k < 64; k++) {
        snprintf(series, sizeof series, "rows_total{id=\"%u\"}", k);
        count(m, "greedy", series, 1);
    }
    cr_assert_eq(give(m, "greedy", EXJ_SAMPLE_COUNTER, "rows_total{id=\"64\"}", 1, &err),
                 EXJ_REFUSED);
    cr_assert(strstr(err.text, "id=\"64\"") && strstr(err.text, "64 a plugin"), "%s", err.text);
    count(m, "greedy", "rows_total{id=\"63\"}", 1);
    count(m, "modest", "rows_total{id=\"64\"}", 1);
    text = shown(m);
    cr_assert_null(strstr(text, "\"greedy\",id=\"64\""));
    cr_assert(strstr(text, "{plugin=\"greedy\",id=\"63\"} 2\n"));
    cr_assert(strstr(text, "{plugin=\"modest\",id=\"64\"} 1\n"));
    free(text);
    exj_metrics_free(m);
}

Test(guest_metrics, so_many_plugins_and_no_more)
{
    exj_metrics *m = exj_metrics_new();
    char id[16];

    for (unsigned k = 0; k < 256; k++) {
        snprintf(id, sizeof id, "p%u", k);
        count(m, id, "x", 1);
    }
    cr_assert_eq(give(m, "late", EXJ_SAMPLE_COUNTER, "x", 1, NULL), EXJ_REFUSED);
    exj_metrics_free(m);
}

Test(guest_metrics, lack_of_memory_is_said_and_leaves_nothing_half_made)
{
    bool failed = false;

    for (long n = 1;; n++) {
        exj_metrics *m;
        exj_code rc = EXJ_NOMEM;

        exj_fault_arm(n);
        m = exj_metrics_new();
        if (m)
            rc = give(m, "a", EXJ_SAMPLE_SECONDS, "t{l=\"1\"}", 1, NULL);
        if (exj_fault_disarm() < n) {
            cr_assert_eq(rc, EXJ_OK);
            exj_metrics_free(m);
            break;
        }
        cr_assert_eq(rc, EXJ_NOMEM);
        failed = true;
        if (m) {
            char *text = shown(m);

            cr_assert_str_eq(text, "");
            free(text);
            cr_assert_eq(give(m, "a", EXJ_SAMPLE_SECONDS, "t{l=\"1\"}", 1, NULL), EXJ_OK);
        }
        exj_metrics_free(m);
    }
    cr_assert(failed);
}

static void *count_often(void *m)
{
    for (unsigned k = 0; k < 5000; k++) {
        count(m, "a", k % 2 ? "n_total{odd=\"1\"}" : "n_total{odd=\"0\"}", 1);
        if (k % 1000 == 0)
            free(shown(m));
    }
    return NULL;
}

Test(guest_metrics, threads_lose_nothing)
{
    exj_metrics *m = exj_metrics_new();
    pthread_t t[4];
    char *text;

    for (unsigned k = 0; k < 4; k++)
        cr_assert_eq(pthread_create(&t[k], NULL, count_often, m), 0);
    for (unsigned k = 0; k < 4; k++)
        pthread_join(t[k], NULL);
    text = shown(m);
    cr_assert(strstr(text, "odd=\"0\"} 10000\n") && strstr(text, "odd=\"1\"} 10000\n"), "%s",
              text);
    free(text);
    exj_metrics_free(m);
}
