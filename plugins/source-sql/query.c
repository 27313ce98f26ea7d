/* A page of a query's rows.
 *
 * With a key column the query is asked for so many rows behind the last key, never with OFFSET:
 *   SELECT * FROM (QUERY) WHERE "key" COLLATE BINARY > ? ORDER BY "key" COLLATE BINARY LIMIT n + 1
 * The one row more says whether another page follows, and that no key stands on both sides of the
 * border: two rows of one key are refused, they could be lost there. The cursor is
 *   "1 DEV INODE ROWS KEY"
 * and a database that was replaced meanwhile is told. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "query.h"

#define RECORD_BYTES 1048576u /* the worker's own bound */
#define FIELDS 1024
#define CURSOR_BYTES (2 * EXJ_SQL_NAME_BYTES + 200)
#define LOGGED 10u

exj_result exj_sql_refuse(exj_sql_run *r, exj_result result, const char *code, const char *format,
                          ...)
{
    char text[EXJ_SQL_WHY_BYTES + 100];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (strcmp(text, EXJ_SQL_NO_MEMORY) == 0) {
        result = EXJ_R_RETRY;
        code = "NoMemory";
    }
    r->host->error(r->host->ctx, r->call, result, exj_text(code), exj_text(text));
    return result;
}

static exj_result no_memory(exj_sql_run *r)
{
    return exj_sql_refuse(r, EXJ_R_RETRY, "NoMemory", EXJ_SQL_NO_MEMORY);
}

/* What SQLite says, as the end of the call. */
static exj_result sql_failed(exj_sql_run *r, int rc)
{
    if (r->db.stopped == EXJ_R_DEADLINE)
        return exj_sql_refuse(r, EXJ_R_FAILED, "QueryTooSlow", "%s: a page needed more than %" PRId64
                              " s (input.timeoutSeconds): give the key column an index, ask for "
                              "fewer rows, or raise it", r->db.name, r->ask->seconds);
    if (r->db.stopped != EXJ_R_OK)
        return r->db.stopped;
    if (r->db.denied)
        return exj_sql_refuse(r, EXJ_R_INPUT, "NotAllowed", "%s: input.query: %s: a source may only "
                              "read (SELECT)", r->db.name, sqlite3_errmsg(r->db.db));
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return no_memory(r);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR:
        return exj_sql_refuse(r, EXJ_R_RETRY, "ReadFailed", "%s: %s", r->db.name,
                              sqlite3_errmsg(r->db.db));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return exj_sql_refuse(r, EXJ_R_FAILED, "NotADatabase", "%s: %s", r->db.name,
                              sqlite3_errmsg(r->db.db));
    default:
        return exj_sql_refuse(r, EXJ_R_INPUT, "QueryWrong", "%s: input.query: %s", r->db.name,
                              sqlite3_errmsg(r->db.db));
    }
}

/* ---- the query as it was written ------------------------------------------------------------------ */

static exj_result wrong(exj_sql_run *r, const char *what, const char *name, const char *fix)
{
    return exj_sql_refuse(r, EXJ_R_INPUT, "QueryWrong", "%s: input.query: %s%s%.100s%s%s",
                          r->db.name, what, *name ? "\"" : "", name, *name ? "\"" : "", fix);
}

static exj_result check_columns(exj_sql_run *r, sqlite3_stmt *s)
{
    int n = sqlite3_column_count(s);

    r->id_at = r->key_at = -1;
    if (n > FIELDS)
        return wrong(r, "more columns than a record may have fields (1024)", "", "");
    for (int k = 0; k < n; k++) {
        const char *name = sqlite3_column_name(s, k);

        if (!name)
            return no_memory(r);
        if (!*name || strcmp(name, "input.raw") == 0)
            return wrong(r, "a column may not have the name ", *name ? name : " ",
                         ": name it with AS");
        for (int m = 0; m < k; m++)
            if (sqlite3_stricmp(sqlite3_column_name(s, m), name) == 0)
                return wrong(r, "two columns have the name ", name, ": name one of them with AS");
        if (strcmp(name, r->ask->id_column) == 0)
            r->id_at = k;
        if (r->ask->key_column && strcmp(name, r->ask->key_column) == 0)
            r->key_at = k;
    }
    if (r->ask->key_column && r->key_at < 0)
        return wrong(r, "it has no column ", r->ask->key_column, ", which input.keyColumn names");
    if (r->id_at < 0)
        return wrong(r, "it has no column ", r->ask->id_column, ", which input.idColumn names");
    return EXJ_R_OK;
}

