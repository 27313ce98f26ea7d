/* exellix-jobs-ffi-verify - holds a manifest of exellix.ffi against the DWARF of its
 * libraries.
 *
 * An ELF file holds no types, so a manifest that is wrong about a function is found when
 * it corrupts memory; DWARF knows better, where there is some. No code of a library is
 * run. */
#include <errno.h>
#include <stdlib.h>

#include "plugins/ffi/sha256.h"
#include "plugins/ffi/verify/compare.h"

enum { ALL_AGREES = 0, IS_WRONG = 1, NOT_COMPARED = 2 };

#define WANTED_MAX (EXJ_FFI_FUNCTIONS_MAX * (2u + EXJ_FFI_ARGS_MAX) + EXJ_FFI_DEFS_MAX)

struct options {
    bool json, no_dwarf;
    const char *file;
};

struct checked {
    exj_binary binary;
    const char *name; /* as in the manifest */
};

static void usage(FILE *to)
{
    fputs(
        "exellix-jobs-ffi-verify " EXJ_VERSION
        " - holds a manifest against its libraries\n\n"
        "Usage: exellix-jobs-ffi-verify [--json] [--no-dwarf] MANIFEST\n\n"
        "  MANIFEST    a manifest, or a graph config with one as its model; - reads "
        "standard "
        "input\n"
        "  --json      print JSON\n"
        "  --no-dwarf  check the manifest alone; open no library\n\n"
        "Exit status: 0 all agrees, 1 the manifest is wrong or differs from a library,\n"
        "2 something could not be compared because there is no DWARF for it.\n",
        to);
}

/* What every failure looks like, so that a script reads one form. */
static int give_up(const struct options *o, const exj_ffi_trouble *t)
{
    if (o->json) {
        json_t *j = json_pack("{s:s,s:{s:s,s:s}}", "result", "wrong", "error", "code",
                              t->code, "message", t->text);
        char *text = json_dumps(j, JSON_COMPACT);

        printf("%s\n", text ? text : "{\"result\":\"wrong\"}");
        free(text);
        json_decref(j);
    } else {
        fprintf(stderr, "exellix-jobs-ffi-verify: %s\n", t->text);
    }
    return IS_WRONG;
}

/* ---- the manifest ------------------------------------------------------------------ */

static char *slurp(const char *file, size_t *ret_n, exj_ffi_trouble *t)
{
    FILE *f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
    char *text = NULL;
    size_t n = 0, cap = EXJ_FFI_TEXT_MAX + 65536;

    if (f)
        text = malloc(cap);
    if (text)
        n = fread(text, 1, cap, f);
    if (!f || !text || ferror(f)) {
        exj_ffi_trouble_set(t, 0, "ManifestUnread", "%.300s: %s", file, strerror(errno));
        free(text);
        text = NULL;
    } else if (n == cap) {
        exj_ffi_trouble_set(t, 0, "ManifestUnread", "%.300s has more than %zu bytes",
                            file, cap);
        free(text);
        text = NULL;
    }
    if (f && f != stdin)
        fclose(f);
    *ret_n = n;
    return text;
}

/* A graph config holds its manifest in payload.model. */
static exj_ffi_manifest *read_manifest(const char *file, exj_ffi_trouble *t)
{
    size_t n;
    char *text = slurp(file, &n, t), *inner = NULL;
    exj_ffi_manifest *m = NULL;
    json_t *root, *model;

    if (!text)
        return NULL;
    root = json_loadb(text, n, 0, NULL);
    model = json_object_get(json_object_get(root, "payload"), "model");
    if (model && json_object_get(root, "graphId"))
        inner = json_dumps(model, JSON_COMPACT);
    if (inner)
        m = exj_ffi_manifest_read(inner, strlen(inner), t);
    else
        m = exj_ffi_manifest_read(text, n, t);
    json_decref(root);
    free(inner);
    free(text);
    return m;
}

/* ---- libraries --------------------------------------------------------------------- */

