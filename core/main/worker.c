#include "core/main/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/main/cmd_plugin.h"
#include "core/main/reach.h"

#define DESCRIPTORS_MIN 64
#define DESCRIPTORS_RAISED 1024

#define SINKS_FILE_MAX (1024u * 1024u)

static void record_host(void *recorder, const char *id, int pid, const char *outcome)
{
    exj_hist_event e = { .op = EXJ_HIST_HOST, .phase = EXJ_HIST_OK, .value = pid,
                         .key = exj_slice_of(id), .outcome = exj_slice_of(outcome) };

    exj_recorder_write(recorder, &e);
}

static exj_code open_plugins(void *user, const char *private_dir, exj_registry **ret,
                             exj_err *err)
{
    exj_worker *w = user;
    exj_code rc = exj_house_open(&w->house, w->settings, err); /* the data folder is there now */

    if (w->wiring.record) {
        w->house.remote.record_fd = exj_recorder_fd(w->wiring.record);
        w->house.remote.record_user = w->wiring.record;
        w->house.remote.host_seen = record_host;
    }
    if (rc == EXJ_OK)
        rc = exj_house_registry(&w->house, NULL, private_dir, ret, err);
    w->wiring.o.shelf = w->wiring.api.shelf = w->house.shelf;
    w->wiring.o.transform_exe = w->house.transform_exe;
    return rc;
}

static exj_wiring_options wiring_of(exj_worker *w, exj_settings *s, const exj_worker_options *o)
{
    return (exj_wiring_options){
        .command = o->command,
        .data_dir = exj_settings_text(s, EXJ_SET_DATA_DIR),
        .record = exj_settings_text(s, EXJ_SET_RECORD),
        .fast = strcmp(exj_settings_text(s, EXJ_SET_DURABILITY), "fast") == 0,
        .open_plugins = open_plugins,
        .user = w,
        .plugin_dirs = (const char *const *)s->plugin_dirs,
        .manual_reload = strcmp(exj_settings_text(s, EXJ_SET_RELOAD), "manual") == 0,
        .poll_ms = (uint32_t)exj_settings_number(s, EXJ_SET_PLUGINS_POLL) * 1000,
        .canary_percent = (uint32_t)exj_settings_number(s, EXJ_SET_CANARY),
        .trial_rows = (uint32_t)exj_settings_number(s, EXJ_SET_TRIAL_ROWS),
        .drain_ms = (uint32_t)exj_settings_number(s, EXJ_SET_DRAIN) * 1000,
        .grace_ms = (uint32_t)exj_settings_number(s, EXJ_SET_HOST_GRACE) * 1000,
        .row_crashes = (uint32_t)exj_settings_number(s, EXJ_SET_ROW_CRASHES),
        .worker_id = exj_settings_text(s, EXJ_SET_WORKER_ID),
        .executor = exj_settings_text(s, EXJ_SET_EXECUTOR),
        .only_matrix = o->only_matrix,
        .max_concurrent = (uint32_t)exj_settings_number(s, EXJ_SET_MAX_CLAIMS),
        .prefetch = (uint32_t)exj_settings_number(s, EXJ_SET_PREFETCH),
        .running_states = (uint32_t)exj_settings_number(s, EXJ_SET_RUNNING_STATES),
        .lease_ms = exj_settings_number(s, EXJ_SET_LEASE) * 1000,
        .max_rows = o->max_rows,
        .strict = exj_settings_number(s, EXJ_SET_STRICT) != 0,
        .one_cycle = o->one_cycle,
        .socket = w->socket,
        .tcp = o->serves && exj_settings_number(s, EXJ_SET_HTTP) != 0,
        .must_listen = o->serves,
        .bind = exj_settings_text(s, EXJ_SET_BIND),
        .port = (uint16_t)exj_settings_number(s, EXJ_SET_PORT),
        .prefix = exj_settings_text(s, EXJ_SET_PREFIX),
        .api_key = exj_settings_text(s, EXJ_SET_API_KEY),
        .scheduler_probe = exj_settings_number(s, EXJ_SET_SCHEDULER_PROBE) != 0,
        .idempotency_hours = (uint32_t)exj_settings_number(s, EXJ_SET_IDEMPOTENCY),
        .sinks = w->sinks.p,
    };
}

static bool visit_any(void *user, exj_slice id, int64_t version, exj_slice body,
                      exj_msec created_at, exj_msec updated_at)
{
    (void)user, (void)id, (void)version, (void)body, (void)created_at, (void)updated_at;
    return false;
}

