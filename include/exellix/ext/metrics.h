/* exellix/ext/metrics.h - extension "exellix.metrics/1": a plugin's own numbers in /metrics.
 *
 *     const exj_ext_metrics *m = host->extension(host->ctx, EXJ_EXT_METRICS);
 *     if (m && EXJ_HAS(m, exj_ext_metrics, counter_add))
 *         m->counter_add(host->ctx, c, series, 1);
 *
 * A SERIES is written as Prometheus writes it, without spaces: a name and, if wanted, labels:
 *
 *     pages_fetched_total
 *     pages_fetched_total{code="200",site="a"}
 *
 * It appears as exellix_plugin_pages_fetched_total{plugin="acme.fetch",code="200",site="a"}.
 * A name and a label's name are [a-z_][a-z0-9_]*, at most 64 and 32 bytes; a name does not
 * end in _bucket, _sum or _count; labels come in ascending order, each once, EXJ_METRIC_LABELS
 * of them at most, none called "plugin" or "le"; a label's value is UTF-8 of at most 128
 * bytes in which only \\, \" and \n are escaped. By custom, a counter's name ends in _total
 * and a time's in _seconds.
 *
 * LIMITS. EXJ_METRIC_SERIES series a plugin, over all its names: a label is for a handful of
 * values, never for ids. What is one too many is refused and changes nothing else. A name has
 * one kind, the first, over all plugins.
 *
 * Numbers live in the worker's memory: they begin at 0 when it starts, outlive reloads of the
 * plugin, and go to whoever reads GET /metrics. Nothing of a row depends on them: after a
 * failed attempt they stay.
 *
 * THREADS. [any], inside a call (of an engine or a resolver). Cheap: no disk, no waiting.
 *
 * RESULTS. EXJ_R_OK; EXJ_R_INPUT: the series breaks the rules above, is of another kind, or
 * the number may not be given (refused, logged and counted as a misdeed of the plugin);
 * EXJ_R_FAILED: too many series (the same); EXJ_R_RETRY: no memory; EXJ_R_UNSUPPORTED: not
 * offered in this call; EXJ_R_INTERNAL: the call is over. A plugin may ignore them all.
 */
#ifndef EXELLIX_EXT_METRICS_H
#define EXELLIX_EXT_METRICS_H

#include "exellix/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EXJ_EXT_METRICS "exellix.metrics/1"

#define EXJ_METRIC_SERIES 64u
#define EXJ_METRIC_LABELS 4u

typedef struct exj_ext_metrics {
    uint32_t size_of, reserved;
    /* Grows by `by`: finite, 0 or more. */
    exj_result (*counter_add)(void *ctx, exj_call c, exj_str series, double by);
    /* Is now `value`: finite. */
    exj_result (*gauge_set)(void *ctx, exj_call c, exj_str series, double value);
    /* One more observation of a time: finite, 0 or more. Buckets from 10 µs to 10 minutes;
     * a histogram counts as one series. */
    exj_result (*observe_seconds)(void *ctx, exj_call c, exj_str series, double seconds);
} exj_ext_metrics;

#ifdef __cplusplus
}
#endif

#endif /* EXELLIX_EXT_METRICS_H */
