/* `plugin replay`: a row with all it needs in one folder, and that folder run offline.
 *
 * bundle.json   what it is: row, error, plugin, versions, the command that runs it
 * input.json    the record        model.json, runtime.json   what execute is given
 * steps.json    finished steps    kv.json                    keys of the graph (exellix.kv/1)
 * plugin.so     the same file     commits.json, kv-after.json, result.json   of the last run
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/job/config.h"
#include "core/job/record.h"
#include "core/main/cmd_plugin.h"
#include "core/main/reach.h"

#define FORMAT 1
#define TIMEOUT_MS 300000u
#define KEYS_MOST 100000u

struct making {
    exj_cli *cli;
    const char *row, *dir;
    json_t *shown;    /* the row, as `rows show` has it; owned */
    json_t *steps;    /* owned */
    json_t *kv;       /* owned; NULL: not known */
    char not_read[300]; /* why the journal could not be read; "" */
    int64_t seq, token;
    exj_graph_config graph;
    char *plugin;     /* path; owned */
};

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static exj_exit out_of_memory(const exj_cli *c)
{
    return exj_fail(c, EXJ_EXIT_FAILED, "out of memory");
}

/* ---- what the worker knows ---------------------------------------------------------------- */

static exj_exit ask_for(exj_reach *r, const char *prefix, const char *id, json_t **ret)
{
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a;
    exj_exit status;

    exj_buf_add_text(&path, prefix);
    exj_add_encoded(&path, id);
    status = path.failed ? out_of_memory(r->cli)
                         : exj_ask(r, "GET", path.p, "", (exj_slice){ 0 }, &a);
    if (status == EXJ_EXIT_OK) {
        *ret = json_incref(a.body);
        exj_answer_json_release(&a);
    }
    exj_buf_release(&path);
    return status;
}

/* A graph without a config runs with defaults, so its absence is no failure. */
static exj_exit ask_graph(struct making *m, exj_reach *r)
{
    exj_buf path = EXJ_BUF_INIT, text = EXJ_BUF_INIT;
    exj_answer_json a = { 0 };
    exj_err err = { 0 };
    exj_exit status = EXJ_EXIT_OK;

    exj_buf_add_text(&path, "/configs/graphs/");
    exj_add_encoded(&path, text_of(m->shown, "graphId"));
    if (path.failed)
        status = out_of_memory(m->cli);
    else if (exj_call_api(r, "GET", path.p, "", (exj_slice){ 0 }, &a, &err) != EXJ_OK)
        status = exj_fail_err(m->cli, &err);
    else if (a.status >= 400 && a.status != 404)
        status = exj_answer_fail(m->cli, &a);
    else if (a.status < 400 &&
             (exj_json_print(a.body, false, &text, &err) != EXJ_OK ||
              exj_graph_config_read(exj_buf_slice(&text), &m->graph, &err) != EXJ_OK))
        status = exj_fail_err(m->cli, &err);
    exj_answer_json_release(&a);
    exj_buf_release(&path);
    exj_buf_release(&text);
    return status;
}

static bool set_parsed(json_t *o, exj_slice key, exj_slice text)
{
    char *name = exj_slice_dup(key);
    json_t *v = NULL;

    if (name && exj_json_parse(text, &v, NULL) == EXJ_OK)
        json_object_set_new(o, name, v);
    free(name);
    return json_object_size(o) < KEYS_MOST;
}

static bool visit_step(void *user, const exj_step_view *v)
{
    return !v->done || set_parsed(((struct making *)user)->steps, v->key, v->body);
}

struct kv_walk {
    json_t *kv;
    char *last; /* owned */
    size_t seen;
};

static bool visit_key(void *user, const exj_kv_view *v)
{
    struct kv_walk *w = user;

    free(w->last);
    w->last = exj_slice_dup(v->key);
    w->seen++;
    return w->last && set_parsed(w->kv, v->key, v->value);
}

