/* tests/plugins/sources.h - source resolvers that are asked as the worker asks them: page by page,
 * what they emit is kept in order. */
#ifndef EXJ_TESTS_PLUGINS_SOURCES_H
#define EXJ_TESTS_PLUGINS_SOURCES_H

#include <jansson.h>

#include "core/job/record.h"
#include "tests/plugins/house.h"

#define SOURCE_FILE_SO EXJ_BINARY_DIR "/bin/plugins/source-file.so"
#define SOURCE_SQL_SO EXJ_BINARY_DIR "/bin/plugins/source-sql.so"

static char folder[64];

static inline void sources_init(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/exj-sources-XXXXXX",
             base && strlen(base) < 40 ? base : "/tmp");
    cr_assert_not_null(mkdtemp(folder));
}

static inline void sources_fini(void)
{
    shell("rm -rf '%s'", folder);
}

/* folder/name, in one of four buffers. */
static inline const char *in_folder(const char *name)
{
    static char paths[4][300];
    static unsigned next;
    char *to = paths[next++ % 4];

    snprintf(to, sizeof paths[0], "%s/%s", folder, name);
    return to;
}

static inline void put_bytes(const char *name, const char *p, size_t n, const char *mode)
{
    FILE *f = fopen(in_folder(name), mode);

    cr_assert_not_null(f);
    cr_assert_eq(fwrite(p, 1, n, f), n);
    cr_assert_eq(fclose(f), 0);
}

__attribute__((unused)) static void put_file(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text), "w");
}

__attribute__((unused)) static void grow_file(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text), "a");
}

__attribute__((unused)) static char *file_text(const char *name)
{
    FILE *f = fopen(in_folder(name), "r");
    char *text = calloc(1, 1 << 20);

    if (f) {
        cr_assert_lt(fread(text, 1, (1 << 20) - 1, f), (size_t)(1 << 20) - 1);
        fclose(f);
    }
    return text;
}

static inline size_t lines_in(const char *name)
{
    char *text = file_text(name);
    size_t n = 0;

    for (char *at = text; *at; at++)
        n += *at == '\n';
    free(text);
    return n;
}

/* ---- asking ----------------------------------------------------------------------------------- */

struct source {
    exj_registry *registry; /* NULL: somebody else's */
    exj_guest *guest;
    exj_instance *instance;
    exj_call_slot *slot;
};

/* What came of a scan. */
struct found {
    char *ids[5000], *records[5000];
    size_t n, pages;
    char cursor[1000];    /* JSON, with quotes; "": none */
    exj_result result;
    char code[64], text[600];
    size_t refuse_at;     /* the host refuses this record; 0: none */
    size_t stop_at;       /* and wants no more after this one */
    void (*between)(size_t page); /* called after each page but the last */
};

static inline exj_registry *sources_registry(void)
{
    const char *dirs[] = { EXJ_BINARY_DIR "/bin/plugins", NULL };
    exj_registry *r = NULL;
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_new(dirs, NULL, &r, &err), EXJ_OK, "%s", err.text);
    return r;
}

static inline struct source source_open(exj_registry *r, const char *file, const char *config)
{
    struct source s = { 0 };
    exj_err err = { 0 };

    cr_assert_eq(exj_registry_find(r, file, EXJ_KIND_SOURCE_RESOLVER, &s.guest, &err), EXJ_OK, "%s",
                 err.text);
    cr_assert_eq(exj_instance_new(s.guest, exj_slice_of(config), &s.instance, &err), EXJ_OK, "%s",
                 err.text);
    s.slot = slot_of(2 << 20);
    return s;
}

static inline struct source source_new(const char *file, const char *config)
{
    exj_registry *r = sources_registry();
    struct source s = source_open(r, file, config);

    s.registry = r;
    return s;
}

static inline void source_close(struct source *s)
{
    exj_call_slot_free(s->slot);
    exj_instance_free(s->instance);
    exj_guest_release(s->guest);
    exj_registry_free(s->registry);
}

