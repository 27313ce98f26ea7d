/* Experiments 10 to 17 and 24 to 26 of experiments.h: what does not go away, what collides, and
 * what the loader itself does wrong. */
#include <sys/mount.h>

#include "core/plugin/lint.h"
#include "tests/plugins/experiments.h"

TestSuite(experiments_end);

#define LOUD_SKIP(why) fprintf(stderr, "\n*** SKIPPED: %s ***\n\n", why)

static bool have_cpp(void)
{
    if (system("command -v c++ > /dev/null") == 0)
        return true;
    LOUD_SKIP("no C++ compiler: C++ statics and thread_local");
    return false;
}

/* As build, by the C++ compiler: `source` is C++ and stands before a C engine's own. */
static void build_cpp(const struct room *r, const char *name, const char *flags, const char *source)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s.cc", r->dir, name);
    f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(source, f);
    fclose(f);
    shell("c++ -std=gnu++17 -shared -fPIC -pthread -w -I%s/include -I%s/sdk/include %s '%s' -o "
          "'%s/%s.so'", EXJ_SOURCE_DIR, EXJ_SOURCE_DIR, flags, path, r->dir, name);
}

/* Is a file of this name part of this process? */
static bool is_mapped(const char *stem)
{
    char line[600];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");

    cr_assert_not_null(f);
    while (!found && fgets(line, sizeof line, f)) {
        char *base = strrchr(line, '/');

        found = base && strncmp(base + 1, stem, strlen(stem)) == 0;
    }
    fclose(f);
    return found;
}

/* Run `name` once, replace its content by another, and let it go. */
static void retire(struct room *r, const char *name)
{
    exj_guest *old = guest_of(r, name), *fresh;
    exj_instance *i = alive(old);
    exj_call_slot *s = slot_of(4096);

    cr_assert_eq(run_once(i, s, NULL).result, EXJ_R_OK);
    exj_call_slot_free(s);
    exj_instance_free(i);
    replace(r, name, "", COUNTING("next"));
    fresh = candidate_of(old);
    succeed(old, fresh);
    exj_guest_release(fresh);
    cr_assert_eq(exj_registry_sweep(r->registry, NULL, NULL), 1);
}

/* ---- what survives (10) ------------------------------------------------------------------------ */

struct survivor {
    const char *what, *flags, *more, *finding; /* finding NULL: it is gone */
};

static const struct survivor survivors[] = {
    { "plain", "", "", NULL },
    { "thread_local", "", "__thread int each; int *of_each(void) { return &each; }", NULL },
    { "at_exit", "", "static void bye(void) {} __attribute__((unused)) static void reg(void)"
                     " { atexit(bye); }", NULL },
    { "nodelete", "-Wl,-z,nodelete", "", "NoDelete" },
    { "key", "", "static pthread_key_t key; static void at_end(void *p) { (void)p; }"
                 "void make(void) { pthread_key_create(&key, at_end); }", "ThreadKey" },
    { "on_exit", "-D_DEFAULT_SOURCE", "static void bye(int s, void *p) { (void)s; (void)p; }"
                 "void reg(void) { on_exit(bye, 0); }", "OnExit" },
    { "own_thread", "", "static void *run(void *p) { return p; }"
                    "void begin(void) { pthread_t t; pthread_create(&t, 0, run, 0); }", "OwnThreads" },
    { "signals", "", "#include <signal.h>\nvoid take(void) { signal(SIGUSR1, SIG_IGN); }", "Signals" },
};

static void check_lint(const struct room *r, const char *name, const char *finding)
{
    exj_lint *l = calloc(1, sizeof *l);
    char path[128];
    exj_err err = { 0 };
    bool found = false;

    snprintf(path, sizeof path, "%s/%s.so", r->dir, name);
    cr_assert_eq(exj_lint_file(path, l, &err), EXJ_OK, "%s", err.text);
    for (unsigned k = 0; finding && k < l->findings_len; k++)
        found |= strcmp(l->findings[k].code, finding) == 0;
    cr_assert_eq(found, finding != NULL, "%s: %s", name, finding ? finding : "");
    cr_assert_eq(l->reload == EXJ_RELOAD_CLOSABLE, finding == NULL, "%s is %s", name,
                 exj_reload_class_word(l->reload));
    free(l);
}

