/* core/plugin/check_child.c - the half of `plugin check` that may crash.
 *
 * Speaks in lines of JSON on what was fd 1 when it began: {"phase":…} before each step, so
 * that the parent can say where a crash happened, {"finding":{…}}, {"plugin":{…}} and
 * {"sha256":…}. Fd 1 itself then goes to standard error: a plugin that prints must not
 * speak for us.
 */
#include "core/plugin/check.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/plugin/check_inside.h"
#include "core/plugin/lint.h"
#include "core/plugin/load.h"

#define ANSWER_MAX (8u * 1024u * 1024u)
#define REPEAT 100
#define REPEAT_NS ((exj_nsec)3 * 1000 * 1000 * 1000)
#define GROWTH_PAGES 256 /* 1 MiB */

static int report_fd = 1;
static int grade = 1; /* of what is found now */
static bool failed;
static const char *config = "{}"; /* what create is given */

static void say_take(json_t *line)
{
    exj_buf b = EXJ_BUF_INIT;

    if (line && exj_json_print(line, false, &b, NULL) == EXJ_OK && exj_buf_add_char(&b, '\n')) {
        for (size_t at = 0; at < b.n;) {
            ssize_t n = write(report_fd, b.p + at, b.n - at);

            if (n < 0 && errno != EINTR)
                break;
            at += n > 0 ? (size_t)n : 0;
        }
    }
    exj_buf_release(&b);
    json_decref(line);
}

void exj_check_phase(const char *name, const char *id)
{
    say_take(json_pack("{s:s++}", "phase", name, *id ? " of " : "", id));
}

void exj_check_find(const char *level, const char *code, const char *fix, const char *format, ...)
{
    char raw[700], text[700];
    va_list ap;

    va_start(ap, format);
    vsnprintf(raw, sizeof raw, format, ap);
    va_end(ap);
    exj_clean_text(raw, strlen(raw), text, sizeof text);
    failed |= strcmp(level, "fail") == 0;
    say_take(json_pack("{s:{s:i,s:s,s:s,s:s,s:s}}", "finding", "grade", grade, "level", level,
                       "code", code, "message", text, "fix", fix));
}

/* ---- from the file alone -------------------------------------------------------------- */

/* Of grade 1 is whether the file exports the one function; the rest is of grade 3. */
static bool is_entry_code(const char *code)
{
    return strcmp(code, "Exports") == 0 || strcmp(code, "NoEntry") == 0;
}

static exj_reload_class lint_file(const char *file, int level)
{
    exj_reload_class class = EXJ_RELOAD_ISOLATE_ONLY;
    exj_lint *l = malloc(sizeof *l);
    exj_err err = { 0 };
    char why[200];

    if (!l || exj_lint_file(file, l, &err) != EXJ_OK) {
        exj_check_find("fail", "Unreadable", "", "%s", l ? err.text : "out of memory");
    } else {
        for (unsigned k = 0; k < l->findings_len; k++) {
            grade = is_entry_code(l->findings[k].code) ? 1 : 3;
            if (grade <= level)
                exj_check_find(l->findings[k].level, l->findings[k].code, l->findings[k].fix,
                               "%s", l->findings[k].message);
        }
        exj_lint_why(l, why, sizeof why);
        grade = 3;
        if (grade <= level)
            exj_check_find("ok", "ReloadClass", "", "an old version of it would be %s", why);
        class = l->reload;
    }
    free(l);
    return class;
}

/* ---- what a load or an instance leaves behind ------------------------------------------ */

struct left {
    unsigned fds, threads;
    long pages; /* resident */
};

