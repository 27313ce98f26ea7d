/* core/embed/jobs.c - include/exellix/jobs.h over a wiring.
 *
 * The public codes are exj_code's numbers; what the two must agree on is asserted below. */
#include "exellix/jobs.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/embed/wiring.h"
#include "core/job/config.h"
#include "core/plugin/remote.h"

_Static_assert(EXJ_JOBS_OK == (int)EXJ_OK && EXJ_JOBS_NOMEM == (int)EXJ_NOMEM &&
                   EXJ_JOBS_INVALID == (int)EXJ_INVALID &&
                   EXJ_JOBS_NOT_FOUND == (int)EXJ_NOT_FOUND &&
                   EXJ_JOBS_CONFLICT == (int)EXJ_CONFLICT && EXJ_JOBS_FULL == (int)EXJ_FULL &&
                   EXJ_JOBS_BUSY == (int)EXJ_BUSY && EXJ_JOBS_REFUSED == (int)EXJ_REFUSED &&
                   EXJ_JOBS_UNSUPPORTED == (int)EXJ_UNSUPPORTED && EXJ_JOBS_IO == (int)EXJ_IO &&
                   EXJ_JOBS_UNKNOWN == (int)EXJ_UNKNOWN &&
                   EXJ_JOBS_CORRUPT == (int)EXJ_CORRUPT && EXJ_JOBS_BUG == (int)EXJ_BUG,
               "public codes are exj_code's");

#define FLAGS_KNOWN                                                                        \
    (EXJ_JOBS_HTTP | EXJ_JOBS_SOCKET | EXJ_JOBS_ONCE | EXJ_JOBS_STRICT | EXJ_JOBS_FAST |   \
     EXJ_JOBS_LOG_JSON)
#define TEXTS_MAX 11
/* Of plugin hosts; the daemon has settings for these. */
#define HOST_IDLE_MS 30000
#define HOST_GRACE_MS 5000
#define HOST_MEMORY_MB 4096

struct exj_jobs {
    exj_wiring w;
    /* set at open, then read-only */
    char *texts[TEXTS_MAX]; /* owned: the options' */
    unsigned texts_len;
    char **dirs; /* owned, NULL-terminated */
    char socket[PATH_MAX];
    exj_remote_settings remote; /* host_exe NULL: plugin files run in process */
    exj_lane lane;
    bool started, stopped; /* the owner's */
    pthread_mutex_t mu;
    exj_err last; /* guarded by mu */
};

/* ---- errors -------------------------------------------------------------------------------- */

static exj_jobs_code tell(exj_jobs *j, const exj_err *err, char *why, size_t why_bytes)
{
    if (j) {
        pthread_mutex_lock(&j->mu);
        j->last = *err;
        pthread_mutex_unlock(&j->mu);
    }
    if (why && why_bytes)
        snprintf(why, why_bytes, "%s", err->text);
    return (exj_jobs_code)err->code;
}

void exj_jobs_error(exj_jobs *j, char *ret, size_t bytes)
{
    pthread_mutex_lock(&j->mu);
    if (ret && bytes)
        snprintf(ret, bytes, "%s", j->last.text);
    pthread_mutex_unlock(&j->mu);
}

const char *exj_jobs_version(void)
{
    return EXJ_VERSION;
}

/* ---- options ------------------------------------------------------------------------------- */

