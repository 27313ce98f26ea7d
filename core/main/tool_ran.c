/* Which content of a plugin ran a row, and where a copy of it is: from what crashed rows say
 * and from the shelf's history. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/base/clock.h"
#include "core/main/cmd_plugin.h"
#include "core/plugin/plugin.h"
#include "core/plugin/shelf.h"

#define DIGITS 12 /* as messages shorten them */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

/* "… (sha256 9f0902fb7f5e…)" */
static bool digits_in(const char *message, char ret[DIGITS + 1])
{
    static const char mark[] = "(sha256 ";
    const char *at = message ? strstr(message, mark) : NULL;

    if (!at || strspn(at + strlen(mark), "0123456789abcdef") < DIGITS)
        return false;
    snprintf(ret, DIGITS + 1, "%.*s", DIGITS, at + strlen(mark));
    return true;
}

/* What served all rows at the instant `at` (as texts are written); "": not known. */
static void current_at(exj_shelf *s, const char *id, const char *at, char ret[65])
{
    char since[EXJ_TIME_TEXT_BYTES];
    json_t *history = NULL, *e;
    size_t i;

    if (exj_shelf_history(s, id, 0, &history, NULL) != EXJ_OK)
        return;
    json_array_foreach(history, i, e) { /* newest first */
        const char *event = text_of(e, "event");

        if (strcmp(event, exj_plugin_event_word(EXJ_PE_CURRENT)) != 0 &&
            strcmp(event, exj_plugin_event_word(EXJ_PE_LOADED)) != 0)
            continue;
        exj_clock_format(json_integer_value(json_object_get(e, "at")), since);
        if (strcmp(since, at) > 0)
            continue;
        snprintf(ret, 65, "%s", text_of(e, "sha256"));
        break;
    }
    json_decref(history);
}

static char *kept_copy(exj_shelf *s, const char *digits)
{
    json_t *kept = NULL, *e;
    char *path = NULL;
    size_t i;

    if (exj_shelf_kept(s, &kept, NULL) != EXJ_OK)
        return NULL;
    json_array_foreach(kept, i, e)
        if (!path && strncmp(text_of(e, "sha256"), digits, strlen(digits)) == 0)
            path = exj_shelf_path_of(s, text_of(e, "sha256"));
    json_decref(kept);
    return path;
}

char *exj_tool_what_ran(const exj_cli *c, const char *file, const char *id, const char *at,
                        const char *message)
{
    char folder[PATH_MAX], wanted[65] = "", *path = NULL;
    exj_shelf *s = NULL;
    exj_probe probe;
    struct stat st;

    snprintf(folder, sizeof(folder), "%s/plugins",
             exj_settings_text(&c->settings, EXJ_SET_DATA_DIR));
    if (stat(folder, &st) != 0 || exj_shelf_new(folder, NULL, &s, NULL) != EXJ_OK)
        return NULL;
    if (!digits_in(message, wanted))
        current_at(s, id, at, wanted);
    if (wanted[0] && (!file || exj_probe_file(file, &probe, NULL) != EXJ_OK ||
                      strncmp(probe.sha256, wanted, strlen(wanted)) != 0)) {
        path = kept_copy(s, wanted);
        if (path)
            exj_tell(c, "%s has changed since; the copy of what ran is taken (%.12s)",
                     file ? file : id, wanted);
        else if (file)
            exj_tell(c, "%s has changed since, and no copy of what ran (%.12s) is kept: this is "
                        "another build",
                     file, wanted);
    }
    exj_shelf_free(s);
    return path;
}
