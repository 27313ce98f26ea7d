#include "ask.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT_VARIABLE "EXELLIX_PLUGIN_SOURCE_ROOT"

static bool no(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool no(char *why, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, EXJ_SQL_WHY_BYTES, format, ap);
    va_end(ap);
    return false;
}

static int cut(exj_str s)
{
    return s.n < 80 ? (int)s.n : 80;
}

char *exj_sql_text_of(exj_str value, size_t *ret_n, bool *ret_memory)
{
    char *text = exj_json_to_text(value, ret_n), c[4];
    const char *p = value.p + 1, *end = value.p + value.n - 1;

    *ret_memory = !text && value.n >= 2 && *value.p == '"';
    while (*ret_memory && p < end) {
        int n = exj_json_char_(&p, end, c);

        *ret_memory = n > 1 || (n == 1 && c[0]);
    }
    return text;
}

/* ---- members ------------------------------------------------------------------------------------ */

enum member {
    DATABASE, QUERY, KEY_COLUMN, ID_COLUMN, PARAMS, PAGE, ROWS, TEXT_BYTES, SECONDS, ON_BAD, MEMBERS
};

static const struct rule {
    const char *name;
    int64_t least, most; /* a number's bounds, or a text's bytes */
} rules[MEMBERS] = {
    [DATABASE] = { "database", 1, EXJ_SQL_PATH_BYTES },
    [QUERY] = { "query", 1, EXJ_SQL_QUERY_BYTES },
    [KEY_COLUMN] = { "keyColumn", 1, EXJ_SQL_NAME_BYTES },
    [ID_COLUMN] = { "idColumn", 1, EXJ_SQL_NAME_BYTES },
    [PARAMS] = { "params", 0, EXJ_SQL_PARAMS },
    [PAGE] = { "pageRecords", 1, 5000 },
    [ROWS] = { "maxRows", 1, 100000000 },
    [TEXT_BYTES] = { "maxTextBytes", 1, 1048576 },
    [SECONDS] = { "timeoutSeconds", 1, 3600 },
    [ON_BAD] = { "onBadRow", 0, 0 },
};

static bool take_text(const struct rule *m, exj_str value, char **ret, char *why)
{
    bool memory;
    size_t n = 0;

    *ret = exj_sql_text_of(value, &n, &memory);
    if (memory)
        return no(why, EXJ_SQL_NO_MEMORY);
    return (*ret && n >= (size_t)m->least && n <= (size_t)m->most) ||
           no(why, "input.%s: %.*s: wanted a text of %lld to %lld bytes", m->name, cut(value),
              value.p, (long long)m->least, (long long)m->most);
}

static bool take_number(const struct rule *m, exj_str value, int64_t *ret, char *why)
{
    return (exj_json_to_i64(value, ret) && *ret >= m->least && *ret <= m->most) ||
           no(why, "input.%s: %.*s: wanted %lld to %lld", m->name, cut(value), value.p,
              (long long)m->least, (long long)m->most);
}

static bool take_params(exj_sql_ask *a, exj_str value, char *why)
{
    exj_json_cursor c = exj_json_elements(value);
    exj_str one;

    if (exj_json_type(value) != '[')
        return no(why, "input.params: %.*s: wanted a list", cut(value), value.p);
    while (exj_json_next_element(&c, &one)) {
        if (exj_json_type(one) == '{' || exj_json_type(one) == '[')
            return no(why, "input.params: %.*s: wanted texts, numbers, true, false or null",
                      cut(one), one.p);
        if (++a->n_params > EXJ_SQL_PARAMS)
            return no(why, "input.params: more than %d", EXJ_SQL_PARAMS);
    }
    a->params = value;
    return true;
}

static bool take_policy(exj_sql_ask *a, exj_str value, char *why)
{
    a->skip = exj_json_string_is(value, "skip");
    return a->skip || exj_json_string_is(value, "stop") ||
           no(why, "input.onBadRow: %.*s: wanted stop or skip", cut(value), value.p);
}

static bool take_member(exj_sql_ask *a, enum member m, exj_str value, char *why)
{
    const struct rule *rule = &rules[m];

    switch (m) {
    case DATABASE:
        return take_text(rule, value, &a->database, why);
    case QUERY:
        return take_text(rule, value, &a->query, why);
    case KEY_COLUMN:
        return take_text(rule, value, &a->key_column, why);
    case ID_COLUMN:
        return take_text(rule, value, &a->id_column, why);
    case PARAMS:
        return take_params(a, value, why);
    case PAGE:
        return take_number(rule, value, &a->page, why);
    case ROWS:
        return take_number(rule, value, &a->rows, why);
    case TEXT_BYTES:
        return take_number(rule, value, &a->text_bytes, why);
    case SECONDS:
        return take_number(rule, value, &a->seconds, why);
    case ON_BAD:
        return take_policy(a, value, why);
    case MEMBERS:
        break;
    }
    return false;
}

