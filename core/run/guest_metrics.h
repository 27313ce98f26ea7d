/* core/run/guest_metrics.h - the numbers of plugins; a part of core/run/metrics.c.
 *
 * Series are made when first seen and stay. Bounded: EXJ_GUEST_SERIES a plugin, EXJ_GUESTS_MAX
 * plugins; what is one too many is refused, so a plugin that puts an id into a label stops at
 * its own bound and takes nothing from the others.
 *
 * Memory:  texts are copied.
 * Threads: any; one lock, held for a search among one plugin's series.
 */
#ifndef EXJ_CORE_RUN_GUEST_METRICS_H
#define EXJ_CORE_RUN_GUEST_METRICS_H

#include "core/plugin/plugin.h"

#define EXJ_GUEST_SERIES 64u /* EXJ_METRIC_SERIES of the ABI */
#define EXJ_GUESTS_MAX 256u
#define EXJ_BUCKETS 14u

extern const double exj_bucket_bounds[EXJ_BUCKETS]; /* seconds; metrics.c */

typedef struct exj_guest_metrics exj_guest_metrics;

exj_guest_metrics *exj_guest_metrics_new(void); /* NULL: no memory */
void exj_guest_metrics_free(exj_guest_metrics *g);
/* See exj_metrics_guest. */
exj_code exj_guest_metrics_add(exj_guest_metrics *g, const exj_plugin_sample *sample,
                               exj_err *err);
/* Append what there is; lack of memory leaves ret->failed. */
void exj_guest_metrics_render(exj_guest_metrics *g, exj_buf *ret);

#endif /* EXJ_CORE_RUN_GUEST_METRICS_H */
