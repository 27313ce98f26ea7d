/* `plugin trust`: the list of contents that may be loaded under
 * EXELLIX_JOBS_PLUGINS_TRUST=listed. A file of its own in DATA_DIR/plugins: needs no store,
 * and a worker that runs reads it again before it loads a plugin. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/main/cmd_plugin.h"
#include "core/plugin/plugin.h"
#include "core/plugin/shelf.h"

#define PREFIX_LEAST 8 /* digits that may stand for all 64 */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

static exj_exit show(exj_cli *c, const char *action, const char *sha256, const char *name)
{
    exj_exit status = EXJ_EXIT_OK;

    if (c->json) {
        json_t *o = json_pack("{s:s,s:s,s:s}", "action", action, "sha256", sha256, "name", name);

        status = o ? exj_out_json(c, o, false) : exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
        json_decref(o);
    } else {
        printf("%s %s %s\n", action, sha256, name);
    }
    return status;
}

static exj_exit add(exj_cli *c, exj_shelf *s, const char *name)
{
    char *file = exj_tool_find_plugin(c, name);
    const char *base;
    exj_probe probe;
    exj_err err = { 0 };
    exj_exit status;

    if (!file)
        return exj_fail(c, EXJ_EXIT_NOT_FOUND,
                        "no file \"%s\", neither here nor in the plugins directories", name);
    base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    if (exj_probe_file(file, &probe, &err) != EXJ_OK ||
        exj_shelf_trust_add(s, probe.sha256, base, exj_clock_wall_ms(), &err) != EXJ_OK)
        status = exj_fail_err(c, &err);
    else
        status = show(c, "trusted", probe.sha256, base);
    free(file);
    return status;
}

static exj_exit list(exj_cli *c, exj_shelf *s)
{
    exj_table t = EXJ_TABLE("SHA256", "SINCE", "NAME");
    exj_exit status = EXJ_EXIT_OK;
    json_t *all = NULL, *o;
    exj_err err = { 0 };
    size_t i;

    if (exj_shelf_trust_list(s, &all, &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    if (c->json) {
        json_t *shown = json_pack("{s:O}", "trusted", all);

        status = shown ? exj_out_json(c, shown, false)
                       : exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
        json_decref(shown);
    } else {
        json_array_foreach(all, i, o) {
            exj_table_add(&t, text_of(o, "sha256"));
            exj_table_add(&t, text_of(o, "date"));
            exj_table_add(&t, text_of(o, "name"));
        }
        exj_table_print(&t, c->color);
    }
    json_decref(all);
    return status;
}

/* All digits, or enough of them to tell. */
static exj_exit remove_one(exj_cli *c, exj_shelf *s, const char *digits)
{
    const json_t *found = NULL;
    size_t n = strlen(digits), i, hits = 0;
    exj_exit status;
    json_t *all = NULL, *o;
    exj_err err = { 0 };

    if (n < PREFIX_LEAST || n > 64 || strspn(digits, "0123456789abcdef") != n)
        return exj_fail(c, EXJ_EXIT_USAGE,
                        "'%.80s': wanted the SHA-256 of the content, or at least its first %d "
                        "lower-case digits; 'plugin trust list' shows them",
                        digits, PREFIX_LEAST);
    if (exj_shelf_trust_list(s, &all, &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    json_array_foreach(all, i, o)
        if (strncmp(text_of(o, "sha256"), digits, n) == 0) {
            found = o;
            hits++;
        }
    if (hits == 0)
        status = exj_fail(c, EXJ_EXIT_NOT_FOUND, "no trusted content %s", digits);
    else if (hits > 1)
        status = exj_fail(c, EXJ_EXIT_CONFLICT, "%zu trusted contents begin with %s: give more "
                                                "digits",
                          hits, digits);
    else if (exj_shelf_trust_remove(s, text_of(found, "sha256"), &err) != EXJ_OK)
        status = exj_fail_err(c, &err);
    else
        status = show(c, "removed", text_of(found, "sha256"), text_of(found, "name"));
    json_decref(all);
    return status;
}

exj_exit exj_cmd_plugin_trust(exj_cli *c)
{
    const char *what = c->args[0], *of = c->args_len > 1 ? c->args[1] : NULL;
    bool adds = strcmp(what, "add") == 0, removes = strcmp(what, "remove") == 0;
    char folder[PATH_MAX];
    exj_shelf *s = NULL;
    exj_err err = { 0 };
    exj_exit status;

    if (!adds && !removes && strcmp(what, "list") != 0)
        return exj_fail(c, EXJ_EXIT_USAGE, "'plugin trust %.80s': wanted add FILE, list or remove "
                                           "SHA256",
                        what);
    if ((adds || removes) && !of)
        return exj_fail(c, EXJ_EXIT_USAGE, "'plugin trust %s' needs %s", what,
                        adds ? "FILE" : "SHA256");
    if (!adds && !removes && of)
        return exj_fail(c, EXJ_EXIT_USAGE, "'plugin trust list' takes no '%.80s'", of);
    snprintf(folder, sizeof(folder), "%s/plugins",
             exj_settings_text(&c->settings, EXJ_SET_DATA_DIR));
    if (exj_shelf_new(folder, NULL, &s, &err) != EXJ_OK)
        return exj_fail_err(c, &err);
    status = adds ? add(c, s, of) : removes ? remove_one(c, s, of) : list(c, s);
    exj_shelf_free(s);
    return exj_out_finish(c, status);
}
