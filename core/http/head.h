/* core/http/head.h - is this request head beyond doubt? Pure: bytes in, verdict out.
 *
 * libmicrohttpd lets through what two readers may understand differently (two
 * Content-Length, Content-Length with chunked, bare line feeds). So every head is judged
 * here first, strictly, and only a good one reaches it. Exactly one request a connection.
 *
 * Refused: anything but METHOD SP /target SP HTTP/1.0|1.1 CRLF; control bytes; bare CR or
 * LF; folded lines; a space before the colon; no Host (1.1), two of them; a repeated or
 * non-digit Content-Length; Transfer-Encoding other than exactly "chunked", in 1.0, or
 * beside a Content-Length; more than 64 fields or 16 KiB.
 */
#ifndef EXJ_CORE_HTTP_HEAD_H
#define EXJ_CORE_HTTP_HEAD_H

#include "core/base/types.h"

#define EXJ_HEAD_MAX_BYTES 16384u
#define EXJ_HEAD_MAX_FIELDS 64u
#define EXJ_TARGET_MAX_BYTES 8192u

typedef enum exj_head_state { EXJ_HEAD_MORE, EXJ_HEAD_GOOD, EXJ_HEAD_REFUSED } exj_head_state;

typedef struct exj_head {
    size_t bytes;           /* GOOD: length of the head with its empty line */
    exj_slice method, target, host;
    bool has_length, chunked;
    uint64_t length;
    unsigned status;        /* REFUSED: what to answer, and why */
    const char *code, *text; /* static */
} exj_head;

/* Linear in the bytes. Slices point into them. `body_max`: a longer Content-Length is 413. */
exj_head_state exj_head_judge(exj_slice bytes, size_t body_max, exj_head *ret);

/* May this Host be answered by a door bound to `bind`? Stops DNS rebinding: localhost,
 * 127.0.0.1, [::1] and `bind` itself; a wildcard bind takes any address literal and
 * `machine` (may be NULL). The port is not judged. */
bool exj_host_is_allowed(exj_slice host, const char *bind, const char *machine);

/* Does a browser say that this comes from another site's page? Empty: header absent. */
bool exj_request_is_cross_site(exj_slice origin, exj_slice sec_fetch_site, exj_slice host);

#endif /* EXJ_CORE_HTTP_HEAD_H */
