/* core/plugin/shelf_crash.c - contents that crash, and those that may not run. */
#include "core/plugin/shelf_inside.h"

#include <stdio.h>
#include <stdlib.h>

#define VERSION_BYTES 100
#define SIGNAL_BYTES 32
#define WHY_BYTES 1000

static int by_time(const void *a, const void *b)
{
    exj_msec x = *(const exj_msec *)a, y = *(const exj_msec *)b;

    return (x > y) - (x < y);
}

bool exj_crash_rule(const exj_msec *at, size_t n, unsigned k, exj_msec within_ms)
{
    exj_msec *sorted;
    bool ret = false;

    if (k == 0 || n < k)
        return false;
    sorted = malloc(n * sizeof *sorted);
    if (!sorted)
        return true; /* the careful answer */
    memcpy(sorted, at, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_time);
    for (size_t i = 0; i + k <= n && !ret; i++)
        ret = sorted[i + k - 1] - sorted[i] <= within_ms;
    free(sorted);
    return ret;
}

/* ---- the document ------------------------------------------------------------------------- */

exj_code exj_shelf_parse_quarantine(exj_shelf_doc *d, exj_slice text, exj_err *err)
{
    static const char *const crash[] = { "sha256", "id", "version", "signal", "backtrace", "at",
                                         NULL };
    static const char *const out[] = { "sha256", "id", "version", "why", "at", NULL };
    json_t *root = NULL, *e;
    char place[40];
    size_t k;
    exj_code rc = exj_shelf_parse_root(d, text, &root, err);

    if (!rc && !root && !(root = json_pack("{s:i,s:[],s:[]}", "version", 1, "crashes",
                                           "quarantined")))
        rc = exj_shelf_no_memory(err);
    if (!rc && (!json_is_array(json_object_get(root, "crashes")) ||
                !json_is_array(json_object_get(root, "quarantined"))))
        rc = exj_err_set(err, EXJ_CORRUPT, "%s: wanted arrays \"crashes\" and \"quarantined\"; "
                         "move the file away to begin anew", d->name);
    json_array_foreach(json_object_get(root, "crashes"), k, e) {
        snprintf(place, sizeof place, "crashes[%zu]", k);
        if (!rc)
            rc = exj_shelf_check_entry(d, place, e, crash, "sssssi", err);
    }
    json_array_foreach(json_object_get(root, "quarantined"), k, e) {
        snprintf(place, sizeof place, "quarantined[%zu]", k);
        if (!rc)
            rc = exj_shelf_check_entry(d, place, e, out, "ssssi", err);
    }
    if (rc)
        json_decref(root);
    else
        d->root = root;
    return rc;
}

static json_t *crashes_of(const exj_shelf *s)
{
    return json_object_get(s->quarantine.root, "crashes");
}

static json_t *quarantined_of(const exj_shelf *s)
{
    return json_object_get(s->quarantine.root, "quarantined");
}

static const char *text_of(const json_t *o, const char *name)
{
    return json_string_value(json_object_get(o, name));
}

static json_t *find(json_t *list, const char *sha256)
{
    json_t *e;
    size_t k;

    json_array_foreach(list, k, e)
        if (strcmp(text_of(e, "sha256"), sha256) == 0)
            return e;
    return NULL;
}

/* ---- crashes ------------------------------------------------------------------------------ */

/* Does the rule hold for this content? The newest EXJ_SHELF_K_MAX of its crashes stay. */
static bool judge(exj_shelf *s, const char *sha256)
{
    exj_msec at[EXJ_SHELF_K_MAX];
    json_t *list = crashes_of(s);
    unsigned n = 0;

    for (size_t k = json_array_size(list); k-- > 0;) {
        json_t *e = json_array_get(list, k);

        if (strcmp(text_of(e, "sha256"), sha256) != 0)
            continue;
        if (n < EXJ_SHELF_K_MAX)
            at[n++] = json_integer_value(json_object_get(e, "at"));
        else
            json_array_remove(list, k);
    }
    return exj_crash_rule(at, n, s->config.crashes, s->config.within_ms);
}

static exj_code put_aside(exj_shelf *s, const char *sha256, const char *id, const char *version,
                          const char *why, exj_msec now, exj_err *err)
{
    json_t *list = quarantined_of(s);

    if (json_array_size(list) >= EXJ_SHELF_QUARANTINED_MAX)
        return exj_err_set(err, EXJ_FULL, "%u contents are in quarantine; release some",
                           EXJ_SHELF_QUARANTINED_MAX);
    if (json_array_append_new(list, json_pack("{s:s,s:o,s:o,s:I,s:o}", "sha256", sha256, "id",
                                              exj_shelf_text(id, EXJ_SHELF_ID_MAX, false),
                                              "version",
                                              exj_shelf_text(version, VERSION_BYTES, false), "at",
                                              (json_int_t)now, "why",
                                              exj_shelf_text(why, WHY_BYTES, false))))
        return exj_shelf_undo(s, &s->quarantine, err);
    return EXJ_OK;
}

