/* What the worker is given: plugins, configs, sinks, clock and disk. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/chaos/chaos.h"

#define VERSIONS 3u

static void need(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "chaos: %s\n", what);
    abort();
}

static void copy(const char *from, const char *to)
{
    char temp[320];
    size_t n;
    char *text = exj_slurp(from, &n);
    FILE *f;

    need(n > 0, from);
    snprintf(temp, sizeof(temp), "%s.new", to);
    f = fopen(temp, "we");
    need(f && fwrite(text, 1, n, f) == n && fclose(f) == 0, temp);
    need(rename(temp, to) == 0, to);
    free(text);
}

void chaos_put_plugin(struct chaos *c, const char *id, unsigned version)
{
    char from[400], to[320];

    snprintf(from, sizeof(from), EXJ_BINARY_DIR "/tests/chaos/plugins/chaos-%s-%u.so", id,
             version % VERSIONS);
    snprintf(to, sizeof(to), "%s/chaos-%s.so", c->plugins, id);
    copy(from, to);
}

void chaos_release_plugin(struct chaos *c)
{
    json_t *o = NULL;
    int status = exj_daemon_call(&c->d, "POST", "/v1/quarantine/plugins/chaos-far/release", NULL, &o);

    json_decref(o);
    o = NULL;
    if (status == 200) { /* a worker that found it in quarantine looks again by itself after 10 s */
        exj_daemon_call(&c->d, "POST", "/v1/plugins/chaos-far/reload", NULL, &o);
        json_decref(o);
    }
}

static volatile int64_t *control(struct chaos *c, const char *variable, const char *name)
{
    const char *path = exj_tmp_path(&c->d.tmp, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *at;

    need(fd >= 0 && ftruncate(fd, 16) == 0, path);
    at = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    need(at != MAP_FAILED, path);
    close(fd);
    exj_daemon_set(&c->d, variable, "%s", path);
    return at;
}

void chaos_prepare(struct chaos *c)
{
    exj_daemon *d = &c->d;
    char text[700];
    exj_err err = { 0 };

    exj_daemon_init(d);
    snprintf(c->history_path, sizeof(c->history_path), "%s", exj_tmp_path(&d->tmp, "history.jsonl"));
    snprintf(c->sink_path, sizeof(c->sink_path), "%s", exj_tmp_path(&d->tmp, "sink.jsonl"));
    snprintf(c->plugins, sizeof(c->plugins), "%s", exj_tmp_path(&d->tmp, "plugins"));
    need(mkdir(c->plugins, 0700) == 0, c->plugins);
    chaos_put_plugin(c, "near", 0);
    chaos_put_plugin(c, "far", 0);
    snprintf(text, sizeof(text), "%s/sink-file.so", c->plugins);
    copy(EXJ_BINARY_DIR "/bin/plugins/sink-file.so", text);
    need(exj_recorder_open(c->history_path, "driver", &c->history, &err) == EXJ_OK, err.text);
    snprintf(text, sizeof(text),
             "{\"sinks\":[{\"name\":\"file\",\"plugin\":\"exellix.sink-file\",\"isolation\":"
             "\"in-process\",\"config\":{\"path\":\"%s\",\"maxBytes\":0}}]}",
             c->sink_path);
    exj_spit(exj_tmp_path(&d->tmp, "sinks.json"), text);
    exj_daemon_set(d, "EXELLIX_JOBS_SINKS", "%s", exj_tmp_path(&d->tmp, "sinks.json"));
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_DIR", "%s", c->plugins);
    exj_daemon_set(d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", "chaos-near");
    exj_daemon_set(d, "EXELLIX_JOBS_RECORD", "%s", c->history_path);
    exj_daemon_set(d, "EXELLIX_PLUGIN_RECORD", "%s", c->history_path);
    exj_daemon_set(d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "16");
    exj_daemon_set(d, "EXELLIX_JOBS_LEASE_SECONDS", "1");
    /* A clock that is set a day forward ends what is kept for a day: the answers to commands are
     * kept for longer than the clock ever goes. */
    exj_daemon_set(d, "EXELLIX_JOBS_IDEMPOTENCY_HOURS", "720");
    exj_daemon_set(d, "EXELLIX_JOBS_PREFETCH", "64");
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_GRACE_SECONDS", "1");
    c->clock = control(c, "EXJ_TEST_CLOCK", "clock");
    c->disk = control(c, "EXJ_TEST_DISK", "disk");
    exj_daemon_set(d, "EXJ_TEST_DISK_UNDER", "%s", exj_tmp_path(&d->tmp, "data"));
    exj_daemon_set(d, "LD_PRELOAD", "%s",
                   EXJ_BINARY_DIR "/tests/preload/wall-clock.so " EXJ_BINARY_DIR
                                  "/tests/preload/disk.so");
    exj_recorder_write(c->history,
                       &(exj_hist_event){ .op = EXJ_HIST_SETTINGS,
                                          .phase = EXJ_HIST_OK,
                                          .value = 1000, /* the lease */
                                          .attempt = 1,
                                          .token = 64, /* of one claim */
                                          .key = EXJ_SLICE_LITERAL("o||near") });
}

void chaos_configure(struct chaos *c)
{
    exj_daemon *d = &c->d;

    exj_daemon_graph(d, "near", "{\"isolation\":\"in-process\",\"timeoutSeconds\":20,"
                                "\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    exj_daemon_graph(d, "far", "{\"executor\":\"chaos-far\",\"isolation\":\"host\",\"timeoutSeconds\":2,"
                               "\"retry\":{\"initialSeconds\":0,\"maxSeconds\":0}}");
    exj_daemon_matrix(d, "n", "[\"near\"]", "event", "{}", ",\"maxAttempts\":1000");
    exj_daemon_matrix(d, "f", "[\"far\"]", "event", "{}", ",\"maxAttempts\":1000");
    /* the only one whose rows have neither priorities nor keys: they are to come in order */
    exj_daemon_matrix(d, "o", "[\"near\"]", "event", "{}", ",\"maxAttempts\":1000");
    need(exj_daemon_call(d, "PUT", "/v1/configs/schedules/s",
                         "{\"scheduleId\":\"s\",\"payload\":{\"everySeconds\":1,\"missed\":\"all\","
                         "\"start\":{\"matrixCatalogId\":\"n\",\"input\":{\"steps\":1}}}}",
                         NULL) < 300,
         "the schedule was refused");
}
