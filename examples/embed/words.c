#include "words.h"

#include <errno.h>

#define WORD_MAX 64          /* longer ones are cut */
#define FILE_MAX (64l << 20) /* bytes */

static exj_result fail(const exj_host *h, exj_call c, exj_result r, const char *code,
                       const char *text)
{
    h->error(h->ctx, c, r, exj_text(code), exj_text(text));
    return r;
}

/* Both plugins keep nothing but the host's table. */
static exj_result create(const exj_host *h, exj_str config, void **instance)
{
    (void)config;
    *instance = (void *)(uintptr_t)h;
    return EXJ_R_OK;
}

static void destroy(void *instance)
{
    (void)instance;
}

/* ---- words.source ------------------------------------------------------------------------- */

struct word {
    char text[WORD_MAX + 1];
    int64_t times;
};

struct words {
    struct word *p; /* owned; sorted by text, each once, after count */
    size_t n, cap;
};

/* The letter in lower case; 0: none. ASCII, whatever the locale. */
static char letter(int c)
{
    return c >= 'a' && c <= 'z' ? (char)c : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : 0;
}

/* Room for one more; NULL: no memory. */
static struct word *add(struct words *w)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 256;
        struct word *grown = realloc(w->p, cap * sizeof *grown);

        if (!grown)
            return NULL;
        w->p = grown;
        w->cap = cap;
    }
    memset(&w->p[w->n], 0, sizeof w->p[0]);
    w->p[w->n].times = 1;
    return &w->p[w->n++];
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct word *)a)->text, ((const struct word *)b)->text);
}

static void count(struct words *w)
{
    size_t kept = 0;

    if (w->n)
        qsort(w->p, w->n, sizeof *w->p, by_text);
    for (size_t i = 0; i < w->n; i++) {
        if (kept && strcmp(w->p[kept - 1].text, w->p[i].text) == 0)
            w->p[kept - 1].times++;
        else
            w->p[kept++] = w->p[i];
    }
    w->n = kept;
}

/* False: errno says why. */
static bool read_words(const char *path, struct words *ret)
{
    FILE *f = fopen(path, "re");
    struct word *now = NULL;
    size_t len = 0;
    long bytes = 0;
    int c = 0;
    bool ok = f != NULL;

    while (ok && (c = getc(f)) != EOF) {
        char l = letter(c);

        if (++bytes > FILE_MAX) {
            errno = EFBIG;
            ok = false;
        } else if (!l) {
            now = NULL;
        } else if (now) {
            if (len < WORD_MAX)
                now->text[len++] = l;
        } else if ((now = add(ret)) != NULL) {
            now->text[0] = l;
            len = 1;
        } else {
            errno = ENOMEM;
            ok = false;
        }
    }
    if (ok && ferror(f))
        ok = false;
    if (f)
        fclose(f);
    count(ret);
    return ok;
}

static exj_result source_execute(void *instance, exj_call c, const exj_args *a)
{
    const exj_host *h = instance;
    exj_json_out out = EXJ_JSON_OUT_INIT;
    struct words words = { NULL, 0, 0 };
    exj_result r = EXJ_R_OK;
    char *path = NULL;
    exj_str file;

    if (exj_json_find(a->model, "file", &file))
        path = exj_json_to_text(file, NULL);
    if (!path) {
        r = fail(h, c, EXJ_R_INPUT, "FileMissing", "payload.input.file: wanted a path");
        goto out;
    }
    if (!read_words(path, &words)) {
        r = fail(h, c, EXJ_R_FAILED, "FileUnreadable", strerror(errno));
        goto out;
    }
    for (size_t i = 0; i < words.n && r == EXJ_R_OK; i++) {
        exj_json_out_reset(&out);
        exj_json_begin_object(&out);
        exj_json_put_text(&out, "id", words.p[i].text);
        exj_json_put_object(&out, "record");
        exj_json_put_text(&out, "word", words.p[i].text);
        exj_json_put_i64(&out, "times", words.p[i].times);
        exj_json_end_object(&out);
        exj_json_end_object(&out);
        r = out.failed ? fail(h, c, EXJ_R_RETRY, "NoMemory", "no memory")
                       : h->emit(h->ctx, c, exj_json_out_text(&out));
    }
out:
    exj_json_out_release(&out);
    free(words.p);
    free(path);
    return r;
}

