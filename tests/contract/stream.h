/* tests/contract/stream.h - the event stream as a whole, and whoever listens to it. */
#ifndef EXJ_TESTS_CONTRACT_STREAM_H
#define EXJ_TESTS_CONTRACT_STREAM_H

#include <pthread.h>

#include "durable.h"

#define STREAM_ROWS 64 /* of pools of matrix "m" and graph "g" */

/* The whole stream, read in pages of `page`: numbers without a gap, as long as no row was
 * removed; each row is told of as in its journal; what is asked for out of bounds is refused. */
void expect_stream(struct fixture *f, size_t page);
/* user: int64_t[2], how many entries came, and the number of the last one. */
bool count_entry(void *user, const exj_event_view *v);

struct news {
    exj_store *s;
    pthread_mutex_t mu;
    pthread_cond_t more;
    int64_t last, calls, unread; /* guarded by mu; unread: what could not be read when told */
};
#define HEARD_NOTHING .mu = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER

void hear(void *user, int64_t last);
/* It was told of entry `last`, the newest: at once, or, where others may write too, soon. */
void expect_heard(struct fixture *f, struct news *n, int64_t last);

#endif /* EXJ_TESTS_CONTRACT_STREAM_H */
