/* Calls to plugin hosts from many threads, while the hosts are killed and looked at. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "core/plugin/plugin.h"
#include "core/plugin/remote.h"

#define CALLERS 4
#define CALLS 400
#define FLIGHT 32
#define HOST_EXE EXJ_BINARY_DIR "/bin/exellix-jobs-plugin-host"

static exj_instance *instance;
static atomic_int ok, unlucky, crashes;
static atomic_bool over;

#define CHECK(what)                                                                       \
    do {                                                                                  \
        if (!(what)) {                                                                    \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #what);      \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

static exj_args args_of(void)
{
    return (exj_args){ .size_of = EXJ_SIZE(exj_args, token), .attempt = 1,
                       .deadline_ns = UINT64_MAX, .model = EXJ_STR("{}"),
                       .runtime = EXJ_STR("{}"), .job_id = EXJ_STR("j"),
                       .record_id = EXJ_STR("r"), .token = 1 };
}

static void count(const exj_call_end *end)
{
    if (end->result == EXJ_R_OK) {
        CHECK(exj_slice_is(end->answer, "{\"status\":\"completed\"}"));
        atomic_fetch_add(&ok, 1);
    } else {
        CHECK(end->result == EXJ_R_CRASHED || end->result == EXJ_R_RETRY ||
              end->result == EXJ_R_NOT_STARTED);
        CHECK(end->error_code.n != 0);
        atomic_fetch_add(&unlucky, 1);
    }
}

static void *call(void *arg)
{
    static const exj_call_ports none = { 0 };
    exj_call_slot *slot = NULL;
    exj_args a = args_of();

    (void)arg;
    CHECK(exj_call_slot_new(4096, &slot, NULL) == EXJ_OK);
    for (int k = 0; k < CALLS; k++) {
        exj_call_end end = { 0 };

        CHECK(exj_call_run(instance, slot, &a, &none, &end, NULL));
        count(&end);
    }
    exj_call_slot_free(slot);
    return NULL;
}

/* Calls that start the next one when they end, on whatever thread that is. */
struct chain {
    exj_call_slot *slot;
    exj_args args;
    exj_call_ports ports;
    int left;
    atomic_int done;
};

static void next(void *user, exj_call_slot *s, const exj_call_end *end)
{
    struct chain *c = user;
    exj_call_end now = *end;

    for (;;) {
        count(&now);
        if (--c->left == 0) {
            atomic_store(&c->done, 1);
            return;
        }
        if (!exj_call_run(instance, s, &c->args, &c->ports, &now, next))
            return;
    }
}

static void *chains(void *arg)
{
    static struct chain all[FLIGHT];

    (void)arg;
    for (int k = 0; k < FLIGHT; k++) {
        struct chain *c = &all[k];
        exj_call_end end = { 0 };

        *c = (struct chain){ .args = args_of(), .ports = { .user = c }, .left = CALLS / 4 + 1 };
        if (!c->slot)
            CHECK(exj_call_slot_new(4096, &c->slot, NULL) == EXJ_OK);
        if (exj_call_run(instance, c->slot, &c->args, &c->ports, &end, next))
            next(c, c->slot, &end);
    }
    for (int k = 0; k < FLIGHT; k++) {
        while (!atomic_load(&all[k].done)) {
            exj_call_cancel(all[k].slot); /* a hint to who has none */
            poll(NULL, 0, 2);
        }
        exj_call_slot_free(all[k].slot);
    }
    return NULL;
}

static void *disturb(void *arg)
{
    exj_remote_view v;
    int before = 0;

    (void)arg;
    while (!atomic_load(&over)) {
        exj_remote_look(instance, &v);
        CHECK(v.open <= 1024);
        if (atomic_load(&ok) > before + 200) { /* not while it starts: it would never be there */
            before = atomic_load(&ok);
            exj_remote_kill(instance);
        }
        exj_remote_warm(instance);
        poll(NULL, 0, 5);
    }
    return NULL;
}

static void crashed(void *user, const exj_guest *g, const char *signal, exj_slice backtrace)
{
    (void)user;
    (void)backtrace;
    CHECK(g != NULL && signal != NULL);
    atomic_fetch_add(&crashes, 1);
}

static void round_on(exj_registry *registry, exj_lane lane)
{
    pthread_t callers[CALLERS], chained, disturber;
    exj_guest *g = NULL;
    exj_err err = { 0 };

    atomic_store(&over, false);
    if (exj_registry_find_lane(registry, "noop-engine", EXJ_KIND_GRAPH_ENGINE, lane, &g, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    CHECK(exj_instance_new(g, EXJ_SLICE_LITERAL("{}"), &instance, NULL) == EXJ_OK);
    for (int k = 0; k < CALLERS; k++)
        CHECK(pthread_create(&callers[k], NULL, call, NULL) == 0);
    CHECK(pthread_create(&chained, NULL, chains, NULL) == 0);
    CHECK(pthread_create(&disturber, NULL, disturb, NULL) == 0);
    for (int k = 0; k < CALLERS; k++)
        CHECK(pthread_join(callers[k], NULL) == 0);
    CHECK(pthread_join(chained, NULL) == 0);
    atomic_store(&over, true);
    CHECK(pthread_join(disturber, NULL) == 0);
    exj_instance_free(instance);
    exj_guest_release(g);
}

int main(void)
{
    static const char *const dirs[] = { EXJ_BINARY_DIR "/tests/plugins", NULL };
    exj_remote_settings settings = { .host_exe = HOST_EXE, .idle_ms = 30, .grace_ms = 5000,
                                     .start_ms = 60000, .crashed = crashed };
    exj_registry *registry = NULL;
    int wanted = CALLERS * CALLS + FLIGHT * (CALLS / 4 + 1);

    CHECK(exj_registry_open(&(exj_registry_options){ .dirs = dirs, .remote = &settings },
                            &registry, NULL) == EXJ_OK);
    round_on(registry, EXJ_LANE_HOST);
    CHECK(atomic_load(&ok) + atomic_load(&unlucky) == wanted);
    CHECK(atomic_load(&ok) > atomic_load(&unlucky));
    printf("%d calls ended well, %d with their host, %d crashes\n", atomic_load(&ok),
           atomic_load(&unlucky), atomic_load(&crashes));
    exj_registry_free(registry);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1);
    return 0;
}
