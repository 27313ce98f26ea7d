/* doctor: holds the parts of the store against each other. */
#include <inttypes.h>
#include <stdio.h>

#include "core/main/out.h"
#include "core/main/progress.h"
#include "core/store/care.h"

struct look {
    exj_cli *c;
    exj_progress progress;
    json_t *findings; /* with --json */
};

static void found(void *user, const exj_finding *f)
{
    struct look *l = user;

    if (l->findings) {
        json_array_append_new(l->findings,
                              json_pack("{s:s,s:o,s:b,s:b}", "part", f->part, "text",
                                        exj_json_text(exj_slice_of(f->text)), "fixable",
                                        (int)f->fixable, "fixed", (int)f->fixed));
        return;
    }
    exj_bar_clear(&l->progress.bar);
    printf("%s: %s%s\n", f->part, f->text,
           f->fixed ? "; mended" : f->fixable ? "; --fix mends it" : "");
}

static bool tell(void *user, const char *what, int64_t done, int64_t total)
{
    return exj_progress_tell(&((struct look *)user)->progress, what, done, total);
}

exj_exit exj_cmd_doctor(exj_cli *c)
{
    struct look l = { .c = c, .findings = c->json ? json_array() : NULL };
    exj_doctor_options o = { .dir = exj_settings_text(&c->settings, EXJ_SET_DATA_DIR),
                             .fix = c->flags[EXJ_CLI_FIX] != NULL,
                             .found = found,
                             .progress = tell,
                             .user = &l };
    exj_doctor_report r;
    exj_err err = { 0 };
    json_t *body;
    exj_code rc;

    if (exj_settings_embedded(&c->settings, "doctor", &err) != EXJ_OK) {
        json_decref(l.findings);
        return exj_fail_err(c, &err);
    }
    exj_progress_begin(&l.progress, c);
    rc = exj_sqlite_doctor(&o, &r, &err);
    exj_progress_end(&l.progress);
    if (rc != EXJ_OK) {
        json_decref(l.findings);
        return exj_fail_err(c, &err);
    }
    if (c->json) {
        body = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "dir", o.dir, "rows",
                         (json_int_t)r.rows, "entries", (json_int_t)r.entries, "blobs",
                         (json_int_t)r.blobs, "found", (json_int_t)r.findings, "fixable",
                         (json_int_t)r.fixable, "fixed", (json_int_t)r.fixed, "findings",
                         l.findings);
        exj_out_json(c, body, false);
        json_decref(body);
    } else {
        printf("%s: %" PRId64 " rows, %" PRId64 " entries of the journal, %" PRId64
               " large values: ",
               o.dir, r.rows, r.entries, r.blobs);
        if (!r.findings)
            printf("all is well\n");
        else
            printf("%" PRId64 " findings, %" PRId64 " mended\n", r.findings, r.fixed);
    }
    return exj_out_finish(c, r.findings > r.fixed ? EXJ_EXIT_FAILED : EXJ_EXIT_OK);
}