static void check_survivor(struct room *r, const char *name, const char *finding, uint32_t *pinned)
{
    check_lint(r, name, finding);
    retire(r, name);
    *pinned += finding != NULL;
    cr_assert_eq(exj_registry_pinned(r->registry), *pinned, "%s", name);
}

static bool find_pinned(void *user, const exj_guest_info *i)
{
    *(unsigned *)user += i->state == EXJ_GEN_PINNED;
    return true;
}

/* A few bytes behind the end, which nobody reads: another content. */
static void grow(const struct room *r, const char *name)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s.so", r->dir, name);
    f = fopen(path, "ab");
    cr_assert(f && fputs("#", f) >= 0 && fclose(f) == 0);
}

Test(experiments_end, what_stays_mapped_is_capped)
{
    struct room r = room_open();
    exj_guest *g, *next;
    exj_err err = { 0 };
    char source[8192];

    snprintf(source, sizeof source, "#include <stdlib.h>\n#include <pthread.h>\n%s\n%s",
             "void *run(void *p) { return p; }"
             "void begin(void) { pthread_t t; pthread_create(&t, 0, run, 0); }", COUNTING("one"));
    build(&r, "stays", "", source);
    cr_assert_eq(exj_registry_find(r.registry, "stays", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_OK, "%s",
                 err.text);
    for (unsigned n = 1; n <= EXJ_PINNED_MAX; n++) {
        grow(&r, "stays");
        cr_assert_eq(exj_guest_candidate(g, NULL, EXJ_LANE_DEFAULT, &next, &err), EXJ_OK, "%s",
                     err.text);
        exj_guest_set_state(next, EXJ_GEN_CURRENT);
        exj_guest_release(g);
        exj_registry_sweep(r.registry, NULL, NULL);
        cr_assert_eq(exj_registry_pinned(r.registry), n);
        g = next;
    }
    grow(&r, "stays");
    cr_assert_eq(exj_guest_candidate(g, NULL, EXJ_LANE_DEFAULT, &next, &err), EXJ_FULL);
    cr_expect(strstr(err.text, "isolation host") != NULL, "%s", err.text);
    exj_guest_release(g);
    room_close(&r);
}

Test(experiments_end, what_survives_is_pinned_and_counted)
{
    struct room r = room_open();
    uint32_t pinned = 0;
    unsigned shown = 0;
    exj_err err = { 0 };
    char source[8192], name[40], id[40];

    for (size_t k = 0; k < sizeof survivors / sizeof *survivors; k++) {
        const struct survivor *s = &survivors[k];
        struct room one = room_open();
        uint32_t mine = 0;

        snprintf(name, sizeof name, "only_%s", s->what);
        snprintf(source, sizeof source, "#include <stdlib.h>\n#include <pthread.h>\n%s\n%s",
                 s->more, COUNTING("one"));
        build(&one, name, s->flags, source);
        check_survivor(&one, name, s->finding, &mine);
        /* the new generation has the same stem: of the old one nothing may be left but that */
        snprintf(id, sizeof id, "%s-1-", name);
        cr_assert_eq(is_mapped(id), s->finding != NULL, "%s", s->what);
        pinned += mine;
        room_close(&one);
    }
    cr_assert_eq(pinned, 5);
    if (have_cpp()) {
        static const char entry[] =
            "#include \"exellix/plugin.h\"\n%s\n"
            "static exj_result create(const exj_host *h, exj_str c, void **i)"
            "{ (void)c; *i = (void *)h; return EXJ_R_OK; }\n"
            "static void destroy(void *) {}\n"
            "static exj_result execute(void *i, exj_call c, const exj_args *)"
            "{ const exj_host *h = (const exj_host *)i; %s static const exj_str t = EXJ_STR(\"one 1\");"
            " return h->emit(h->ctx, c, t); }\n"
            "static const exj_plugin p = { EXJ_SIZE(exj_plugin, destroy), EXJ_KIND_GRAPH_ENGINE, 0, 0,"
            " \"test.guest\", \"9.8.7\", { 0, 0 }, create, execute, destroy };\n"
            "static const exj_plugin *const ps[] = { &p };\n"
            "static const exj_bundle b = { EXJ_SIZE(exj_bundle, plugins), EXJ_ABI_MINOR, 1, 0, ps };\n"
            "EXJ_PLUGIN_EXPORT(b, 1u << EXJ_KIND_GRAPH_ENGINE, 0)\n";
        static const struct {
            const char *name, *flags, *more, *body, *finding;
        } cpp[] = {
            { "unique", "-O0", "inline int &counter() { static int n; return n; }", "counter()++;",
              "GnuUnique" },
            { "not-unique", "-O0 -fno-gnu-unique",
              "inline int &counter() { static int n; return n; }", "counter()++;", NULL },
            { "dtor", "-O0 -fno-gnu-unique",
              "struct t { int n; ~t() { n = 1; } }; static thread_local t each;", "each.n++;",
              "ThreadLocalDestructor" },
        };

        pinned = 0;
        for (size_t k = 0; k < sizeof cpp / sizeof *cpp; k++) {
            snprintf(source, sizeof source, entry, cpp[k].more, cpp[k].body);
            build_cpp(&r, cpp[k].name, cpp[k].flags, source);
            if (k == 0 && try_shell("readelf --dyn-syms -W '%s/%s.so' | grep -q ' UNIQUE '", r.dir,
                                    cpp[k].name) != 0) {
                LOUD_SKIP("this C++ compiler makes no GNU_UNIQUE symbols");
                continue;
            }
            check_survivor(&r, cpp[k].name, cpp[k].finding, &pinned);
            shell("rm '%s/%s.so'", r.dir, cpp[k].name); /* its id is free again */
            room_close(&r);
            r = room_open();
            pinned = 0;
        }
    }
    build(&r, "p", "-Wl,-z,nodelete", COUNTING("p"));
    retire(&r, "p");
    cr_assert_eq(exj_registry_each(r.registry, false, find_pinned, &shown, &err), EXJ_OK);
    cr_assert_eq(shown, 1, "a pinned generation is listed");
    room_close(&r);
}

/* ---- code that may be entered later (11) --------------------------------------------------------- */

/* Starts a thread of its own, sets a key with a destructor on the caller's thread, and takes
 * SIGUSR1: all three come back into the plugin's code after it was let go. */
#define LINGERS                                                                             \
    "#include <signal.h>\n#include <unistd.h>\n"                                            \
    "static int down[2], up[2]; static pthread_key_t key;"                                  \
    "static void *ticks(void *p) { char c; while (read(down[0], &c, 1) == 1)"               \
    " if (write(up[1], &c, 1) != 1) break; return p; }"                                     \
    "static void at_end(void *p) { (void)p; if (write(up[1], \"k\", 1) < 0) abort(); }"     \
    "static void on_signal(int s) { (void)s; if (write(up[1], \"s\", 1) < 0) abort(); }"    \
    "static void begin(void) { pthread_t t; if (pipe(down) || pipe(up)) abort();"           \
    " pthread_create(&t, 0, ticks, 0); pthread_detach(t);"                                  \
    " pthread_key_create(&key, at_end); pthread_setspecific(key, &key);"                    \
    " signal(SIGUSR1, on_signal); }"

struct lingering {
    struct room r;
    exj_guest *old;
    int down, up;
    pthread_barrier_t barrier;
};

static void *call_and_stay(void *user)
{
    struct lingering *l = user;
    exj_instance *i = alive(l->old);
    exj_call_slot *s = slot_of(4096);
    exj_call_end end = run_once(i, s, NULL);
    char *answer = exj_slice_dup(end.answer);

    cr_assert_eq(sscanf(answer, "%d %d", &l->down, &l->up), 2, "%s", answer);
    free(answer);
    exj_call_slot_free(s);
    exj_instance_free(i);
    pthread_barrier_wait(&l->barrier); /* swept meanwhile */
    pthread_barrier_wait(&l->barrier);
    return NULL; /* the key's destructor */
}

static char heard(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char c = 0;

    cr_assert_eq(poll(&p, 1, LATE_MS), 1, "nothing comes back");
    cr_assert_eq(read(fd, &c, 1), 1);
    return c;
}

Test(experiments_end, code_that_may_be_entered_later_stays)
{
    struct lingering l = { .r = room_open() };
    exj_guest *fresh;
    pthread_t id;

    build(&l.r, "p", "",
          ENGINE("0", "#include <stdio.h>\n" LINGERS,
                 "char t[40]; begin(); snprintf(t, sizeof t, \"%d %d\", down[1], up[0]);"
                 " return h->emit(h->ctx, c, exj_text(t));"));
    l.old = guest_of(&l.r, "p");
    pthread_barrier_init(&l.barrier, NULL, 2);
    cr_assert_eq(pthread_create(&id, NULL, call_and_stay, &l), 0);
    pthread_barrier_wait(&l.barrier);
    replace(&l.r, "p", "", COUNTING("next"));
    fresh = candidate_of(l.old);
    succeed(l.old, fresh);
    cr_assert_eq(exj_registry_sweep(l.r.registry, NULL, NULL), 1);
    cr_assert_eq(exj_registry_pinned(l.r.registry), 1);
    cr_assert_eq(write(l.down, "t", 1), 1);
    cr_assert_eq(heard(l.up), 't', "its own thread");
    raise(SIGUSR1);
    cr_assert_eq(heard(l.up), 's', "its signal handler");
    pthread_barrier_wait(&l.barrier);
    pthread_join(id, NULL);
    cr_assert_eq(heard(l.up), 'k', "the destructor of its key");
    exj_guest_release(fresh);
    pthread_barrier_destroy(&l.barrier);
    room_close(&l.r);
}

struct slow {
    exj_instance *i;
    exj_call_slot *s;
    exj_call_end end;
};

static void *call_slow(void *user)
{
    struct slow *c = user;

    c->end = run_once(c->i, c->s, NULL);
    return NULL;
}

Test(experiments_end, a_generation_with_a_call_inside_is_not_swept)
{
    struct room r = room_open();
    struct slow c = { .s = slot_of(4096) };
    char fifo[128], source[4096];
    exj_guest *old, *fresh;
    pthread_t id;
    int fd;

    snprintf(fifo, sizeof fifo, "%s/go", r.dir);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    snprintf(source, sizeof source,
             ENGINE("0", "#include <fcntl.h>\n#include <unistd.h>\n",
                    "char x; int fd = open(\"%s\", O_RDONLY);"
                    " if (fd < 0 || read(fd, &x, 1) != 1) return EXJ_R_FAILED;"
                    " return h->emit(h->ctx, c, exj_text(\"out\"));"), fifo);
    build(&r, "p", "", source);
    old = guest_of(&r, "p");
    c.i = alive(old);
    cr_assert_eq(pthread_create(&id, NULL, call_slow, &c), 0);
    fd = open(fifo, O_WRONLY); /* it is inside now */
    replace(&r, "p", "", COUNTING("next"));
    fresh = candidate_of(old);
    succeed(old, fresh);
    cr_assert_eq(exj_registry_sweep(r.registry, NULL, NULL), 0);
    cr_assert_eq(write(fd, "x", 1), 1);
    pthread_join(id, NULL);
    cr_assert_eq(c.end.result, EXJ_R_OK);
    exj_instance_free(c.i);
    cr_assert_eq(exj_registry_sweep(r.registry, NULL, NULL), 1);
    cr_assert_eq(exj_registry_pinned(r.registry), 0);
    close(fd);
    exj_call_slot_free(c.s);
    exj_guest_release(fresh);
    room_close(&r);
}

/* ---- many at once (12, 13) ----------------------------------------------------------------------- */

#define GENERATIONS 20

/* Another content, the same code. */
static void touch_content(const struct room *r, unsigned k)
{
    shell("cd '%s' && { [ -f kept ] || cp p.so kept; } && cp kept fresh && printf '%%04u' %u >> fresh"
          " && mv fresh p.so", r->dir, k);
}

Test(experiments_end, twenty_generations_live_at_once)
{
    struct room r = room_open();
    exj_instance *live[GENERATIONS];
    exj_guest *first;
    char wanted[40];

    build(&r, "p", "", COUNTING("p"));
    first = guest_of(&r, "p");
    for (unsigned k = 0; k < GENERATIONS; k++) {
        exj_guest *g;

        touch_content(&r, k);
        g = candidate_of(first);
        live[k] = alive(g);
        exj_guest_release(g);
    }
    for (unsigned n = 1; n < 4; n++) {
        snprintf(wanted, sizeof wanted, "p %u", n);
        for (unsigned k = 0; k < GENERATIONS; k++)
            answers(live[k], wanted);
    }
    exj_guest_release(first);
    room_close(&r);
}

#define STATIC_TLS                                                                          \
    "static __thread __attribute__((tls_model(\"initial-exec\"))) char each[256];"          \
    "static char *of_each(void) { each[0] = 'x'; return each; }"

Test(experiments_end, static_tls_ends_in_an_error_that_names_it)
{
    struct room r = room_open();
    exj_instance *live[64];
    exj_guest *first;
    unsigned n = 0;
    exj_err err = { 0 };

    build(&r, "p", "-O0", COUNTING_WITH("0", STATIC_TLS, "of_each()"));
    first = guest_of(&r, "p");
    live[n++] = alive(first);
    while (n < 64) {
        exj_guest *g = NULL;

        touch_content(&r, n);
        if (exj_guest_candidate(first, NULL, EXJ_LANE_DEFAULT, &g, &err) != EXJ_OK)
            break;
        live[n++] = alive(g);
        exj_guest_release(g);
    }
    cr_assert_lt(n, 64, "this C library gives static TLS without end");
    cr_assert_gt(n, 1);
    says(err.text, "does not load");
    says(err.text, "static TLS");
    for (unsigned k = 0; k < n; k++)
        answers(live[k], "x 1");
    exj_guest_release(first);
    room_close(&r);
}

Test(experiments_end, static_tls_has_no_end_in_hosts)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    exj_guest *first;

    build(&h->r, "p", "-O0", COUNTING_WITH("0", STATIC_TLS, "of_each()"));
    first = guest_of(&h->r, "p");
    for (unsigned k = 0; k < GENERATIONS; k++) {
        exj_guest *g;
        struct one o;

        touch_content(&h->r, k);
        g = candidate_of(first);
        h->i = alive(g);
        o = ask(h, "any");
        is_ok(&o, "x 1");
        exj_instance_free(h->i);
        exj_guest_release(g);
        cr_assert_eq(exj_registry_sweep(h->r.registry, NULL, NULL), 1);
    }
    cr_assert_eq(exj_registry_pinned(h->r.registry), 0);
    exj_guest_release(first);
    house_close(h);
}

