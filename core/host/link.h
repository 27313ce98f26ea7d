/* core/host/link.h - the plugin host's end of the wire, for all of its threads.
 *
 * Any thread may say something or ask something: the plugin's own threads do. Who waits, for
 * an answer or for the next order, reads the socket when nobody else does (it leads), and
 * hands what it read to whom it belongs; the others wait (they follow), and one of them leads
 * next. So no thread exists only to read, and an order needs no change of threads.
 *
 * When the core is gone nobody is left who could be told: the process ends, quietly. A frame
 * that the core may not send ends it with a message on standard error.
 *
 * Threads: any, unless said.
 */
#ifndef EXJ_CORE_HOST_LINK_H
#define EXJ_CORE_HOST_LINK_H

#include <stdatomic.h>

#include "core/plugin/wire.h"

/* A frame's payload, kept as long as somebody needs it. */
typedef struct exj_mem {
    atomic_uint refs;
    exj_frame frame; /* owns the mapping, if there is one */
    exj_slice body;
    char bytes[];
} exj_mem;
exj_mem *exj_mem_ref(exj_mem *m);
void exj_mem_unref(exj_mem *m); /* accepts NULL */

/* Something the core wants done. */
typedef struct exj_order {
    struct exj_order *next;
    exj_frame_type type;
    uint64_t call;
    exj_mem *mem; /* owned */
} exj_order;
void exj_order_free(exj_order *o);

/* The file named by HELLO, and who we are after that. Before any other thread. */
void exj_link_start(exj_wire *w);

/* The next order. One thread only. */
exj_order *exj_link_next(void);

void exj_link_say(exj_frame_type type, uint64_t call, exj_slice body);
/* The same, in between lock and unlock: what is said there stays together. */
void exj_link_lock(void);
void exj_link_say_locked(exj_frame_type type, uint64_t call, exj_slice body);
void exj_link_unlock(void);

/* A question on its way, where it lies until it is answered. */
typedef struct exj_ask {
    struct exj_ask *next;
    uint64_t call;
    bool done;
    uint32_t code;
    exj_buf text;
} exj_ask;
/* Ask without waiting; then wait. Answers to one call come in the order of its questions.
 * Wait returns the u32 of the REPLY; its text is the caller's to release. */
void exj_link_post(exj_ask *a, exj_frame_type type, uint64_t call, exj_slice body);
uint32_t exj_link_wait(exj_ask *a);

/* Ask and wait for the answer. Returns the u32 of the REPLY; its text is appended to `ret`
 * (NULL: not wanted) when that is 0, else it becomes the text of `err`. */
uint32_t exj_link_ask(exj_frame_type type, uint64_t call, exj_slice body, exj_buf *ret,
                      exj_err *err);

/* End the process with a line on standard error. */
void exj_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif /* EXJ_CORE_HOST_LINK_H */
