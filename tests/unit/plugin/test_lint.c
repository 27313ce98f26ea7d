/* Small libraries are built by the compiler on the machine and judged, never loaded. */
#include "core/plugin/lint.h"

#include <sys/mman.h>

#include "core/base/clock.h"
#include "tests/unit/plugin/folder.h"

#define ENTRY "__attribute__((visibility(\"default\"))) const void *exellix_plugin_v1(unsigned m);\n" \
              "const void *exellix_plugin_v1(unsigned m) { (void)m; return 0; }\n"
#define TIDY "-Wl,-z,now -fvisibility=hidden"

static struct folder dir;
static exj_lint lint;

static void begin(void)
{
    dir = folder_make();
}

static void end(void)
{
    folder_drop(&dir);
}

TestSuite(lint, .init = begin, .fini = end);

static void build(const char *compiler, const char *flags, const char *source)
{
    put(in(&dir, "a.c"), source);
    shell("%s -w -shared -fPIC %s -o '%s/a.so' -x %s '%s/a.c'", compiler, flags, dir.path,
          strstr(compiler, "++") ? "c++" : "c", dir.path);
}

static void judge(const char *flags, const char *source)
{
    exj_err err = { 0 };

    build("cc", flags, source);
    cr_assert_eq(exj_lint_file(in(&dir, "a.so"), &lint, &err), EXJ_OK, "%s", err.text);
}

static const exj_lint_finding *found(const char *code)
{
    for (unsigned k = 0; k < lint.findings_len; k++)
        if (strcmp(lint.findings[k].code, code) == 0)
            return &lint.findings[k];
    return NULL;
}

static void warns(const char *code, exj_reload_class reload, const char *part)
{
    const exj_lint_finding *f = found(code);

    cr_assert_not_null(f, "no finding %s", code);
    cr_assert_str_eq(f->level, "warn");
    cr_assert_eq(f->reload, reload);
    cr_assert_not_null(strstr(f->message, part), "'%s' does not say '%s'", f->message, part);
    cr_assert_neq(f->fix[0], 0);
    cr_assert_geq(lint.reload, reload);
}

Test(lint, tidy_plugin_is_closable_and_without_warnings)
{
    char why[100];

    judge(TIDY, ENTRY);
    for (unsigned k = 0; k < lint.findings_len; k++)
        cr_expect_str_eq(lint.findings[k].level, "ok", "%s: %s", lint.findings[k].code,
                         lint.findings[k].message);
    cr_assert_eq(lint.reload, EXJ_RELOAD_CLOSABLE);
    cr_assert_not(lint.fails);
    exj_lint_why(&lint, why, sizeof why);
    cr_assert_str_eq(why, "closable");
}

Test(lint, needed_libraries_are_listed)
{
    judge(TIDY " -Wl,--no-as-needed -lm", ENTRY);
    cr_assert_eq(lint.needed_len, 2);
    cr_assert_str_eq(lint.needed[0], "libm.so.6");
    cr_assert_not_null(strstr(found("Needed")->message, "libm.so.6, libc.so.6"));
}

Test(lint, stray_exports_and_a_missing_entry_are_found)
{
    judge("-Wl,-z,now", ENTRY "int one(void) { return 1; }\nint two = 2;\n");
    warns("StrayExport", EXJ_RELOAD_CLOSABLE, "2 symbols");
    judge(TIDY, "int hidden(void) { return 1; }\n");
    cr_assert_not_null(found("NoEntry"));
    cr_assert(lint.fails);
}

Test(lint, thread_local_destructor_pins)
{
    char why[100];

    judge(TIDY, ENTRY "int __cxa_thread_atexit_impl(void (*f)(void *), void *o, void *d);\n"
                      "void hook(void);\nvoid hook(void) { __cxa_thread_atexit_impl(0, 0, 0); }\n"
                      "__attribute__((used)) void (*keep)(void) = hook;\n");
    warns("ThreadLocalDestructor", EXJ_RELOAD_PINNED, "__cxa_thread_atexit_impl");
    cr_assert_eq(lint.reload, EXJ_RELOAD_PINNED);
    exj_lint_why(&lint, why, sizeof why);
    cr_assert_str_eq(why, "pinned: ThreadLocalDestructor");
}