static inline exj_result take_found(void *user, exj_slice json)
{
    struct found *f = user;
    json_t *o = json_loadb(json.p, json.n, 0, NULL), *id, *next;
    exj_err err = { 0 };

    cr_assert_not_null(o, "not JSON: %.*s", (int)json.n, json.p);
    next = json_object_get(o, "next");
    if (next) {
        char *text = json_dumps(next, JSON_ENCODE_ANY | JSON_COMPACT);

        cr_assert(json_object_size(o) == 1 && json_is_string(next));
        snprintf(f->cursor, sizeof f->cursor, "%s", text);
        free(text);
    } else {
        char *record = json_dumps(json_object_get(o, "record"), JSON_COMPACT | JSON_REAL_PRECISION(15));

        if (f->stop_at && f->n == f->stop_at) {
            free(record);
            json_decref(o);
            return EXJ_R_CANCELLED;
        }
        id = json_object_get(o, "id");
        cr_assert(json_is_string(id) && record, "%.*s", (int)json.n, json.p);
        cr_assert_eq(exj_record_check(exj_slice_of(record), &err), EXJ_OK, "%s", err.text);
        cr_assert_eq(exj_id_check(exj_slice_of(json_string_value(id)), "id", &err), EXJ_OK, "%s",
                     err.text);
        if (f->n < 5000) {
            f->ids[f->n] = strdup(json_string_value(id));
            f->records[f->n] = record;
        } else {
            free(record);
        }
        f->n++;
    }
    json_decref(o);
    return f->refuse_at && f->n == f->refuse_at ? EXJ_R_INPUT : EXJ_R_OK;
}

static inline void found_release(struct found *f)
{
    for (size_t k = 0; k < f->n && k < 5000; k++) {
        free(f->ids[k]);
        free(f->records[k]);
    }
    f->n = f->pages = 0;
    f->cursor[0] = f->code[0] = f->text[0] = '\0';
}

/* One page; false: it failed, or was the last. */
static inline bool one_page(struct source *s, struct found *f, const char *kind, const char *input)
{
    exj_call_ports ports = { .user = f, .emit = take_found };
    exj_call_end end = { 0 };
    char runtime[1400];
    exj_args a;

    snprintf(runtime, sizeof runtime,
             "{\"matrixCatalogId\":\"m\",\"matrixRunId\":null,\"kind\":\"%s\",\"cursor\":%s,"
             "\"config\":{}}", kind, *f->cursor ? f->cursor : "null");
    f->cursor[0] = '\0';
    a = args_of(input, runtime);
    cr_assert(exj_call_run(s->instance, s->slot, &a, &ports, &end, NULL));
    f->result = end.result;
    snprintf(f->code, sizeof f->code, "%.*s", (int)end.error_code.n, end.error_code.p);
    snprintf(f->text, sizeof f->text, "%.*s", (int)end.error_text.n, end.error_text.p);
    f->pages++;
    return end.result == EXJ_R_OK && *f->cursor;
}

/* To the end, as the worker does; what was found before is released first. */
static inline void scan_all(struct source *s, struct found *f, const char *kind, const char *input)
{
    found_release(f);
    while (one_page(s, f, kind, input))
        if (f->between)
            f->between(f->pages);
}

__attribute__((unused)) static void found_is_good(const struct found *f, size_t n)
{
    cr_assert_eq(f->result, EXJ_R_OK, "%s: %s", f->code, f->text);
    cr_assert_eq(f->n, n, "%zu records", f->n);
}

__attribute__((unused)) static void found_fails(const struct found *f, exj_result result,
                                                const char *code, const char *text)
{
    cr_assert_eq(f->result, result, "result %d: %s: %s", (int)f->result, f->code, f->text);
    cr_assert_str_eq(f->code, code, "%s: %s", f->code, f->text);
    says(f->text, text);
}

#endif /* EXJ_TESTS_PLUGINS_SOURCES_H */
