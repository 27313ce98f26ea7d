/* tests/bench/bench_reload.c - what it costs to take another content of a plugin file, and what
 * generations that are never unmapped keep.
 *
 *   bench_reload [RELOADS (default 500)]
 *
 * In process, with tests/support/plugins/noop_engine.c as it is and padded by 400 KiB. "reload"
 * is what the registry does: judge, hash, copy, hash again, lint, dlopen, create, publish, sweep
 * (dlclose, unlink). "kept" are as many generations that are held: memory and maps each.
 * The design's measure of bare copy + dlopen + dlclose: 75 us p50 for 15 KB, 213 us for 437 KB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/plugin/plugin.h"

#define SOURCE EXJ_BINARY_DIR "/tests/plugins/noop-engine.so"

static char folder[] = "/tmp/exj-bench-XXXXXX", path[64], fresh[64];
static char *content;
static size_t content_n;

static void need(bool good, const char *what, const exj_err *err)
{
    if (good)
        return;
    fprintf(stderr, "bench_reload: %s: %s\n", what, err ? err->text : "failed");
    exit(1);
}

static void read_content(void)
{
    FILE *f = fopen(SOURCE, "re");
    long n = 0;

    need(f != NULL, SOURCE, NULL);
    need(fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) > 0, SOURCE, NULL);
    rewind(f);
    content_n = (size_t)n;
    content = malloc(content_n);
    need(content && fread(content, 1, content_n, f) == content_n, SOURCE, NULL);
    fclose(f);
}

/* Another content every time: a number behind the end, which no loader looks at. */
static void put_content(unsigned number, size_t pad)
{
    static const char zeros[65536];
    FILE *f = fopen(fresh, "we");
    bool good = f && fwrite(content, 1, content_n, f) == content_n;

    for (size_t n = 0; good && n < pad; n += sizeof zeros)
        good = fwrite(zeros, 1, sizeof zeros, f) == sizeof zeros;
    good = good && fprintf(f, "%08u", number) == 8;
    good = f && fclose(f) == 0 && good;
    need(good && rename(fresh, path) == 0, "write", NULL);
}

static int compare(const void *a, const void *b)
{
    exj_nsec x = *(const exj_nsec *)a, y = *(const exj_nsec *)b;

    return x < y ? -1 : x > y;
}

static long status_kb(const char *word)
{
    char line[200];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, word, strlen(word)) == 0)
            kb = strtol(line + strlen(word), NULL, 10);
    if (f)
        fclose(f);
    return kb;
}

static unsigned maps(void)
{
    unsigned n = 0;
    FILE *f = fopen("/proc/self/maps", "re");

    for (int c; f && (c = fgetc(f)) != EOF;)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

/* One generation after the other; `kept`: all are held. */
static void measure(unsigned reloads, size_t pad, bool kept)
{
    static unsigned number;
    const char *dirs[] = { folder, NULL };
    exj_nsec *ns = calloc(reloads, sizeof *ns);
    exj_registry *r = NULL;
    exj_guest *g = NULL;
    exj_err err = { 0 };
    long kb;
    unsigned lines;

    need(ns != NULL, "memory", NULL);
    put_content(number++, pad);
    need(exj_registry_new(dirs, NULL, &r, &err) == EXJ_OK, "registry", &err);
    need(exj_registry_find(r, "p", EXJ_KIND_GRAPH_ENGINE, &g, &err) == EXJ_OK, "find", &err);
    kb = status_kb("VmRSS:");
    lines = maps();
    for (unsigned k = 0; k < reloads; k++) {
        exj_guest *next = NULL;
        exj_instance *i = NULL;
        exj_nsec from;

        put_content(number++, pad);
        from = exj_clock_mono_ns();
        need(exj_guest_candidate(g, NULL, EXJ_LANE_DEFAULT, &next, &err) == EXJ_OK, "candidate", &err);
        need(exj_instance_new(next, EXJ_SLICE_LITERAL("{}"), &i, &err) == EXJ_OK, "create", &err);
        exj_guest_set_state(next, EXJ_GEN_CURRENT);
        if (!kept) { /* a generation that is held is never swept */
            exj_instance_free(i);
            exj_guest_release(g);
            need(exj_registry_sweep(r, NULL, NULL) == 1, "sweep", NULL);
        }
        ns[k] = exj_clock_mono_ns() - from;
        g = next;
    }
    kb = status_kb("VmRSS:") - kb;
    lines = maps() - lines;
    qsort(ns, reloads, sizeof *ns, compare);
    printf("%-6s %6zu KiB  %u generations: p50 %.0f us, p99 %.0f us; after them %+ld KiB, %+d maps "
           "(%.1f KiB, %.1f maps each)\n", kept ? "kept" : "reload", (content_n + pad) / 1024,
           reloads, (double)ns[reloads / 2] / 1e3, (double)ns[(reloads * 99 + 99) / 100 - 1] / 1e3,
           kb, (int)lines, (double)kb / reloads, (double)(int)lines / reloads);
    if (!kept)
        need(exj_registry_pinned(r) == 0, "something was pinned", NULL);
    exj_registry_free(r);
    free(ns);
}

int main(int argc, char **argv)
{
    long reloads = argc > 1 ? strtol(argv[1], NULL, 10) : 500;

    if (reloads < 1 || reloads > 5000) {
        fprintf(stderr, "usage: bench_reload [RELOADS of 1 to 5000]\n");
        return 2;
    }
    need(mkdtemp(folder) != NULL, "folder", NULL);
    snprintf(path, sizeof path, "%s/p.so", folder);
    snprintf(fresh, sizeof fresh, "%s/fresh", folder);
    read_content();
    for (int large = 0; large < 2; large++) {
        measure((unsigned)reloads, large ? 400u * 1024u : 0, false);
        measure((unsigned)reloads, large ? 400u * 1024u : 0, true);
    }
    unlink(path);
    rmdir(folder);
    free(content);
    return 0;
}