/* ---- symbols (14, 15) ------------------------------------------------------------------------------ */

/* A plugin with an id of its own whose helpers are visible to everybody. */
#define HELPER(word)                                                                        \
    COUNTING_WITH("0",                                                                      \
                  "__attribute__((visibility(\"default\"))) const char *helper(void)"       \
                  " { return \"" word "\"; }"                                               \
                  "__attribute__((visibility(\"default\"))) const char *exj_gen_word(int s)" \
                  " { (void)s; return \"" word "\"; }"                                      \
                  "__attribute__((visibility(\"default\"))) const char *both(void)"         \
                  " { return strcmp(helper(), exj_gen_word(0)) ? \"mixed\" : helper(); }",  \
                  "both()")

Test(experiments_end, helpers_of_the_same_name_do_not_meet)
{
    struct room a = room_open(), b = room_open();
    exj_instance *i, *j;

    build(&a, "a", "-O0", HELPER("a"));
    build(&b, "b", "-O0", HELPER("b"));
    i = instance_of(&a, "a", EXJ_KIND_GRAPH_ENGINE);
    j = instance_of(&b, "b", EXJ_KIND_GRAPH_ENGINE);
    answers(i, "a 1");
    answers(j, "b 1");
    answers(i, "a 2");
    cr_assert_str_eq(exj_gen_word(EXJ_GEN_CURRENT), "current", "ours was taken");
    room_close(&a);
    room_close(&b);
}

