/* What every shipped plugin says of itself, held against what it said at each ABI minor:
 * tests/abi/describe/1_<minor>/<file>.json. Of the newest minor all must be the same; what
 * an older one knew must still be there: id, kind, and every key of config, input and
 * output. Who changes a description on purpose runs this with EXJ_ABI_ACCEPT=1, which
 * writes the newest, and commits the file. */
#include "tests/plugins/guests.h"

#include <dirent.h>
#include <dlfcn.h>

#include "core/base/json.h"

#define PLUGINS EXJ_BINARY_DIR "/bin/plugins"
#define STORED EXJ_SOURCE_DIR "/tests/abi/describe"

static json_t *told; /* { "stub": [ {"id", …} ] } */

static void tell(json_t *list, const exj_plugin *p, uint32_t abi_minor)
{
    static const struct {
        uint32_t bit;
        const char *word;
    } words[] = {
        { EXJ_FLAG_CONCURRENT, "concurrent" }, { EXJ_FLAG_SERIAL_ALL, "serial-all" },
        { EXJ_FLAG_BLOCKING, "blocking" },     { EXJ_FLAG_OWN_THREADS, "own-threads" },
        { EXJ_FLAG_ASYNC, "async" },           { EXJ_FLAG_REPLAYABLE, "replayable" },
    };
    json_t *flags = json_array(), *describe = NULL;
    exj_err err = { 0 };

    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        if (p->flags & words[k].bit)
            json_array_append_new(flags, json_string(words[k].word));
    cr_assert_gt(p->describe.n, 0, "%s describes nothing", p->id);
    cr_assert_eq(exj_json_parse((exj_slice){ p->describe.p, p->describe.n }, &describe, &err),
                 EXJ_OK, "%s: %s", p->id, err.text);
    json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:o,s:i,s:o}", "id", p->id, "version",
                                          p->version, "kind",
                                          p->kind == EXJ_KIND_GRAPH_ENGINE      ? "graph-engine"
                                          : p->kind == EXJ_KIND_SOURCE_RESOLVER ? "source-resolver"
                                                                                : "event-sink",
                                          "flags", flags, "abiMinor", (int)abi_minor,
                                          "describe", describe));
}

/* Directly, and not through the registry: one of them is never loaded in process. */
static void ask(const char *name, const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    json_t *list = json_array();
    const exj_bundle *b;
    union {
        void *object;
        exj_entry entry;
    } symbol;

    cr_assert_not_null(library, "%s", dlerror());
    symbol.object = dlsym(library, "exellix_plugin_v1");
    cr_assert_not_null(symbol.object, "%s has no entry", path);
    b = symbol.entry(EXJ_ABI_MINOR);
    for (uint32_t k = 0; k < b->n; k++)
        tell(list, b->plugins[k], b->abi_minor);
    json_object_set_new(told, name, list);
}

