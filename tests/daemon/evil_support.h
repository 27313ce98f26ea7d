/* tests/daemon/evil_support.h - a daemon with many copies of tests/plugins/evil/evil_engine.c.
 *
 * Each copy has an id of its own, and so a content, a quarantine and hosts of its own. */
#ifndef EXJ_TESTS_DAEMON_EVIL_SUPPORT_H
#define EXJ_TESTS_DAEMON_EVIL_SUPPORT_H

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/support.h"

#define EVIL_SO EXJ_BINARY_DIR "/tests/evil/evil-engine.so"
#define EVIL_ID "evil-engine-0000"
#define NEED(x)                                                                            \
    do {                                                                                   \
        if (!(x)) {                                                                        \
            fprintf(stderr, "evil_support: %s: cannot %s\n", __func__, #x);                \
            abort();                                                                       \
        }                                                                                  \
    } while (0)

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static inline void write_whole(const char *path, const char *bytes, size_t n)
{
    char fresh[600];
    FILE *f;

    snprintf(fresh, sizeof(fresh), "%s.new", path);
    f = fopen(fresh, "we");
    NEED(f != NULL);
    NEED(fwrite(bytes, 1, n, f) == n);
    NEED(fclose(f) == 0);
    NEED(rename(fresh, path) == 0);
}

/* "evil-engine-NNNN", in the plugins folder of `d`. */
static inline void evil_copy(const exj_daemon *d, unsigned number)
{
    size_t n = 0, changed = 0;
    char *bytes = exj_slurp(EVIL_SO, &n), *at = bytes, id[24], path[400];

    snprintf(id, sizeof(id), "evil-engine-%04u", number % 10000);
    NEED(strlen(id) == strlen(EVIL_ID));
    while ((at = memmem(at, n - (size_t)(at - bytes), EVIL_ID, strlen(EVIL_ID)))) {
        memcpy(at, id, strlen(id));
        at += strlen(id);
        changed++;
    }
    NEED(changed > 0);
    snprintf(path, sizeof(path), "%s/%s.so", exj_tmp_path(&d->tmp, "plugins"), id);
    write_whole(path, bytes, n);
    free(bytes);
}

/* A daemon, not started, whose plugins folder has the source and copies 0 to `copies` - 1. */
static inline void evil_init(exj_daemon *d, const char *lane, unsigned copies)
{
    size_t n = 0;
    char *source = exj_slurp(EXJ_BINARY_DIR "/tests/plugins/test-source.so", &n);

    exj_daemon_init(d);
    NEED(n > 0 && mkdir(exj_tmp_path(&d->tmp, "plugins"), 0755) == 0);
    write_whole(exj_tmp_path(&d->tmp, "plugins/test-source.so"), source, n);
    free(source);
    for (unsigned k = 0; k < copies; k++)
        evil_copy(d, k);
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_DIR", "%s", exj_tmp_path(&d->tmp, "plugins"));
    exj_daemon_set(d, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", EVIL_ID);
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_ISOLATION", "%s", lane);
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_IDLE_SECONDS", "1");
    exj_daemon_set(d, "EXELLIX_JOBS_PLUGINS_GRACE_SECONDS", "1");
    exj_daemon_set(d, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "8");
}

/* Everything of one row. New reference. */
static inline json_t *row_whole(exj_daemon *d, const char *name)
{
    char path[1500] = "/v1/rows/";
    size_t n = strlen(path);
    json_t *row = NULL;

    for (const char *p = name; *p && n + 4 < sizeof(path); p++)
        n += (size_t)snprintf(path + n, sizeof(path) - n, "%%%02X", (unsigned char)*p);
    NEED(exj_daemon_call(d, "GET", path, NULL, &row) == 200);
    return row;
}

/* outputsByNodeId.deed of the evil row's answer; borrowed from `row`. */
static inline json_t *deed_of(const json_t *row)
{
    json_t *outputs = json_object_get(json_object_get(row, "result"), "outputsByNodeId");

    return json_object_get(outputs, "deed");
}

/* ---- what the kernel knows ------------------------------------------------------------------ */

/* The descriptors of `pid` that are no plain files (of those the store opens and closes some as
 * it likes): sockets, pipes, memfds, processes. *ret_list (may be NULL): all, one a line. */
static inline unsigned count_fds(pid_t pid, char **ret_list)
{
    char *text = calloc(1, 1 << 16), path[80], what[300];
    unsigned found = 0;
    size_t n = 0;

    NEED(text != NULL);
    for (int fd = 0; fd < 1024; fd++) {
        ssize_t len;

        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
        len = readlink(path, what, sizeof(what) - 1);
        if (len <= 0)
            continue;
        what[len] = '\0';
        found += what[0] != '/' || strncmp(what, "/memfd:", 7) == 0;
        if (n < (1 << 16) - 400)
            n += (size_t)sprintf(text + n, "%d %s\n", fd, what);
    }
    if (ret_list)
        *ret_list = text;
    else
        free(text);
    return found;
}

/* Processes born with our temporary folder in their environment, but the daemon: its plugin
 * hosts, and whatever those made. Sessions and groups do not hide them. */
static inline unsigned count_offspring(const exj_daemon *d)
{
    DIR *dir = opendir("/proc");
    unsigned found = 0;

    NEED(dir != NULL);
    for (struct dirent *e; (e = readdir(dir));) {
        char path[300], *env;
        size_t n = 0;
        long pid = strtol(e->d_name, NULL, 10);

        if (!isdigit((unsigned char)e->d_name[0]) || pid == d->prog.pid || pid == getpid())
            continue;
        snprintf(path, sizeof(path), "/proc/%s/environ", e->d_name);
        env = exj_slurp(path, &n);
        found += n && memmem(env, n, d->tmp.path, strlen(d->tmp.path)) != NULL;
        free(env);
    }
    closedir(dir);
    return found;
}

static inline bool is_alone(void *user)
{
    return count_offspring(user) == 0;
}

/* Wait until all hosts have gone of idleness. */
static inline bool wait_alone(exj_daemon *d)
{
    return exj_until(is_alone, d, d->prog.pidfd, 50, 20000);
}

/* ---- how long it takes ---------------------------------------------------------------------- */

#define CRASHES_A_COPY 4 /* one less than the quarantine of a plugin's content */

static inline bool note_slow(void *user, const json_t *row)
{
    if (json_integer_value(json_object_get(row, "attempts")) != 1)
        snprintf(user, 256, "%s", json_string_value(json_object_get(row, "matrixRowId")));
    return true;
}

/* With each of `copies`, four times: of ten rows the last crashes its host, once. Into
 * ret_ns[4 * copies]: from the crash to the begin of the next attempt of that row. */
static inline void time_crashes(exj_daemon *d, unsigned copies, int64_t *ret_ns)
{
    for (unsigned k = 0; k < copies * CRASHES_A_COPY; k++) {
        char matrix[24], execution[80], graph[24], graphs[40], name[256] = "";
        json_t *row;

        snprintf(execution, sizeof(execution), "{\"executor\":\"evil-engine-%04u\"}",
                 k / CRASHES_A_COPY);
        snprintf(graph, sizeof(graph), "g%u", k / CRASHES_A_COPY);
        exj_daemon_graph(d, graph, execution);
        snprintf(graphs, sizeof(graphs), "[\"%s\"]", graph);
        snprintf(matrix, sizeof(matrix), "m%u", k);
        exj_daemon_matrix(d, matrix, graphs, "record",
                          "{\"count\":10,\"record\":{\"deed\":\"once\",\"at\":9}}",
                          ",\"maxAttempts\":5");
        NEED(exj_daemon_wait_done(d, matrix, 10, 60000));
        exj_daemon_rows(d, matrix, note_slow, name);
        NEED(*name);
        row = row_whole(d, name);
        ret_ns[k] = json_integer_value(json_object_get(deed_of(row), "number"));
        json_decref(row);
    }
}

static inline int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* Sorts. */
static inline void print_crash_times(const char *lane, int64_t *ns, size_t n)
{
    qsort(ns, n, sizeof(*ns), compare_ns);
    fprintf(stderr, "crash to next attempt, lane %s, %zu crashes: p50 %.1f ms, p99 %.1f ms, most "
            "%.1f ms\n", lane, n, (double)ns[n / 2] / 1e6, (double)ns[(n * 99 + 99) / 100 - 1] / 1e6,
            (double)ns[n - 1] / 1e6);
}

#endif /* EXJ_TESTS_DAEMON_EVIL_SUPPORT_H */