Test(experiments_end, the_program_gives_its_symbols_to_no_plugin)
{
    static const char *const programs[] = { "exellix-jobs", "exellix-jobs-plugin-host" };

    for (unsigned k = 0; k < 2; k++)
        cr_assert_neq(try_shell("nm -D --defined-only '%s/bin/%s' | grep -q ' exj_'", EXJ_BINARY_DIR,
                                programs[k]), 0, "%s is linked with -rdynamic", programs[k]);
}

Test(experiments_end, an_undefined_symbol_is_refused_at_load)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    exj_guest *g = NULL;

    build(&h->r, "p", "-Wl,-z,lazy",
          COUNTING_WITH("0", "int nobody_has_this(void); int once;",
                        "once++ ? (nobody_has_this(), \"x\") : \"y\""));
    for (unsigned k = 0; k < 2; k++) {
        exj_err err = { 0 };

        cr_assert_eq(exj_registry_find_lane(h->r.registry, "p", EXJ_KIND_GRAPH_ENGINE,
                                            k ? EXJ_LANE_HOST : EXJ_LANE_IN_PROCESS, &g, &err),
                     EXJ_INVALID);
        says(err.text, "p.so");
        says(err.text, "undefined symbol: nobody_has_this");
    }
    house_close(h);
}

/* ---- the loader's lock, our locks (16, 17) ------------------------------------------------------------ */