/* The caller's struct may be shorter or longer than ours. */
static exj_code take_options(const exj_jobs_options *o, exj_jobs_options *ret, exj_err *err)
{
    if (!o || o->size_of < EXJ_SIZE(exj_jobs_options, data_dir))
        return exj_err_set(err, EXJ_INVALID, "options: size_of: wanted %u or more, found %u",
                           EXJ_SIZE(exj_jobs_options, data_dir), o ? o->size_of : 0);
    *ret = (exj_jobs_options){ 0 };
    memcpy(ret, o, o->size_of < sizeof(*ret) ? o->size_of : sizeof(*ret));
    if (ret->flags & ~FLAGS_KNOWN)
        return exj_err_set(err, EXJ_INVALID, "options: flags: wanted some of 0x%x, found 0x%x",
                           FLAGS_KNOWN, ret->flags);
    if (!ret->data_dir || !*ret->data_dir)
        return exj_err_set(err, EXJ_INVALID, "options: data_dir: wanted a folder, found none");
    if (strlen(ret->data_dir) > 4000)
        return exj_err_set(err, EXJ_INVALID, "options: data_dir: wanted at most 4000 bytes");
    if (ret->max_concurrent > 1024)
        return exj_err_set(err, EXJ_INVALID, "options: max_concurrent: wanted 0 to 1024, found "
                           "%u", ret->max_concurrent);
    if (ret->prefetch > 8192)
        return exj_err_set(err, EXJ_INVALID, "options: prefetch: wanted 0 to 8192, found %u",
                           ret->prefetch);
    if (ret->lease_ms && (ret->lease_ms < 1000 || ret->lease_ms > 900000))
        return exj_err_set(err, EXJ_INVALID, "options: lease_ms: wanted 0 or 1000 to 900000, "
                           "found %u", ret->lease_ms);
    if (ret->port > 65535)
        return exj_err_set(err, EXJ_INVALID, "options: port: wanted 0 to 65535, found %u",
                           ret->port);
    if (ret->isolation && !ret->plugin_host)
        return exj_err_set(err, EXJ_INVALID, "options: isolation \"%.40s\": wanted plugin_host as "
                           "well, the path of exellix-jobs-plugin-host", ret->isolation);
    if (ret->plugin_host && access(ret->plugin_host, X_OK) != 0)
        return exj_err_set(err, EXJ_INVALID, "options: plugin_host: %.300s: %s", ret->plugin_host,
                           strerror(errno));
    if (ret->log_level > EXJ_JOBS_LOG_DEBUG)
        return exj_err_set(err, EXJ_INVALID, "options: log_level: wanted 0 to %u, found %u",
                           EXJ_JOBS_LOG_DEBUG, ret->log_level);
    return EXJ_OK;
}

/* A copy that lives as long as j; NULL stays NULL. False: no memory. */
static bool keep(exj_jobs *j, const char *text, const char **ret)
{
    *ret = NULL;
    if (!text)
        return true;
    *ret = j->texts[j->texts_len] = strdup(text);
    return j->texts[j->texts_len++] != NULL;
}

static bool keep_dirs(exj_jobs *j, const char *const *dirs)
{
    size_t n = 0;

    while (dirs && dirs[n])
        n++;
    j->dirs = calloc(n + 1, sizeof(*j->dirs));
    for (size_t i = 0; j->dirs && i < n; i++)
        if (!(j->dirs[i] = strdup(dirs[i])))
            return false;
    return j->dirs != NULL;
}

static exj_code open_plugins(void *user, const char *private_dir, exj_registry **ret,
                             exj_err *err)
{
    const exj_jobs *j = user;

    exj_registry_options o = {
        .dirs = (const char *const *)j->dirs,
        .private_dir = private_dir,
        .lane = j->lane,
        .remote = j->remote.host_exe ? &j->remote : NULL,
    };

    return exj_registry_open(&o, ret, err);
}

static bool fill(exj_jobs *j, const exj_jobs_options *o, exj_wiring_options *ret)
{
    char host[65] = "host", id[128], transform[PATH_MAX];

    gethostname(host, sizeof(host) - 1);
    snprintf(id, sizeof(id), "%s-%ld-%08" PRIx32, host, (long)getpid(),
             (uint32_t)exj_random_u64());
    *ret = (exj_wiring_options){
        .command = "embedded",
        .fast = o->flags & EXJ_JOBS_FAST,
        .open_plugins = open_plugins,
        .user = j,
        .max_concurrent = o->max_concurrent ? o->max_concurrent : 4,
        .prefetch = o->prefetch,
        .lease_ms = o->lease_ms,
        .running_states = EXJ_RUNNING_STATES_DEFAULT,
        .max_rows = o->max_rows,
        .strict = o->flags & EXJ_JOBS_STRICT,
        .one_cycle = o->flags & EXJ_JOBS_ONCE,
        .tcp = o->flags & EXJ_JOBS_HTTP,
        .must_listen = true,
        .port = (uint16_t)o->port,
    };
    if (o->flags & EXJ_JOBS_SOCKET) {
        snprintf(j->socket, sizeof(j->socket), "%s/exellix-jobs.sock", o->data_dir);
        ret->socket = j->socket;
    }
    j->remote = (exj_remote_settings){ .memory_mb = HOST_MEMORY_MB, .idle_ms = HOST_IDLE_MS,
                                       .grace_ms = HOST_GRACE_MS };
    if (o->plugin_host) { /* they are installed beside each other */
        const char *slash = strrchr(o->plugin_host, '/');

        snprintf(transform, sizeof(transform), "%.*sexellix-jobs-transform",
                 slash ? (int)(slash - o->plugin_host) + 1 : 0, o->plugin_host);
    }
    return keep_dirs(j, o->plugin_dirs) &&
           keep(j, o->plugin_host ? transform : NULL, &ret->transform_exe) &&
           keep(j, o->plugin_host, &j->remote.host_exe) &&
           keep(j, o->data_dir, &j->remote.hidden_dir) && keep(j, o->data_dir, &ret->data_dir) &&
           keep(j, o->private_dir, &ret->private_dir) && keep(j, o->executor, &ret->executor) &&
           keep(j, o->worker_id ? o->worker_id : id, &ret->worker_id) &&
           keep(j, o->bind ? o->bind : "127.0.0.1", &ret->bind) &&
           keep(j, o->http_prefix ? o->http_prefix : "/v1", &ret->prefix) &&
           keep(j, o->api_key, &ret->api_key) && keep(j, o->only_matrix, &ret->only_matrix);
}