static exj_code read_keys(struct making *m, exj_store *s, exj_slice graph, exj_err *err)
{
    struct kv_walk w = { .kv = json_object() };
    exj_code rc;

    do {
        w.seen = 0;
        rc = s->v->kv_page(s, graph, w.last ? exj_slice_of(w.last) : (exj_slice){ 0 }, 1000,
                           visit_key, &w, err);
    } while (rc == EXJ_OK && w.seen == 1000 && json_object_size(w.kv) < KEYS_MOST);
    free(w.last);
    m->kv = w.kv;
    return rc;
}

static bool visit_row(void *user, const exj_row_view *r)
{
    struct making *m = user;

    m->seq = r->seq;
    m->token = r->token;
    return false;
}

/* The journal is not part of the HTTP API: read it from the store, beside whoever writes. */
static void read_journal(struct making *m)
{
    exj_sqlite_options o = { .dir = exj_settings_text(&m->cli->settings, EXJ_SET_DATA_DIR),
                             .read_only = true };
    exj_row_name n = { 0 };
    exj_store *s = NULL;
    exj_err err = { 0 };

    if (exj_settings_embedded(&m->cli->settings, "plugin replay", &err) == EXJ_OK &&
        exj_row_name_parse(exj_slice_of(m->row), &n, &err) == EXJ_OK &&
        exj_sqlite_open(&o, &s, &err) == EXJ_OK &&
        s->v->row_get(s, exj_slice_of(n.matrix), exj_slice_of(n.run), exj_slice_of(n.graph),
                      exj_slice_of(n.record), visit_row, m, &err) == EXJ_OK &&
        s->v->step_each(s, m->seq, visit_step, m, &err) == EXJ_OK)
        read_keys(m, s, exj_slice_of(n.graph), &err);
    if (err.code) {
        snprintf(m->not_read, sizeof(m->not_read), "%s", err.text);
        exj_tell(m->cli, "its steps could not be read, so all will run: %s", err.text);
    }
    if (s)
        s->v->close(s);
    exj_row_name_release(&n);
}

/* What a config names is not a file that happens to lie in the working folder: it is a file
 * name or an id in the plugins directories, or what the shelf kept of it. */
static void find_configured(struct making *m, const char *name)
{
    exj_cli *c = m->cli;
    const json_t *error = json_object_get(m->shown, "error");
    const char *at = text_of(m->shown, "finishedAt"), *id, *found;
    exj_reach r = EXJ_REACH_INIT(c);
    exj_buf path = EXJ_BUF_INIT;
    exj_answer_json a = { 0 };
    exj_err err = { 0 };
    char *kept;

    exj_buf_add_text(&path, "/plugins/");
    exj_add_encoded(&path, name);
    if (!path.failed && exj_call_plugins(&r, path.p, "load=true", &a, &err) == EXJ_OK &&
        a.status < 400 && (found = text_of(a.body, "path")))
        m->plugin = strdup(found);
    else
        m->plugin = exj_tool_find_installed(c, name);
    id = text_of(a.body, "id");
    kept = exj_tool_what_ran(c, m->plugin, id && *id ? id : name, at ? at : "9999",
                             text_of(error, "message"));
    if (kept) {
        free(m->plugin);
        m->plugin = kept;
    }
    exj_answer_json_release(&a);
    exj_reach_release(&r);
    exj_buf_release(&path);
}

/* --plugin, else the graph's executor, else the worker's, else the stub. */
static exj_exit find_plugin(struct making *m)
{
    exj_cli *c = m->cli;
    const char *name = c->flags[EXJ_CLI_PLUGIN];

    if (!name) {
        name = m->graph.executor ? m->graph.executor
                                 : exj_settings_text(&c->settings, EXJ_SET_EXECUTOR);
        if (!name)
            name = "stub";
        if (strchr(name, '/'))
            m->plugin = exj_tool_find_plugin(c, name);
        else
            find_configured(m, name);
    } else {
        m->plugin = exj_tool_find_plugin(c, name);
    }
    if (!m->plugin)
        return exj_fail(c, EXJ_EXIT_NOT_FOUND,
                        "no plugin \"%s\" in the plugins directories: name its file with "
                        "--plugin",
                        name);
    return EXJ_EXIT_OK;
}

