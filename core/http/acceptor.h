/* core/http/acceptor.h - one thread that stands before libmicrohttpd.
 *
 * It accepts, looks at the request head without taking it (MSG_PEEK) under an absolute
 * deadline, answers 400/408/413/414/417/431/503/505 itself, and admits a socket only when
 * its head is beyond doubt (head.h). A client that dribbles holds a slot, never a thread;
 * when all slots are taken the one that waited longest gives way.
 */
#ifndef EXJ_CORE_HTTP_ACCEPTOR_H
#define EXJ_CORE_HTTP_ACCEPTOR_H

#include <sys/socket.h>

#include "core/base/err.h"

typedef struct exj_acceptor exj_acceptor;

#define EXJ_DOORS_MAX 2u

typedef struct exj_acceptor_options {
    int listeners[EXJ_DOORS_MAX]; /* owned from a successful start on */
    unsigned doors;
    size_t body_max;
    exj_nsec head_time;           /* a head must be whole within */
    /* [acceptor] Takes fd, whatever comes of it. */
    void (*admit)(void *user, unsigned door, int fd, const struct sockaddr *from,
                  socklen_t from_len);
    /* [acceptor] Ends connections whose time is over; the next instant to look again, 0 if
     * none is open. */
    exj_nsec (*sweep)(void *user, exj_nsec now);
    void *user;
} exj_acceptor_options;

/* Errors: EXJ_NOMEM, EXJ_IO. */
exj_code exj_acceptor_start(const exj_acceptor_options *o, exj_acceptor **ret, exj_err *err);
/* Closes the listeners and those whose head was not whole; waits for the thread. */
void exj_acceptor_stop(exj_acceptor *a);

#endif /* EXJ_CORE_HTTP_ACCEPTOR_H */