static void check_library(const exj_ffi_manifest *m, size_t index, exj_binary *b,
                          exj_report *r)
{
    const char *name = m->libraries[index].name;
    exj_wanted *wanted = calloc(WANTED_MAX, sizeof *wanted);
    size_t n = 0, at = 0;

    if (!wanted) {
        r->failed = true;
        return;
    }
    /* The same walk twice: what is wanted, then what came of it. */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t k = 0; k < m->functions_len; k++) {
            const exj_ffi_function *f = &m->functions[k];

            if (strcmp(f->library, name) != 0)
                continue;
            if (pass == 0)
                wanted[n++].symbol = f->symbol;
            else
                exj_compare_function(f, &wanted[at++], b->has_dwarf, r);
            for (uint32_t i = 0; i <= f->args_len; i++) {
                const char *end =
                    i < f->args_len ? f->args[i].free_with : f->returns.free_with;

                if (!end)
                    continue;
                if (pass == 0)
                    wanted[n++].symbol = end;
                else
                    exj_compare_ending(f->node, end, &wanted[at++], b->has_dwarf, r);
            }
        }
        for (size_t k = 0; k < m->handles_len; k++) {
            const exj_ffi_handle *h = &m->handles[k];

            if (!h->close || strcmp(h->library, name) != 0)
                continue;
            if (pass == 0)
                wanted[n++].symbol = h->close;
            else
                exj_compare_ending(h->name, h->close, &wanted[at++], b->has_dwarf, r);
        }
        if (pass == 0)
            exj_binary_find(b, wanted, n);
    }
    free(wanted);
}

/* ---- what came of it --------------------------------------------------------------- */

static const char *const verdicts[] = { "same", "note", "unknown", "DIFFERS" };

static void digest(const exj_report *r, const struct checked *libraries, size_t n,
                   char ret[65])
{
    exj_ffi_sha256 s;

    exj_ffi_sha256_init(&s);
    for (size_t k = 0; k < n; k++) {
        exj_ffi_sha256_add(&s, libraries[k].binary.sha256,
                           strlen(libraries[k].binary.sha256));
        exj_ffi_sha256_add(&s, "\n", 1);
    }
    for (size_t k = 0; k < r->len; k++) {
        const exj_line *l = &r->lines[k];
        const char *words[] = { l->node,     l->symbol, l->where,
                                l->manifest, l->binary, verdicts[l->verdict] };

        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            exj_ffi_sha256_add(&s, words[i], strlen(words[i]) + 1);
    }
    exj_ffi_sha256_hex(&s, ret);
}

static void print_table(const exj_report *r)
{
    size_t widths[5] = { 4, 6, 5, 8, 6 };

    for (size_t k = 0; k < r->len; k++) {
        const exj_line *l = &r->lines[k];
        const char *words[5] = { l->node, l->symbol, l->where, l->manifest, l->binary };

        for (int i = 0; i < 5; i++)
            if (strlen(words[i]) > widths[i])
                widths[i] = strlen(words[i]);
    }
    printf("%-*s  %-*s  %-*s  %-*s  %-*s  VERDICT\n", (int)widths[0], "NODE",
           (int)widths[1], "SYMBOL", (int)widths[2], "WHERE", (int)widths[3], "MANIFEST",
           (int)widths[4], "BINARY");
    for (size_t k = 0; k < r->len; k++) {
        const exj_line *l = &r->lines[k];

        printf("%-*s  %-*s  %-*s  %-*s  %-*s  %s%s%s\n", (int)widths[0], l->node,
               (int)widths[1], l->symbol, (int)widths[2], l->where, (int)widths[3],
               l->manifest, (int)widths[4], l->binary, verdicts[l->verdict],
               *l->why ? ": " : "", l->why);
    }
}

static void print_text(const exj_report *r, const struct checked *libraries, size_t n,
                       const char *hex, int status)
{
    print_table(r);
    for (size_t k = 0; k < n; k++)
        printf("\n%s\n  sha256    %s\n  build id  %s\n  DWARF     %s\n",
               libraries[k].binary.path, libraries[k].binary.sha256,
               *libraries[k].binary.build_id ? libraries[k].binary.build_id : "none",
               libraries[k].binary.has_dwarf ? "yes" : "no");
    printf("\nchecked   sha256:%s\n", hex);
    if (status == NOT_COMPARED)
        printf("Not everything could be compared. To get DWARF: build the library with "
               "-g; or "
               "install its\ndebug package (Debian: PACKAGE-dbgsym of the debug "
               "archive); or set "
               "DEBUGINFOD_URLS to the\ndebuginfod server of your system.\n");
    else if (status == IS_WRONG)
        printf(
            "The manifest differs from the library: calling it would corrupt memory.\n");
}