/* ---- words.measure ------------------------------------------------------------------------ */

static int by_byte(const void *a, const void *b)
{
    return *(const char *)a - *(const char *)b;
}

static exj_result engine_execute(void *instance, exj_call c, const exj_args *a)
{
    const exj_host *h = instance;
    exj_json_out out = EXJ_JSON_OUT_INIT;
    exj_str input, word;
    char *text = NULL;
    size_t n = 0;
    exj_result r;

    if (exj_json_find(a->runtime, "input", &input) && exj_json_find(input, "word", &word))
        text = exj_json_to_text(word, &n);
    if (!text)
        return fail(h, c, EXJ_R_INPUT, "WordMissing", "input.word: wanted a text");
    qsort(text, n, 1, by_byte);
    exj_json_begin_object(&out);
    exj_json_put_text(&out, "status", "completed");
    exj_json_put_object(&out, "outputsByNodeId");
    exj_json_put_object(&out, "measure");
    exj_json_put_i64(&out, "letters", (int64_t)n);
    exj_json_put_text(&out, "sorted", text);
    exj_json_end_object(&out);
    exj_json_end_object(&out);
    exj_json_end_object(&out);
    r = out.failed ? fail(h, c, EXJ_R_RETRY, "NoMemory", "no memory")
                   : h->emit(h->ctx, c, exj_json_out_text(&out));
    exj_json_out_release(&out);
    free(text);
    return r;
}

/* ---- both --------------------------------------------------------------------------------- */

static const exj_plugin source = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_SOURCE_RESOLVER,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = "words.source",
    .version = "1.0.0",
    .describe = EXJ_STR("{\"summary\":\"the words of a text file\"}"),
    .create = create,
    .execute = source_execute,
    .destroy = destroy,
};

static const exj_plugin engine = {
    .size_of = EXJ_SIZE(exj_plugin, destroy),
    .kind = EXJ_KIND_GRAPH_ENGINE,
    .flags = EXJ_FLAG_CONCURRENT,
    .id = WORDS_ENGINE,
    .version = "1.0.0",
    .describe = EXJ_STR("{\"summary\":\"a word's letters, in order\"}"),
    .create = create,
    .execute = engine_execute,
    .destroy = destroy,
};

static const exj_plugin *const plugins[] = { &source, &engine };
const exj_bundle words_bundle = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 2, 0, plugins };

void words_documents(const char *file, exj_json_out *out)
{
    static const char graph[] =
        "{\"graphId\":\"word\",\"payload\":{\"graphId\":\"word\",\"model\":"
        "{\"id\":\"word\",\"nodes\":[{\"id\":\"measure\"}]}},"
        "\"publicationStatus\":\"Published\",\"operationalState\":\"Running\"}";

    exj_json_begin_array(out);
    exj_json_put_raw(out, NULL, exj_text(graph));
    exj_json_begin_object(out);
    exj_json_put_text(out, "matrixCatalogId", WORDS_MATRIX);
    exj_json_put_object(out, "payload");
    exj_json_put_object(out, "input");
    exj_json_put_text(out, "file", file);
    exj_json_end_object(out);
    exj_json_put_raw(out, "graphs", exj_text("[\"word\"]"));
    exj_json_put_raw(out, "dataSource",
                     exj_text("{\"kind\":\"record\",\"resolver\":\"words.source\"}"));
    exj_json_end_object(out);
    exj_json_end_object(out);
    exj_json_end_array(out);
}