#define USES(declare, call)                                                                 \
    ENTRY declare "\n__attribute__((used)) static void use(void) { " call "; }\n"           \
                  "__attribute__((used)) void (*keep)(void) = use;\n"

Test(lint, threads_keys_and_exit_handlers_pin)
{
    judge(TIDY, USES("#include <pthread.h>", "pthread_t t; pthread_create(&t, 0, 0, 0)"));
    warns("OwnThreads", EXJ_RELOAD_PINNED, "pthread_create");
    judge(TIDY, USES("#include <pthread.h>", "pthread_key_t k; pthread_key_create(&k, 0)"));
    warns("ThreadKey", EXJ_RELOAD_PINNED, "pthread_key_create");
    judge(TIDY, USES("int on_exit(void (*f)(int, void *), void *a);", "on_exit(0, 0)"));
    warns("OnExit", EXJ_RELOAD_PINNED, "on_exit");
    cr_assert_eq(lint.reload, EXJ_RELOAD_PINNED);
}

Test(lint, what_a_process_shares_isolates)
{
    judge(TIDY, USES("#include <signal.h>", "signal(2, SIG_IGN)"));
    warns("Signals", EXJ_RELOAD_ISOLATE_ONLY, "signal");
    judge(TIDY, USES("#include <signal.h>", "sigaction(2, 0, 0)"));
    warns("Signals", EXJ_RELOAD_ISOLATE_ONLY, "sigaction");
    judge(TIDY, USES("#include <locale.h>", "setlocale(0, \"\")"));
    warns("ProcessState", EXJ_RELOAD_ISOLATE_ONLY, "setlocale");
    judge(TIDY, USES("#include <stdlib.h>", "exit(3)"));
    warns("EndsProcess", EXJ_RELOAD_ISOLATE_ONLY, "exit");
    cr_assert_eq(lint.reload, EXJ_RELOAD_ISOLATE_ONLY);
}

Test(lint, atexit_alone_is_fine_and_with_threads_is_not)
{
    judge(TIDY, USES("int atexit(void (*f)(void));", "atexit(0)"));
    cr_assert_eq(lint.reload, EXJ_RELOAD_CLOSABLE);
    /* glibc puts atexit into the library itself; without it, it is imported */
    judge(TIDY " -nodefaultlibs",
          USES("#include <pthread.h>\nint atexit(void (*f)(void));",
               "pthread_t t; pthread_create(&t, 0, 0, 0); atexit(0)"));
    warns("AtExitWithThreads", EXJ_RELOAD_PINNED, "atexit");
}

Test(lint, link_flags_are_found)
{
    judge("-fvisibility=hidden -Wl,-z,nodelete -Wl,-z,lazy", ENTRY);
    warns("NoDelete", EXJ_RELOAD_PINNED, "NODELETE");
    warns("LazyBinding", EXJ_RELOAD_CLOSABLE, "-z now");
    judge(TIDY " -Wl,-z,execstack", ENTRY);
    warns("ExecutableStack", EXJ_RELOAD_ISOLATE_ONLY, "executable");
    judge(TIDY " '-Wl,-rpath,$ORIGIN/lib'", ENTRY);
    warns("RunPath", EXJ_RELOAD_CLOSABLE, "$ORIGIN/lib");
    judge(TIDY " -Wl,--disable-new-dtags,-rpath,/opt/x", ENTRY);
    warns("RunPath", EXJ_RELOAD_CLOSABLE, "/opt/x");
}

Test(lint, constructors_are_counted_beyond_the_compilers_own)
{
    judge(TIDY, ENTRY "__attribute__((constructor)) static void c1(void) {}\n"
                      "__attribute__((constructor)) static void c2(void) {}\n");
    warns("Constructors", EXJ_RELOAD_CLOSABLE, "runs 3 functions");
}

