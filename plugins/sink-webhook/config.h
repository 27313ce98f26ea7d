/* plugins/sink-webhook/config.h - what a webhook is told to be (docs/sinks.md has the table).
 *
 * Memory: all of it is owned by the struct; release wipes the secret.
 * Threads: no state; read-only after read.
 */
#ifndef EXJ_PLUGINS_SINK_WEBHOOK_CONFIG_H
#define EXJ_PLUGINS_SINK_WEBHOOK_CONFIG_H

#include <curl/curl.h>

#include "exellix/sink.h"

#define EXJ_WEBHOOK_WHY_BYTES 400

typedef struct exj_webhook_config {
    char *url;
    unsigned char *secret; /* NULL: requests are not signed */
    size_t secret_n;
    struct curl_slist *headers;
    long timeout_ms, connect_ms;
    size_t per_request; /* events of one request, 1..EXJ_SINK_EVENTS */
    bool secret_is_open; /* the secret's file may be read by everybody */
    exj_sink_filter filter;
} exj_webhook_config;

/* False: `why` says which member, what is wanted. There is nothing to release then. */
bool exj_webhook_config_read(exj_str json, exj_webhook_config *ret,
                             char why[EXJ_WEBHOOK_WHY_BYTES]);
void exj_webhook_config_release(exj_webhook_config *c);

#endif /* EXJ_PLUGINS_SINK_WEBHOOK_CONFIG_H */
