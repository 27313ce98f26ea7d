/* core/run/sinks.h - events go to sinks (spec 2.7): at least once, in order per row.
 *
 * Each sink has a thread of its own: a slow or dead one delays no other. It reads the event
 * stream behind its durable position and gives it to its plugin in batches. What fails is
 * held (durable, too), together with what follows it of the same row, and tried again after
 * a back-off; after its tries it is a dead letter, and the row goes on. Position and held
 * events are saved together, after the delivery: a crash repeats a batch and loses nothing.
 *
 * When a whole batch of several rows fails, nobody is blamed: the sink rests, and is then
 * tried with one event at a time, so that one event that kills its plugin costs no other
 * its tries. At most 2000 events are held before reading stops until there is room.
 *
 * Threads: all functions from any, but open, start, flush and stop from one owner.
 */
#ifndef EXJ_CORE_RUN_SINKS_H
#define EXJ_CORE_RUN_SINKS_H

#include "core/base/json.h"
#include "core/plugin/plugin.h"
#include "core/run/news.h"

#define EXJ_SINKS_MOST 16

typedef struct exj_sinks exj_sinks;

/* `config`: {"sinks":[{"name","plugin","config":{…},"isolation","maxAttempts",
 * "firstRetrySeconds","maxRetrySeconds","from":"start"|"now"}]} (docs/sinks.md). Store and
 * registry are borrowed and outlive it. No plugin is loaded yet.
 * Errors: EXJ_INVALID (names the member), EXJ_NOMEM. */
exj_code exj_sinks_open(exj_store *store, exj_registry *plugins, exj_slice config,
                        exj_sinks **ret, exj_err *err);
/* `news` is borrowed until stop. Errors: EXJ_IO (no thread). */
exj_code exj_sinks_start(exj_sinks *s, exj_news *news, exj_err *err);
/* Instead of start: deliver what is due until nothing is, or `until` (monotonic; 0: for ever)
 * has passed. Returns how many events were delivered. */
uint64_t exj_sinks_flush(exj_sinks *s, exj_nsec until);
/* Dead letters were replayed or held events changed: read them again. Accepts NULL. */
void exj_sinks_wake(exj_sinks *s);
/* [{"name","plugin","position","delivered","failures","dead","held","error":null|"…"}]; new
 * reference. Accepts NULL: an empty list. */
json_t *exj_sinks_status(exj_sinks *s);
/* Ends the threads, waiting up to grace_ms for calls that go on, and frees everything. Returns
 * how many calls were left; then nothing is freed, and the process must end soon. */
uint32_t exj_sinks_stop(exj_sinks *s, exj_msec grace_ms);

#endif /* EXJ_CORE_RUN_SINKS_H */