exj_code exj_shelf_crash_add(exj_shelf *s, const exj_shelf_crash *c, bool *ret_quarantined,
                             exj_err *err)
{
    bool aside = false;
    char why[200];
    json_t *list;
    exj_code rc = exj_shelf_check_sha(c->sha256, err);

    if (!rc)
        rc = exj_shelf_check_id(c->id, err);
    if (!rc)
        rc = exj_shelf_enter(s, true, &s->quarantine, err);
    if (rc)
        return rc;
    list = crashes_of(s);
    if (json_array_append_new(
            list, json_pack("{s:s,s:o,s:o,s:o,s:o,s:I}", "sha256", c->sha256, "id",
                            exj_shelf_text(c->id, EXJ_SHELF_ID_MAX, false), "version",
                            exj_shelf_text(c->version, VERSION_BYTES, false), "signal",
                            exj_shelf_text(c->signal, SIGNAL_BYTES, false), "backtrace",
                            exj_shelf_text(c->backtrace, EXJ_SHELF_BACKTRACE_MAX, true), "at",
                            (json_int_t)c->at))) {
        rc = exj_shelf_undo(s, &s->quarantine, err);
        goto out;
    }
    while (json_array_size(list) > EXJ_SHELF_CRASHES_MAX)
        json_array_remove(list, 0);
    aside = find(quarantined_of(s), c->sha256) != NULL;
    if (!aside && judge(s, c->sha256)) {
        snprintf(why, sizeof why, "%u crashes in %lld ms, the last with %.*s", s->config.crashes,
                 (long long)s->config.within_ms, SIGNAL_BYTES,
                 c->signal && *c->signal ? c->signal : "no signal");
        rc = put_aside(s, c->sha256, c->id, c->version, why, c->at, err);
        aside = !rc;
    }
    if (!rc || rc == EXJ_FULL) { /* the crash itself is kept */
        exj_code saved = exj_shelf_save(s, &s->quarantine, err);

        rc = rc ? rc : saved;
    }
out:
    exj_shelf_leave(s, true);
    if (ret_quarantined)
        *ret_quarantined = aside && !rc;
    return rc;
}

exj_code exj_shelf_quarantine(exj_shelf *s, const char *sha256, const char *id,
                              const char *version, const char *why, exj_msec now, exj_err *err)
{
    exj_code rc = exj_shelf_check_sha(sha256, err);

    if (!rc)
        rc = exj_shelf_check_id(id, err);
    if (!rc)
        rc = exj_shelf_enter(s, true, &s->quarantine, err);
    if (rc)
        return rc;
    if (!find(quarantined_of(s), sha256)) {
        rc = put_aside(s, sha256, id, version, why, now, err);
        if (!rc)
            rc = exj_shelf_save(s, &s->quarantine, err);
    }
    exj_shelf_leave(s, true);
    return rc;
}

exj_code exj_shelf_is_quarantined(exj_shelf *s, const char *sha256, bool *ret, char **ret_why,
                                  exj_err *err)
{
    const json_t *e;
    exj_code rc = exj_shelf_check_sha(sha256, err);

    *ret = true;
    if (ret_why)
        *ret_why = NULL;
    if (!rc)
        rc = exj_shelf_enter(s, false, &s->quarantine, err);
    if (rc)
        return rc;
    e = find(quarantined_of(s), sha256);
    *ret = e != NULL;
    if (e && ret_why && !(*ret_why = strdup(text_of(e, "why"))))
        rc = exj_shelf_no_memory(err);
    exj_shelf_leave(s, false);
    return rc;
}

exj_code exj_shelf_quarantine_list(exj_shelf *s, json_t **ret, exj_err *err)
{
    exj_code rc = exj_shelf_enter(s, false, &s->quarantine, err);
    json_t *list, *e, *c;
    size_t k, j;

    if (rc)
        return rc;
    list = json_deep_copy(quarantined_of(s));
    json_array_foreach(list, k, e) {
        json_t *own = json_array();

        json_array_foreach(crashes_of(s), j, c)
            if (strcmp(text_of(c, "sha256"), text_of(e, "sha256")) == 0 &&
                json_array_append_new(own, json_pack("{s:O,s:O,s:O,s:O}", "at",
                                                     json_object_get(c, "at"), "signal",
                                                     json_object_get(c, "signal"), "version",
                                                     json_object_get(c, "version"), "backtrace",
                                                     json_object_get(c, "backtrace"))))
                rc = EXJ_NOMEM;
        if (json_object_set_new(e, "crashes", own))
            rc = EXJ_NOMEM;
    }
    exj_shelf_leave(s, false);
    if (rc || !list) {
        json_decref(list);
        return exj_shelf_no_memory(err);
    }
    *ret = list;
    return EXJ_OK;
}

static size_t remove_from(json_t *list, const char *sha256_or_id)
{
    size_t removed = 0;

    for (size_t k = json_array_size(list); k-- > 0;) {
        const json_t *e = json_array_get(list, k);

        if (strcmp(text_of(e, "sha256"), sha256_or_id) == 0 ||
            strcmp(text_of(e, "id"), sha256_or_id) == 0) {
            json_array_remove(list, k);
            removed++;
        }
    }
    return removed;
}