/* *ret: its text without what ends it; points into the ask. */
static exj_result check_query(exj_sql_run *r, exj_str *ret)
{
    sqlite3_stmt *s = NULL, *second = NULL;
    const char *query = r->ask->query, *tail = query, *rest;
    exj_result result = EXJ_R_OK;
    int rc = sqlite3_prepare_v2(r->db.db, query, -1, &s, &tail);

    if (rc != SQLITE_OK)
        return sql_failed(r, rc);
    for (rest = tail; rc == SQLITE_OK && *rest && !second; rest = tail)
        rc = sqlite3_prepare_v2(r->db.db, rest, -1, &second, &tail);
    if (!s)
        result = wrong(r, "there is no statement in it: wanted a SELECT", "", "");
    else if (rc != SQLITE_OK || second)
        result = wrong(r, "more than one statement: wanted one SELECT", "", "");
    else if (sqlite3_stmt_isexplain(s) || !sqlite3_stmt_readonly(s) || !sqlite3_column_count(s))
        result = wrong(r, "wanted a SELECT", "", "");
    else if (sqlite3_bind_parameter_count(s) != r->ask->n_params)
        result = exj_sql_refuse(r, EXJ_R_INPUT, "QueryWrong", "%s: input.query has %d parameters and "
                                "input.params %" PRId64 ": give each its value", r->db.name,
                                sqlite3_bind_parameter_count(s), r->ask->n_params);
    else
        result = check_columns(r, s);
    if (s) {
        ret->p = query;
        ret->n = strlen(sqlite3_sql(s)); /* up to the end of the first statement */
        while (ret->n && strchr("; \t\r\n", ret->p[ret->n - 1]))
            ret->n--;
    }
    sqlite3_finalize(s);
    sqlite3_finalize(second);
    return result;
}

/* ---- the query as it is asked ---------------------------------------------------------------------- */

/* `behind`: a key is bound. */
static char *page_sql(const exj_sql_run *r, exj_str query, bool behind)
{
    const char *key = r->ask->key_column;
    int first = (int)r->ask->n_params + 1;

    if (!key)
        return sqlite3_mprintf("%.*s", (int)query.n, query.p);
    if (!behind)
        return sqlite3_mprintf("SELECT * FROM (\n%.*s\n) ORDER BY \"%w\" COLLATE BINARY LIMIT ?%d",
                               (int)query.n, query.p, key, first + 1);
    return sqlite3_mprintf("SELECT * FROM (\n%.*s\n) WHERE \"%w\" COLLATE BINARY > ?%d "
                           "ORDER BY \"%w\" COLLATE BINARY LIMIT ?%d",
                           (int)query.n, query.p, key, first, key, first + 1);
}

static exj_result bind_params(exj_sql_run *r, sqlite3_stmt *s)
{
    exj_json_cursor c = exj_json_elements(r->ask->params);
    exj_str value;
    int rc = SQLITE_OK;

    for (int k = 1; rc == SQLITE_OK && exj_json_next_element(&c, &value); k++)
        rc = exj_sql_param_bind(s, k, value);
    return rc == SQLITE_OK ? EXJ_R_OK : sql_failed(r, rc);
}

static exj_result prepare(exj_sql_run *r, exj_str query, const char *key, sqlite3_stmt **ret)
{
    char *sql = page_sql(r, query, *key);
    exj_result result = EXJ_R_OK;
    bool memory;
    int rc;

    if (!sql)
        return no_memory(r);
    rc = sqlite3_prepare_v2(r->db.db, sql, -1, ret, NULL);
    sqlite3_free(sql);
    if (rc != SQLITE_OK)
        return sql_failed(r, rc);
    result = bind_params(r, *ret);
    if (result == EXJ_R_OK && *key &&
        !exj_sql_key_bind(*ret, (int)r->ask->n_params + 1, key, &memory))
        result = memory ? no_memory(r)
                        : exj_sql_refuse(r, EXJ_R_INPUT, "BadCursor",
                                         "the cursor's key \"%.100s\" is none of this plugin's", key);
    if (result == EXJ_R_OK && r->ask->key_column)
        sqlite3_bind_int64(*ret, (int)r->ask->n_params + 2, r->ask->page + 1);
    return result;
}