static bool take_members(exj_sql_ask *a, exj_str input, char *why)
{
    exj_json_cursor c = exj_json_members(input);
    unsigned seen = 0;
    exj_str key, value;

    if (exj_json_type(input) != '{')
        return no(why, "payload.input: wanted an object with database and query");
    while (exj_json_next_member(&c, &key, &value)) {
        char list[300] = "";
        size_t at = 0;
        unsigned m = 0;

        while (m < MEMBERS && !exj_json_string_is(key, rules[m].name))
            m++;
        if (m < MEMBERS) {
            if (seen & 1u << m)
                return no(why, "input.%s stands there twice", rules[m].name);
            seen |= 1u << m;
            if (!take_member(a, (enum member)m, value, why))
                return false;
            continue;
        }
        for (m = 0; m < MEMBERS; m++)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", m ? ", " : "",
                                   rules[m].name);
        return no(why, "input: %.*s is no member; wanted %s", cut(key), key.p, list);
    }
    return true;
}

bool exj_sql_ask_read(exj_str input, exj_sql_ask *ret, char why[EXJ_SQL_WHY_BYTES])
{
    bool good;

    *ret = (exj_sql_ask){ .page = 1000, .rows = 10000000, .text_bytes = 1048576, .seconds = 60 };
    good = take_members(ret, input, why);
    if (good && !ret->database)
        good = no(why, "input.database is missing: wanted the path of an SQLite file");
    if (good && !ret->query)
        good = no(why, "input.query is missing: wanted a SELECT");
    if (good && !ret->id_column && !ret->key_column)
        good = no(why, "input.idColumn is missing: wanted the column whose value names a record for "
                       "ever; or keyColumn, which names it as well");
    if (good && !ret->id_column) {
        ret->id_column = strdup(ret->key_column);
        good = ret->id_column || no(why, EXJ_SQL_NO_MEMORY);
    }
    if (!good)
        exj_sql_ask_release(ret);
    return good;
}

void exj_sql_ask_release(exj_sql_ask *a)
{
    free(a->database);
    free(a->query);
    free(a->key_column);
    free(a->id_column);
    memset(a, 0, sizeof *a);
}

/* ---- the root ----------------------------------------------------------------------------------- */

static bool is_root(const char *path)
{
    return path && *path == '/' && strlen(path) <= EXJ_SQL_PATH_BYTES && !strstr(path, "/../") &&
           (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

bool exj_sql_root_read(exj_str config, char **ret, char why[EXJ_SQL_WHY_BYTES])
{
    const char *outer = getenv(ROOT_VARIABLE);
    exj_json_cursor c = exj_json_members(config);
    exj_str key, value;
    bool memory;

    *ret = NULL;
    if (outer && *outer && !is_root(outer))
        return no(why, "%.200s: " ROOT_VARIABLE ": wanted an absolute path without \"..\"", outer);
    while (exj_json_next_member(&c, &key, &value)) {
        if (!exj_json_string_is(key, "root")) {
            free(*ret);
            *ret = NULL;
            return no(why, "config: %.*s is no member; wanted root", cut(key), key.p);
        }
        free(*ret);
        *ret = exj_sql_text_of(value, NULL, &memory);
        if (memory)
            return no(why, EXJ_SQL_NO_MEMORY);
        if (!is_root(*ret)) {
            free(*ret);
            *ret = NULL;
            return no(why, "config.root: %.*s: wanted the absolute path of a folder without \"..\"",
                      cut(value), value.p);
        }
    }
    if (outer && *outer && *ret) {
        size_t n = strlen(outer);

        while (n > 1 && outer[n - 1] == '/')
            n--;
        if (strncmp(*ret, outer, n) == 0 && ((*ret)[n] == '/' || (*ret)[n] == '\0' || n == 1))
            return true;
        no(why, "config.root: %.150s lies outside of " ROOT_VARIABLE " = %.150s", *ret, outer);
        free(*ret);
        *ret = NULL;
        return false;
    }
    if (outer && *outer) {
        *ret = strdup(outer);
        return *ret || no(why, EXJ_SQL_NO_MEMORY);
    }
    return true;
}
