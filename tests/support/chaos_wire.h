/* tests/support/chaos_wire.h - the part of MongoDB's wire protocol that a proxy needs.
 *
 * Threads: nothing is shared.
 */
#ifndef EXJ_TESTS_SUPPORT_CHAOS_WIRE_H
#define EXJ_TESTS_SUPPORT_CHAOS_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define EXJ_WIRE_HEADER 16
#define EXJ_WIRE_MAX (64u << 20) /* bytes of a message; servers refuse more than 48 MB */

/* The length of the message that begins at p[0..n): 0: n is too short to tell; SIZE_MAX:
 * not this protocol. */
size_t exj_wire_length(const uint8_t *p, size_t n);
uint32_t exj_wire_id(const uint8_t *p);       /* requestID; n >= EXJ_WIRE_HEADER */
uint32_t exj_wire_reply_to(const uint8_t *p); /* responseTo */
/* The command's name of a whole message: the first key of its body document. "": none
 * that is understood (a reply, a compressed message). */
void exj_wire_command(const uint8_t *p, size_t n, char ret[static 32]);

#endif /* EXJ_TESTS_SUPPORT_CHAOS_WIRE_H */