/* A matrix that is not there would make a run that does nothing and says it is done. */
static exj_code check_matrix(exj_store *store, const char *id, exj_err *err)
{
    exj_err why = { 0 };
    exj_code rc = store->v->doc_get(store, EXJ_DOC_MATRIX,
                                    exj_slice_of(id), visit_any, NULL, &why);

    if (rc == EXJ_NOT_FOUND)
        return exj_err_set(err, rc, "no matrix \"%s\"; 'exellix-jobs matrices' lists them", id);
    return rc == EXJ_OK ? rc : exj_err_set(err, rc, "%s", why.text);
}

static exj_code read_sinks(exj_worker *w, exj_err *err)
{
    const char *path = exj_settings_text(w->settings, EXJ_SET_SINKS);
    exj_code rc = path ? exj_tool_read(path, SINKS_FILE_MAX, &w->sinks, err) : EXJ_OK;

    return rc ? exj_err_prefix(err, "EXELLIX_JOBS_SINKS") : EXJ_OK;
}

/* With too few descriptors a worker starts and then serves nobody: each is used up by itself. The
 * limit that a program may raise by itself is raised. */
static exj_code check_descriptors(exj_err *err)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= DESCRIPTORS_MIN)
        return EXJ_OK;
    if (r.rlim_max >= DESCRIPTORS_MIN) {
        r.rlim_cur = r.rlim_max < DESCRIPTORS_RAISED ? r.rlim_max : DESCRIPTORS_RAISED;
        if (setrlimit(RLIMIT_NOFILE, &r) == 0)
            return EXJ_OK;
    }
    return exj_err_set(err, EXJ_FULL, "the limit of open files is %llu: a worker needs %d file "
                       "descriptors at least, and one for each client (ulimit -n 1024)",
                       (unsigned long long)r.rlim_max, DESCRIPTORS_MIN);
}

exj_code exj_worker_open(exj_worker *w, exj_settings *s, const exj_worker_options *o,
                         exj_err *err)
{
    exj_wiring_options options;
    exj_code rc;

    *w = (exj_worker){ .settings = s };
    rc = o->serves ? check_descriptors(err) : EXJ_OK;
    if (rc == EXJ_OK)
        rc = exj_hostboot_configure(&w->host, s, err);
    if (rc == EXJ_OK)
        rc = exj_settings_support(s, err);
    if (rc == EXJ_OK)
        rc = read_sinks(w, err);
    if (rc == EXJ_OK) {
        exj_socket_path(s, w->socket, sizeof(w->socket));
        options = wiring_of(w, s, o);
        rc = exj_wiring_open(&w->wiring, &options, err);
    }
    if (rc == EXJ_OK)
        rc = exj_hostboot_fill(&w->host, &w->wiring, err);
    if (rc == EXJ_OK && o->only_matrix)
        rc = check_matrix(w->wiring.store, o->only_matrix, err);
    if (rc == EXJ_OK && o->prepare)
        rc = o->prepare(w, o->user, err);
    if (rc == EXJ_OK && !o->no_engine)
        rc = exj_wiring_start(&w->wiring, err);
    if (rc == EXJ_OK && !o->no_engine)
        exj_hostboot_started(&w->host, &w->wiring);
    if (rc != EXJ_OK)
        exj_worker_close(w);
    return rc;
}

uint32_t exj_worker_close(exj_worker *w)
{
    exj_msec grace = exj_settings_number(w->settings, EXJ_SET_GRACE) * 1000;
    uint32_t left;

    exj_hostboot_stopping(&w->host);
    left = exj_wiring_stop(&w->wiring, grace);
    exj_wiring_close(&w->wiring);
    if (!left) /* else the bundles of a bootstrap are still in use: they are its own anyway */
        exj_hostboot_release(&w->host);
    if (!left)
        exj_house_close(&w->house);
    exj_buf_release(&w->sinks);
    return left;
}

/* ---- signals ------------------------------------------------------------------------------- */

static void end_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGTERM);
}

int exj_signals_open(void)
{
    sigset_t set;

    end_signals(&set);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int exj_signals_wait(int fd, int timeout_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    struct signalfd_siginfo info;

    if (poll(&p, 1, timeout_ms) <= 0)
        return 0;
    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return 0;
    return (int)info.ssi_signo;
}

static void exit_at_once(int sig)
{
    (void)sig;
    _exit(EXJ_EXIT_INTERRUPTED);
}

void exj_signals_arm_exit(void)
{
    struct sigaction act = { .sa_handler = exit_at_once };
    sigset_t set;

    end_signals(&set);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigprocmask(SIG_UNBLOCK, &set, NULL); /* of this thread: the others stay deaf */
}

void exj_service_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof(to.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* abstract */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* Nobody there is no reason to stop. */
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
        exj_log(EXJ_LOG_DEBUG, "main", "NOTIFY_SOCKET: %s", strerror(errno));
    close(fd);
}
