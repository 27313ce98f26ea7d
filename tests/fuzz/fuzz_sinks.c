/* The file of event sinks: what is let through has names, plugins and numbers inside their bounds,
 * and is all freed. */
#include <stdlib.h>

#include "core/run/sinks_inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void look_at(const struct sink *s)
{
    json_t *config;

    must(s->name && *s->name && strlen(s->name) <= 64 && s->plugin && *s->plugin);
    must(s->retry.max_attempts >= 1 && s->retry.max_attempts <= 1000);
    must(s->retry.initial_ms >= 1 && s->retry.initial_ms <= s->retry.max_ms &&
         s->retry.max_ms <= 86400000);
    config = json_loads(s->config, JSON_ALLOW_NUL, NULL);
    must(json_is_object(config));
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* of exact length: one byte too far is seen */
    exj_sinks *all = calloc(1, sizeof *all);
    exj_err err = { 0 };
    exj_code rc;

    must(copy && all);
    if (size)
        memcpy(copy, data, size);
    rc = exj_sinks_read(all, (exj_slice){ copy, size }, &err);
    must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
    must(all->len <= EXJ_SINKS_MOST);
    for (size_t i = 0; rc == EXJ_OK && i < all->len; i++) {
        look_at(&all->sinks[i]);
        for (size_t k = 0; k < i; k++)
            must(strcmp(all->sinks[i].name, all->sinks[k].name) != 0);
    }
    exj_sinks_release(all);
    free(copy);
    return 0;
}
