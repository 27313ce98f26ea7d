#include "core/main/out.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/log.h"

/* ---- tables ------------------------------------------------------------------------------ */

static void add_cell(exj_table *t, char *owned)
{
    if (t->len == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        char **grown = realloc(t->cells, cap * sizeof(*grown));

        if (!grown) {
            free(owned);
            t->failed = true;
            return;
        }
        t->cells = grown;
        t->cap = cap;
    }
    if (!owned)
        t->failed = true;
    else
        t->cells[t->len++] = owned;
}

void exj_table_add(exj_table *t, const char *text)
{
    exj_buf b = EXJ_BUF_INIT;

    if (!text || !*text)
        text = "-";
    for (const char *c = text; *c; c++) {
        if (*c == '\t')
            exj_buf_add_text(&b, "\\t");
        else if (*c == '\n')
            exj_buf_add_text(&b, "\\n");
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            exj_buf_printf(&b, "\\x%02x", (unsigned)(unsigned char)*c);
        else
            exj_buf_add_char(&b, *c);
    }
    add_cell(t, b.failed ? NULL : exj_buf_take(&b));
    exj_buf_release(&b);
}

void exj_table_add_number(exj_table *t, int64_t number)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, number);
    exj_table_add(t, text);
}

/* Code points, near enough to columns for ids and words. */
static size_t width_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void print_cell(const char *text, size_t width, bool last)
{
    fputs(text, stdout);
    if (last)
        putchar('\n');
    else
        printf("%*s", (int)(width - width_of(text) + 2), "");
}

static const char *color_of(const char *text)
{
    static const struct {
        const char *word, *code;
    } words[] = {
        { "completed", "\033[32m" }, { "Published", "\033[32m" }, { "created", "\033[32m" },
        { "ok", "\033[32m" },        { "running", "\033[36m" },   { "Running", "\033[32m" },
        { "Ready", "\033[32m" },     { "failed", "\033[31m" },    { "Failed", "\033[31m" },
        { "fail", "\033[31m" },      { "refused", "\033[31m" },   { "blocked", "\033[33m" },
        { "warn", "\033[33m" },      { "Paused", "\033[33m" },    { "updated", "\033[33m" },
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strcmp(words[i].word, text) == 0)
            return words[i].code;
    return NULL;
}

static void print_aligned(const exj_table *t, bool color)
{
    size_t *widths = calloc(t->columns, sizeof(*widths));

    if (!widths)
        return;
    for (size_t i = 0; i < t->columns; i++)
        widths[i] = width_of(t->heads[i]);
    for (size_t i = 0; i < t->len; i++) {
        size_t w = width_of(t->cells[i]);

        if (w > widths[i % t->columns])
            widths[i % t->columns] = w;
    }
    for (size_t i = 0; i < t->columns; i++) {
        if (color)
            fputs("\033[1m", stdout);
        print_cell(t->heads[i], widths[i], i + 1 == t->columns);
        if (color)
            fputs("\033[0m", stdout);
    }
    for (size_t i = 0; i < t->len; i++) {
        const char *code = color ? color_of(t->cells[i]) : NULL;

        if (code)
            fputs(code, stdout);
        print_cell(t->cells[i], widths[i % t->columns], (i + 1) % t->columns == 0);
        if (code)
            fputs("\033[0m", stdout);
    }
    free(widths);
}

