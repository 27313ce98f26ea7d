/* core/main/settings.h - every setting (spec 1.9): one table, five sources.
 *
 * A flag beats the environment, the environment beats `.env` in the working folder, `.env`
 * beats the config file, that beats the default. Each value remembers where it came from. An
 * empty value counts as not set. Values are checked when they are taken, so that a message
 * can name the variable, the value, its origin and what is allowed.
 *
 * Memory:  exj_settings owns its texts; exj_settings_release ends them.
 * Threads: filled in main before threads start, then read only.
 */
#ifndef EXJ_CORE_MAIN_SETTINGS_H
#define EXJ_CORE_MAIN_SETTINGS_H

#include "core/base/json.h"

typedef enum exj_setting_kind {
    EXJ_SETTING_TEXT,   /* any text without control bytes */
    EXJ_SETTING_NUMBER, /* a whole number, low..high */
    EXJ_SETTING_BOOL,   /* true false 1 0 yes no on off */
    EXJ_SETTING_CHOICE, /* one of the words in `allowed`, split at '|' */
    EXJ_SETTING_STATES, /* operational states, split at ',' */
    EXJ_SETTING_PREFIX, /* "" or "/like/this" */
    EXJ_SETTING_SECRET, /* text that is never printed and has no flag */
    EXJ_SETTING_URI     /* text whose password is never printed and that has no flag */
} exj_setting_kind;

/* id, variable, flag (NULL: none), kind, default (NULL: computed or not set), low, high,
 * allowed words, help. Help is one line and begins in lower case. */
