#include "ask.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_DEFAULT 65536
#define PAGE_DEFAULT 1000
#define LINE_LEAST 16

#define ON_JSONL 1u
#define ON_CSV 2u
#define ON_DIRECTORY 4u
#define ON_LINES (ON_JSONL | ON_CSV)
#define ON_ALL 7u

static bool no(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool no(char *why, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(why, EXJ_SRC_WHY_BYTES, format, ap);
    va_end(ap);
    return false;
}

static int cut(exj_str s)
{
    return s.n < 80 ? (int)s.n : 80;
}

char *exj_src_text_of(exj_str value, size_t *ret_n, bool *ret_memory)
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

/* A text of 1 to `most` bytes without control bytes. */
static bool take_text(const char *name, exj_str value, size_t most, char **ret, char *why)
{
    size_t n = 0;

    bool memory;

    free(*ret);
    *ret = exj_src_text_of(value, &n, &memory);
    if (memory)
        return no(why, EXJ_SRC_NO_MEMORY);
    if (*ret && n >= 1 && n <= most) {
        size_t k = 0;

        while (k < n && (unsigned char)(*ret)[k] >= 0x20 && (*ret)[k] != 0x7f)
            k++;
        if (k == n)
            return true;
    }
    return no(why, "input.%s: %.*s: wanted a text of 1 to %zu bytes without control bytes", name,
              cut(value), value.p, most);
}

static bool take_word(const char *name, exj_str value, const char *const *words, size_t n,
                      unsigned *ret, char *why)
{
    char list[200] = "";
    size_t at = 0;

    for (*ret = 0; *ret < n; (*ret)++)
        if (exj_json_string_is(value, words[*ret]))
            return true;
    for (size_t k = 0; k < n; k++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", k ? ", " : "", words[k]);
    return no(why, "input.%s: %.*s: wanted one of %s", name, cut(value), value.p, list);
}

static bool take_number(const char *name, exj_str value, int64_t least, int64_t most, int64_t *ret,
                        char *why)
{
    if (exj_json_to_i64(value, ret) && *ret >= least && *ret <= most)
        return true;
    return no(why, "input.%s: %.*s: wanted %lld to %lld", name, cut(value), value.p,
              (long long)least, (long long)most);
}

static bool take_bool(const char *name, exj_str value, bool *ret, char *why)
{
    return exj_json_to_bool(value, ret) ||
           no(why, "input.%s: %.*s: wanted true or false", name, cut(value), value.p);
}

/* One ASCII character that no number, name or line end is made of. */
static bool take_char(const char *name, exj_str value, bool may_be_none, char *ret, char *why)
{
    static const char allowed[] = "\t !\"#$%&'*+,-./:;<=>?@^_`|~";

    if (may_be_none && exj_json_string_is(value, "")) {
        *ret = '\0';
        return true;
    }
    for (const char *c = allowed; *c; c++) {
        char one[2] = { *c, '\0' };

        if (exj_json_string_is(value, one)) {
            *ret = *c;
            return true;
        }
    }
    return no(why, "input.%s: %.*s: wanted one character such as %s", name, cut(value), value.p,
              may_be_none ? "\" or ', or an empty text for none" : ", ; | or a tab");
}

/* ---- columns ---------------------------------------------------------------------------------- */

static bool add_column(exj_src_columns *c, const char *list, exj_str name, exj_src_type type,
                       char *why)
{
    exj_src_column *grown;

    if (c->n == EXJ_SRC_FIELDS)
        return no(why, "input.%s: more than %u columns", list, EXJ_SRC_FIELDS);
    grown = realloc(c->at, (c->n + 1) * sizeof *grown);
    if (!grown)
        return no(why, EXJ_SRC_NO_MEMORY);
    c->at = grown;
    c->at[c->n] = (exj_src_column){ .type = type };
    if (!take_text(list, name, EXJ_SRC_ID_BYTES, &c->at[c->n].name, why)) {
        free(c->at[c->n].name);
        return false;
    }
    c->n++;
    for (size_t k = 0; k + 1 < c->n; k++)
        if (strcmp(c->at[k].name, c->at[c->n - 1].name) == 0)
            return no(why, "input.%s: %.80s comes twice: name each column once", list,
                      c->at[k].name);
    return true;
}

static bool take_columns(exj_str value, exj_src_columns *ret, char *why)
{
    exj_json_cursor c = exj_json_elements(value);
    exj_str one;

    while (exj_json_next_element(&c, &one))
        if (!add_column(ret, "columns", one, EXJ_SRC_STRING, why))
            return false;
    return ret->n > 0 || no(why, "input.columns: %.*s: wanted a list of names", cut(value), value.p);
}

static bool take_types(exj_str value, exj_src_columns *ret, char *why)
{
    static const char *const words[] = { "string", "number", "integer", "boolean" };
    exj_json_cursor c = exj_json_members(value);
    exj_str key, type;
    unsigned word;

    if (exj_json_type(value) != '{')
        return no(why, "input.types: %.*s: wanted {\"column\": \"number\", …}", cut(value),
                  value.p);
    while (exj_json_next_member(&c, &key, &type))
        if (!take_word("types", type, words, 4, &word, why) ||
            !add_column(ret, "types", key, (exj_src_type)word, why))
            return false;
    return true;
}

static void release_columns(exj_src_columns *c)
{
    for (size_t k = 0; k < c->n; k++)
        free(c->at[k].name);
    free(c->at);
}

/* ---- members ------------------------------------------------------------------------------------ */

static const char *const format_words[] = { "jsonl", "csv", "directory" };

static bool take_format(exj_src_ask *a, exj_str value, char *why)
{
    unsigned word;

    if (!take_word("format", value, format_words, 3, &word, why))
        return false;
    a->format = (exj_src_format)word;
    return true;
}

static bool take_path(exj_src_ask *a, exj_str value, char *why)
{
    return take_text("path", value, EXJ_SRC_PATH_BYTES, &a->path, why);
}

static bool take_id_field(exj_src_ask *a, exj_str value, char *why)
{
    return take_text("idField", value, EXJ_SRC_ID_BYTES, &a->id_field, why);
}

static bool take_ids(exj_src_ask *a, exj_str value, char *why)
{
    static const char *const words[] = { "content", "line", "name", "version" };
    unsigned word, first = a->format == EXJ_SRC_DIRECTORY ? 2 : 0;

    if (!take_word("ids", value, words + first, 2, &word, why))
        return false;
    a->ids = (exj_src_ids)(word + first);
    return true;
}

static bool take_on_bad(exj_src_ask *a, exj_str value, char *why)
{
    static const char *const words[] = { "stop", "skip", "quarantine" };
    unsigned word;

    if (!take_word("onBadLine", value, words, 3, &word, why))
        return false;
    a->on_bad = (exj_src_policy)word;
    return true;
}

static bool take_quarantine(exj_src_ask *a, exj_str value, char *why)
{
    return take_text("quarantineFile", value, EXJ_SRC_PATH_BYTES, &a->quarantine, why);
}

static bool take_page(exj_src_ask *a, exj_str value, char *why)
{
    return take_number("pageRecords", value, 1, EXJ_SRC_PAGE_MOST, &a->page, why);
}

static bool take_line_bytes(exj_src_ask *a, exj_str value, char *why)
{
    return take_number("maxLineBytes", value, LINE_LEAST, EXJ_SRC_RECORD_BYTES, &a->line_bytes,
                       why);
}

static bool take_delimiter(exj_src_ask *a, exj_str value, char *why)
{
    return take_char("delimiter", value, false, &a->csv.delimiter, why);
}

static bool take_quote(exj_src_ask *a, exj_str value, char *why)
{
    return take_char("quote", value, true, &a->csv.quote, why);
}

static bool take_header(exj_src_ask *a, exj_str value, char *why)
{
    return take_bool("header", value, &a->header, why);
}

static bool take_column_list(exj_src_ask *a, exj_str value, char *why)
{
    return take_columns(value, &a->columns, why);
}

static bool take_type_list(exj_src_ask *a, exj_str value, char *why)
{
    return take_types(value, &a->types, why);
}

static bool take_glob(exj_src_ask *a, exj_str value, char *why)
{
    return take_text("glob", value, 255, &a->glob, why) &&
           (!strchr(a->glob, '/') ||
            no(why, "input.glob: %s: wanted a pattern of names, without '/'", a->glob));
}

static bool take_with_text(exj_src_ask *a, exj_str value, char *why)
{
    return take_bool("text", value, &a->text, why);
}

static bool take_text_bytes(exj_src_ask *a, exj_str value, char *why)
{
    return take_number("maxTextBytes", value, 1, EXJ_SRC_TEXT_MOST, &a->text_bytes, why);
}

static const struct member {
    const char *name;
    unsigned formats;
    bool (*take)(exj_src_ask *a, exj_str value, char *why);
} members[] = {
    { "format", ON_ALL, take_format }, /* first: others depend on it */
    { "path", ON_ALL, take_path },
    { "onBadLine", ON_ALL, take_on_bad },
    { "quarantineFile", ON_ALL, take_quarantine },
    { "pageRecords", ON_ALL, take_page },
    { "ids", ON_ALL, take_ids },
    { "idField", ON_LINES, take_id_field },
    { "maxLineBytes", ON_LINES, take_line_bytes },
    { "delimiter", ON_CSV, take_delimiter },
    { "quote", ON_CSV, take_quote },
    { "header", ON_CSV, take_header },
    { "columns", ON_CSV, take_column_list },
    { "types", ON_CSV, take_type_list },
    { "glob", ON_DIRECTORY, take_glob },
    { "text", ON_DIRECTORY, take_with_text },
    { "maxTextBytes", ON_DIRECTORY, take_text_bytes },
};
#define MEMBERS (sizeof members / sizeof *members)

/* What stands in the input and is no member, or none of this format, or stands there twice. */
static bool check_names(const exj_src_ask *a, exj_str input, char *why)
{
    exj_json_cursor c = exj_json_members(input);
    unsigned here = 1u << a->format, seen = 0;
    exj_str key, value;

    while (exj_json_next_member(&c, &key, &value)) {
        char list[300] = "";
        size_t at = 0, k = 0;

        while (k < MEMBERS && !exj_json_string_is(key, members[k].name))
            k++;
        if (k < MEMBERS && (members[k].formats & here)) {
            if (seen & 1u << k)
                return no(why, "input.%s stands there twice", members[k].name);
            seen |= 1u << k;
            continue;
        }
        for (size_t m = 0; m < MEMBERS; m++)
            if (members[m].formats & here)
                at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "",
                                       members[m].name);
        return no(why, "input: %.*s is no member of format %s; wanted %s", cut(key), key.p,
                  format_words[a->format], list);
    }
    return true;
}

static bool take_members(exj_src_ask *a, exj_str input, char *why)
{
    exj_str value;

    if (exj_json_type(input) != '{')
        return no(why, "payload.input: wanted an object with path and format");
    for (size_t k = 0; k < MEMBERS; k++) {
        if (exj_json_find(input, members[k].name, &value) &&
            (members[k].formats & 1u << a->format) && !members[k].take(a, value, why))
            return false;
        if (k == 0 && exj_json_find(input, "path", &value) && !exj_json_find(input, "format", &value))
            return no(why, "input.format is missing: wanted jsonl, csv or directory");
        if (k == 0)
            a->ids = a->format == EXJ_SRC_DIRECTORY ? EXJ_SRC_BY_NAME : EXJ_SRC_BY_CONTENT;
    }
    return true;
}

/* What only all members together say. */
static bool check_all(const exj_src_ask *a, exj_str input, char *why)
{
    exj_str value;

    if (!a->path)
        return no(why, "input.path is missing: wanted the path of a file or folder");
    if (a->id_field && exj_json_find(input, "ids", &value))
        return no(why, "input.ids and input.idField: wanted one of them");
    if (a->quarantine && a->on_bad != EXJ_SRC_QUARANTINE)
        return no(why, "input.quarantineFile: wanted only with \"onBadLine\": \"quarantine\"");
    if (a->quarantine && strcmp(a->quarantine, a->path) == 0)
        return no(why, "input.quarantineFile is the file that is read: wanted another");
    if (a->format == EXJ_SRC_CSV && a->csv.delimiter == a->csv.quote)
        return no(why, "input.delimiter and input.quote are the same: wanted two characters");
    if (a->format == EXJ_SRC_CSV && !a->header && !a->columns.n)
        return no(why, "input.columns is missing: wanted the columns' names, as \"header\" is "
                       "false");
    return true;
}

bool exj_src_ask_read(exj_str input, exj_src_ask *ret, char why[EXJ_SRC_WHY_BYTES])
{
    *ret = (exj_src_ask){ .page = PAGE_DEFAULT, .line_bytes = EXJ_SRC_RECORD_BYTES,
                          .csv = { ',', '"' }, .header = true,
                          .text_bytes = TEXT_BYTES_DEFAULT };
    if (take_members(ret, input, why) && check_names(ret, input, why) &&
        check_all(ret, input, why))
        return true;
    exj_src_ask_release(ret);
    return false;
}

void exj_src_ask_release(exj_src_ask *a)
{
    release_columns(&a->columns);
    release_columns(&a->types);
    free(a->path);
    free(a->id_field);
    free(a->quarantine);
    free(a->glob);
    memset(a, 0, sizeof *a);
}
