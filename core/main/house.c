#include "core/main/house.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/plugin/guest.h"

/* Plugins of ours that run in process unless somebody says otherwise. */
static const char *const shipped[] = { "stub", NULL };

/* ---- what may be loaded ---------------------------------------------------------------------- */

static exj_code check_quarantine(exj_house *h, const char *what, const char *sha256, exj_err *err)
{
    bool is_in = true;
    char *why = NULL;
    exj_code rc = exj_shelf_is_quarantined(h->shelf, sha256, &is_in, &why, err);

    if (rc == EXJ_OK && is_in)
        rc = exj_err_set(err, EXJ_REFUSED, "%s: its content (%.12s) is in quarantine: %s; "
                         "`exellix-jobs plugin release %.12s` lets it run again", what, sha256,
                         why ? why : "it crashed too often", sha256);
    free(why);
    return rc;
}

static exj_code may_load(void *user, const char *path, const char *sha256, exj_err *err)
{
    exj_house *h = user;
    bool trusted = false;
    exj_code rc;

    if (!strcmp(exj_settings_text(h->settings, EXJ_SET_TRUST), "listed")) {
        rc = exj_shelf_trust_has(h->shelf, sha256, &trusted, err);
        if (rc == EXJ_OK && !trusted)
            rc = exj_err_set(err, EXJ_REFUSED, "%s: its content (sha256 %s) is not on the trust list "
                             "and EXELLIX_JOBS_PLUGINS_TRUST is listed; `exellix-jobs plugin trust add "
                             "%s` adds it", path, sha256, path);
        if (rc)
            return rc;
    }
    return check_quarantine(h, path, sha256, err);
}

static bool may_start(void *user, const exj_guest *g, exj_err *why)
{
    return check_quarantine(user, g->id, g->sha256, why) == EXJ_OK;
}

static void crashed(void *user, const exj_guest *g, const char *signal, exj_slice backtrace)
{
    exj_house *h = user;
    char *text = exj_slice_dup(backtrace);
    exj_shelf_crash c = { .sha256 = g->sha256, .id = g->id, .version = g->version,
                          .signal = signal, .backtrace = text, .at = exj_clock_wall_ms() };
    bool quarantined = false;
    exj_err err = { 0 };

    exj_log(EXJ_LOG_ERROR, "plugin", "%s %s: its host died: %s", g->id, g->version, signal);
    if (exj_shelf_crash_add(h->shelf, &c, &quarantined, &err) != EXJ_OK)
        exj_log(EXJ_LOG_ERROR, "plugin", "%s: the crash could not be noted: %s", g->id, err.text);
    else if (quarantined)
        exj_log(EXJ_LOG_ERROR, "plugin", "%s %s (%.12s) crashed too often and is in quarantine until "
                "its file changes or `exellix-jobs plugin release %s`", g->id, g->version, g->sha256,
                g->id);
    free(text);
}

/* ---- the house ---------------------------------------------------------------------------------- */

exj_code exj_house_open(exj_house *h, const exj_settings *s, exj_err *err)
{
    const char *data = exj_settings_text(s, EXJ_SET_DATA_DIR);
    const char *slash = strrchr(s->exe, '/');
    char folder[4200];
    struct stat st;
    exj_code rc;

    *h = (exj_house){ .settings = s };
    if (asprintf(&h->host_exe, "%.*s/exellix-jobs-plugin-host", slash ? (int)(slash - s->exe) : 0,
                 s->exe) < 0)
        h->host_exe = NULL;
    if (asprintf(&h->transform_exe, "%.*s/exellix-jobs-transform", slash ? (int)(slash - s->exe) : 0,
                 s->exe) < 0)
        h->transform_exe = NULL;
    /* Who only looks makes no folders. */
    snprintf(folder, sizeof(folder), "%s/plugins", data);
    rc = exj_shelf_new(stat(data, &st) == 0 ? folder : NULL, NULL, &h->shelf, err);
    h->data_dir = rc == EXJ_OK ? realpath(data, NULL) : NULL; /* absent: nothing to hide */
    if (rc == EXJ_OK && (!h->host_exe || !h->transform_exe))
        rc = exj_err_set(err, EXJ_NOMEM, "plugins: out of memory");
    if (rc != EXJ_OK) {
        exj_house_close(h);
        return rc;
    }
    h->remote = (exj_remote_settings){
        .host_exe = h->host_exe,
        .hidden_dir = h->data_dir,
        .memory_mb = (uint32_t)exj_settings_number(s, EXJ_SET_HOST_MEMORY),
        .idle_ms = (uint32_t)exj_settings_number(s, EXJ_SET_HOST_IDLE) * 1000,
        .grace_ms = (uint32_t)exj_settings_number(s, EXJ_SET_HOST_GRACE) * 1000,
        .user = h,
        .crashed = crashed,
        .may_start = may_start,
    };
    return EXJ_OK;
}

void exj_house_close(exj_house *h)
{
    exj_shelf_free(h->shelf);
    free(h->host_exe);
    free(h->transform_exe);
    free(h->data_dir);
    *h = (exj_house){ 0 };
}

exj_code exj_house_registry(exj_house *h, const char *const *dirs, const char *private_dir,
                            exj_registry **ret, exj_err *err)
{
    const exj_settings *s = h->settings;
    const char *word = exj_settings_text(s, EXJ_SET_ISOLATION);
    exj_registry_options o = {
        .dirs = dirs ? dirs : (const char *const *)s->plugin_dirs,
        .private_dir = private_dir,
        .shipped_dirs = (const char *const *)s->own_dirs,
        .shipped = shipped,
        .remote = &h->remote,
        .may_load = may_load,
        .user = h,
    };
    exj_code rc = exj_lane_parse(exj_slice_of(word), &o.lane, err);

    return rc == EXJ_OK ? exj_registry_open(&o, ret, err) : rc;
}