Test(experiments_end, a_constructor_that_waits_for_the_loader_is_bounded)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    exj_nsec from = exj_clock_mono_ns();
    exj_guest *g = NULL;
    exj_err err = { 0 };

    h->s.start_ms = 700;
    build(&h->r, "p", "-ldl",
          COUNTING_WITH("0",
                        "#include <dlfcn.h>\n"
                        "static void *load(void *p) { return dlopen(\"libm.so.6\", RTLD_NOW) ? p : 0; }"
                        "__attribute__((constructor)) static void start(void)"
                        " { pthread_t t; pthread_create(&t, 0, load, 0); pthread_join(t, 0); }",
                        "\"x\""));
    cr_assert_eq(exj_registry_find(h->r.registry, "p", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_INVALID);
    says(err.text, "p.so");
    says(err.text, "700 ms");
    cr_assert_lt(exj_clock_mono_ns() - from, (exj_nsec)20 * 1000000000);
    /* and a good one after it */
    replace(&h->r, "p", "", COUNTING("good"));
    h->s.start_ms = 20000;
    h->i = instance_of(&h->r, "p", EXJ_KIND_GRAPH_ENGINE);
    {
        struct one o = ask(h, "any");

        is_ok(&o, "good 1");
    }
    house_close(h);
}

Test(experiments_end, a_crash_inside_our_log_leaves_no_lock)
{
    struct house *h = house_new(EXJ_LANE_HOST);
    struct one o;

    /* text that is not there: the crash is in our code, under whatever it has locked */
    build(&h->r, "p", "",
          ENGINE("0", "#include <stdio.h>\n",
                 "char t[8]; if (a->runtime.n == 5) {"
                 " h->log(h->ctx, c, EXJ_LOG_LEVEL_WARN, (exj_str){ (const char *)8, 4000 });"
                 " h->log(h->ctx, c, EXJ_LOG_LEVEL_WARN, (exj_str){ (const char *)8, 4000 }); }"
                 " snprintf(t, sizeof t, \"ok\"); return h->emit(h->ctx, c, exj_text(t));"));
    h->i = instance_of(&h->r, "p", EXJ_KIND_GRAPH_ENGINE);
    for (unsigned k = 0; k < 3; k++) {
        o = ask(h, "crash");
        cr_assert_eq(o.result, EXJ_R_CRASHED);
        says(o.text, "SIGSEGV");
        exj_log(EXJ_LOG_INFO, "test", "the log of the core still works");
        o = ask(h, "fine");
        is_ok(&o, "ok");
    }
    house_close(h);
}