static void set_up_log(const exj_jobs_options *o)
{
    static const exj_log_level levels[] = { EXJ_LOG_WARN, EXJ_LOG_ERROR, EXJ_LOG_INFO,
                                            EXJ_LOG_DEBUG };

    exj_log_setup(levels[o->log_level], o->flags & EXJ_JOBS_LOG_JSON);
}

/* ---- open and end ---------------------------------------------------------------------------- */

static void jobs_free(exj_jobs *j)
{
    for (unsigned i = 0; i < j->texts_len; i++)
        free(j->texts[i]);
    for (char **d = j->dirs; d && *d; d++)
        free(*d);
    free(j->dirs);
    pthread_mutex_destroy(&j->mu);
    free(j);
}

exj_jobs_code exj_jobs_open(const exj_jobs_options *o, exj_jobs **ret, char *why,
                            size_t why_bytes)
{
    exj_wiring_options wiring;
    exj_jobs_options mine;
    exj_err err = { 0 };
    exj_jobs *j = NULL;

    if (take_options(o, &mine, &err) != EXJ_OK)
        return tell(NULL, &err, why, why_bytes);
    j = calloc(1, sizeof(*j));
    if (!j) {
        exj_err_set(&err, EXJ_NOMEM, "out of memory");
        return tell(NULL, &err, why, why_bytes);
    }
    pthread_mutex_init(&j->mu, NULL);
    set_up_log(&mine);
    if (mine.plugin_host && exj_lane_parse(exj_slice_of(mine.isolation ? mine.isolation : "host"),
                                           &j->lane, &err) != EXJ_OK)
        exj_err_prefix(&err, "options");
    else if (!fill(j, &mine, &wiring))
        exj_err_set(&err, EXJ_NOMEM, "out of memory");
    else
        exj_wiring_open(&j->w, &wiring, &err);
    if (err.code != EXJ_OK) {
        jobs_free(j);
        return tell(NULL, &err, why, why_bytes);
    }
    *ret = j;
    return EXJ_JOBS_OK;
}

exj_jobs_code exj_jobs_add_plugins(exj_jobs *j, const char *name, const exj_bundle *b,
                                   char *why, size_t why_bytes)
{
    exj_err err = { 0 };

    if (j->started)
        exj_err_set(&err, EXJ_REFUSED, "plugins are added before the start");
    else
        exj_registry_add_static(j->w.plugins, name, b, &err);
    return err.code == EXJ_OK ? EXJ_JOBS_OK : tell(j, &err, why, why_bytes);
}

exj_jobs_code exj_jobs_apply(exj_jobs *j, const char *json, size_t bytes, char *why,
                             size_t why_bytes)
{
    exj_err err = { 0 };

    if (!json || !bytes)
        exj_err_set(&err, EXJ_INVALID, "documents: wanted JSON, found nothing");
    else
        exj_wiring_apply(&j->w, (exj_slice){ json, bytes }, &err);
    return err.code == EXJ_OK ? EXJ_JOBS_OK : tell(j, &err, why, why_bytes);
}

exj_jobs_code exj_jobs_start(exj_jobs *j, char *why, size_t why_bytes)
{
    exj_err err = { 0 };

    if (j->started)
        exj_err_set(&err, EXJ_REFUSED, "started already: a worker starts once");
    else if (exj_wiring_start(&j->w, &err) == EXJ_OK)
        j->started = true;
    return err.code == EXJ_OK ? EXJ_JOBS_OK : tell(j, &err, why, why_bytes);
}

exj_jobs_code exj_jobs_stop(exj_jobs *j, uint32_t grace_ms, uint32_t *ret_left)
{
    exj_err err = { 0 };

    if (j->started && !j->stopped)
        exj_wiring_stop(&j->w, grace_ms);
    j->stopped = j->started;
    if (ret_left)
        *ret_left = j->w.left;
    if (!j->w.left)
        return EXJ_JOBS_OK;
    exj_err_set(&err, EXJ_BUSY, "%" PRIu32 " executions outlasted the grace of %" PRIu32
                " ms: left to their leases", j->w.left, grace_ms);
    return tell(j, &err, NULL, 0);
}