/* ---- the bundle ------------------------------------------------------------------------- */

static exj_code put(const struct making *m, const char *name, exj_slice text, exj_err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", m->dir, name);
    return exj_tool_write(path, text, false, err);
}

static exj_code put_json(const struct making *m, const char *name, const json_t *v, exj_err *err)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", m->dir, name);
    return exj_tool_write_json(path, v, err);
}

static int64_t attempt_of(const struct making *m)
{
    int64_t n = json_integer_value(json_object_get(m->shown, "attempts"));

    return n > 0 ? n : 1;
}

/* As core/run builds it. */
static exj_code put_runtime(const struct making *m, exj_slice input, exj_err *err)
{
    exj_buf memory = EXJ_BUF_INIT, b = EXJ_BUF_INIT;
    const char *run = text_of(m->shown, "matrixRunId");
    exj_code rc = EXJ_OK;

    if (m->graph.memory_needs_record)
        rc = exj_memory_seed_add(&m->graph, input, &memory, err);
    else
        exj_buf_add_text(&memory, m->graph.memory ? m->graph.memory : "{}");
    exj_buf_add_text(&b, "{\"jobId\":");
    exj_buf_add_json_string(&b, exj_slice_of(m->row));
    exj_buf_add_text(&b, ",\"job\":{\"matrixRowId\":");
    exj_buf_add_json_string(&b, exj_slice_of(m->row));
    exj_buf_add_text(&b, ",\"matrixCatalogId\":");
    exj_buf_add_json_string(&b, exj_slice_of(text_of(m->shown, "matrixCatalogId")));
    exj_buf_add_text(&b, ",\"matrixRunId\":");
    if (run)
        exj_buf_add_json_string(&b, exj_slice_of(run));
    else
        exj_buf_add_text(&b, "null");
    exj_buf_add_text(&b, ",\"graphId\":");
    exj_buf_add_json_string(&b, exj_slice_of(text_of(m->shown, "graphId")));
    exj_buf_printf(&b, ",\"attempt\":%" PRId64 "},\"input\":", attempt_of(m));
    exj_buf_add_slice(&b, input);
    exj_buf_add_text(&b, ",\"executionMemory\":");
    exj_buf_add_slice(&b, exj_buf_slice(&memory));
    exj_buf_add_text(&b, "}");
    if (rc == EXJ_OK && (b.failed || memory.failed))
        rc = exj_err_set(err, EXJ_NOMEM, "out of memory");
    if (rc == EXJ_OK)
        rc = put(m, "runtime.json", exj_buf_slice(&b), err);
    exj_buf_release(&memory);
    exj_buf_release(&b);
    return rc;
}

static exj_code put_model(const struct making *m, exj_err *err)
{
    exj_buf b = EXJ_BUF_INIT;
    exj_code rc;

    if (m->graph.model) {
        exj_buf_add_text(&b, m->graph.model);
    } else {
        exj_buf_add_text(&b, "{\"id\":");
        exj_buf_add_json_string(&b, exj_slice_of(text_of(m->shown, "graphId")));
        exj_buf_add_text(&b, ",\"nodes\":[]}");
    }
    rc = b.failed ? exj_err_set(err, EXJ_NOMEM, "out of memory")
                  : put(m, "model.json", exj_buf_slice(&b), err);
    exj_buf_release(&b);
    return rc;
}

