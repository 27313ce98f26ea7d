#include "database.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STORE_FILE "exellix-jobs.db"
#define STORE_LOCK "exellix-jobs.lock"
#define LENGTH_MOST (16 * 1024 * 1024) /* of one value within a query */
#define BUSY_MS 2000
#define STEPS 2000 /* of the virtual machine between two looks at the clock: some 0.1 ms */

static bool no(char *why, const char *name, const char *what, const char *more)
{
    snprintf(why, EXJ_SQL_WHY_BYTES, "%s: %s%s", name, what, more);
    return false;
}

/* ---- where -------------------------------------------------------------------------------------- */

/* `path` (real) lies below `root` (real). */
static bool is_below(const char *root, const char *path)
{
    size_t n = strcmp(root, "/") == 0 ? 0 : strlen(root);

    return strncmp(path, root, n) == 0 && path[n] == '/';
}

/* A worker's store: this name, and the lock that a worker keeps beside it. */
static bool is_store(const char *path)
{
    char lock[EXJ_SQL_PATH_BYTES + sizeof STORE_LOCK];
    const char *slash = strrchr(path, '/');

    if (strcmp(slash + 1, STORE_FILE) != 0)
        return false;
    snprintf(lock, sizeof lock, "%.*s%s", (int)(slash + 1 - path), path, STORE_LOCK);
    return access(lock, F_OK) == 0 || errno != ENOENT;
}

/* The real path into d->path. */
static bool find(exj_sql_database *d, const char *root, const char *path, const char **ret_code,
                 char *why)
{
    char full[2 * EXJ_SQL_PATH_BYTES + 3], real[PATH_MAX], real_root[PATH_MAX];
    struct stat st;

    *ret_code = "FileNotOpened";
    if (*path != '/' && !root)
        return no(why, d->name, "wanted an absolute path, or a root that it is below: "
                                "dataSource.config.root", "");
    snprintf(full, sizeof full, "%s%s%s", *path == '/' ? "" : root, *path == '/' ? "" : "/", path);
    if (!realpath(full, real) || stat(real, &st) != 0) {
        if (errno == ENOENT)
            *ret_code = "FileMissing";
        return no(why, d->name,
                  errno == ENOENT   ? "no such file"
                  : errno == EACCES ? "permission denied: give the worker's user the right to it "
                                      "(on lane host also: keep it outside of DATA_DIR)"
                                    : strerrordesc_np(errno), "");
    }
    if (root && !realpath(root, real_root))
        return no(why, root, "the root cannot be opened: ", strerrordesc_np(errno));
    if (root && !is_below(real_root, real))
        return no(why, d->name, "lies outside of the root ", root);
    if (!S_ISREG(st.st_mode))
        return no(why, d->name, "wanted a regular file", "");
    if (is_store(real)) {
        *ret_code = "OwnStore";
        return no(why, d->name, "this is a worker's own store (" STORE_LOCK " lies beside it): a "
                  "long read of it would keep the worker from tidying up; ask its HTTP API, or "
                  "read a copy: exellix-jobs backup", "");
    }
    if (strlen(real) > EXJ_SQL_PATH_BYTES)
        return no(why, d->name, "the path is too long", "");
    snprintf(d->path, sizeof d->path, "%s", real);
    d->dev = st.st_dev;
    d->ino = st.st_ino;
    return true;
}

/* ---- what a statement may do ---------------------------------------------------------------------- */

/* Reads, and functions that touch nothing outside. */
static bool is_harmless(int action, const char *function)
{
    static const char *const refused[] = { "load_extension", "writefile", "readfile", "edit",
                                           "fts3_tokenizer" };

    if (action == SQLITE_SELECT || action == SQLITE_READ || action == SQLITE_RECURSIVE)
        return true;
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++)
        if (function && sqlite3_stricmp(function, refused[k]) == 0)
            return false;
    return action == SQLITE_FUNCTION;
}

static int authorize(void *user, int action, const char *first, const char *second,
                     const char *database, const char *trigger)
{
    exj_sql_database *d = user;

    (void)first, (void)database, (void)trigger;
    if (is_harmless(action, second))
        return SQLITE_OK;
    d->denied = true;
    return SQLITE_DENY;
}

/* Not 0 ends the statement. */
static int look_up(void *user)
{
    exj_sql_database *d = user;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec >= d->deadline_ns)
        d->stopped = EXJ_R_DEADLINE;
    else
        d->stopped = d->host->cancelled(d->host->ctx, d->call);
    return d->stopped != EXJ_R_OK;
}

static bool close_doors(exj_sql_database *d)
{
    static const struct {
        int id, value;
    } limits[] = { { SQLITE_LIMIT_LENGTH, LENGTH_MOST }, { SQLITE_LIMIT_ATTACHED, 0 },
                   { SQLITE_LIMIT_SQL_LENGTH, EXJ_SQL_QUERY_BYTES + 4096 },
                   { SQLITE_LIMIT_WORKER_THREADS, 0 } };

    for (size_t k = 0; k < sizeof limits / sizeof *limits; k++)
        sqlite3_limit(d->db, limits[k].id, limits[k].value);
    sqlite3_extended_result_codes(d->db, 1);
    sqlite3_busy_timeout(d->db, BUSY_MS);
    return sqlite3_db_config(d->db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, (int *)NULL) == SQLITE_OK &&
           sqlite3_db_config(d->db, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL) == SQLITE_OK &&
           sqlite3_db_config(d->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL) == SQLITE_OK &&
           sqlite3_exec(d->db, "PRAGMA query_only=ON", NULL, NULL, NULL) == SQLITE_OK &&
           sqlite3_set_authorizer(d->db, authorize, d) == SQLITE_OK;
}

bool exj_sql_open(exj_sql_database *d, const char *root, const char *path, exj_result *ret_result,
                  const char **ret_code, char why[EXJ_SQL_WHY_BYTES])
{
    size_t n = strlen(path);
    int rc;

    d->name = path + (n > 150 ? n - 150 : 0);
    *ret_result = EXJ_R_FAILED;
    if (!find(d, root, path, ret_code, why))
        return false;
    /* d->path has no links: one that somebody puts there meanwhile is not followed. */
    rc = sqlite3_open_v2(d->path, &d->db,
                         SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
    if (rc == SQLITE_OK && !close_doors(d))
        rc = sqlite3_errcode(d->db);
    if (rc == SQLITE_OK) /* reads the file's head: is it a database? */
        rc = sqlite3_exec(d->db, "SELECT 1 FROM sqlite_master LIMIT 1", NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_progress_handler(d->db, STEPS, look_up, d);
        return true;
    }
    *ret_code = (rc & 0xff) == SQLITE_NOTADB ? "NotADatabase" : "FileNotOpened";
    if ((rc & 0xff) == SQLITE_NOMEM)
        snprintf(why, EXJ_SQL_WHY_BYTES, EXJ_SQL_NO_MEMORY);
    else
        no(why, d->name, (rc & 0xff) == SQLITE_NOTADB ? "no SQLite database: " : "cannot be opened: ",
           d->db ? sqlite3_errmsg(d->db) : sqlite3_errstr(rc));
    if ((rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED)
        *ret_result = EXJ_R_RETRY;
    return false;
}

void exj_sql_close(exj_sql_database *d)
{
    sqlite3_close(d->db);
    d->db = NULL;
}
