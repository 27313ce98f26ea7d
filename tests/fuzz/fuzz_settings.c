/* Settings from the environment, `.env` and the config file at once: whatever they hold, what is set
 * is inside its bounds, comes from the strongest source that names it, and secrets are never shown.
 * The input has three parts, parted by the byte 0x1e: NAME=VALUE lines of the environment, `.env`,
 * and the config file.
 * sources: core/main/settings.c core/main/dotenv.c */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/main/settings.h"

#define LINES 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static exj_slice take_until(exj_slice *rest, char end)
{
    const char *at = rest->n ? memchr(rest->p, end, rest->n) : NULL;
    exj_slice part = { rest->p, at ? (size_t)(at - rest->p) : rest->n };

    rest->p += part.n + (at != NULL);
    rest->n -= part.n + (at != NULL);
    return part;
}

static int file_of(exj_slice text, char ret_path[64])
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    must(fd >= 0 && write(fd, text.n ? text.p : "", text.n) == (ssize_t)text.n);
    snprintf(ret_path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static void warn(const char *line)
{
    must(line[0] && strlen(line) < 512);
}

static const char *named_in(char *const *environment, const char *name)
{
    const char *found = NULL;
    size_t n = strlen(name);

    for (char *const *e = environment; *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=' && (*e)[n + 1])
            found = *e + n + 1;
    return found;
}

static void look_at(const exj_settings *s, exj_setting id, char *const *environment)
{
    const exj_setting_info *i = &exj_setting_infos[id];
    exj_buf value = EXJ_BUF_INIT, origin = EXJ_BUF_INIT;
    const char *text = exj_settings_text(s, id), *set = named_in(environment, i->name);

    must(exj_settings_show(s, id, &value, &origin, NULL) == EXJ_OK);
    must(value.p && origin.p && exj_utf8_is_valid(exj_buf_slice(&value)));
    must(exj_settings_by_name(s, i->name) == text);
    if (text) {
        must(*text && (i->kind != EXJ_SETTING_NUMBER ||
                       (s->at[id].number >= i->low && s->at[id].number <= i->high)));
        must(i->kind != EXJ_SETTING_BOOL || (s->at[id].number & ~1) == 0);
        must(i->kind != EXJ_SETTING_STATES || s->at[id].number > 0);
        must(i->kind != EXJ_SETTING_SECRET || strcmp(value.p, "(hidden)") == 0);
    }
    if (set)
        must(text && s->at[id].origin == EXJ_FROM_ENV);
    else
        must(!text || s->at[id].origin != EXJ_FROM_ENV);
    exj_buf_release(&value);
    exj_buf_release(&origin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exj_slice rest = { (const char *)data, size }, lines = take_until(&rest, 0x1e);
    exj_slice dotenv_text = take_until(&rest, 0x1e);
    char *environment[LINES + 3] = { 0 }, dotenv[64], config[64], setting[100], home[] = "HOME=/h";
    int fds[2] = { file_of(dotenv_text, dotenv), file_of(rest, config) };
    exj_settings s = { 0 };
    exj_err err = { 0 };
    size_t n = 0;
    exj_code rc;

    while (lines.n && n < LINES) {
        exj_slice line = take_until(&lines, '\n');

        /* The file that is named is ours. */
        environment[n] = exj_slice_dup(line);
        must(environment[n] != NULL);
        if (strncmp(environment[n], "EXELLIX_JOBS_CONFIG_FILE", 24) == 0)
            environment[n][0] = 'x';
        n++;
    }
    snprintf(setting, sizeof setting, "EXELLIX_JOBS_CONFIG_FILE=%s", config);
    environment[n] = home;
    environment[n + 1] = setting;
    rc = exj_settings_load(&s, environment, dotenv, warn, &err);
    must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
    for (int id = 0; rc == EXJ_OK && id < EXJ_SETTING_COUNT; id++)
        look_at(&s, (exj_setting)id, environment);
    if (rc == EXJ_OK && n) {
        char *eq = strchr(environment[0], '=');

        if (eq) {
            *eq = '\0';
            rc = exj_settings_set_host(&s, environment[0], eq + 1, &err);
            must(rc == EXJ_OK || (rc == EXJ_INVALID && err.text[0]));
        }
    }
    exj_settings_release(&s);
    for (size_t i = 0; i < n; i++)
        free(environment[i]);
    close(fds[0]);
    close(fds[1]);
    return 0;
}
