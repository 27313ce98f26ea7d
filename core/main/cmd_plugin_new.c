/* `plugin new`: a plugin that builds and passes its own test, from the files in the binary. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/main/cmd_plugin.h"
#include "core/main/template.h"

#define ENGINE 1u
#define RESOLVER 2u
#define C 1u
#define CXX 2u
#define RUST 4u
#define NAME_MAX_BYTES 64

/* What goes where for which kind and language. */
static const struct piece {
    unsigned kinds, langs;
    const char *from, *to;
} pieces[] = {
    { ENGINE, C, "c/engine.c", "plugin.c" },
    { RESOLVER, C, "c/resolver.c", "plugin.c" },
    { ENGINE, CXX, "cxx/engine.cc", "plugin.cc" },
    { RESOLVER, CXX, "cxx/resolver.cc", "plugin.cc" },
    { ENGINE, RUST, "rust/src/engine.rs", "src/lib.rs" },
    { RESOLVER, RUST, "rust/src/resolver.rs", "src/lib.rs" },
    { ENGINE | RESOLVER, RUST, "rust/src/abi.rs", "src/abi.rs" },
    { ENGINE | RESOLVER, RUST, "rust/src/json.rs", "src/json.rs" },
    { ENGINE | RESOLVER, RUST, "rust/Cargo.toml", "Cargo.toml" },
    { ENGINE | RESOLVER, RUST, "rust/Makefile", "Makefile" },
    { ENGINE | RESOLVER, C, "c/Makefile", "Makefile" },
    { ENGINE | RESOLVER, CXX, "cxx/Makefile", "Makefile" },
    { ENGINE, C | CXX, "common/test/engine_test.c", "test/test.c" },
    { RESOLVER, C | CXX, "common/test/resolver_test.c", "test/test.c" },
    { ENGINE | RESOLVER, C | CXX, "common/test/host.h", "test/host.h" },
    { ENGINE, C | CXX | RUST, "common/test/record.json", "test/record.json" },
    { RESOLVER, C | CXX | RUST, "common/test/query.json", "test/query.json" },
    { ENGINE | RESOLVER, C | CXX | RUST, "include/exellix/plugin.h", "include/exellix/plugin.h" },
    { ENGINE | RESOLVER, C | CXX, "include/exellix/json.h", "include/exellix/json.h" },
    { ENGINE | RESOLVER, C | CXX, "include/exellix/step.h", "include/exellix/step.h" },
    { ENGINE | RESOLVER, C | CXX | RUST, "common/README.md", "README.md" },
    { ENGINE | RESOLVER, C | CXX | RUST, "common/LICENSE.md", "LICENSE.md" },
    { ENGINE | RESOLVER, C | CXX | RUST, "common/gitignore", ".gitignore" },
    { ENGINE | RESOLVER, C | CXX | RUST, "common/ci.yml", ".github/workflows/ci.yml" },
};
#define PIECES (sizeof(pieces) / sizeof(*pieces))

struct plan {
    unsigned kind, lang;
    const char *name, *dir;
    char crate[NAME_MAX_BYTES + 16];
};

static bool name_ok(const char *name)
{
    size_t n = strlen(name);

    return n >= 1 && n <= NAME_MAX_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n &&
           name[0] != '.' && name[0] != '-';
}

