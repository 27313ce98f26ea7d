/* plugins/sink-webhook/post.h - one signed POST, bounded in time and in what it reads.
 *
 * No redirect is followed, no proxy is asked (whatever the environment says), no cookie and
 * no credential is kept. Of an answer at most 64 KiB are read, and as much of its head.
 *
 * Threads: one call at a time on one poster, but wake, which is for any.
 */
#ifndef EXJ_PLUGINS_SINK_WEBHOOK_POST_H
#define EXJ_PLUGINS_SINK_WEBHOOK_POST_H

#include "config.h"

typedef struct exj_poster exj_poster;

typedef struct exj_post_answer {
    bool accepted;       /* 2xx */
    bool reached;        /* there was an answer, and it is of the 4xx: the next may do better */
    int32_t stopped;     /* what `stop` said; the rest does not count then */
    int64_t retry_after; /* seconds; 0: not said */
    char text[200];      /* what went wrong */
} exj_post_answer;

/* `config` is borrowed until free. NULL: no memory. */
exj_poster *exj_poster_new(const exj_webhook_config *config);
void exj_poster_free(exj_poster *p);
/* `headers`: lines of this request alone. `stop` is asked every 100 ms; not 0: give up. */
void exj_poster_send(exj_poster *p, exj_str body, const char *const *headers, size_t headers_n,
                     uint64_t deadline_ns, int32_t (*stop)(void *user), void *user,
                     exj_post_answer *ret);
void exj_poster_wake(exj_poster *p); /* ask `stop` now */

#endif /* EXJ_PLUGINS_SINK_WEBHOOK_POST_H */