#define EXJ_SETTINGS_TABLE(X)                                                              \
    X(MONGO_URI, "MONGO_URI", NULL, URI, NULL, 0, 0, NULL,                                 \
      "MongoDB store (not part of this build yet)")                                        \
    X(EXECUTION_DB, "execution_db", "execution-db", TEXT, "exellix-runtime", 0, 0, NULL,   \
      "name of the database of rows")                                                      \
    X(CONFIG_DB, "config_db", "config-db", TEXT, "exellix", 0, 0, NULL,                    \
      "name of the database of configs")                                                   \
    X(PORT, "PORT", "port", NUMBER, "8080", 0, 65535, NULL,                                \
      "HTTP port; 0 takes any free one")                                                   \
    X(PREFIX, "JOBS_HTTP_PREFIX", "http-prefix", PREFIX, "/v1", 0, 0, NULL,                \
      "path prefix of the HTTP API")                                                       \
    X(WORKER_ID, "MATRIX_WORKER_ID", "worker-id", TEXT, NULL, 0, 0, NULL,                  \
      "identity in leases, health and metrics")                                            \
    X(MAX_CLAIMS, "EXELLIX_JOBS_MAX_CONCURRENT_CLAIMS", "max-concurrent-claims", NUMBER,   \
      "4", 1, 1024, NULL, "executions at once in this process")                            \
    X(STRICT, "EXELLIX_JOBS_GRAPH_SCHEDULABILITY_STRICT", "strict", BOOL, "false", 0, 0,   \
      NULL, "refuse a row whose graph has no config")                                      \
    X(HTTP, "EXELLIX_JOBS_HTTP_ENABLED", "http", BOOL, "true", 0, 0, NULL,                 \
      "open the TCP door")                                                                 \
    X(API_KEY, "EXELLIX_JOBS_API_KEY", NULL, SECRET, NULL, 0, 0, NULL,                     \
      "key that allows mutations over TCP")                                                \
    X(EXECUTOR, "EXELLIX_JOBS_GRAPH_ENGINE_BOOTSTRAP", "executor", TEXT, NULL, 0, 0, NULL, \
      "graph engine: a plugin's name or a path to a .so")                                  \
    X(HOST, "EXELLIX_JOBS_HOST_BOOTSTRAP", "host-bootstrap", TEXT, NULL, 0, 0, NULL,       \
      "a .so that wires the worker (serve and run)")                          \
    X(PLUGINS_DIR, "EXELLIX_JOBS_PLUGINS_DIR", "plugins-dir", TEXT, NULL, 0, 0, NULL,      \
      "where plugins are dropped; several are split at ':'")                               \
    X(ISOLATION, "EXELLIX_JOBS_PLUGINS_ISOLATION", "isolation", CHOICE, "host", 0, 0,      \
      "in-process|host|sandbox", "where plugins run that were not shipped with this program") \
    X(TRUST, "EXELLIX_JOBS_PLUGINS_TRUST", "plugins-trust", CHOICE, "any", 0, 0,           \
      "any|listed", "listed: only contents of the trust list are loaded")                  \
    X(RELOAD, "EXELLIX_JOBS_PLUGINS_RELOAD", "plugins-reload", CHOICE, "auto", 0, 0,       \
      "auto|manual", "manual: a changed plugin waits for `plugin reload`")                 \
    X(PLUGINS_POLL, "EXELLIX_JOBS_PLUGINS_POLL_SECONDS", "plugins-poll-seconds", NUMBER,   \
      "5", 1, 3600, NULL, "how often plugin folders are looked at where no event comes")   \
    X(CANARY, "EXELLIX_JOBS_PLUGINS_CANARY_PERCENT", "plugins-canary-percent", NUMBER,     \
      "10", 0, 100, NULL, "share of a busy graph's rows for a new version; 0: all at once") \
    X(TRIAL_ROWS, "EXELLIX_JOBS_PLUGINS_TRIAL_ROWS", "plugins-trial-rows", NUMBER, "10",   \
      0, 1000, NULL, "completed rows that a replayable plugin's new version is tried with") \
    X(DRAIN, "EXELLIX_JOBS_PLUGINS_DRAIN_SECONDS", "plugins-drain-seconds", NUMBER, "60",  \
      1, 86400, NULL, "how long an old version's rows may run on; then its host is killed") \
    X(HOST_IDLE, "EXELLIX_JOBS_PLUGINS_IDLE_SECONDS", "plugins-idle-seconds", NUMBER,      \
      "30", 1, 86400, NULL, "an idle plugin host ends after so long")                      \
    X(HOST_GRACE, "EXELLIX_JOBS_PLUGINS_GRACE_SECONDS", "plugins-grace-seconds", NUMBER,   \
      "5", 0, 3600, NULL, "from a deadline to SIGTERM, and again to SIGKILL")              \
    X(HOST_MEMORY, "EXELLIX_JOBS_PLUGINS_MEMORY_MB", "plugins-memory-mb", NUMBER, "4096",  \
      0, 1048576, NULL, "address space of a plugin host; 0: no limit")                     \
    X(ROW_CRASHES, "EXELLIX_JOBS_PLUGINS_ROW_CRASHES", "plugins-row-crashes", NUMBER, "3", \
      1, 1000, NULL, "a row that kills its plugin host so often is set aside")             \
    X(SCHEDULER_PROBE, "EXELLIX_JOBS_ACTIVIX_SCHEDULER_PROBE", "scheduler-probe", BOOL,    \
      "false", 0, 0, NULL, "include the scheduler lane in the dependency probe")           \
    X(DATA_DIR, "EXELLIX_JOBS_DATA_DIR", "data-dir", TEXT, NULL, 0, 0, NULL,               \
      "where the store lies")                                                              \
    X(BIND, "EXELLIX_JOBS_BIND", "bind", TEXT, "127.0.0.1", 0, 0, NULL,                    \
      "address of the TCP door; any but loopback needs the API key")                       \
    X(LEASE, "EXELLIX_JOBS_LEASE_SECONDS", "lease-seconds", NUMBER, "60", 1, 900, NULL,    \
      "how long a claim holds without being renewed")                                      \
    X(PREFETCH, "EXELLIX_JOBS_PREFETCH", "prefetch", NUMBER, "4096", 1, 8192, NULL,        \
      "rows claimed ahead of their execution, at most")                                    \
    X(GRACE, "EXELLIX_JOBS_SHUTDOWN_GRACE_SECONDS", "shutdown-grace-seconds", NUMBER,      \
      "30", 0, 86400, NULL, "how long a stop waits for what runs")                         \
    X(LOG_LEVEL, "EXELLIX_JOBS_LOG_LEVEL", "log-level", CHOICE, "info", 0, 0,              \
      "debug|info|warn|error", "least level that is logged")                               \
    X(LOG_JSON, "EXELLIX_JOBS_LOG_JSON", "log-json", CHOICE, "auto", 0, 0,                 \
      "auto|true|false", "log lines as JSON; auto: unless on a terminal")                  \
    X(RUNNING_STATES, "EXELLIX_JOBS_GRAPH_RUNNING_STATES", "running-states", STATES,       \
      "Ready,Running", 0, 0, NULL, "operational states in which a graph may run")          \
    X(DURABILITY, "EXELLIX_JOBS_DURABILITY", "durability", CHOICE, "full", 0, 0,           \
      "full|fast", "fast may lose the last commits when the power fails")                  \
    X(SINKS, "EXELLIX_JOBS_SINKS", "sinks", TEXT, NULL, 0, 0, NULL,                        \
      "JSON file of event sinks: where events are delivered")                              \
    X(IDEMPOTENCY, "EXELLIX_JOBS_IDEMPOTENCY_HOURS", "idempotency-hours", NUMBER, "24",    \
      1, 8760, NULL, "how long an Idempotency-Key and its answer are remembered")          \
    X(RECORD, "EXELLIX_JOBS_RECORD", "record", TEXT, NULL, 0, 0, NULL,                     \
      "file that a history for check-history is appended to")                              \
    X(CONFIG_FILE, "EXELLIX_JOBS_CONFIG_FILE", "config-file", TEXT, NULL, 0, 0, NULL,      \
      "JSON file of settings, its keys are these names")