void exj_table_print(exj_table *t, bool color)
{
    if (t->failed)
        fputs("exellix-jobs: out of memory\n", stderr);
    else if (isatty(STDOUT_FILENO))
        print_aligned(t, color);
    else
        for (size_t i = 0; i < t->len; i++)
            printf("%s%c", t->cells[i], (i + 1) % t->columns ? '\t' : '\n');
    for (size_t i = 0; i < t->len; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (exj_table){ .heads = t->heads, .columns = t->columns };
}

void exj_log_from_settings(const exj_settings *s)
{
    const char *json = exj_settings_text(s, EXJ_SET_LOG_JSON);
    exj_log_level level = EXJ_LOG_INFO;

    exj_log_parse_level(exj_settings_text(s, EXJ_SET_LOG_LEVEL), &level);
    exj_log_setup(level, strcmp(json, "auto") == 0 ? !isatty(STDERR_FILENO)
                                                   : strcmp(json, "true") == 0);
}

bool exj_out_color(const exj_cli *c)
{
    const char *none = getenv("NO_COLOR"), *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && !c->flags[EXJ_CLI_NO_COLOR] && !(none && *none) && term &&
           strcmp(term, "dumb") != 0;
}

exj_exit exj_out_finish(const exj_cli *c, exj_exit status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return exj_fail(c, EXJ_EXIT_FAILED, "standard output: cannot write");
}

/* ---- trouble ------------------------------------------------------------------------------- */

static const struct {
    exj_exit status;
    const char *name;
} exit_names[] = {
    { EXJ_EXIT_FAILED, "Failed" },          { EXJ_EXIT_USAGE, "Usage" },
    { EXJ_EXIT_NOT_FOUND, "NotFound" },     { EXJ_EXIT_AUTH, "NotAllowed" },
    { EXJ_EXIT_CONFLICT, "Conflict" },      { EXJ_EXIT_INVALID, "Invalid" },
    { EXJ_EXIT_UNREACHABLE, "Unreachable" }, { EXJ_EXIT_PARTIAL, "Partial" },
    { EXJ_EXIT_TIMEOUT, "TimedOut" },       { EXJ_EXIT_INTERRUPTED, "Interrupted" },
};

static const char *exit_name(exj_exit status)
{
    for (size_t i = 0; i < sizeof(exit_names) / sizeof(*exit_names); i++)
        if (exit_names[i].status == status)
            return exit_names[i].name;
    return "Ok";
}

static void print_trouble(bool json, exj_exit status, const char *text)
{
    exj_buf b = EXJ_BUF_INIT;

    if (json) {
        exj_buf_printf(&b, "{\"error\":\"%s\",\"exit\":%d,\"message\":", exit_name(status),
                       (int)status);
        exj_buf_add_json_string(&b, exj_slice_of(text));
        exj_buf_add_text(&b, "}\n");
    } else {
        exj_buf_add_text(&b, "exellix-jobs: ");
        for (const char *c = text; *c; c++)
            exj_buf_add_char(&b, (unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c);
        exj_buf_add_text(&b, "\n");
    }
    fflush(stdout);
    fputs(b.failed ? "exellix-jobs: out of memory\n" : b.p, stderr);
    exj_buf_release(&b);
}

exj_exit exj_fail(const exj_cli *c, exj_exit status, const char *format, ...)
{
    char text[2048];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    print_trouble(c && c->json, status, text);
    return status;
}

exj_exit exj_exit_of(exj_code code)
{
    switch (code) {
    case EXJ_OK:
        return EXJ_EXIT_OK;
    case EXJ_INVALID:
        return EXJ_EXIT_INVALID;
    case EXJ_NOT_FOUND:
        return EXJ_EXIT_NOT_FOUND;
    case EXJ_CONFLICT:
    case EXJ_FENCED:
        return EXJ_EXIT_CONFLICT;
    case EXJ_BUSY:
        return EXJ_EXIT_UNREACHABLE;
    case EXJ_CANCELLED:
        return EXJ_EXIT_INTERRUPTED;
    default:
        return EXJ_EXIT_FAILED;
    }
}

exj_exit exj_fail_err(const exj_cli *c, const exj_err *err)
{
    return exj_fail(c, exj_exit_of(err->code), "%s",
                    err->text[0] ? err->text : exj_code_name(err->code));
}

void exj_tell(const exj_cli *c, const char *format, ...)
{
    char text[1024];
    va_list ap;

    if (c->json)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    fflush(stdout);
    fprintf(stderr, "%s\n", text);
}

exj_exit exj_out_json(const exj_cli *c, const json_t *value, bool pretty)
{
    size_t flags = JSON_ENCODE_ANY | (size_t)(pretty || isatty(STDOUT_FILENO) ? JSON_INDENT(2)
                                                                              : JSON_COMPACT);

    if (json_dumpf(value, stdout, flags) != 0)
        return exj_fail(c, EXJ_EXIT_FAILED, "cannot print JSON");
    putchar('\n');
    return EXJ_EXIT_OK;
}
