/* core/run/metrics.h - the counters of spec 1.8 and how they print.
 *
 * Series are made once per label set (exj_metric_series, takes a lock) and then bumped
 * without one. At most 500 label sets a metric; the rest share {…="other"}.
 * Threads: any.
 */
#ifndef EXJ_CORE_RUN_METRICS_H
#define EXJ_CORE_RUN_METRICS_H

#include "core/plugin/plugin.h"

typedef enum exj_metric {
    EXJ_M_CLAIMS_STARTED,   /* graph_id, matrix_catalog_id */
    EXJ_M_CLAIMS_COMPLETED, /* graph_id, status */
    EXJ_M_CLAIMS_FAILED,    /* graph_id */
    EXJ_M_CLAIMS_FENCED,    /* graph_id */
    EXJ_M_MATERIALIZED,     /* matrix_catalog_id */
    EXJ_M_IDLE_SECONDS,     /* matrix_catalog_id; float */
    EXJ_M_CYCLES,           /* matrix_catalog_id, empty */
    EXJ_M_EXECUTE,          /* graph_id; histogram of seconds */
    EXJ_M_LEASE_EXPIRIES,   /* exellix_jobs_lease_expiries_total */
    EXJ_M_RETRIES,          /* exellix_jobs_retries_total{graph_id} */
    EXJ_M_RELOADS,          /* exellix_jobs_plugin_reloads_total{plugin,result} */
    EXJ_M_CRASHES,          /* exellix_jobs_plugin_crashes_total{plugin} */
    EXJ_M_COUNT
} exj_metric;

typedef struct exj_metrics exj_metrics;
typedef struct exj_series exj_series;

exj_metrics *exj_metrics_new(void); /* NULL: no memory */
void exj_metrics_free(exj_metrics *m);
/* Never NULL: on lack of memory a shared spare. Labels in the order above; NULL: unused. */
exj_series *exj_metric_series(exj_metrics *m, exj_metric which, exj_slice l1, exj_slice l2);
void exj_series_add(exj_series *s, double by);          /* counters */
void exj_series_observe(exj_series *s, double seconds); /* histograms */
void exj_series_observe_n(exj_series *s, double seconds_each, uint64_t n);
double exj_series_value(const exj_series *s);           /* for tests and status */

/* A number that a plugin gives (exellix.metrics/1, include/exellix/ext/metrics.h): the series
 * exellix_plugin_NAME{plugin="ID",…}, made when first seen. The sample has been checked
 * (core/plugin/extension.c). At most 64 series a plugin; a name has one kind over all plugins.
 * Errors: EXJ_INVALID (the name is of another kind), EXJ_REFUSED (too many), EXJ_NOMEM. */
exj_code exj_metrics_guest(exj_metrics *m, const exj_plugin_sample *sample, exj_err *err);

/* Prometheus text 0.0.4, HELP and TYPE included. */
exj_code exj_metrics_render(exj_metrics *m, exj_buf *ret, exj_err *err);

#endif /* EXJ_CORE_RUN_METRICS_H */