static unsigned entries_of(const char *folder)
{
    DIR *d = opendir(folder);
    unsigned n = 0;

    if (!d)
        return 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static struct left look(void)
{
    struct left l = { entries_of("/proc/self/fd"), entries_of("/proc/self/task"), 0 };
    FILE *f = fopen("/proc/self/statm", "re");

    if (f) {
        if (fscanf(f, "%*d %ld", &l.pages) != 1)
            l.pages = 0;
        fclose(f);
    }
    return l;
}

static void compare(const char *what, unsigned times, struct left before, struct left after,
                    bool memory)
{
    if (after.fds > before.fds)
        exj_check_find("warn", "KeepsDescriptors", "close what you open, in destroy",
                       "%s %u times leaves %u file descriptors", what, times,
                       after.fds - before.fds);
    if (after.threads > before.threads)
        exj_check_find("warn", "KeepsThreads", "join your threads in destroy",
                       "%s %u times leaves %u threads", what, times,
                       after.threads - before.threads);
    if (memory && after.pages > before.pages + GROWTH_PAGES)
        exj_check_find("warn", "KeepsMemory", "free in destroy what create allocates",
                       "%s %u times leaves %ld KiB", what, times,
                       (after.pages - before.pages) * (sysconf(_SC_PAGESIZE) / 1024));
}

static bool copy_to(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out;
    char part[65536];
    ssize_t n = -1;

    if (in < 0)
        return false;
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    while (out >= 0 && (n = read(in, part, sizeof part)) > 0)
        if (write(out, part, (size_t)n) != n) {
            n = -1;
            break;
        }
    close(in);
    return out >= 0 && close(out) == 0 && n == 0;
}

/* Load and unload a copy of its own, over and over. */
static void repeat_load(const char *path, exj_reload_class class)
{
    const char *tmp = getenv("TMPDIR");
    struct left before;
    char copy[600];
    void *still;

    if (class != EXJ_RELOAD_CLOSABLE) {
        exj_check_find("ok", "LoadUnload", "", "not unloaded: %s",
                       exj_reload_class_word(class));
        return;
    }
    snprintf(copy, sizeof copy, "%s/repeat-%ld.so", tmp && *tmp ? tmp : "/tmp", (long)getpid());
    if (!copy_to(path, copy)) {
        exj_check_find("warn", "LoadUnload", "", "no copy could be made at %s", copy);
        return;
    }
    exj_check_phase("load and unload", "");
    before = look();
    for (unsigned k = 0; k < REPEAT; k++) {
        void *so = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
        exj_entry entry = so ? (exj_entry)(uintptr_t)dlsym(so, "exellix_plugin_v1") : NULL;

        if (!entry || !entry(EXJ_ABI_MINOR)) {
            const char *why = dlerror();

            exj_check_find("fail", "LoadUnload", "", "load %u failed: %s", k + 1,
                           why ? why : "no bundle");
            unlink(copy);
            return;
        }
        dlclose(so);
    }
    still = dlopen(copy, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    compare("loading and unloading it", REPEAT, before, look(), true);
    if (still) {
        dlclose(still);
        exj_check_find("warn", "StillResident", "start no thread and register nothing at load",
                       "stays in memory after it was unloaded");
    } else {
        exj_check_find("ok", "LoadUnload", "", "loaded and unloaded %d times", REPEAT);
    }
    unlink(copy);
}

static void repeat_create(exj_guest *g)
{
    exj_nsec until = exj_clock_mono_ns() + REPEAT_NS;
    struct left before = { 0 };
    unsigned k;

    exj_check_phase("create and destroy", g->id);
    for (k = 0; k < REPEAT && exj_clock_mono_ns() < until; k++) {
        exj_instance *i = NULL;
        exj_err err = { 0 };

        if (k == REPEAT / 10)
            before = look(); /* the first ones warm up allocators */
        if (exj_instance_new(g, exj_slice_of(config), &i, &err) != EXJ_OK) {
            exj_check_find("fail", "CreateAgain", "let create succeed as often as it is called",
                           "%s: create number %u: %s", g->id, k + 1, err.text);
            return;
        }
        exj_instance_free(i);
    }
    if (k > REPEAT / 10)
        compare("making and ending an instance", k - REPEAT / 10, before, look(), true);
    exj_check_find("ok", "CreateDestroy", "", "%s: created and destroyed %u times", g->id, k);
}

/* ---- what it says about itself ----------------------------------------------------------- */

static void judge_describe(const exj_guest *g)
{
    static const char *const parts[] = { "config", "input", "output" };
    json_t *o = NULL;
    exj_err err = { 0 };

    if (g->describe.n == 0) {
        exj_check_find("warn", "NoDescription", "set describe: {\"summary\":\"…\",\"config\":{…}}",
                       "%s describes neither itself nor its config", g->id);
        return;
    }
    if (exj_json_parse(g->describe, &o, &err) != EXJ_OK || !json_is_object(o)) {
        exj_check_find("fail", "DescribeNotJson", "set describe to one JSON object",
                       "%s: describe: %s", g->id, err.code ? err.text : "no object");
        json_decref(o);
        return;
    }
    if (!json_is_string(json_object_get(o, "summary")))
        exj_check_find("warn", "NoSummary", "add \"summary\":\"what it does\" to describe",
                       "%s: describe has no summary", g->id);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        const json_t *part = json_object_get(o, parts[k]);

        if (part && !json_is_object(part))
            exj_check_find("fail", "DescribeForm", "make it an object",
                           "%s: describe.%s is no object", g->id, parts[k]);
    }
    json_decref(o);
}

static void judge_version(const exj_guest *g)
{
    unsigned a, b, c;

    if (sscanf(g->version, "%9u.%9u.%9u", &a, &b, &c) != 3)
        exj_check_find("warn", "VersionForm", "number versions as 1.2.0",
                       "%s: version \"%s\"", g->id, g->version);
}

static const char *kind_word(uint32_t kind)
{
    return kind == EXJ_KIND_GRAPH_ENGINE      ? "graph-engine"
           : kind == EXJ_KIND_SOURCE_RESOLVER ? "source-resolver"
                                              : "event-sink";
}

static void check_guest(exj_guest *g, int level)
{
    exj_instance *i = NULL;
    exj_call_slot *slot = NULL;
    exj_err err = { 0 };
    json_t *flags = json_array();
    static const struct { uint32_t bit; const char *name; } names[] = {
        { EXJ_FLAG_CONCURRENT, "concurrent" }, { EXJ_FLAG_SERIAL_ALL, "serialAll" },
        { EXJ_FLAG_BLOCKING, "blocking" },     { EXJ_FLAG_OWN_THREADS, "ownThreads" },
        { EXJ_FLAG_ASYNC, "async" },           { EXJ_FLAG_REPLAYABLE, "replayable" },
    };

    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (g->vt.flags & names[k].bit)
            json_array_append_new(flags, json_string(names[k].name));
    say_take(json_pack("{s:{s:s,s:s,s:s,s:o}}", "plugin", "id", g->id, "version", g->version,
                       "kind", kind_word(g->vt.kind),
                       "flags", flags));
    grade = 2;
    judge_describe(g);
    judge_version(g);
    if (level < 3)
        return;
    grade = 3;
    exj_check_phase("create", g->id);
    if (exj_instance_new(g, exj_slice_of(config), &i, &err) != EXJ_OK) {
        exj_check_find("warn", "CreateFails", "accept an empty config, or say in describe what is needed",
             "%s", err.text);
        return;
    }
    exj_check_phase("destroy", g->id);
    exj_instance_free(i);
    i = NULL;
    repeat_create(g);
    if (level < 4)
        return;
    grade = 4;
    exj_check_phase("create", g->id);
    if (exj_call_slot_new(ANSWER_MAX, &slot, &err) != EXJ_OK ||
        exj_instance_new(g, exj_slice_of(config), &i, &err) != EXJ_OK)
        exj_check_find("fail", "CreateAgain", "let create succeed as often as it is called", "%s",
                       err.text);
    else
        exj_check_calls(i, slot);
    exj_check_phase("destroy", g->id);
    exj_instance_free(i);
    exj_call_slot_free(slot);
}

int exj_plugin_check_child(const char *file, int level, const char *given)
{
    exj_reload_class class;
    exj_registry *r = NULL;
    exj_plugin_file *f = NULL;
    exj_probe probe;
    exj_err err = { 0 };
    char *path = realpath(file, NULL);
    int fd = fcntl(1, F_DUPFD_CLOEXEC, 3);

    config = given;
    if (fd >= 0) {
        report_fd = fd;
        dup2(2, 1);
    }
    exj_check_phase("probe", "");
    if (!path) {
        exj_check_find("fail", "Unreadable", "", "%s: %s", file, strerror(errno));
        goto out;
    }
    if (exj_probe_file(path, &probe, &err) != EXJ_OK) {
        exj_check_find("fail", "Refused", "", "%s", err.text);
        goto out;
    }
    say_take(json_pack("{s:s}", "sha256", probe.sha256));
    exj_check_find("ok", "Probe", "", "ABI %u.%u, %llu bytes", probe.abi_major, probe.abi_minor,
         (unsigned long long)probe.bytes);
    class = lint_file(path, level);
    if (level < 2 || (failed && level < 3))
        goto done;
    grade = 2;
    exj_check_phase("load", "");
    if (exj_registry_open(&(exj_registry_options){ .throw_away = true }, &r, &err) != EXJ_OK ||
        exj_registry_open_file(r, path, &f, &err) != EXJ_OK) {
        exj_check_find("fail", "Refused", "", "%s", err.text);
        goto out;
    }
    exj_check_find("ok", "Load", "", "loads; %zu plugin(s)", f->guests_len);
    if (level >= 3) {
        grade = 3;
        repeat_load(path, class);
    }
    for (size_t k = 0; k < f->guests_len; k++)
        check_guest(&f->guests[k], level);
    if (exj_plugin_misdeeds())
        exj_check_find("fail", "Misbehaves", "see the messages on standard error",
             "did %llu things that the ABI forbids", (unsigned long long)exj_plugin_misdeeds());
done:
    exj_check_phase("exit", "");
out:
    exj_registry_free(r);
    free(path);
    return failed ? 1 : 0;
}
