#include "core/main/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/hide.h"
#include "core/job/config.h"
#include "core/main/dotenv.h"

#define CONFIG_FILE_MAX_BYTES (1024u * 1024u)
#define TEXT_MAX_BYTES 4096u
#define OUR_PREFIX "EXELLIX_JOBS_"

const exj_setting_info exj_setting_infos[EXJ_SETTING_COUNT] = {
#define EXJ_X(id, name, flag, kind, fallback, low, high, allowed, help)                    \
    { name, flag, EXJ_SETTING_##kind, fallback, low, high, allowed, help },
    EXJ_SETTINGS_TABLE(EXJ_X)
#undef EXJ_X
};

/* ---- checking one value --------------------------------------------------------------- */

static bool parse_number(const char *text, int64_t low, int64_t high, int64_t *ret)
{
    char *end;
    intmax_t v;

    if (!*text || strspn(text, "-0123456789") != strlen(text))
        return false;
    errno = 0;
    v = strtoimax(text, &end, 10);
    if (errno || *end || v < low || v > high)
        return false;
    *ret = v;
    return true;
}

static bool parse_bool(const char *text, int64_t *ret)
{
    static const char *const words[] = { "false", "true", "0", "1", "no", "yes", "off", "on" };

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strcasecmp(text, words[i]) == 0) {
            *ret = (int64_t)(i & 1u);
            return true;
        }
    return false;
}

static bool is_word_of(const char *text, const char *words)
{
    size_t n = strlen(text);

    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL)
        if (strcspn(w, "|") == n && memcmp(w, text, n) == 0)
            return true;
    return false;
}

static exj_code parse_states(const char *text, int64_t *ret, exj_err *err)
{
    int64_t bits = 0;

    for (const char *w = text;;) {
        size_t n = strcspn(w, ",");
        exj_slice word = { w, n };
        exj_operational state;
        exj_code rc;

        while (word.n && word.p[0] == ' ') {
            word.p++;
            word.n--;
        }
        while (word.n && word.p[word.n - 1] == ' ')
            word.n--;
        rc = exj_operational_parse(word, &state, err);
        if (rc != EXJ_OK)
            return rc;
        bits |= (int64_t)1 << state;
        if (!w[n])
            break;
        w += n + 1;
    }
    *ret = bits;
    return EXJ_OK;
}

static bool is_prefix(const char *text)
{
    size_t n = strlen(text);

    if (n == 0)
        return true;
    if (text[0] != '/' || text[n - 1] == '/' || strstr(text, "//") || n > 128)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("/-_.~", text[i]) && !(text[i] >= '0' && text[i] <= '9') &&
            !((text[i] | 0x20) >= 'a' && (text[i] | 0x20) <= 'z'))
            return false;
    return true;
}

static bool is_plain(const char *text)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return exj_utf8_is_valid(exj_slice_of(text)) && strlen(text) <= TEXT_MAX_BYTES;
}

/* "flag --port", "environment", ".env:3", "/etc/x.json" */
static void name_origin(exj_setting id, exj_origin origin, const char *where, char *ret,
                        size_t cap)
{
    switch (origin) {
    case EXJ_FROM_FLAG:
        snprintf(ret, cap, "flag --%s", exj_setting_infos[id].flag);
        break;
    case EXJ_FROM_ENV:
        snprintf(ret, cap, "environment");
        break;
    case EXJ_FROM_DOTENV:
    case EXJ_FROM_FILE:
        snprintf(ret, cap, "%s", where ? where : "file");
        break;
    case EXJ_FROM_DEFAULT:
        snprintf(ret, cap, "default");
        break;
    case EXJ_FROM_HOST:
        snprintf(ret, cap, "host bootstrap");
        break;
    }
}