/* The words @…@ of a template; NULL: not one of ours. */
static const char *word_for(const struct plan *p, const char *word, size_t n)
{
    const struct {
        const char *word, *text;
    } words[] = {
        { "NAME", p->name },
        { "CRATE", p->crate },
        { "KINDNAME", p->kind == ENGINE ? "graph engine" : "source resolver" },
        { "LANG", p->lang == C ? "C" : p->lang == CXX ? "C++" : "Rust" },
        { "SOURCE", p->lang == C ? "plugin.c" : p->lang == CXX ? "plugin.cc" : "src/lib.rs" },
        { "TESTFILE", p->lang == RUST ? "src/lib.rs, `mod tests`" : "test/test.c" },
        { "SAMPLE", p->kind == ENGINE ? "test/record.json" : "test/query.json" },
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
        if (strlen(words[i].word) == n && memcmp(words[i].word, word, n) == 0)
            return words[i].text;
    return NULL;
}

static bool fill_in(const struct plan *p, const exj_template *t, exj_buf *b)
{
    const char *at = (const char *)t->bytes, *end = at + t->n;

    while (at < end) {
        const char *open = memchr(at, '@', (size_t)(end - at)), *close, *text = NULL;

        if (!open)
            return exj_buf_add(b, at, (size_t)(end - at));
        exj_buf_add(b, at, (size_t)(open - at));
        close = open + 1;
        while (close < end && *close >= 'A' && *close <= 'Z')
            close++;
        if (close < end && *close == '@')
            text = word_for(p, open + 1, (size_t)(close - open) - 1);
        if (text) {
            exj_buf_add_text(b, text);
            at = close + 1;
        } else {
            exj_buf_add_char(b, '@');
            at = open + 1;
        }
    }
    return !b->failed;
}

/* Is there nothing at `dir`, or an empty folder? */
static exj_code check_free(const char *dir, exj_err *err)
{
    struct dirent *e;
    DIR *d = opendir(dir);
    bool empty = true;

    if (!d && errno == ENOENT)
        return EXJ_OK;
    if (!d && errno == ENOTDIR)
        return exj_err_set(err, EXJ_CONFLICT,
                           "%.300s is there and no folder: name another one with --dir", dir);
    if (!d)
        return exj_err_set(err, EXJ_IO, "%.300s: %s", dir, strerror(errno));
    while (empty && (e = readdir(d)))
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(d);
    return empty ? EXJ_OK
                 : exj_err_set(err, EXJ_CONFLICT,
                               "the folder %.300s is not empty: name another one with --dir",
                               dir);
}

static exj_code write_piece(const struct plan *p, const struct piece *piece, exj_err *err)
{
    exj_buf path = EXJ_BUF_INIT, text = EXJ_BUF_INIT;
    const exj_template *t = exj_templates;
    exj_code rc;

    while (t->path && strcmp(t->path, piece->from) != 0)
        t++;
    exj_buf_printf(&path, "%s/%s", p->dir, piece->to);
    if (!t->path)
        rc = exj_err_set(err, EXJ_BUG, "the template %s is not in this program", piece->from);
    else if (path.failed || !fill_in(p, t, &text))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    else if ((rc = exj_tool_folders(path.p, err)) == EXJ_OK)
        rc = exj_tool_write(path.p, exj_buf_slice(&text), true, err);
    exj_buf_release(&path);
    exj_buf_release(&text);
    return rc;
}

static exj_exit plan_of(exj_cli *c, struct plan *p)
{
    const char *kind = c->args[0], *lang = c->flags[EXJ_CLI_LANG];
    size_t n = 0;

    p->name = c->args[1];
    p->dir = c->flags[EXJ_CLI_DIR] ? c->flags[EXJ_CLI_DIR] : p->name;
    if (strcmp(kind, "engine") == 0)
        p->kind = ENGINE;
    else if (strcmp(kind, "resolver") == 0)
        p->kind = RESOLVER;
    else
        return exj_fail(c, EXJ_EXIT_USAGE, "kind '%.80s': wanted engine or resolver", kind);
    if (!lang || strcmp(lang, "c") == 0)
        p->lang = C;
    else if (strcmp(lang, "c++") == 0 || strcmp(lang, "cxx") == 0 || strcmp(lang, "cpp") == 0)
        p->lang = CXX;
    else if (strcmp(lang, "rust") == 0)
        p->lang = RUST;
    else
        return exj_fail(c, EXJ_EXIT_USAGE, "--lang=%.80s: wanted c, c++ or rust", lang);
    if (!name_ok(p->name))
        return exj_fail(c, EXJ_EXIT_USAGE,
                        "name '%.100s': wanted 1 to %d of a-z 0-9 . _ -, a letter or digit "
                        "first, such as acme.score; it becomes the plugin's id",
                        p->name, NAME_MAX_BYTES);
    if (!*p->dir)
        return exj_fail(c, EXJ_EXIT_USAGE, "--dir=: an empty value; name a folder");
    /* A crate begins with a letter and has no dots. */
    if (p->name[0] >= '0' && p->name[0] <= '9')
        n = (size_t)snprintf(p->crate, sizeof(p->crate), "plugin-");
    for (const char *s = p->name; *s && n + 1 < sizeof(p->crate); s++)
        p->crate[n++] = *s == '.' ? '-' : *s;
    p->crate[n] = '\0';
    return EXJ_EXIT_OK;
}

exj_exit exj_cmd_plugin_new(exj_cli *c)
{
    struct plan p = { 0 };
    json_t *files = json_array();
    exj_err err = { 0 };
    exj_exit status = plan_of(c, &p);

    if (status != EXJ_EXIT_OK)
        goto out;
    if (check_free(p.dir, &err) != EXJ_OK) {
        status = exj_fail_err(c, &err);
        goto out;
    }
    for (size_t i = 0; i < PIECES; i++) {
        if (!(pieces[i].kinds & p.kind) || !(pieces[i].langs & p.lang))
            continue;
        if (write_piece(&p, &pieces[i], &err) != EXJ_OK) {
            status = exj_fail_err(c, &err);
            goto out;
        }
        json_array_append_new(files, json_string(pieces[i].to));
    }
    if (c->json) {
        json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:s,s:O}", "name", p.name, "kind", c->args[0],
                              "lang", p.lang == C ? "c" : p.lang == CXX ? "c++" : "rust", "dir",
                              p.dir, "next", "make && make test", "files", files);

        status = o ? exj_out_json(c, o, false) : exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
        json_decref(o);
    } else {
        json_t *f;
        size_t i;

        json_array_foreach(files, i, f)
            printf("%s/%s\n", p.dir, json_string_value(f));
        exj_tell(c, "next: cd %s && make && make test", p.dir);
    }
out:
    json_decref(files);
    return exj_out_finish(c, status);
}