Test(lint, static_tls_isolates_only_when_it_stays)
{
    static const char tls[] = ENTRY "static __thread int many[64];\n"
        "__attribute__((visibility(\"default\"))) int *at(void) { return many; }\n";

    judge(TIDY " -ftls-model=initial-exec", tls);
    warns("StaticTls", EXJ_RELOAD_CLOSABLE, "static TLS");
    judge(TIDY " -ftls-model=initial-exec -Wl,-z,nodelete", tls);
    warns("StaticTls", EXJ_RELOAD_ISOLATE_ONLY, "never gives it back");
}

#if defined(__x86_64__)
Test(lint, text_relocations_fail)
{
    judge(TIDY " -Wl,-z,notext", ENTRY "extern int far_away;\n"
          "__asm__(\".text\\n.globl use_it\\n.hidden use_it\\nuse_it: .quad far_away\\n\");\n");
    cr_assert_not_null(found("TextRelocations"));
    cr_assert_eq(lint.reload, EXJ_RELOAD_ISOLATE_ONLY);
    cr_assert(lint.fails);
}
#endif

Test(lint, gnu_unique_symbols_of_cpp_pin)
{
    exj_err err = { 0 };

    build("c++", "-std=c++17 -Wl,-z,now", "struct once { static inline int n = 0; };\n"
          "inline int &shared() { static int v; return v; }\n"
          "extern \"C\" __attribute__((visibility(\"default\"))) const void *"
          "exellix_plugin_v1(unsigned) { return &shared() + once::n; }\n");
    cr_assert_eq(exj_lint_file(in(&dir, "a.so"), &lint, &err), EXJ_OK, "%s", err.text);
    warns("GnuUnique", EXJ_RELOAD_PINNED, "GNU_UNIQUE");
}

Test(lint, cpp_thread_local_with_destructor_pins)
{
    exj_err err = { 0 };

    build("c++", "-std=c++17 -fno-gnu-unique " TIDY, "struct ends { ~ends() {} int v = 0; };\n"
          "static thread_local ends e;\n"
          "extern \"C\" __attribute__((visibility(\"default\"))) const void *"
          "exellix_plugin_v1(unsigned) { return &e.v; }\n");
    cr_assert_eq(exj_lint_file(in(&dir, "a.so"), &lint, &err), EXJ_OK, "%s", err.text);
    warns("ThreadLocalDestructor", EXJ_RELOAD_PINNED, "__cxa_thread_atexit");
}

Test(lint, std_thread_of_cpp_pins)
{
    exj_err err = { 0 };

    build("c++", "-std=c++17 -fno-gnu-unique " TIDY, "#include <thread>\n"
          "extern \"C\" __attribute__((visibility(\"default\"))) const void *"
          "exellix_plugin_v1(unsigned) { std::thread([] {}).detach(); return nullptr; }\n");
    cr_assert_eq(exj_lint_file(in(&dir, "a.so"), &lint, &err), EXJ_OK, "%s", err.text);
    warns("OwnThreads", EXJ_RELOAD_PINNED, "_M_start_thread");
}

Test(lint, segment_that_is_writable_and_executable_isolates)
{
    exj_err err = { 0 };
    uint32_t head[2]; /* type and flags of a program header */
    int fd;

    build("cc", TIDY, ENTRY);
    fd = open(in(&dir, "a.so"), O_RDWR | O_CLOEXEC);
    for (off_t at = 64; pread(fd, head, sizeof head, at) == sizeof head; at += 56)
        if (head[0] == 1 && head[1] == 6) { /* PT_LOAD, read and write */
            head[1] = 7;
            cr_assert_eq(pwrite(fd, head, sizeof head, at), sizeof head);
            break;
        }
    close(fd);
    cr_assert_eq(exj_lint_file(in(&dir, "a.so"), &lint, &err), EXJ_OK, "%s", err.text);
    warns("WritableCode", EXJ_RELOAD_ISOLATE_ONLY, "writable and executable");
}