exj_code exj_shelf_release(exj_shelf *s, const char *sha256_or_id, size_t *ret_count,
                           exj_err *err)
{
    exj_code rc = exj_shelf_check_id(sha256_or_id, err);
    size_t n;

    if (!rc)
        rc = exj_shelf_enter(s, true, &s->quarantine, err);
    if (rc)
        return rc;
    n = remove_from(quarantined_of(s), sha256_or_id);
    if (n == 0) {
        rc = exj_err_set(err, EXJ_NOT_FOUND, "nothing in quarantine has the SHA-256 or id '%s'",
                         sha256_or_id);
    } else {
        remove_from(crashes_of(s), sha256_or_id);
        rc = exj_shelf_save(s, &s->quarantine, err);
    }
    exj_shelf_leave(s, true);
    if (!rc && ret_count)
        *ret_count = n;
    return rc;
}

/* ---- pins --------------------------------------------------------------------------------- */

exj_code exj_shelf_parse_pins(exj_shelf_doc *d, exj_slice text, exj_err *err)
{
    static const char *const members[] = { "sha256", "at", NULL };
    json_t *root = NULL, *e;
    const char *id;
    exj_code rc = exj_shelf_parse_root(d, text, &root, err);

    if (!rc && !root && !(root = json_pack("{s:i,s:{}}", "version", 1, "pins")))
        rc = exj_shelf_no_memory(err);
    if (!rc && !json_is_object(json_object_get(root, "pins")))
        rc = exj_err_set(err, EXJ_CORRUPT, "%s: wanted an object \"pins\"; move the file away to "
                         "begin anew", d->name);
    json_object_foreach(json_object_get(root, "pins"), id, e)
        if (!rc)
            rc = exj_shelf_check_entry(d, id, e, members, "si", err);
    if (rc)
        json_decref(root);
    else
        d->root = root;
    return rc;
}

static json_t *pins_of(const exj_shelf *s)
{
    return json_object_get(s->pins.root, "pins");
}

exj_code exj_shelf_pin(exj_shelf *s, const char *id, const char *sha256, exj_msec now,
                       exj_err *err)
{
    exj_code rc = exj_shelf_check_id(id, err);

    if (!rc)
        rc = exj_shelf_check_sha(sha256, err);
    if (!rc)
        rc = exj_shelf_enter(s, true, &s->pins, err);
    if (rc)
        return rc;
    if (json_object_set_new(pins_of(s), id, json_pack("{s:s,s:I}", "sha256", sha256, "at",
                                                      (json_int_t)now)))
        rc = exj_shelf_undo(s, &s->pins, err);
    else
        rc = exj_shelf_save(s, &s->pins, err);
    exj_shelf_leave(s, true);
    return rc;
}

exj_code exj_shelf_unpin(exj_shelf *s, const char *id, exj_err *err)
{
    exj_code rc = exj_shelf_check_id(id, err);

    if (!rc)
        rc = exj_shelf_enter(s, true, &s->pins, err);
    if (rc)
        return rc;
    if (json_object_del(pins_of(s), id))
        rc = exj_err_set(err, EXJ_NOT_FOUND, "plugin '%s' is not pinned", id);
    else
        rc = exj_shelf_save(s, &s->pins, err);
    exj_shelf_leave(s, true);
    return rc;
}

exj_code exj_shelf_pinned(exj_shelf *s, const char *id, char ret_sha256[65], exj_err *err)
{
    const char *sha;
    exj_code rc;

    ret_sha256[0] = '\0';
    rc = exj_shelf_check_id(id, err);
    if (!rc)
        rc = exj_shelf_enter(s, false, &s->pins, err);
    if (rc)
        return rc;
    sha = text_of(json_object_get(pins_of(s), id), "sha256");
    if (sha)
        memcpy(ret_sha256, sha, 65);
    exj_shelf_leave(s, false);
    return EXJ_OK;
}

exj_code exj_shelf_pins(exj_shelf *s, json_t **ret, exj_err *err)
{
    exj_code rc = exj_shelf_enter(s, false, &s->pins, err);
    json_t *list, *e;
    const char *id;

    if (rc)
        return rc;
    list = json_array();
    json_object_foreach(pins_of(s), id, e) {
        char *path = exj_shelf_path_locked(s, text_of(e, "sha256"));

        if (json_array_append_new(list, json_pack("{s:s,s:O,s:O,s:s?}", "id", id, "sha256",
                                                  json_object_get(e, "sha256"), "at",
                                                  json_object_get(e, "at"), "path", path)))
            rc = EXJ_NOMEM;
        free(path);
    }
    exj_shelf_leave(s, false);
    if (rc || !list) {
        json_decref(list);
        return exj_shelf_no_memory(err);
    }
    *ret = list;
    return EXJ_OK;
}