/* ---- noexec (24) ---------------------------------------------------------------------------------------- */

Test(experiments_end, a_folder_without_exec_is_named)
{
    struct room r = room_open();
    char copies[128];
    exj_registry *other = NULL;
    exj_guest *g = NULL;
    exj_err err = { 0 };
    const char *dirs[] = { r.dir, NULL };

    build(&r, "p", "", COUNTING("p"));
    snprintf(copies, sizeof copies, "%s/copies", r.dir);
    cr_assert_eq(mkdir(copies, 0700), 0);
    if (mount("none", copies, "tmpfs", MS_NOEXEC | MS_NOSUID, "size=8m,mode=700") != 0) {
        LOUD_SKIP("may not mount a tmpfs: a folder without exec");
    } else {
        cr_assert_eq(exj_registry_new(dirs, copies, &other, &err), EXJ_OK, "%s", err.text);
        cr_assert_eq(exj_registry_find(other, "p", EXJ_KIND_GRAPH_ENGINE, &g, &err), EXJ_INVALID);
        says(err.text, "p.so");
        says(err.text, "failed to map segment");
        says(err.text, "noexec");
        says(err.text, copies);
        exj_registry_free(other);
        cr_assert_eq(umount2(copies, MNT_DETACH), 0);
    }
    /* a plugin that LIES on one is copied first, and runs */
    answers(instance_of(&r, "p", EXJ_KIND_GRAPH_ENGINE), "p 1");
    room_close(&r);
}