Test(lint, file_without_section_headers_cannot_be_judged_and_is_isolated)
{
    exj_err err = { 0 };
    uint16_t none = 0;
    int fd;

    build("cc", TIDY, ENTRY);
    fd = open(in(&dir, "a.so"), O_RDWR | O_CLOEXEC);
    cr_assert_eq(pwrite(fd, &none, sizeof none, 60), 2); /* e_shnum */
    close(fd);
    cr_assert_eq(exj_lint_file(in(&dir, "a.so"), &lint, &err), EXJ_OK, "%s", err.text);
    warns("SymbolsHidden", EXJ_RELOAD_ISOLATE_ONLY, "imports are unknown");
}

static char *load(size_t *ret_n)
{
    char *p;
    int fd = open(in(&dir, "a.so"), O_RDONLY | O_CLOEXEC);

    *ret_n = (size_t)lseek(fd, 0, SEEK_END);
    p = malloc(*ret_n);
    cr_assert_eq(pread(fd, p, *ret_n, 0), (ssize_t)*ret_n);
    close(fd);
    return p;
}

/* A file of these bytes, judged: whatever the answer, it must be one. */
static exj_code judge_bytes(const char *p, size_t n)
{
    exj_err err = { 0 };
    int fd = memfd_create("lint", MFD_CLOEXEC);
    exj_code rc;

    cr_assert_eq(write(fd, p, n), (ssize_t)n);
    rc = exj_lint_fd(fd, "bytes", &lint, &err);
    cr_assert_eq(rc == EXJ_OK, err.text[0] == 0);
    close(fd);
    return rc;
}

Test(lint, cut_files_are_refused)
{
    size_t n;
    char *p;

    build("cc", TIDY, ENTRY);
    p = load(&n);
    for (size_t k = 0; k < n; k += 61)
        cr_assert_eq(judge_bytes(p, k), EXJ_INVALID, "cut at %zu of %zu", k, n);
    cr_assert_eq(judge_bytes(p, n), EXJ_OK);
    free(p);
}

Test(lint, damaged_files_are_judged_without_harm)
{
    const char *given = getenv("EXJ_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : exj_random_u64();
    unsigned refused = 0;
    size_t n;
    char *p;

    fprintf(stderr, "damaged_files: EXJ_TEST_SEED=%llu\n", (unsigned long long)seed);
    build("cc", TIDY, ENTRY);
    p = load(&n);
    srand48((long)seed);
    for (int k = 0; k < 3000; k++) {
        size_t at[4], heads = 64 + 56 * 12, tail = n - 64 * 30;
        char was[4];

        for (int j = 0; j < 4; j++) { /* where headers and tables are */
            size_t r = (size_t)lrand48();

            at[j] = k % 3 == 0 ? r % heads : k % 3 == 1 ? tail + r % (n - tail) : r % n;
            was[j] = p[at[j]];
            p[at[j]] = (char)(lrand48() % 3 ? lrand48() : 0xff);
        }
        refused += judge_bytes(p, n) != EXJ_OK;
        for (int j = 3; j >= 0; j--)
            p[at[j]] = was[j];
    }
    cr_assert_gt(refused, 100);
    cr_assert_eq(judge_bytes(p, n), EXJ_OK);
    free(p);
}

Test(lint, what_is_no_library_is_an_error_with_its_name)
{
    exj_err err = { 0 };

    put(in(&dir, "text.so"), "no library at all, but long enough to hold an ELF header, which "
                             "has sixty-four bytes\n");
    cr_assert_eq(exj_lint_file(in(&dir, "text.so"), &lint, &err), EXJ_INVALID);
    cr_assert_not_null(strstr(err.text, "text.so: not an ELF file"), "%s", err.text);
    exj_err_clear(&err);
    cr_assert_eq(exj_lint_file(in(&dir, "none.so"), &lint, &err), EXJ_NOT_FOUND);
    exj_err_clear(&err);
    cr_assert_eq(exj_lint_file(dir.path, &lint, &err), EXJ_INVALID);
    cr_assert_not_null(strstr(err.text, "not a regular file"), "%s", err.text);
}
