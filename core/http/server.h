/* core/http/server.h - the two doors: TCP (loopback unless told) and a Unix socket. */
#ifndef EXJ_CORE_HTTP_SERVER_H
#define EXJ_CORE_HTTP_SERVER_H

#include "core/http/api.h"

typedef struct exj_server exj_server;

typedef struct exj_server_options {
    const exj_api *api;       /* borrowed; outlives the server */
    bool tcp;
    const char *bind;         /* "127.0.0.1"; any other address needs a key */
    uint16_t port;            /* 0: any free one */
    const char *unix_path;    /* NULL: none; made 0600, a stale one is replaced */
    size_t body_max;          /* bytes; 0: 16 MiB */
} exj_server_options;

/* Errors: EXJ_BUSY (address in use: names it), EXJ_REFUSED (not loopback without a key),
 * EXJ_INVALID (bind is no address, path too long), EXJ_IO, EXJ_NOMEM. */
exj_code exj_server_start(const exj_server_options *o, exj_server **ret, exj_err *err);
uint16_t exj_server_port(const exj_server *s);
void exj_server_stop(exj_server *s); /* refuses new ones, finishes those begun, frees */

/* Client side of the Unix socket: one request, one answer. `timeout_ms` for the whole.
 * Errors: EXJ_NOT_FOUND (nobody listens), EXJ_IO, EXJ_INVALID (not HTTP). */
exj_code exj_client_call(const char *unix_path, const exj_request *q, unsigned timeout_ms,
                         exj_response *ret, exj_err *err);

#endif /* EXJ_CORE_HTTP_SERVER_H */