/* ---- sizes (25) ------------------------------------------------------------------------------------------- */

struct small {
    uint64_t a, b;
    uint32_t c;
};
struct grown {
    uint64_t a, b;
    uint32_t c, d; /* into the padding */
};

Test(experiments_end, a_size_ends_at_the_last_member)
{
    struct room r = room_open();
    struct grown of_old = { .d = 7 };
    exj_plugin p = { .size_of = EXJ_SIZE(exj_plugin, destroy) };

    cr_assert_eq(sizeof(struct small), sizeof(struct grown), "sizeof sees no difference");
    cr_assert_eq(EXJ_SIZE(struct small, c), 20);
    cr_assert_eq(EXJ_SIZE(struct grown, d), 24);
    cr_assert_neq(EXJ_SIZE(struct small, c), EXJ_SIZE(struct grown, d));
    (void)of_old;
    cr_assert_not(EXJ_HAS(&p, exj_plugin, cancel));
    /* members beyond the size are rubbish that nobody may touch */
    build(&r, "p", "",
          COUNTING("x") "\n/* */");
    shell("cd '%s' && sed -i 's/EXJ_SIZE(exj_plugin, resolve_model)/EXJ_SIZE(exj_plugin, destroy)/;"
          "s/.destroy = destroy,/.destroy = destroy, .cancel = (void *)8, .self_test = (void *)8,"
          " .save_state = (void *)8, .resolve_model = (void *)8,/' p.c && cc -std=gnu11 -shared -fPIC"
          " -I%s/include -I%s/sdk/include p.c -o p.so", r.dir, EXJ_SOURCE_DIR, EXJ_SOURCE_DIR);
    {
        exj_guest *g = guest_of(&r, "p");
        exj_instance *i = alive(g);
        exj_buf b = EXJ_BUF_INIT;
        exj_err err = { 0 };

        answers(i, "x 1");
        cr_assert_not(exj_guest_saves_state(g));
        cr_assert_eq(exj_instance_self_test(i, &err), EXJ_NOT_FOUND);
        cr_assert_eq(exj_instance_model(i, EXJ_SLICE_LITERAL("g"), &b, &err), EXJ_NOT_FOUND);
        exj_buf_release(&b);
        exj_guest_release(g);
    }
    room_close(&r);
}

/* ---- the lint (26) ----------------------------------------------------------------------------------------- */

Test(experiments_end, lint_sees_all_of_it_in_the_file)
{
    static const struct {
        const char *flags, *more, *finding;
    } kinds[] = {
        { "-O0", STATIC_TLS "char *out(void) { return of_each(); }", "StaticTls" },
        { "", "__attribute__((visibility(\"default\"))) int stray(void) { return 1; }", "StrayExport" },
        { "-Wl,-z,nodelete", "", "NoDelete" },
        { "-D_DEFAULT_SOURCE", "void reg(void) { on_exit(0, 0); }", "OnExit" },
        { "", "#include <signal.h>\nvoid take(void) { signal(2, 0); }", "Signals" },
        { "", "void run(void) { pthread_t t; pthread_create(&t, 0, 0, 0); }", "OwnThreads" },
        { "", "void key(void) { pthread_key_t k; pthread_key_create(&k, 0); }", "ThreadKey" },
        { "", "extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);"
              "void tl(void) { __cxa_thread_atexit_impl(0, 0, 0); }", "ThreadLocalDestructor" },
        { "", "__attribute__((constructor)) static void c(void) {}", "Constructors" },
        { "-Wl,-z,execstack", "", "ExecutableStack" },
    };
    struct room r = room_open();

    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        exj_lint *l = calloc(1, sizeof *l);
        char source[4096], path[128];
        exj_err err = { 0 };
        bool found = false;

        snprintf(source, sizeof source, "#include <stdlib.h>\n#include <pthread.h>\n%s\n%s",
                 kinds[k].more, COUNTING("x"));
        build(&r, "p", kinds[k].flags, source);
        snprintf(path, sizeof path, "%s/p.so", r.dir);
        cr_assert_eq(exj_lint_file(path, l, &err), EXJ_OK, "%s", err.text);
        for (unsigned n = 0; n < l->findings_len; n++)
            found |= strcmp(l->findings[n].code, kinds[k].finding) == 0;
        cr_expect(found, "%s was not seen", kinds[k].finding);
        free(l);
    }
    room_close(&r);
}