/* ---- time ---------------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void set_deadline(exj_sql_run *r)
{
    r->db.deadline_ns = now_ns() + (uint64_t)r->ask->seconds * 1000000000u;
}

/* While the worker makes the reader wait the query's clock stands still. */
static exj_result emit(exj_sql_run *r)
{
    uint64_t began = now_ns();
    exj_result result = r->host->emit(r->host->ctx, r->call, exj_json_out_text(&r->out));

    r->db.deadline_ns += now_ns() - began;
    return result;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

/* A row that is no record, by policy. EXJ_R_OK: go on. */
static exj_result bad_row(exj_sql_run *r, const char *why)
{
    char text[EXJ_SQL_WHY_BYTES + 200];

    if (strcmp(why, EXJ_SQL_NO_MEMORY) == 0)
        return no_memory(r);
    snprintf(text, sizeof text, "%s: row %" PRIu64 ": %s", r->db.name, r->rows, why);
    if (!r->ask->skip)
        return exj_sql_refuse(r, EXJ_R_INPUT, "BadRow", "%s", text);
    if (r->bad++ < LOGGED)
        r->host->log(r->host->ctx, r->call, EXJ_LOG_LEVEL_WARN, exj_text(text));
    return EXJ_R_OK;
}

/* What the record is called: text, or a whole number. */
static bool take_id(exj_sql_run *r, sqlite3_stmt *s, char *why)
{
    int type = sqlite3_column_type(s, r->id_at);
    const unsigned char *p = type == SQLITE_TEXT || type == SQLITE_INTEGER
                                 ? sqlite3_column_text(s, r->id_at) : NULL;
    size_t n = p ? (size_t)sqlite3_column_bytes(s, r->id_at) : 0;
    bool good = n >= 1 && n <= EXJ_SQL_NAME_BYTES;

    for (size_t k = 0; k < n && good; k++)
        good = p[k] >= 0x20 && p[k] != 0x7f;
    if (!good) {
        snprintf(why, EXJ_SQL_WHY_BYTES, "column \"%.80s\" (idColumn): wanted a whole number, or a "
                 "text of 1 to 512 bytes without control bytes", r->ask->id_column);
        return false;
    }
    exj_json_put_string(&r->out, "id", (exj_str){ (const char *)p, n });
    return true;
}

static exj_result yield_row(exj_sql_run *r, sqlite3_stmt *s)
{
    char why[EXJ_SQL_WHY_BYTES];
    exj_result result;
    bool good = true;

    exj_json_out_reset(&r->record);
    exj_json_begin_object(&r->record);
    for (int k = 0, n = sqlite3_column_count(s); k < n && good; k++) {
        good = exj_sql_put_value(r, s, k, why);
        if (good && r->record.n > RECORD_BYTES) {
            good = false;
            snprintf(why, sizeof why, "a record of more than %u bytes: select fewer or shorter "
                     "columns", RECORD_BYTES);
        }
    }
    exj_json_end_object(&r->record);
    exj_json_out_reset(&r->out);
    exj_json_begin_object(&r->out);
    if (!good || !take_id(r, s, why)) /* the id last: it makes a text of the column */
        return bad_row(r, why);
    exj_json_put_raw(&r->out, "record", exj_json_out_text(&r->record));
    exj_json_end_object(&r->out);
    if (r->out.failed || r->record.failed)
        return no_memory(r);
    result = emit(r);
    /* In a plugin host the answer is about a record some rows before. */
    if (result == EXJ_R_INPUT)
        return exj_sql_refuse(r, result, "RecordRefused", "%s: row %" PRIu64 ", or one before it: the "
                              "worker refuses this record; its log says why", r->db.name, r->rows);
    return result;
}

/* Is the key of this row the one before it? Two such rows could be parted by the end of a page. */
static exj_result take_key(exj_sql_run *r, sqlite3_stmt *s, exj_json_out *last)
{
    exj_json_out was = *last;
    char why[EXJ_SQL_WHY_BYTES];

    *last = r->key;
    r->key = was; /* the older one is written over */
    if (!exj_sql_key_write(&r->key, s, r->key_at, why))
        return strcmp(why, EXJ_SQL_NO_MEMORY) == 0
                   ? no_memory(r)
                   : exj_sql_refuse(r, EXJ_R_INPUT, "BadKey", "%s: row %" PRIu64 ": column \"%.80s\" "
                                    "(keyColumn) %s", r->db.name, r->rows + 1, r->ask->key_column, why);
    if (last->n && strcmp(last->p, r->key.p) == 0)
        return exj_sql_refuse(r, EXJ_R_INPUT, "BadKey", "%s: rows %" PRIu64 " and %" PRIu64 " have the "
                              "same value in \"%.80s\" (keyColumn): name a column that is unique",
                              r->db.name, r->rows, r->rows + 1, r->ask->key_column);
    return EXJ_R_OK;
}

/* The rows of one statement. *ret_more: there are others behind them; `key` is the last one's. */
static exj_result step_all(exj_sql_run *r, sqlite3_stmt *s, char key[CURSOR_BYTES], bool *ret_more)
{
    exj_json_out last = EXJ_JSON_OUT_INIT;
    exj_result result = EXJ_R_OK;
    int64_t n = 0;
    int rc;

    *ret_more = false;
    exj_json_out_reset(&r->key);
    while (result == EXJ_R_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (r->ask->key_column) {
            result = take_key(r, s, &last);
            *ret_more = result == EXJ_R_OK && ++n > r->ask->page;
            if (result != EXJ_R_OK || *ret_more)
                break;
            snprintf(key, CURSOR_BYTES, "%s", r->key.p);
        }
        if (++r->rows > (uint64_t)r->ask->rows)
            result = exj_sql_refuse(r, EXJ_R_INPUT, "TooManyRows", "%s: more than input.maxRows = "
                                    "%" PRId64 " rows: ask for fewer, or raise it", r->db.name,
                                    r->ask->rows);
        else
            result = yield_row(r, s);
        r->here += result == EXJ_R_OK;
    }
    if (result == EXJ_R_OK && !*ret_more && rc != SQLITE_DONE)
        result = sql_failed(r, rc);
    exj_json_out_release(&last);
    return result;
}

/* ---- pages --------------------------------------------------------------------------------------- */

static exj_result give_cursor(exj_sql_run *r, const char *key)
{
    char text[CURSOR_BYTES + 100];

    snprintf(text, sizeof text, "1 %ju %ju %" PRIu64 " %s", (uintmax_t)r->db.dev,
             (uintmax_t)r->db.ino, r->rows, key);
    exj_json_out_reset(&r->out);
    exj_json_begin_object(&r->out);
    exj_json_put_text(&r->out, "next", text);
    exj_json_end_object(&r->out);
    return r->out.failed ? no_memory(r)
                         : r->host->emit(r->host->ctx, r->call, exj_json_out_text(&r->out));
}

static exj_result take_cursor(exj_sql_run *r, char key[CURSOR_BYTES])
{
    char text[CURSOR_BYTES + 100] = "";
    uintmax_t dev, ino;
    int at = 0;

    if (r->cursor.n >= 2 && r->cursor.n < sizeof text)
        memcpy(text, r->cursor.p + 1, (size_t)r->cursor.n - 2);
    if (sscanf(text, "1 %ju %ju %" SCNu64 " %n", &dev, &ino, &r->rows, &at) != 3 || !at ||
        !strchr("irtb", text[at]) || !text[at] || strlen(text + at) >= CURSOR_BYTES)
        return exj_sql_refuse(r, EXJ_R_INPUT, "BadCursor",
                              "the cursor \"%.100s\" is none of this plugin's", text);
    if (dev != (uintmax_t)r->db.dev || ino != (uintmax_t)r->db.ino)
        return exj_sql_refuse(r, EXJ_R_FAILED, "FileReplaced", "%s: was replaced by another file while "
                              "it was read (after row %" PRIu64 "): the next cycle begins at its "
                              "beginning", r->db.name, r->rows);
    memcpy(key, text + at, strlen(text + at) + 1);
    return EXJ_R_OK;
}

exj_result exj_sql_scan(exj_sql_run *r)
{
    char why[EXJ_SQL_WHY_BYTES], key[CURSOR_BYTES] = "";
    const char *code;
    exj_result result = EXJ_R_OK;
    exj_str query = { NULL, 0 };
    bool more = false;

    r->db.host = r->host;
    r->db.call = r->call;
    set_deadline(r);
    if (!exj_sql_open(&r->db, r->root, r->ask->database, &result, &code, why))
        return exj_sql_refuse(r, result, code, "%s", why);
    result = check_query(r, &query);
    if (result == EXJ_R_OK && r->cursor.n)
        result = take_cursor(r, key);
    while (result == EXJ_R_OK) {
        sqlite3_stmt *s = NULL;

        set_deadline(r);
        result = prepare(r, query, key, &s);
        if (result == EXJ_R_OK)
            result = step_all(r, s, key, &more);
        sqlite3_finalize(s);
        if (!more || r->pages)
            break;
    }
    return result == EXJ_R_OK && more ? give_cursor(r, key) : result;
}
