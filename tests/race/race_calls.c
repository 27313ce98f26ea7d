/* Calls of one CONCURRENT instance from many threads, and the registry from many more. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/plugin/plugin.h"
#include "tests/support/support.h"

#define THREADS 6
#define CALLS 3000

static exj_registry *registry;
static exj_instance *instance;
static atomic_int answers;

#define CHECK(what)                                                                       \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what);      \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

static void *call(void *arg)
{
    exj_call_slot *slot = NULL;

    (void)arg;
    CHECK(exj_call_slot_new(1 << 20, &slot, NULL) == EXJ_OK);
    for (int i = 0; i < CALLS; i++) {
        exj_args a = { .size_of = EXJ_SIZE(exj_args, token), .attempt = 1,
                       .deadline_ns = UINT64_MAX, .model = EXJ_STR("{}"),
                       .runtime = EXJ_STR("{}"), .job_id = EXJ_STR("j"),
                       .record_id = EXJ_STR("r"), .token = 1 };
        exj_call_ports ports = { 0 };
        exj_call_end end = { 0 };

        CHECK(exj_call_run(instance, slot, &a, &ports, &end, NULL));
        CHECK(end.result == EXJ_R_OK && end.emits == 1);
        CHECK(exj_slice_is(end.answer, "{\"status\":\"completed\"}"));
        atomic_fetch_add(&answers, 1);
    }
    exj_call_slot_free(slot);
    return NULL;
}

static bool count(void *user, const exj_guest_info *i)
{
    (void)i;
    ++*(int *)user;
    return true;
}

static void *look(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        exj_guest *g = NULL;
        int seen = 0;

        CHECK(exj_registry_find(registry, "test-source", EXJ_KIND_SOURCE_RESOLVER, &g,
                                NULL) == EXJ_OK);
        CHECK(exj_registry_find(registry, "noop-engine", EXJ_KIND_GRAPH_ENGINE, &g, NULL) ==
              EXJ_OK);
        CHECK(exj_registry_each(registry, true, count, &seen, NULL) == EXJ_OK);
        CHECK(seen >= 3);
    }
    return NULL;
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    pthread_t callers[THREADS], lookers[2];
    exj_guest *g = NULL;

    CHECK(exj_registry_new(dirs, NULL, &registry, NULL) == EXJ_OK);
    CHECK(exj_registry_find(registry, "noop-engine", EXJ_KIND_GRAPH_ENGINE, &g, NULL) ==
          EXJ_OK);
    CHECK(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &instance, NULL) == EXJ_OK);
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&callers[i], NULL, call, NULL));
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&lookers[i], NULL, look, NULL));
    for (int i = 0; i < THREADS; i++)
        pthread_join(callers[i], NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(lookers[i], NULL);
    CHECK(atomic_load(&answers) == THREADS * CALLS);
    CHECK(exj_plugin_misdeeds() == 0);
    exj_instance_free(instance);
    exj_registry_free(registry);
    printf("race_calls: %d calls from %d threads\n", THREADS * CALLS, THREADS);
    return 0;
}