typedef enum exj_setting {
#define EXJ_X(id, ...) EXJ_SET_##id,
    EXJ_SETTINGS_TABLE(EXJ_X)
#undef EXJ_X
    EXJ_SETTING_COUNT
} exj_setting;

typedef enum exj_origin {
    EXJ_FROM_DEFAULT, EXJ_FROM_FILE, EXJ_FROM_DOTENV, EXJ_FROM_ENV, EXJ_FROM_FLAG,
    EXJ_FROM_HOST /* the host bootstrap: beats all others */
} exj_origin;

typedef struct exj_setting_info {
    const char *name, *flag;
    exj_setting_kind kind;
    const char *fallback;
    int64_t low, high;
    const char *allowed, *help;
} exj_setting_info;

extern const exj_setting_info exj_setting_infos[EXJ_SETTING_COUNT];

typedef struct exj_settings {
    struct {
        char *text;     /* owned; NULL: not set */
        int64_t number; /* NUMBER; BOOL: 0, 1; STATES: bits */
        exj_origin origin;
        char *where;    /* owned; ".env:3", the config file's path; NULL otherwise */
    } at[EXJ_SETTING_COUNT];
    /* From the binary's place: EXE_DIR/plugins, then the installed folders. Owned. */
    char *exe;              /* the binary itself */
    char **plugin_dirs;     /* NULL-terminated: the set ones, then the binary's own */
    char **own_dirs;        /* where those begin, in plugin_dirs */
} exj_settings;

/* A value a flag gave; before exj_settings_load. Errors: EXJ_INVALID, EXJ_NOMEM. */
exj_code exj_settings_set_flag(exj_settings *s, exj_setting id, const char *value,
                               exj_err *err);
/* Fill in what no flag gave. `environment`: a NULL-terminated "K=V" list. `dotenv`: path, may
 * be absent. `warn` is told of unknown EXELLIX_JOBS_ names.
 * Errors: EXJ_INVALID, EXJ_IO, EXJ_NOMEM. */
exj_code exj_settings_load(exj_settings *s, char *const *environment, const char *dotenv,
                           void (*warn)(const char *line), exj_err *err);
void exj_settings_release(exj_settings *s); /* accepts a zeroed struct */

/* By its name; NULL: not set, or no setting. */
const char *exj_settings_by_name(const exj_settings *s, const char *name);
/* What the host bootstrap says, after exj_settings_load. Errors: EXJ_INVALID, EXJ_NOMEM. */
exj_code exj_settings_set_host(exj_settings *s, const char *name, const char *value,
                               exj_err *err);

const char *exj_settings_text(const exj_settings *s, exj_setting id); /* NULL: not set */
int64_t exj_settings_number(const exj_settings *s, exj_setting id);
/* Refuse what this build cannot do (MongoDB). Errors: EXJ_UNSUPPORTED. */
exj_code exj_settings_support(const exj_settings *s, exj_err *err);
/* Refuse a command that knows only the files of the embedded store where MONGO_URI is set: it
 * would look at an old data directory. Errors: EXJ_UNSUPPORTED. */
exj_code exj_settings_embedded(const exj_settings *s, const char *command, exj_err *err);

/* The value for a person, secrets hidden; and where it came from. Errors: EXJ_NOMEM */
exj_code exj_settings_show(const exj_settings *s, exj_setting id, exj_buf *ret_value,
                           exj_buf *ret_origin, exj_err *err);

#endif /* EXJ_CORE_MAIN_SETTINGS_H */
