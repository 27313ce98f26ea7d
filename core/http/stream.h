/* core/http/stream.h - Server-Sent Events: the event stream, live, to whoever asks.
 *
 * https://html.spec.whatwg.org/multipage/server-sent-events.html. Each event of the store is
 *
 *     id: 4711
 *     event: completed
 *     data: {"number":4711,"kind":"completed",…}
 *
 * An event is read from the store after its commit, so none is sent that a crash could undo.
 * Where history was pruned below what the reader has not seen, one event "gap" with
 * {"from","to"} stands for what is missing. A comment line every 10 s keeps proxies awake.
 *
 * Memory:  a stream holds one buffer of at most some 300 KiB, whatever the history has.
 * Threads: a stream belongs to its connection's thread, which waits in exj_stream_read;
 *          exj_streams_* from any thread.
 */
#ifndef EXJ_CORE_HTTP_STREAM_H
#define EXJ_CORE_HTTP_STREAM_H

#include <sys/types.h>

#include "core/run/news.h"

typedef struct exj_streams exj_streams; /* all of a server's */
typedef struct exj_stream exj_stream;

#define EXJ_STREAMS_MAX 48u /* open at once: other requests keep their places */

/* Borrows both for its life. Errors: EXJ_NOMEM. */
exj_code exj_streams_open(exj_store *s, exj_news *news, exj_streams **ret, exj_err *err);
void exj_streams_end(exj_streams *all);   /* every stream ends; new ones are refused */
void exj_streams_close(exj_streams *all); /* when none is open; accepts NULL */

typedef struct exj_stream_wish {
    int64_t after;   /* events with a larger number; -1: only those that happen from now on */
    int64_t seq;     /* only of this row; 0: all */
    exj_slice matrix, graph; /* empty: any */
} exj_stream_wish;

/* Errors: EXJ_INVALID (`after` is in the future: both numbers), EXJ_BUSY (too many are open),
 * EXJ_CANCELLED (the server stops), EXJ_NOMEM, and what reading the store gives. */
exj_code exj_stream_open(exj_streams *all, const exj_stream_wish *wish, exj_stream **ret,
                         exj_err *err);
/* Wait for the next bytes, at most `n` (> 0). -1: it is over. */
ssize_t exj_stream_read(exj_stream *s, char *p, size_t n);
void exj_stream_close(exj_stream *s);

#endif /* EXJ_CORE_HTTP_STREAM_H */