void exj_jobs_free(exj_jobs *j)
{
    if (!j)
        return;
    exj_jobs_stop(j, 0, NULL);
    if (j->w.left)
        return; /* they still run below */
    exj_wiring_close(&j->w);
    jobs_free(j);
}

/* ---- while it runs --------------------------------------------------------------------------- */

void exj_jobs_pause(exj_jobs *j)
{
    if (j->w.engine)
        exj_engine_pause(j->w.engine);
}

void exj_jobs_resume(exj_jobs *j)
{
    if (j->w.engine)
        exj_engine_resume(j->w.engine);
}

exj_jobs_code exj_jobs_wait_idle(exj_jobs *j, uint32_t timeout_ms)
{
    exj_nsec until = timeout_ms == UINT32_MAX
                         ? 0
                         : exj_clock_mono_ns() + (exj_nsec)timeout_ms * 1000000;
    exj_engine_counts n;
    exj_err err = { 0 };
    bool idle;

    if (!j->w.engine) {
        exj_err_set(&err, EXJ_REFUSED, "the worker is not started");
        return tell(j, &err, NULL, 0);
    }
    idle = exj_engine_wait_idle(j->w.engine, until);
    exj_engine_get_counts(j->w.engine, &n);
    if (n.store_failed)
        exj_err_set(&err, EXJ_IO, "the store failed: stop and open anew");
    else if (!idle)
        exj_err_set(&err, EXJ_BUSY, "not idle after %" PRIu32 " ms", timeout_ms);
    return err.code == EXJ_OK ? EXJ_JOBS_OK : tell(j, &err, NULL, 0);
}

void exj_jobs_get_counts(exj_jobs *j, exj_jobs_counts *ret)
{
    exj_jobs_counts c = { 0 };
    exj_engine_counts n;

    if (j->w.engine) {
        exj_engine_get_counts(j->w.engine, &n);
        c = (exj_jobs_counts){
            .paused = exj_engine_is_paused(j->w.engine),
            .scanned = n.scanned,
            .materialized = n.materialized,
            .claimed = n.claimed,
            .completed = n.completed,
            .failed = n.failed,
            .blocked = n.blocked,
            .suspended = n.suspended,
            .retried = n.retried,
            .fenced = n.fenced,
            .source_errors = n.cycle_errors,
            .executing = n.in_flight,
            .ready = n.ready,
            .open = n.open > 0 ? (uint64_t)n.open : 0,
        };
    }
    c.size_of = ret->size_of;
    memcpy(ret, &c, ret->size_of < sizeof(c) ? ret->size_of : sizeof(c));
}

exj_jobs_code exj_jobs_health(exj_jobs *j, char *why, size_t why_bytes)
{
    char text[EXJ_ERR_TEXT_BYTES];
    exj_store_health h;
    exj_err err = { 0 };

    if (j->w.store->v->health(j->w.store, &h) != EXJ_OK || !h.config_ok || !h.execution_ok)
        exj_err_set(&err, EXJ_IO, "store: %s", h.text);
    else if (!j->w.engine)
        exj_err_set(&err, EXJ_REFUSED, "the worker is not started");
    else if (!exj_engine_health(j->w.engine, text, sizeof(text)))
        exj_err_set(&err, EXJ_BUSY, "%s", text);
    return err.code == EXJ_OK ? EXJ_JOBS_OK : tell(j, &err, why, why_bytes);
}

exj_jobs_code exj_jobs_ask(exj_jobs *j, const char *method, const char *path,
                           const char *query, const char *body, size_t body_bytes,
                           void (*take)(void *user, uint32_t status, const char *answer,
                                        size_t bytes),
                           void *user, char *why, size_t why_bytes)
{
    exj_response answer = { 0 };
    exj_err err = { 0 };
    exj_slice text;

    if (!method || !path || path[0] != '/')
        exj_err_set(&err, EXJ_INVALID, "ask: wanted a method and a path that begins with '/'");
    else
        exj_wiring_call(&j->w, method, path, query ? query : "",
                        (exj_slice){ body ? body : "", body ? body_bytes : 0 }, &answer, &err);
    if (err.code != EXJ_OK)
        return tell(j, &err, why, why_bytes);
    text = exj_buf_slice(&answer.body);
    if (take)
        take(user, answer.status, text.n ? text.p : "", text.n);
    exj_response_release(&answer);
    return EXJ_JOBS_OK;
}

uint32_t exj_jobs_port(exj_jobs *j)
{
    return j->w.server && j->w.o.tcp ? exj_server_port(j->w.server) : 0;
}