static exj_code check_value(exj_setting id, const char *text, const char *origin,
                            int64_t *ret, exj_err *err)
{
    const exj_setting_info *i = &exj_setting_infos[id];
    exj_err why = { 0 };

    *ret = 0;
    switch (i->kind) {
    case EXJ_SETTING_NUMBER:
        if (!parse_number(text, i->low, i->high, ret))
            return exj_err_set(err, EXJ_INVALID,
                               "%s=%.80s (%s): wanted a whole number from %" PRId64
                               " to %" PRId64,
                               i->name, text, origin, i->low, i->high);
        return EXJ_OK;
    case EXJ_SETTING_BOOL:
        if (!parse_bool(text, ret))
            return exj_err_set(err, EXJ_INVALID,
                               "%s=%.80s (%s): wanted true or false (also 1 0 yes no on off)",
                               i->name, text, origin);
        return EXJ_OK;
    case EXJ_SETTING_CHOICE:
        if (!is_word_of(text, i->allowed))
            return exj_err_set(err, EXJ_INVALID, "%s=%.80s (%s): wanted one of %s", i->name,
                               text, origin, i->allowed);
        return EXJ_OK;
    case EXJ_SETTING_STATES:
        if (parse_states(text, ret, &why) != EXJ_OK)
            return exj_err_set(err, EXJ_INVALID,
                               "%s=%.80s (%s): wanted states split by commas: %s", i->name,
                               text, origin, why.text);
        return EXJ_OK;
    case EXJ_SETTING_PREFIX:
        if (!is_prefix(text))
            return exj_err_set(err, EXJ_INVALID,
                               "%s=%.80s (%s): wanted a path such as /v1 without a slash at "
                               "its end",
                               i->name, text, origin);
        return EXJ_OK;
    case EXJ_SETTING_TEXT:
        if (!is_plain(text))
            return exj_err_set(err, EXJ_INVALID,
                               "%s (%s): wanted UTF-8 text without control bytes, at most %u "
                               "bytes",
                               i->name, origin, TEXT_MAX_BYTES);
        return EXJ_OK;
    case EXJ_SETTING_SECRET:
    case EXJ_SETTING_URI:
        if (!is_plain(text)) /* the value is not quoted: it is a secret */
            return exj_err_set(err, EXJ_INVALID,
                               "%s (%s): wanted UTF-8 text without control bytes, at most %u "
                               "bytes",
                               i->name, origin, TEXT_MAX_BYTES);
        return EXJ_OK;
    }
    return exj_err_set(err, EXJ_BUG, "%s: unknown kind", i->name);
}