static void ask_all(void)
{
    DIR *d = opendir(PLUGINS);
    struct dirent *e;

    cr_assert_not_null(d);
    told = json_object();
    while ((e = readdir(d))) {
        size_t n = strlen(e->d_name);
        char path[512], name[128];

        if (n <= 3 || strcmp(e->d_name + n - 3, ".so") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", PLUGINS, e->d_name);
        snprintf(name, sizeof name, "%.*s", (int)n - 3, e->d_name);
        ask(name, path);
    }
    closedir(d);
    cr_assert_not_null(json_object_get(told, "stub"), "no stub in " PLUGINS);
}

static void done(void)
{
    json_decref(told);
}

TestSuite(describe, .init = ask_all, .fini = done);

static json_t *stored(unsigned minor, const char *name)
{
    char path[256];

    snprintf(path, sizeof path, STORED "/1_%u/%s.json", minor, name);
    return json_load_file(path, 0, NULL);
}

static void accept(const char *name, const json_t *list)
{
    char path[256];

    snprintf(path, sizeof path, STORED "/1_%u/%s.json", EXJ_ABI_MINOR, name);
    shell("mkdir -p '" STORED "/1_%u'", EXJ_ABI_MINOR);
    cr_assert_eq(json_dump_file(list, path, JSON_INDENT(2) | JSON_SORT_KEYS), 0, "%s", path);
    shell("echo >> '%s'", path);
}

Test(describe, every_shipped_plugin_says_what_is_stored_for_this_minor)
{
    const char *name;
    json_t *list;

    json_object_foreach(told, name, list) {
        json_t *was;

        if (getenv("EXJ_ABI_ACCEPT"))
            accept(name, list);
        was = stored(EXJ_ABI_MINOR, name);
        cr_assert_not_null(was, "tests/abi/describe/1_%u/%s.json is missing: run this with "
                           "EXJ_ABI_ACCEPT=1 and commit it", EXJ_ABI_MINOR, name);
        if (!json_equal(was, list)) {
            json_dumpf(was, stderr, JSON_INDENT(1) | JSON_SORT_KEYS);
            json_dumpf(list, stderr, JSON_INDENT(1) | JSON_SORT_KEYS);
        }
        cr_assert(json_equal(was, list), "plugins/%s no longer says what is stored: if that is "
                  "meant, run this with EXJ_ABI_ACCEPT=1 and commit the file", name);
        json_decref(was);
    }
}

/* A key that `was` has and `now` has not, or NULL. */
static const char *lost_key(json_t *was, json_t *now)
{
    const char *key;
    json_t *value;

    json_object_foreach(was, key, value)
        if (!json_object_get(now, key))
            return key;
    return NULL;
}

static json_t *by_id(json_t *list, const char *id)
{
    size_t k;
    json_t *p;

    json_array_foreach(list, k, p)
        if (strcmp(json_string_value(json_object_get(p, "id")), id) == 0)
            return p;
    return NULL;
}

/* What is missing in `now` that a reader of `was` relies on; "" when nothing is. */
static const char *broken(json_t *was, json_t *now)
{
    static const char *const parts[] = { "config", "input", "output" };
    static char text[200];
    size_t k;
    json_t *p;

    json_array_foreach(was, k, p) {
        const char *id = json_string_value(json_object_get(p, "id"));
        json_t *today = by_id(now, id);

        if (!today || !json_equal(json_object_get(p, "kind"), json_object_get(today, "kind"))) {
            snprintf(text, sizeof text, "%s: gone or of another kind", id);
            return text;
        }
        for (size_t n = 0; n < sizeof parts / sizeof *parts; n++) {
            const char *key = lost_key(json_object_get(json_object_get(p, "describe"), parts[n]),
                                       json_object_get(json_object_get(today, "describe"), parts[n]));

            if (key) {
                snprintf(text, sizeof text, "%s: %s.%s is gone", id, parts[n], key);
                return text;
            }
        }
    }
    return "";
}

Test(describe, nothing_that_an_older_minor_described_is_gone)
{
    unsigned found = 0;

    for (unsigned minor = 0; minor < EXJ_ABI_MINOR; minor++) {
        char path[256];
        struct dirent *e;
        DIR *d;

        snprintf(path, sizeof path, STORED "/1_%u", minor);
        d = opendir(path);
        cr_assert_not_null(d, "%s", path);
        while ((e = readdir(d))) {
            char name[128];
            json_t *was;

            if (e->d_name[0] == '.')
                continue;
            snprintf(name, sizeof name, "%.*s", (int)(strlen(e->d_name) - 5), e->d_name);
            was = stored(minor, name);
            cr_assert_not_null(was, "%s/%s is no JSON", path, e->d_name);
            cr_assert_not_null(json_object_get(told, name), "plugins/%s of minor %u is gone", name,
                               minor);
            cr_assert_str_eq(broken(was, json_object_get(told, name)), "", "since minor %u: %s",
                             minor, broken(was, json_object_get(told, name)));
            json_decref(was);
            found++;
        }
        closedir(d);
    }
    cr_assert_gt(found, 0);
}

Test(describe, a_lost_key_a_lost_plugin_and_another_kind_are_seen)
{
    json_t *was = json_loads("[{\"id\":\"a\",\"kind\":\"graph-engine\",\"describe\":"
                             "{\"config\":{\"limit\":\"number\"},\"input\":{\"x\":\"text\"}}}]", 0, NULL);
    static const char *const cases[][2] = {
        { "[{\"id\":\"a\",\"kind\":\"graph-engine\",\"describe\":{\"config\":{\"limit\":\"n\",\"more\":1},"
          "\"input\":{\"x\":\"text\"}}}]", "" },
        { "[{\"id\":\"a\",\"kind\":\"graph-engine\",\"describe\":{\"config\":{},\"input\":{\"x\":1}}}]",
          "a: config.limit is gone" },
        { "[{\"id\":\"a\",\"kind\":\"graph-engine\",\"describe\":{\"config\":{\"limit\":1}}}]",
          "a: input.x is gone" },
        { "[{\"id\":\"a\",\"kind\":\"source-resolver\",\"describe\":{}}]", "a: gone or of another kind" },
        { "[{\"id\":\"b\",\"kind\":\"graph-engine\",\"describe\":{}}]", "a: gone or of another kind" },
    };

    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        json_t *now = json_loads(cases[k][0], 0, NULL);

        cr_assert_not_null(now);
        cr_assert_str_eq(broken(was, now), cases[k][1], "case %zu", k);
        json_decref(now);
    }
    json_decref(was);
}
