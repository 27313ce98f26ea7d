#include "plugins/ffi/manifest_inside.h"

#include <stdlib.h>

#include "exellix/plugin.h"

/* ---- saying what is wrong ---------------------------------------------------------- */

bool exj_ffi_wrong(exj_ffi_reader *r, const char *at, const char *format, ...)
{
    char text[480];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return exj_ffi_trouble_set(r->t, EXJ_R_INPUT, "ManifestInvalid", "%.140s%s%s", at,
                               *at ? ": " : "", text);
}

void *exj_ffi_many(exj_ffi_reader *r, size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);

    if (!p)
        exj_ffi_trouble_set(r->t, EXJ_R_RETRY, "NoMemory", "no memory for the manifest");
    return p;
}

unsigned exj_ffi_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned row[64];

    if (n > 63 || m > 63)
        return UINT32_MAX;
    for (size_t j = 0; j <= m; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);

            if (up + 1 < best)
                best = up + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[m];
}

const char *exj_ffi_nearest(const char *word, const char *const *known)
{
    const char *best = NULL;
    unsigned least = UINT32_MAX;

    for (; *known; known++) {
        unsigned d = exj_ffi_distance(word, *known);

        if (d < least) {
            least = d;
            best = *known;
        }
    }
    return best && least <= 1 + strlen(best) / 2 ? best : NULL;
}

static void list_of(const char *const *known, char *ret, size_t cap)
{
    size_t n = 0;

    ret[0] = '\0';
    for (; *known && n < cap; known++)
        n += (size_t)snprintf(ret + n, cap - n, "%s%s", n ? ", " : "", *known);
}

bool exj_ffi_keys(exj_ffi_reader *r, const char *at, const json_t *o,
                  const char *const *known)
{
    const char *key;
    json_t *value, *object = (json_t *)(uintptr_t)o; /* the walk wants it without const */
    char list[300];

    if (!json_is_object(o))
        return exj_ffi_wrong(r, at, "wanted an object");
    json_object_foreach(object, key, value)
    {
        const char *const *k = known;
        const char *near;

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (*k)
            continue;
        near = exj_ffi_nearest(key, known);
        list_of(known, list, sizeof list);
        if (near)
            return exj_ffi_wrong(r, at, "unknown key '%.64s'; did you mean '%s'?", key,
                                 near);
        return exj_ffi_wrong(r, at, "unknown key '%.64s'; known are %s", key, list);
    }
    return true;
}

/* ---- members ----------------------------------------------------------------------- */

bool exj_ffi_text(exj_ffi_reader *r, const char *at, const json_t *o, const char *key,
                  bool needed, size_t max, const char **ret)
{
    const json_t *v = json_object_get(o, key);
    const char *s = json_string_value(v);

    if (!v)
        return needed ? exj_ffi_wrong(r, at, "needs \"%s\"", key) : true;
    if (!s)
        return exj_ffi_wrong(r, at, "\"%s\" must be a string", key);
    if (!*s || json_string_length(v) > max)
        return exj_ffi_wrong(r, at, "\"%s\" has %zu bytes; 1 to %zu are possible", key,
                             json_string_length(v), max);
    for (size_t k = 0; k < json_string_length(v); k++)
        if ((unsigned char)s[k] < 0x20 || s[k] == 0x7f)
            return exj_ffi_wrong(r, at, "\"%s\" has a control character in it", key);
    *ret = s;
    return true;
}

bool exj_ffi_bool(exj_ffi_reader *r, const char *at, const json_t *o, const char *key,
                  bool *ret)
{
    const json_t *v = json_object_get(o, key);

    if (v && !json_is_boolean(v))
        return exj_ffi_wrong(r, at, "\"%s\" must be true or false", key);
    if (v)
        *ret = json_is_true(v);
    return true;
}