static exj_code take(exj_settings *s, exj_setting id, const char *text, exj_origin origin,
                     const char *where, exj_err *err)
{
    char from[PATH_MAX + 32], *copy, *place = NULL;
    int64_t number;
    exj_code rc;

    if (!*text)
        return EXJ_OK; /* empty: not set */
    name_origin(id, origin, where, from, sizeof(from));
    rc = check_value(id, text, from, &number, err);
    if (rc != EXJ_OK)
        return rc;
    /* A value that something stronger gave stays; this one was still worth its check. */
    if (s->at[id].text && s->at[id].origin > origin)
        return EXJ_OK;
    copy = strdup(text);
    if (copy && where)
        place = strdup(where);
    if (!copy || (where && !place)) {
        free(copy);
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    free(s->at[id].text);
    free(s->at[id].where);
    s->at[id].text = copy;
    s->at[id].where = place;
    s->at[id].number = number;
    s->at[id].origin = origin;
    return EXJ_OK;
}

exj_code exj_settings_set_flag(exj_settings *s, exj_setting id, const char *value,
                               exj_err *err)
{
    if (!*value)
        return exj_err_set(err, EXJ_INVALID, "--%s: an empty value",
                           exj_setting_infos[id].flag);
    return take(s, id, value, EXJ_FROM_FLAG, NULL, err);
}

/* ---- names ---------------------------------------------------------------------------- */

static bool find_setting(const char *name, exj_setting *ret)
{
    for (int i = 0; i < EXJ_SETTING_COUNT; i++)
        if (strcmp(exj_setting_infos[i].name, name) == 0) {
            *ret = (exj_setting)i;
            return true;
        }
    return false;
}

static const char *nearest_setting(const char *name)
{
    const char *best = NULL;
    unsigned least = 6; /* farther is no help */

    for (int i = 0; i < EXJ_SETTING_COUNT; i++) {
        unsigned d = exj_edit_distance(name, exj_setting_infos[i].name);

        if (d < least) {
            least = d;
            best = exj_setting_infos[i].name;
        }
    }
    return best;
}

static void warn_unknown(void (*warn)(const char *line), const char *where, const char *name)
{
    const char *near;
    char line[512];

    if (!warn || strncmp(name, OUR_PREFIX, sizeof(OUR_PREFIX) - 1) != 0)
        return;
    near = nearest_setting(name);
    snprintf(line, sizeof(line), "%s: %.100s is no setting%s%s%s", where, name,
             near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    warn(line);
}

/* ---- the sources ------------------------------------------------------------------------ */

struct dotenv_user {
    exj_settings *s;
    const char *path;
    void (*warn)(const char *line);
};

static exj_code take_dotenv(void *user, const char *key, const char *value, unsigned line,
                            exj_err *err)
{
    struct dotenv_user *u = user;
    char where[PATH_MAX + 16];
    exj_setting id;

    snprintf(where, sizeof(where), "%s:%u", u->path, line);
    if (!find_setting(key, &id)) {
        warn_unknown(u->warn, where, key);
        return EXJ_OK;
    }
    return take(u->s, id, value, EXJ_FROM_DOTENV, where, err);
}

static exj_code load_dotenv(exj_settings *s, const char *path, void (*warn)(const char *),
                            exj_err *err)
{
    struct dotenv_user u = { s, path, warn };
    exj_buf text = EXJ_BUF_INIT;
    exj_err why = { 0 };
    exj_code rc = exj_read_file(path, EXJ_DOTENV_MAX_BYTES, &text, &why);

    if (rc == EXJ_NOT_FOUND) {
        exj_buf_release(&text);
        return EXJ_OK;
    }
    if (rc != EXJ_OK) {
        exj_err_set(err, rc, "%s", why.text);
    } else {
        exj_err inside = { 0 };

        rc = exj_dotenv_parse(exj_buf_slice(&text), take_dotenv, &u, &inside);
        if (rc != EXJ_OK)
            exj_err_set(err, rc, "%s%s%s", strncmp(inside.text, "line ", 5) ? "" : path,
                        strncmp(inside.text, "line ", 5) ? "" : ": ", inside.text);
    }
    exj_buf_release(&text);
    return rc;
}

static exj_code load_environment(exj_settings *s, char *const *environment,
                                 void (*warn)(const char *), exj_err *err)
{
    for (char *const *e = environment; e && *e; e++) {
        const char *eq = strchr(*e, '=');
        char name[128];
        exj_setting id;
        exj_code rc;

        if (!eq || (size_t)(eq - *e) >= sizeof(name))
            continue;
        memcpy(name, *e, (size_t)(eq - *e));
        name[eq - *e] = '\0';
        if (!find_setting(name, &id)) {
            warn_unknown(warn, "environment", name);
            continue;
        }
        rc = take(s, id, eq + 1, EXJ_FROM_ENV, NULL, err);
        if (rc != EXJ_OK)
            return rc;
    }
    return EXJ_OK;
}

static exj_code take_json(exj_settings *s, const char *path, const char *key,
                          const json_t *value, exj_err *err)
{
    const char *near;
    char number[32];
    exj_setting id;

    if (!find_setting(key, &id)) {
        near = nearest_setting(key);
        return exj_err_set(err, EXJ_INVALID, "%s: %.100s is no setting%s%s%s", path, key,
                           near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    if (id == EXJ_SET_CONFIG_FILE)
        return exj_err_set(err, EXJ_INVALID, "%s: %s cannot name another file", path, key);
    if (json_is_string(value))
        return take(s, id, json_string_value(value), EXJ_FROM_FILE, path, err);
    if (json_is_boolean(value))
        return take(s, id, json_is_true(value) ? "true" : "false", EXJ_FROM_FILE, path, err);
    if (json_is_integer(value)) {
        snprintf(number, sizeof(number), "%" PRId64, (int64_t)json_integer_value(value));
        return take(s, id, number, EXJ_FROM_FILE, path, err);
    }
    if (json_is_null(value))
        return EXJ_OK;
    return exj_err_set(err, EXJ_INVALID, "%s: %s: wanted a string, a whole number or a boolean",
                       path, key);
}

static exj_code load_file(exj_settings *s, exj_err *err)
{
    const char *path = s->at[EXJ_SET_CONFIG_FILE].text, *key;
    exj_buf text = EXJ_BUF_INIT;
    json_t *root = NULL, *value;
    exj_code rc;

    if (!path)
        return EXJ_OK;
    rc = exj_read_file(path, CONFIG_FILE_MAX_BYTES, &text, err);
    if (rc != EXJ_OK) {
        exj_err_prefix(err, "EXELLIX_JOBS_CONFIG_FILE");
        goto out;
    }
    rc = exj_json_parse(exj_buf_slice(&text), &root, err);
    if (rc == EXJ_OK && !json_is_object(root))
        rc = exj_err_set(err, EXJ_INVALID, "wanted a JSON object of settings");
    if (rc != EXJ_OK) {
        exj_err_prefix(err, "%s", path);
        goto out;
    }
    json_object_foreach(root, key, value) {
        rc = take_json(s, path, key, value, err);
        if (rc != EXJ_OK)
            goto out;
    }
out:
    json_decref(root);
    exj_buf_release(&text);
    return rc;
}

/* ---- computed defaults ------------------------------------------------------------------- */

static exj_code default_worker_id(exj_settings *s, exj_err *err)
{
    char host[65] = "host", id[128];

    gethostname(host, sizeof(host) - 1);
    snprintf(id, sizeof(id), "%s-%ld-%08" PRIx32, host, (long)getpid(),
             (uint32_t)exj_random_u64());
    return take(s, EXJ_SET_WORKER_ID, id, EXJ_FROM_DEFAULT, NULL, err);
}

/* $HOME and $XDG_STATE_HOME come from the list the caller gave, not from our own. */
static const char *look_up(char *const *environment, const char *name)
{
    size_t n = strlen(name);

    for (char *const *e = environment; e && *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=' && (*e)[n + 1])
            return *e + n + 1;
    return NULL;
}

static exj_code default_data_dir(exj_settings *s, char *const *environment, exj_err *err)
{
    const char *state = look_up(environment, "XDG_STATE_HOME");
    const char *home = look_up(environment, "HOME");
    char path[PATH_MAX];

    if (geteuid() == 0) {
        snprintf(path, sizeof(path), "/var/lib/exellix-jobs");
    } else if (state && state[0] == '/') {
        snprintf(path, sizeof(path), "%s/exellix-jobs", state);
    } else {
        if (!home) {
            const struct passwd *p = getpwuid(geteuid());

            home = p ? p->pw_dir : NULL;
        }
        if (!home)
            return exj_err_set(err, EXJ_INVALID,
                               "EXELLIX_JOBS_DATA_DIR: no home folder to put the store in; "
                               "set it or give --data-dir");
        snprintf(path, sizeof(path), "%s/.local/state/exellix-jobs", home);
    }
    return take(s, EXJ_SET_DATA_DIR, path, EXJ_FROM_DEFAULT, NULL, err);
}

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#else
#define MULTIARCH "."
#endif

static const char *const own_plugin_dirs[] = {
    "plugins",
    "../lib/" MULTIARCH "/exellix-jobs/plugins",
    "../lib/exellix-jobs/plugins",
    "../lib64/exellix-jobs/plugins",
};
#define OWN_DIRS (sizeof(own_plugin_dirs) / sizeof(*own_plugin_dirs))

static exj_code find_plugin_dirs(exj_settings *s, exj_err *err)
{
    const char *set = s->at[EXJ_SET_PLUGINS_DIR].text;
    char exe[PATH_MAX], joined[2 * PATH_MAX], *slash;
    exj_buf shown = EXJ_BUF_INIT;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    size_t most = OWN_DIRS + 1, len = 0;
    exj_code rc = EXJ_OK;

    exe[n > 0 ? n : 0] = '\0';
    s->exe = strdup(exe);
    for (const char *c = set; c && *c; c++)
        most += *c == ':';
    s->plugin_dirs = calloc(most + 1, sizeof(*s->plugin_dirs));
    if (!s->exe || !s->plugin_dirs)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");

    for (const char *c = set; c && *c; c += strcspn(c, ":"), c += *c == ':') {
        exj_slice dir = { c, strcspn(c, ":") };

        if (dir.n && !(s->plugin_dirs[len++] = exj_slice_dup(dir)))
            return exj_err_set(err, EXJ_NOMEM, "out of memory");
    }
    s->own_dirs = s->plugin_dirs + len;
    slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < OWN_DIRS && slash; i++) {
        char *real;

        snprintf(joined, sizeof(joined), "%s/%s", exe, own_plugin_dirs[i]);
        real = realpath(joined, NULL);
        if (!real && i > 0)
            continue; /* not installed there */
        s->plugin_dirs[len] = real ? real : strdup(joined);
        if (!s->plugin_dirs[len])
            return exj_err_set(err, EXJ_NOMEM, "out of memory");
        exj_buf_printf(&shown, "%s%s", shown.n ? ":" : "", s->plugin_dirs[len]);
        len++;
    }
    if (!set && shown.p && !shown.failed)
        rc = take(s, EXJ_SET_PLUGINS_DIR, shown.p, EXJ_FROM_DEFAULT, NULL, err);
    exj_buf_release(&shown);
    return rc;
}

exj_code exj_settings_load(exj_settings *s, char *const *environment, const char *dotenv,
                           void (*warn)(const char *line), exj_err *err)
{
    exj_code rc = load_environment(s, environment, warn, err);

    if (rc == EXJ_OK && dotenv)
        rc = load_dotenv(s, dotenv, warn, err);
    if (rc == EXJ_OK)
        rc = load_file(s, err);
    for (int i = 0; i < EXJ_SETTING_COUNT && rc == EXJ_OK; i++)
        if (!s->at[i].text && exj_setting_infos[i].fallback)
            rc = take(s, (exj_setting)i, exj_setting_infos[i].fallback, EXJ_FROM_DEFAULT,
                      NULL, err);
    if (rc == EXJ_OK && !s->at[EXJ_SET_WORKER_ID].text)
        rc = default_worker_id(s, err);
    if (rc == EXJ_OK && !s->at[EXJ_SET_DATA_DIR].text)
        rc = default_data_dir(s, environment, err);
    if (rc == EXJ_OK)
        rc = find_plugin_dirs(s, err);
    return rc;
}

static void free_plugin_dirs(exj_settings *s)
{
    for (char **d = s->plugin_dirs; d && *d; d++)
        free(*d);
    free(s->plugin_dirs);
    free(s->exe);
    s->plugin_dirs = s->own_dirs = NULL;
    s->exe = NULL;
}

const char *exj_settings_by_name(const exj_settings *s, const char *name)
{
    exj_setting id;

    return find_setting(name, &id) ? s->at[id].text : NULL;
}

exj_code exj_settings_set_host(exj_settings *s, const char *name, const char *value,
                               exj_err *err)
{
    const char *near = nearest_setting(name);
    exj_setting id;
    exj_code rc;

    if (!find_setting(name, &id))
        return exj_err_set(err, EXJ_INVALID, "%.100s is no setting%s%s%s", name,
                           near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    if (id == EXJ_SET_HOST || id == EXJ_SET_CONFIG_FILE)
        return exj_err_set(err, EXJ_INVALID, "%s: a host bootstrap comes too late to set it",
                           name);
    if (!*value)
        return exj_err_set(err, EXJ_INVALID, "%s: an empty value", name);
    rc = take(s, id, value, EXJ_FROM_HOST, NULL, err);
    if (rc == EXJ_OK && id == EXJ_SET_PLUGINS_DIR) {
        free_plugin_dirs(s);
        rc = find_plugin_dirs(s, err);
    }
    return rc;
}

void exj_settings_release(exj_settings *s)
{
    for (int i = 0; i < EXJ_SETTING_COUNT; i++) {
        free(s->at[i].text);
        free(s->at[i].where);
    }
    free_plugin_dirs(s);
    *s = (exj_settings){ 0 };
}

const char *exj_settings_text(const exj_settings *s, exj_setting id)
{
    return s->at[id].text;
}

int64_t exj_settings_number(const exj_settings *s, exj_setting id)
{
    return s->at[id].number;
}

exj_code exj_settings_support(const exj_settings *s, exj_err *err)
{
    if (s->at[EXJ_SET_MONGO_URI].text)
        return exj_err_set(err, EXJ_UNSUPPORTED,
                           "MONGO_URI is set: the MongoDB store is not part of this build "
                           "yet; unset it to use the embedded store");
    return EXJ_OK;
}

exj_code exj_settings_embedded(const exj_settings *s, const char *command, exj_err *err)
{
    if (s->at[EXJ_SET_MONGO_URI].text)
        return exj_err_set(err, EXJ_UNSUPPORTED,
                           "MONGO_URI is set, and %s knows only the embedded store of a data "
                           "directory: use MongoDB's own tools, or unset MONGO_URI to mean %.200s",
                           command, exj_settings_text(s, EXJ_SET_DATA_DIR));
    return EXJ_OK;
}

exj_code exj_settings_show(const exj_settings *s, exj_setting id, exj_buf *ret_value,
                           exj_buf *ret_origin, exj_err *err)
{
    const char *text = s->at[id].text;
    char origin[PATH_MAX + 32];

    exj_buf_add_text(ret_value, "");
    if (text && exj_setting_infos[id].kind == EXJ_SETTING_SECRET)
        exj_buf_add_text(ret_value, "(hidden)");
    else if (text && exj_setting_infos[id].kind == EXJ_SETTING_URI)
        exj_hide_password(text, ret_value);
    else if (text)
        exj_buf_add_text(ret_value, text);
    name_origin(id, s->at[id].origin, s->at[id].where, origin, sizeof(origin));
    exj_buf_add_text(ret_origin, text ? origin : "not set");
    if (ret_value->failed || ret_origin->failed)
        return exj_err_set(err, EXJ_NOMEM, "out of memory");
    return EXJ_OK;
}