static exj_code put_about(const struct making *m, const char *sha256, exj_err *err)
{
    exj_effective eff = exj_effective_of(NULL, m->graph.graph_id ? &m->graph : NULL);
    char at[EXJ_TIME_TEXT_BYTES], abi[32], command[PATH_MAX + 64];
    struct utsname u = { 0 };
    json_t *o;
    exj_code rc;

    uname(&u);
    exj_clock_format(exj_clock_wall_ms(), at);
    snprintf(abi, sizeof(abi), "%u.%u", EXJ_ABI_MAJOR, EXJ_ABI_MINOR);
    snprintf(command, sizeof(command), "exellix-jobs plugin replay --bundle %s", m->dir);
    o = json_pack("{s:i,s:s,s:O,s:O,s:O,s:O,s:O,s:O,s:O,s:I,s:I,s:I,s:{s:s,s:s},"
                  "s:{s:s,s:s,s:s,s:s},s:s,s:s,s:o}",
                  "format", FORMAT, "row", m->row, "matrixCatalogId",
                  json_object_get(m->shown, "matrixCatalogId"), "matrixRunId",
                  json_object_get(m->shown, "matrixRunId"), "graphId",
                  json_object_get(m->shown, "graphId"), "recordId",
                  json_object_get(m->shown, "recordId"), "status",
                  json_object_get(m->shown, "status"), "attempts",
                  json_object_get(m->shown, "attempts"), "error",
                  json_object_get(m->shown, "error"), "attempt", (json_int_t)attempt_of(m),
                  "token", (json_int_t)(m->token ? m->token : attempt_of(m)), "timeoutMs",
                  (json_int_t)eff.timeout_ms, "plugin", "source", m->plugin, "sha256", sha256,
                  "versions", "exellixJobs", EXJ_VERSION, "abi", abi, "kernel", u.release,
                  "machine", u.machine, "madeAt", at, "commandLine", command, "stepsNotRead",
                  m->not_read[0] ? json_string(m->not_read) : json_null());
    rc = o ? put_json(m, "bundle.json", o, err) : exj_err_set(err, EXJ_NOMEM, "out of memory");
    json_decref(o);
    return rc;
}

