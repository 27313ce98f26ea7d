#include "core/main/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/main/reach.h"

static exj_code open_store(exj_worker *w, const exj_worker_options *o, exj_err *err)
{
    char note[1024];
    exj_code rc;

    snprintf(note, sizeof(note), "pid %ld %s worker %s socket %s", (long)getpid(), o->command,
             exj_settings_text(w->settings, EXJ_SET_WORKER_ID), w->socket);
    rc = exj_open_store(w->settings, note, &w->store, err);
    if (rc == EXJ_OK)
        w->store->v->health(w->store, &w->health);
    return rc;
}

static exj_code open_engine(exj_worker *w, const exj_worker_options *o, exj_err *err)
{
    const exj_settings *s = w->settings;
    exj_engine_options e = {
        .store = w->store,
        .plugins = w->plugins,
        .metrics = w->metrics,
        .worker_id = exj_settings_text(s, EXJ_SET_WORKER_ID),
        .executor = exj_settings_text(s, EXJ_SET_EXECUTOR),
        .max_concurrent = (uint32_t)exj_settings_number(s, EXJ_SET_MAX_CLAIMS),
        .prefetch = (uint32_t)exj_settings_number(s, EXJ_SET_PREFETCH),
        .lease_ms = exj_settings_number(s, EXJ_SET_LEASE) * 1000,
        .running_states = (uint32_t)exj_settings_number(s, EXJ_SET_RUNNING_STATES),
        .strict = exj_settings_number(s, EXJ_SET_STRICT) != 0,
        .exclusive_store = true, /* the lock says so */
        .max_rows = o->max_rows,
        .one_cycle = o->one_cycle,
        .only_matrix = o->only_matrix,
    };

    return exj_engine_start(&e, &w->engine, err);
}

static exj_code open_doors(exj_worker *w, const exj_worker_options *o, exj_err *err)
{
    const exj_settings *s = w->settings;
    const char *prefix = exj_settings_text(s, EXJ_SET_PREFIX);
    exj_server_options d = {
        .api = &w->api,
        .tcp = o->tcp,
        .bind = exj_settings_text(s, EXJ_SET_BIND),
        .port = (uint16_t)exj_settings_number(s, EXJ_SET_PORT),
        .unix_path = w->socket,
    };
    exj_err why = { 0 };
    exj_code rc;

    w->api = (exj_api){
        .store = w->store,
        .engine = w->engine,
        .plugins = w->plugins,
        .metrics = w->metrics,
        .prefix = prefix ? prefix : "",
        .api_key = exj_settings_text(s, EXJ_SET_API_KEY),
        .worker_id = exj_settings_text(s, EXJ_SET_WORKER_ID),
        .build_id = EXJ_VERSION,
        .running_states = (uint32_t)exj_settings_number(s, EXJ_SET_RUNNING_STATES),
        .scheduler_probe = exj_settings_number(s, EXJ_SET_SCHEDULER_PROBE) != 0,
        .started = exj_clock_mono_ns(),
    };
    rc = exj_server_start(&d, &w->server, &why);
    if (rc != EXJ_OK && !o->must_listen) {
        exj_log(EXJ_LOG_WARN, "main", "no local socket: %s", why.text);
        return EXJ_OK;
    }
    return rc == EXJ_OK ? rc : exj_err_set(err, rc, "%s", why.text);
}

exj_code exj_worker_open(exj_worker *w, const exj_settings *s, const exj_worker_options *o,
                         exj_err *err)
{
    char private_dir[4200];
    exj_code rc;

    *w = (exj_worker){ .settings = s };
    exj_socket_path(s, w->socket, sizeof(w->socket));
    snprintf(private_dir, sizeof(private_dir), "%s/loaded",
             exj_settings_text(s, EXJ_SET_DATA_DIR));
    rc = open_store(w, o, err);
    if (rc == EXJ_OK)
        rc = exj_open_plugins(s, private_dir, &w->plugins, err);
    if (rc == EXJ_OK && !(w->metrics = exj_metrics_new()))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_OK)
        rc = open_engine(w, o, err);
    if (rc == EXJ_OK)
        rc = open_doors(w, o, err);
    if (rc != EXJ_OK)
        exj_worker_close(w);
    return rc;
}

uint32_t exj_worker_close(exj_worker *w)
{
    exj_msec grace = exj_settings_number(w->settings, EXJ_SET_GRACE) * 1000;
    uint32_t left = 0;

    if (w->server)
        exj_server_stop(w->server);
    w->server = NULL;
    if (w->engine)
        left = exj_engine_stop(w->engine, grace);
    w->engine = NULL;
    if (left)
        return left;
    exj_registry_free(w->plugins);
    w->plugins = NULL;
    exj_metrics_free(w->metrics);
    w->metrics = NULL;
    if (w->store)
        w->store->v->close(w->store);
    w->store = NULL;
    return 0;
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