bool exj_ffi_number(exj_ffi_reader *r, const char *at, const json_t *o, const char *key,
                    int64_t low, int64_t high, int64_t *ret)
{
    const json_t *v = json_object_get(o, key);

    if (!v)
        return true;
    if (!json_is_integer(v) || json_integer_value(v) < low ||
        json_integer_value(v) > high)
        return exj_ffi_wrong(r, at, "\"%s\" must be a whole number from %lld to %lld",
                             key, (long long)low, (long long)high);
    *ret = json_integer_value(v);
    return true;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool exj_ffi_symbol(exj_ffi_reader *r, const char *at, const char *key, const char *s)
{
    bool good = is_letter(*s) && strlen(s) <= EXJ_FFI_NAME_MAX;

    for (const char *c = s; *c; c++)
        good = good && (is_letter(*c) || (*c >= '0' && *c <= '9') || strchr(".$@", *c));
    return good || exj_ffi_wrong(r, at, "%s '%.64s' is no name of a C function", key, s);
}

bool exj_ffi_name(exj_ffi_reader *r, const char *at, const char *s)
{
    bool good = *s && strlen(s) <= EXJ_FFI_NAME_MAX;

    for (const char *c = s; *c; c++)
        good = good && (is_letter(*c) || (*c >= '0' && *c <= '9') || *c == '-');
    return good || exj_ffi_wrong(
                       r, at, "the name '%.64s' must be 1 to %u letters, digits, _ or -",
                       s, EXJ_FFI_NAME_MAX);
}

/* ---- libraries --------------------------------------------------------------------- */

bool exj_ffi_add_library(exj_ffi_reader *r, const char *at, const char *name,
                         const char *sha256)
{
    exj_ffi_manifest *m = r->m;

    if (!m->libraries) {
        m->libraries = exj_ffi_many(r, 1 + EXJ_FFI_FUNCTIONS_MAX + EXJ_FFI_DEFS_MAX,
                                    sizeof *m->libraries);
        if (!m->libraries)
            return false;
    }
    if (name[0] != '/' && strchr(name, '/'))
        return exj_ffi_wrong(r, at,
                             "library '%.200s' depends on the folder one stands in; "
                             "write an absolute path or a bare name such as libz.so.1",
                             name);
    for (size_t k = 0; k < m->libraries_len; k++)
        if (strcmp(m->libraries[k].name, name) == 0)
            return true;
    m->libraries[m->libraries_len++] = (exj_ffi_library){ name, sha256 };
    return true;
}

static bool read_sha256(exj_ffi_reader *r, const json_t *root, const char *library,
                        const char **ret)
{
    const char *s = NULL;

    if (!exj_ffi_text(r, "", root, "sha256", false, 64, &s))
        return false;
    if (!s)
        return true;
    if (strlen(s) != 64 || strspn(s, "0123456789abcdef") != 64)
        return exj_ffi_wrong(r, "",
                             "\"sha256\" must be 64 digits 0-9 a-f, as sha256sum "
                             "prints them");
    if (library[0] != '/')
        return exj_ffi_wrong(r, "",
                             "\"sha256\" says which file is meant, so \"library\" must "
                             "be an absolute path, not '%.100s'",
                             library);
    *ret = s;
    return true;
}

/* ---- the whole --------------------------------------------------------------------- */

static bool read_root(exj_ffi_reader *r)
{
    static const char *const known[] = { "exellixFfi", "id",      "description",
                                         "library",    "sha256",  "isolation",
                                         "enums",      "structs", "handles",
                                         "functions",  NULL };
    const json_t *root = r->m->json, *version = json_object_get(root, "exellixFfi");
    const char *library = NULL, *sha256 = NULL, *isolation = "process", *description;

    if (json_is_object(root) && !version) /* a model of another engine, most likely */
        return exj_ffi_wrong(r, "", "is no manifest: \"exellixFfi\":1 is missing");
    if (!exj_ffi_keys(r, "", root, known))
        return false;
    if (!json_is_integer(version) || json_integer_value(version) != 1)
        return exj_ffi_wrong(r, "",
                             "\"exellixFfi\" must be 1, the only version there is");
    if (!exj_ffi_text(r, "", root, "id", false, EXJ_FFI_NAME_MAX, &r->m->id) ||
        !exj_ffi_text(r, "", root, "description", false, 4096, &description) ||
        !exj_ffi_text(r, "", root, "library", true, 1024, &library) ||
        !exj_ffi_text(r, "", root, "isolation", false, 64, &isolation))
        return false;
    if (strcmp(isolation, "process") != 0)
        return exj_ffi_wrong(r, "",
                             "\"isolation\" is always \"process\", not '%.60s': a wrong "
                             "manifest corrupts memory",
                             isolation);
    return read_sha256(r, root, library, &sha256) &&
           exj_ffi_add_library(r, "", library, sha256) && exj_ffi_read_defs(r, root) &&
           exj_ffi_read_functions(r, json_object_get(root, "functions"));
}

exj_ffi_manifest *exj_ffi_manifest_read(const char *text, size_t n, exj_ffi_trouble *t)
{
    exj_ffi_manifest *m;
    exj_ffi_reader r = { .t = t };
    json_error_t e;

    if (n > EXJ_FFI_TEXT_MAX) {
        exj_ffi_trouble_set(t, EXJ_R_INPUT, "ManifestInvalid",
                            "the manifest has %zu bytes; at most %u are read", n,
                            EXJ_FFI_TEXT_MAX);
        return NULL;
    }
    m = r.m = exj_ffi_many(&r, 1, sizeof *m);
    if (!m)
        return NULL;
    /* Only constants of C strings may hold U+0000, and value.c refuses it there. */
    m->json = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!m->json) /* jansson tells lack of memory as an error of syntax: is it one? */
        m->json = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!m->json && !e.text[0]) {
        exj_ffi_trouble_set(t, EXJ_R_RETRY, "NoMemory", "no memory for the manifest");
    } else if (!m->json) {
        exj_ffi_wrong(&r, "", "line %d, column %d: %s", e.line, e.column, e.text);
    } else if (read_root(&r)) {
        return m;
    }
    exj_ffi_manifest_free(m);
    return NULL;
}

void exj_ffi_manifest_free(exj_ffi_manifest *m)
{
    if (!m)
        return;
    for (size_t k = 0; m->functions && k < m->functions_len; k++)
        free(m->functions[k].args);
    for (size_t k = 0; m->enums && k < m->enums_len; k++)
        free(m->enums[k].items);
    for (size_t k = 0; m->structs && k < m->structs_len; k++)
        free(m->structs[k].fields);
    free(m->functions);
    free(m->enums);
    free(m->structs);
    free(m->handles);
    free(m->libraries);
    json_decref(m->json);
    free(m);
}