static exj_code put_all(struct making *m, exj_err *err)
{
    exj_buf input = EXJ_BUF_INIT;
    char path[PATH_MAX], sha256[65] = "";
    exj_code rc = exj_json_print(json_object_get(m->shown, "input"), false, &input, err);

    if (rc == EXJ_OK)
        rc = put(m, "input.json", exj_buf_slice(&input), err);
    if (rc == EXJ_OK)
        rc = put_runtime(m, exj_buf_slice(&input), err);
    if (rc == EXJ_OK)
        rc = put_model(m, err);
    if (rc == EXJ_OK)
        rc = put_json(m, "steps.json", m->steps, err);
    if (rc == EXJ_OK && m->kv) {
        rc = put_json(m, "kv.json", m->kv, err);
    } else if (rc == EXJ_OK) { /* of an older bundle */
        snprintf(path, sizeof(path), "%s/kv.json", m->dir);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%s/plugin.so", m->dir);
    if (rc == EXJ_OK)
        rc = exj_tool_copy(m->plugin, path, sha256, err);
    if (rc == EXJ_OK)
        rc = put_about(m, sha256, err); /* last: it makes the folder a bundle */
    exj_buf_release(&input);
    return rc;
}

static bool is_ours(const char *name)
{
    static const char *const names[] = { ".", "..", "bundle.json", "input.json", "model.json",
                                         "runtime.json", "steps.json", "kv.json", "plugin.so",
                                         "plugin.so.new", "commits.json", "kv-after.json",
                                         "result.json", "loaded" };

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* A new or empty folder, or an older bundle, be it whole or not. */
static exj_exit check_folder(const struct making *m)
{
    struct dirent *e;
    bool ours = true;
    exj_err err = { 0 };
    DIR *d;

    if (exj_tool_folders(m->dir, &err) != EXJ_OK)
        return exj_fail_err(m->cli, &err);
    mkdir(m->dir, 0700); /* a record may hold what not everybody should read */
    d = opendir(m->dir);
    if (!d)
        return exj_fail(m->cli, EXJ_EXIT_FAILED, "%s: %s", m->dir, strerror(errno));
    while (ours && (e = readdir(d)))
        ours = is_ours(e->d_name);
    closedir(d);
    if (!ours)
        return exj_fail(m->cli, EXJ_EXIT_CONFLICT,
                        "the folder %s is not empty and holds more than a bundle: name another "
                        "one with --bundle",
                        m->dir);
    return EXJ_EXIT_OK;
}

static exj_exit make_bundle(exj_cli *c, const char *row, const char *dir)
{
    struct making m = { .cli = c, .row = row, .dir = dir, .steps = json_object() };
    exj_reach r = EXJ_REACH_INIT(c);
    exj_err err = { 0 };
    exj_exit status = ask_for(&r, "/rows/", row, &m.shown);

    if (status == EXJ_EXIT_OK)
        status = ask_graph(&m, &r);
    exj_reach_release(&r);
    if (status == EXJ_EXIT_OK)
        status = find_plugin(&m);
    if (status == EXJ_EXIT_OK)
        status = check_folder(&m);
    if (status == EXJ_EXIT_OK) {
        read_journal(&m);
        if (put_all(&m, &err) != EXJ_OK)
            status = exj_fail_err(c, &err);
    }
    exj_graph_config_release(&m.graph);
    json_decref(m.shown);
    json_decref(m.steps);
    json_decref(m.kv);
    free(m.plugin);
    return status;
}

/* ---- running it --------------------------------------------------------------------------- */

static exj_exit run_under_gdb(exj_cli *c, const char *dir)
{
    char exe[PATH_MAX], word[] = EXJ_TOOL_REPLAY_WORD, folder[PATH_MAX];

    snprintf(exe, sizeof(exe), "%s", c->settings.exe);
    snprintf(folder, sizeof(folder), "%s", dir);
    fflush(stdout);
    execlp("gdb", "gdb", "-ex", "set breakpoint pending on", "--args", exe, word, folder,
           "no-deadline", (char *)NULL);
    if (errno != ENOENT)
        return exj_fail(c, EXJ_EXIT_FAILED, "cannot start gdb: %s", strerror(errno));
    return exj_fail(c, EXJ_EXIT_NOT_FOUND,
                    "gdb is not installed (apt-get install gdb); another debugger runs: %s %s "
                    "%s no-deadline",
                    exe, word, folder);
}

static void print_result(exj_cli *c, const json_t *about, const json_t *said, const char *dir)
{
    const json_t *error = json_object_get(said, "error"), *answer = json_object_get(said, "answer");
    const json_t *was = json_object_get(about, "error");
    exj_table t = EXJ_TABLE("", "STATUS", "CODE", "MESSAGE");

    exj_table_add(&t, "recorded");
    exj_table_add(&t, text_of(about, "status"));
    exj_table_add(&t, text_of(was, "code"));
    exj_table_add(&t, text_of(was, "message"));
    exj_table_add(&t, "replayed");
    exj_table_add(&t, text_of(said, "status"));
    exj_table_add(&t, text_of(error, "code"));
    exj_table_add(&t, text_of(error, "message"));
    exj_table_print(&t, c->color);
    if (!json_is_null(answer))
        exj_out_json(c, answer, false);
    exj_tell(c, "bundle: %s; %" PRId64 " recorded steps given back, %" PRId64 " new ones in it",
             dir, (int64_t)json_integer_value(json_object_get(said, "stepsGiven")),
             (int64_t)json_integer_value(json_object_get(said, "stepsCommitted")));
}

static exj_exit run_bundle(exj_cli *c, const char *dir)
{
    char path[PATH_MAX];
    json_t *about = NULL, *said = NULL;
    exj_tool_end end = { 0 };
    exj_err err = { 0 };
    const char *refused;
    exj_exit status = EXJ_EXIT_OK;

    snprintf(path, sizeof(path), "%s/bundle.json", dir);
    if (exj_tool_read_json(path, &about, &err) != EXJ_OK) {
        if (err.code == EXJ_NOT_FOUND)
            return exj_fail(c, EXJ_EXIT_NOT_FOUND,
                            "no bundle in %s (it has no bundle.json); give the ROW to make one",
                            dir);
        return exj_fail_err(c, &err);
    }
    if (json_integer_value(json_object_get(about, "format")) != FORMAT) {
        status = exj_fail(c, EXJ_EXIT_INVALID, "%s: format: wanted %d", path, FORMAT);
        goto out;
    }
    if (c->flags[EXJ_CLI_GDB]) {
        status = run_under_gdb(c, dir);
        goto out;
    }
    if (exj_tool_child(c->settings.exe, EXJ_TOOL_REPLAY_WORD, (const char *const[]){ dir, NULL },
                       TIMEOUT_MS, &end, &err) != EXJ_OK) {
        status = exj_fail_err(c, &err);
        goto out;
    }
    refused = text_of(end.said, "refused");
    if (refused) {
        exj_err_set(&err, (exj_code)json_integer_value(json_object_get(end.said, "code")), "%s",
                    refused);
        status = exj_fail_err(c, &err);
        goto out;
    }
    said = end.said ? json_incref(end.said)
                    : json_pack("{s:s,s:s,s:{s:s,s:s},s:n,s:i,s:i}", "status", "failed", "result",
                                end.in_time ? "crashed" : "stopped", "error", "code",
                                end.in_time ? "PluginCrashed" : "TimeLimit", "message", end.text,
                                "answer", "stepsGiven", 0, "stepsCommitted", 0);
    snprintf(path, sizeof(path), "%s/result.json", dir);
    if (!said || exj_tool_write_json(path, said, &err) != EXJ_OK) {
        status = said ? exj_fail_err(c, &err) : out_of_memory(c);
        goto out;
    }
    if (c->json) {
        json_object_set_new(said, "bundle", json_string(dir));
        json_object_set(said, "recorded", about);
        status = exj_out_json(c, said, false);
    } else {
        print_result(c, about, said, dir);
    }
    if (status == EXJ_EXIT_OK && strcmp(text_of(said, "status"), "failed") == 0) {
        status = EXJ_EXIT_FAILED;
        if (!end.said)
            exj_tell(c, "it %s; to see where: exellix-jobs plugin replay --bundle %s --gdb",
                     end.text, dir);
    }
out:
    json_decref(about);
    json_decref(said);
    json_decref(end.said);
    return status;
}

/* "replay-m1__g1_r1" */
static void name_folder(const char *row, char *ret, size_t cap)
{
    size_t n = (size_t)snprintf(ret, cap, "replay-");

    for (; *row && n + 1 < cap && n < 100; row++) {
        unsigned char ch = (unsigned char)*row;
        bool plain = (ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z') ||
                     ch == '-' || ch == '.';

        ret[n++] = plain ? *row : '_';
    }
    ret[n] = '\0';
}

exj_exit exj_cmd_plugin_replay(exj_cli *c)
{
    const char *row = c->args_len ? c->args[0] : NULL, *dir = c->flags[EXJ_CLI_BUNDLE];
    exj_exit status = EXJ_EXIT_OK;
    char own[160];

    if (!row && !dir)
        return exj_fail(c, EXJ_EXIT_USAGE, "'plugin replay' needs ROW, or --bundle DIR of one "
                                           "that was made before");
    if (dir && (!*dir || strlen(dir) > 3000))
        return exj_fail(c, EXJ_EXIT_USAGE, "--bundle=%.80s: wanted a path of 1 to 3000 bytes",
                        dir);
    if (!row && c->flags[EXJ_CLI_PLUGIN])
        return exj_fail(c, EXJ_EXIT_USAGE,
                        "--plugin goes with ROW; a bundle has its plugin in it (plugin.so)");
    if (!dir) {
        name_folder(row, own, sizeof(own));
        dir = own;
    }
    if (row)
        status = make_bundle(c, row, dir);
    if (status == EXJ_EXIT_OK)
        status = run_bundle(c, dir);
    return exj_out_finish(c, status);
}
