/* backup, restore: a copy of the store, and a store from a copy. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/main/out.h"
#include "core/main/progress.h"
#include "core/main/worker.h"
#include "core/store/care.h"

void exj_progress_begin(exj_progress *p, const exj_cli *c)
{
    const char *none = getenv("NO_COLOR");

    *p = (exj_progress){ .signals = exj_signals_open(), .what = "" };
    exj_bar_init(&p->bar, !c->json, !c->flags[EXJ_CLI_NO_COLOR] && !(none && *none),
                 exj_clock_mono_ns());
}

bool exj_progress_tell(void *user, const char *what, int64_t done, int64_t total)
{
    exj_progress *p = user;
    exj_engine_counts n = { .completed = (uint64_t)done,
                            .open = total > done ? total - done : 0 };

    if (strcmp(p->what, what) != 0) { /* a new count begins */
        p->bar.rate = 0;
        p->bar.rated_done = 0;
        p->bar.rated = exj_clock_mono_ns();
        p->what = what;
    }
    p->bar.unit = what;
    exj_bar_draw(&p->bar, &n, exj_clock_mono_ns());
    return p->signals < 0 || exj_signals_wait(p->signals, 0) == 0;
}

void exj_progress_end(exj_progress *p)
{
    exj_bar_clear(&p->bar);
    if (p->signals >= 0)
        close(p->signals);
}

static exj_exit print(exj_cli *c, const exj_backup_info *i, const char *verb, const char *from,
                      const char *to)
{
    char at[EXJ_TIME_TEXT_BYTES];
    json_t *body;

    exj_clock_format(i->at, at);
    if (c->json) {
        body = json_pack("{s:s,s:s,s:s,s:i,s:I,s:I,s:I,s:I}", "from", from, "to", to, "at", at,
                         "schema", i->schema, "rows", (json_int_t)i->rows, "blobs",
                         (json_int_t)i->blobs, "bytes", (json_int_t)i->bytes, "lost",
                         (json_int_t)i->lost);
        exj_out_json(c, body, false);
        json_decref(body);
    } else {
        printf("%s %s: %" PRId64 " rows, %" PRId64 " large values, %" PRId64
               " bytes, as it was at %s\n",
               verb, to, i->rows, i->blobs, i->bytes, at);
    }
    if (!i->lost)
        return EXJ_EXIT_OK;
    return exj_fail(c, EXJ_EXIT_PARTIAL, "%" PRId64 " large values were lost before it: %s",
                    i->lost, i->first_lost.text);
}

exj_exit exj_cmd_backup(exj_cli *c)
{
    const char *dir = exj_settings_text(&c->settings, EXJ_SET_DATA_DIR);
    exj_backup_info info;
    exj_progress p;
    exj_err err = { 0 };
    exj_code rc;

    if (exj_settings_embedded(&c->settings, "backup", &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    exj_progress_begin(&p, c);
    rc = exj_sqlite_backup(dir, c->args[0], exj_progress_tell, &p, &info, &err);
    exj_progress_end(&p);
    if (rc != EXJ_OK)
        return exj_fail_err(c, &err);
    return exj_out_finish(c, print(c, &info, "backed up to", dir, c->args[0]));
}

exj_exit exj_cmd_restore(exj_cli *c)
{
    const char *dir = exj_settings_text(&c->settings, EXJ_SET_DATA_DIR);
    exj_backup_info info;
    exj_progress p;
    exj_err err = { 0 };
    exj_code rc;

    if (exj_settings_embedded(&c->settings, "restore", &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    exj_progress_begin(&p, c);
    rc = exj_sqlite_restore_backup(c->args[0], dir, exj_progress_tell, &p, &info, &err);
    exj_progress_end(&p);
    if (rc != EXJ_OK)
        return exj_fail_err(c, &err);
    return exj_out_finish(c, print(c, &info, "restored to", c->args[0], dir));
}
