#include <stdio.h>

#include "core/store/mongo/client_inside.h"

static const char *const names[EXJ_MONGO_COMMANDS] = {
    "find",   "getMore",       "aggregate", "insert",        "update", "delete",
    "findAndModify", "createIndexes", "hello",  "explain", "killCursors", "other",
};

/* The client whose call this thread is in. The driver tells of a command on the thread that
 * sends it, and knows only the pool. */
static _Thread_local exj_mongo_client *current;

void exj_mongo_begin(exj_mongo_client *c)
{
    current = c;
}

void exj_mongo_end(void)
{
    current = NULL;
}

static struct exj_mongo_tally *tally_of(exj_mongo *m, const char *command)
{
    size_t i = 0;

    while (i + 1 < EXJ_MONGO_COMMANDS && strcmp(names[i], command) != 0)
        i++;
    return &m->tallies[i];
}

static void count(exj_mongo *m, const char *command, const mongoc_host_list_t *host,
                  int64_t took_us, bool failed)
{
    struct exj_mongo_tally *t = tally_of(m, command);
    uint64_t ns = took_us > 0 ? (uint64_t)took_us * 1000u : 0;
    uint_least64_t longest = atomic_load_explicit(&t->longest_ns, memory_order_relaxed);

    atomic_fetch_add_explicit(&t->sent, 1, memory_order_relaxed);
    if (failed)
        atomic_fetch_add_explicit(&t->failed, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&t->took_ns, ns, memory_order_relaxed);
    while (ns > longest && !atomic_compare_exchange_weak_explicit(
                               &t->longest_ns, &longest, ns, memory_order_relaxed,
                               memory_order_relaxed))
        ;
    if (current && host)
        snprintf(current->server, sizeof(current->server), "%s", host->host_and_port);
}

static void succeeded(const mongoc_apm_command_succeeded_t *e)
{
    count(mongoc_apm_command_succeeded_get_context(e),
          mongoc_apm_command_succeeded_get_command_name(e),
          mongoc_apm_command_succeeded_get_host(e),
          mongoc_apm_command_succeeded_get_duration(e), false);
}

static void failed(const mongoc_apm_command_failed_t *e)
{
    count(mongoc_apm_command_failed_get_context(e), mongoc_apm_command_failed_get_command_name(e),
          mongoc_apm_command_failed_get_host(e), mongoc_apm_command_failed_get_duration(e), true);
}

void exj_mongo_count_commands(exj_mongo *m)
{
    mongoc_apm_callbacks_t *told = mongoc_apm_callbacks_new();

    /* Not "started": the driver would copy every command for it. */
    mongoc_apm_set_command_succeeded_cb(told, succeeded);
    mongoc_apm_set_command_failed_cb(told, failed);
    mongoc_client_pool_set_apm_callbacks(m->pool, told, m);
    mongoc_apm_callbacks_destroy(told);
}

void exj_mongo_count_unknown(exj_mongo *m, const char *command)
{
    atomic_fetch_add_explicit(&tally_of(m, command)->unknown, 1, memory_order_relaxed);
}

void exj_mongo_counts(const exj_mongo *m, exj_mongo_count_of ret[EXJ_MONGO_COMMANDS])
{
    for (size_t i = 0; i < EXJ_MONGO_COMMANDS; i++) {
        const struct exj_mongo_tally *t = &m->tallies[i];

        ret[i] = (exj_mongo_count_of){
            .command = names[i],
            .sent = atomic_load_explicit(&t->sent, memory_order_relaxed),
            .failed = atomic_load_explicit(&t->failed, memory_order_relaxed),
            .unknown = atomic_load_explicit(&t->unknown, memory_order_relaxed),
            .took = (exj_nsec)atomic_load_explicit(&t->took_ns, memory_order_relaxed),
            .longest = (exj_nsec)atomic_load_explicit(&t->longest_ns, memory_order_relaxed),
        };
    }
}