static void print_json(const exj_report *r, const struct checked *libraries, size_t n,
                       const char *hex, int status)
{
    static const char *const results[] = { "same", "differs", "not-compared" };
    json_t *lines = json_array(), *files = json_array(), *all;
    char *text;

    for (size_t k = 0; k < r->len; k++) {
        const exj_line *l = &r->lines[k];

        json_array_append_new(
            lines, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "node", l->node, "symbol",
                             l->symbol, "where", l->where, "manifest", l->manifest,
                             "binary", l->binary, "verdict",
                             l->verdict == EXJ_DIFFERS ? "differs" : verdicts[l->verdict],
                             "why", l->why));
    }
    for (size_t k = 0; k < n; k++)
        json_array_append_new(files, json_pack("{s:s,s:s,s:s,s:s,s:b}", "name",
                                               libraries[k].name, "path",
                                               libraries[k].binary.path, "sha256",
                                               libraries[k].binary.sha256, "buildId",
                                               libraries[k].binary.build_id, "dwarf",
                                               libraries[k].binary.has_dwarf));
    all = json_pack("{s:s,s:s,s:o,s:o}", "result", results[status], "digest", hex,
                    "libraries", files, "lines", lines);
    text = json_dumps(all, JSON_COMPACT);
    printf("%s\n", text ? text : "{\"result\":\"not-compared\"}");
    free(text);
    json_decref(all);
}

static int judge(const exj_report *r)
{
    int status = ALL_AGREES;

    for (size_t k = 0; k < r->len; k++) {
        if (r->lines[k].verdict == EXJ_DIFFERS)
            return IS_WRONG;
        if (r->lines[k].verdict == EXJ_UNKNOWN)
            status = NOT_COMPARED;
    }
    return status;
}

static int verify(const struct options *o, const exj_ffi_manifest *m, exj_ffi_trouble *t)
{
    struct checked *libraries = calloc(m->libraries_len, sizeof *libraries);
    exj_report r = { 0 };
    size_t n = 0;
    char hex[65];
    int status = libraries ? ALL_AGREES : IS_WRONG;

    for (; libraries && n < m->libraries_len; n++) {
        const exj_ffi_library *l = &m->libraries[n];

        libraries[n].name = l->name;
        if (!exj_binary_open(l->name, &libraries[n].binary, t)) {
            status = give_up(o, t);
            goto out;
        }
        if (l->sha256 && strcmp(l->sha256, libraries[n].binary.sha256) != 0) {
            exj_ffi_trouble_set(t, 0, "LibraryChanged",
                                "%.300s has the SHA-256 %s, the manifest says %s",
                                l->name, libraries[n].binary.sha256, l->sha256);
            n++;
            status = give_up(o, t);
            goto out;
        }
        check_library(m, n, &libraries[n].binary, &r);
    }
    if (!libraries || r.failed) {
        exj_ffi_trouble_set(t, 0, "NoMemory", "no memory");
        status = give_up(o, t);
        goto out;
    }
    status = judge(&r);
    digest(&r, libraries, n, hex);
    (o->json ? print_json : print_text)(&r, libraries, n, hex, status);
out:
    for (size_t k = 0; libraries && k < n; k++)
        exj_binary_close(&libraries[k].binary);
    free(libraries);
    free(r.lines);
    return status;
}

static int read_options(int argc, char **argv, struct options *o)
{
    bool only_words = false;

    for (int k = 1; k < argc; k++) {
        if (strcmp(argv[k], "--") == 0 && !only_words) {
            only_words = true;
        } else if (only_words && !o->file) {
            o->file = argv[k];
        } else if (strcmp(argv[k], "--json") == 0) {
            o->json = true;
        } else if (strcmp(argv[k], "--no-dwarf") == 0) {
            o->no_dwarf = true;
        } else if (strcmp(argv[k], "--help") == 0 || strcmp(argv[k], "-h") == 0) {
            usage(stdout);
            return -1;
        } else if ((argv[k][0] == '-' && argv[k][1]) || o->file) {
            fprintf(stderr,
                    "exellix-jobs-ffi-verify: '%s' is too much; --help shows what is "
                    "possible\n",
                    argv[k]);
            return IS_WRONG;
        } else {
            o->file = argv[k];
        }
    }
    if (o->file)
        return 0;
    usage(stderr);
    return IS_WRONG;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    exj_ffi_trouble t = { 0 };
    exj_ffi_manifest *m;
    int status = read_options(argc, argv, &o);

    if (status)
        return status < 0 ? 0 : status;
    m = read_manifest(o.file, &t);
    if (!m)
        return give_up(&o, &t);
    if (!o.no_dwarf)
        status = verify(&o, m, &t);
    else if (o.json)
        printf("{\"result\":\"same\",\"functions\":%zu}\n", m->functions_len);
    else
        printf("the manifest is well formed: %zu functions; nothing was compared with a "
               "library\n",
               m->functions_len);
    exj_ffi_manifest_free(m);
    if (fflush(stdout) != 0)
        status = IS_WRONG;
    return status;
}
