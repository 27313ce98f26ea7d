#include "run.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOGGED 10u               /* bad lines of one call that are told one by one */
#define ASIDE_BYTES (1024 * 1024) /* that wait in memory */

exj_result exj_src_refuse(exj_src_run *r, exj_result result, const char *code, const char *format,
                          ...)
{
    char text[EXJ_SRC_WHY_BYTES];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (strcmp(text, EXJ_SRC_NO_MEMORY) == 0) {
        result = EXJ_R_RETRY;
        code = "NoMemory";
    }
    r->host->error(r->host->ctx, r->call, result, exj_text(code), exj_text(text));
    return result;
}

static exj_result no_memory(exj_src_run *r)
{
    return exj_src_refuse(r, EXJ_R_RETRY, "NoMemory", EXJ_SRC_NO_MEMORY);
}

static void tell(exj_src_run *r, const char *text)
{
    r->host->log(r->host->ctx, r->call, EXJ_LOG_LEVEL_WARN, exj_text(text));
}

exj_result exj_src_bad_line(exj_src_run *r, uint64_t line, const exj_src_trouble *t, exj_str text,
                            uint64_t bytes)
{
    const char *file = exj_src_path_end(r->ask->path);
    char where[EXJ_SRC_WHY_BYTES];

    if (line == 0) /* a file of a folder */
        snprintf(where, sizeof where, "%s: %s", file, t->reason);
    else if (t->column)
        snprintf(where, sizeof where, "%s: line %llu, column %zu: %s", file,
                 (unsigned long long)(line + t->line), t->column, t->reason);
    else
        snprintf(where, sizeof where, "%s: line %llu: %s", file,
                 (unsigned long long)(line + t->line), t->reason);
    if (r->ask->on_bad == EXJ_SRC_STOP)
        return exj_src_refuse(r, EXJ_R_INPUT, "BadLine", "%s", where);
    r->bad++;
    if (r->bad_here++ < LOGGED)
        tell(r, where);
    if (r->ask->on_bad == EXJ_SRC_SKIP)
        return EXJ_R_OK;
    if (!exj_src_aside_add(&r->aside, r->ask->path, line, t, text, bytes))
        return no_memory(r);
    return r->aside.lines.n > ASIDE_BYTES ? exj_src_settle(r) : EXJ_R_OK;
}

exj_result exj_src_settle(exj_src_run *r)
{
    char why[EXJ_SRC_WHY_BYTES];
    size_t fresh;

    if (exj_src_aside_write(&r->aside, r->place, r->aside_path, r->kept, &fresh, why))
        return EXJ_R_OK;
    return exj_src_refuse(r, EXJ_R_FAILED, "NotPutAside", "%s", why);
}

exj_result exj_src_stopped(exj_src_run *r)
{
    return r->asked++ % 64 ? EXJ_R_OK : r->host->cancelled(r->host->ctx, r->call);
}

exj_result exj_src_yield(exj_src_run *r, exj_str id, exj_str record, uint64_t line)
{
    exj_result result;

    exj_json_out_reset(&r->out);
    exj_json_begin_object(&r->out);
    exj_json_put_string(&r->out, "id", id);
    exj_json_put_raw(&r->out, "record", record);
    exj_json_end_object(&r->out);
    if (r->out.failed)
        return no_memory(r);
    result = r->host->emit(r->host->ctx, r->call, exj_json_out_text(&r->out));
    /* In a plugin host the answer is about a record some lines before. */
    if (result == EXJ_R_INPUT)
        return exj_src_refuse(r, result, "RecordRefused", "%s: line %llu, or one before it: the "
                              "worker refuses this record; its log says why",
                              exj_src_path_end(r->ask->path), (unsigned long long)line);
    r->records += result == EXJ_R_OK;
    r->here += result == EXJ_R_OK;
    return result;
}
