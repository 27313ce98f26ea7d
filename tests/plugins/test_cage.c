/* What a plugin in a plugin host cannot do, tried by a plugin; and what is known of one that
 * crashed. Where the kernel offers neither Landlock nor mount namespaces, the tests of hidden
 * files say so, loudly, and skip. */
#include "tests/plugins/host_harness.h"

#include <dirent.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/un.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

#define FULL_CAGE (EXJ_CAGE_NO_NEW_PRIVS | EXJ_CAGE_LIMITS | EXJ_CAGE_SECCOMP)

/* ---- crashes ---------------------------------------------------------------------------- */

static void crashes_with(const char *name, const char *source, int sig, const char *frame)
{
    struct room r = room_open();
    struct last_words w;
    struct kid k;
    int status;

    build(&r, name, "-g", source);
    kid_ready(&k, &r, "host", name, NULL);
    say_call(&k, 11, "{}", RUNTIME, 0);
    say_call(&k, 12, NULL, RUNTIME, 0);
    cr_assert_null(any_of(&k), "it did not crash");
    status = kid_end(&k);
    cr_assert_eq(status, 1000 + sig, "%d: %s", status, k.printed);
    w = last_words_of(&k);
    cr_assert_eq(w.head.signal, (uint32_t)sig);
    cr_assert_eq(w.head.call, 11);
    says(w.text, name);
    if (frame)
        says(w.text, frame);
    cr_assert_null(strstr(w.text, r.dir), "folders of the machine do not belong there");
    close(k.crash);
    room_close(&r);
}

Test(crash, segv_leaves_signal_call_and_backtrace)
{
    crashes_with("segv",
                 ENGINE("0", "__attribute__((noinline)) int evil_reader(int *p);\n"
                        "int evil_reader(int *p) { return *(volatile int *)p + 1; }\n",
                        "return evil_reader((int *)16);"),
                 SIGSEGV, "evil_reader+0x");
}

Test(crash, abort_leaves_its_signal)
{
    crashes_with("aborts", ENGINE("0", "", "abort();"), SIGABRT, "(aborts.so+0x");
}

Test(crash, a_division_by_zero_leaves_its_signal)
{
#if defined(__x86_64__)
    crashes_with("divides", ENGINE("0", "static volatile int zero;", "return 7 / zero;"), SIGFPE,
                 "(divides.so+0x");
#endif
}

Test(crash, stack_overflow_leaves_its_signal)
{
    crashes_with("deep",
                 ENGINE("0", "static volatile int sink; static int deep(int n) {"
                        " volatile char b[4096]; b[0] = (char)n; sink = b[0];"
                        " return deep(n + 1) + b[0]; }",
                        "return deep(1);"),
                 SIGSEGV, "(deep.so+0x");
}

Test(crash, a_plugin_thread_that_crashes_is_in_no_call)
{
    struct room r = room_open();
    struct last_words w;
    struct kid k;

    build(&r, "thread", "",
          ENGINE("0", "static void *bad(void *p) { (void)p; *(volatile int *)16 = 1; return NULL; }",
                 "pthread_t id; pthread_create(&id, NULL, bad, NULL); pthread_join(id, NULL);"
                 "return EXJ_R_OK;"));
    kid_ready(&k, &r, "host", "thread", NULL);
    say_call(&k, 3, "{}", RUNTIME, 0);
    cr_assert_null(any_of(&k));
    cr_assert_eq(kid_end(&k), 1000 + SIGSEGV);
    w = last_words_of(&k);
    cr_assert_eq(w.head.signal, SIGSEGV);
    cr_assert_eq(w.head.call, 0);
    close(k.crash);
    room_close(&r);
}

Test(crash, a_stack_overflow_of_a_thread_of_the_host_leaves_its_signal)
{
    struct room r = room_open();
    struct last_words w;
    struct kid k;

    build(&r, "threads", "-g",
          ENGINE("EXJ_FLAG_OWN_THREADS",
                 "#include <semaphore.h>\n#include <unistd.h>\nstatic sem_t over;\n"
                 "static void good(void *p) { (void)p; sem_post(&over); }\n"
                 "static volatile int sink; static int deep(int n) { volatile char b[4096];"
                 " b[0] = (char)n; sink = b[0]; return deep(n + 1) + b[0]; }\n"
                 "static void bad(void *p) { (void)p; sink = deep(1); }\n",
                 "for (int n = 0; n < 20; n++) { if (h->thread_start(h->ctx, good, NULL))"
                 " return EXJ_R_FAILED; sem_wait(&over); }\n"
                 "if (h->thread_start(h->ctx, bad, NULL)) return EXJ_R_FAILED;"
                 "for (;;) pause();"));
    kid_ready(&k, &r, "host", "threads", NULL);
    say_call(&k, 3, "{}", RUNTIME, 0);
    cr_assert_null(any_of(&k));
    cr_assert_eq(kid_end(&k), 1000 + SIGSEGV);
    w = last_words_of(&k);
    cr_assert_eq(w.head.signal, SIGSEGV);
    cr_assert_eq(w.head.call, 0);
    says(w.text, "(threads.so+0x");
    close(k.crash);
    room_close(&r);
}

Test(crash, a_constructor_that_crashes_leaves_its_signal)
{
    struct room r = room_open();
    struct kid k;
    char copy[128];

    build(&r, "early", "",
          ENGINE("0", "__attribute__((constructor)) static void boom(void) { abort(); }",
                 "return EXJ_R_OK;"));
    snprintf(copy, sizeof copy, "%s/early.so", r.dir);
    kid_spawn(&k, "host", "2048", "-");
    say_hello(&k, 1, 1, copy);
    cr_assert_null(any_of(&k));
    cr_assert_eq(kid_end(&k), 1000 + SIGABRT);
    cr_assert_eq(last_words_of(&k).head.signal, SIGABRT);
    close(k.crash);
    room_close(&r);
}

Test(crash, a_plugin_that_exits_or_closes_our_descriptors_ends_only_its_host)
{
    struct room r = room_open();
    struct kid k;

    build(&r, "exits", "", ENGINE("0", "#include <unistd.h>", "_exit(3);"));
    kid_ready(&k, &r, "host", "exits", NULL);
    say_call(&k, 1, "{}", RUNTIME, 0);
    cr_assert_null(any_of(&k));
    cr_assert_eq(kid_end(&k), 3);
    cr_assert_eq(last_words_of(&k).head.signal, 0);
    close(k.crash);
    build(&r, "closes", "", ENGINE("0", "#include <unistd.h>",
                                   "for (int f = 0; f < 64; f++) close(f); return EXJ_R_FAILED;"));
    kid_ready(&k, &r, "host", "closes", NULL);
    say_call(&k, 1, "{}", RUNTIME, 0);
    cr_assert_null(any_of(&k));
    cr_assert_lt(kid_end(&k), 1000);
    close(k.crash);
    room_close(&r);
}

/* ---- attempts ------------------------------------------------------------------------------ */

/* A plugin whose call makes attempts and answers "name=OK name=EPERM …" as the error's text.
 * `a->runtime` is a folder of the test. */
#define PROBE_TOP                                                                             \
    "#include <errno.h>\n#include <fcntl.h>\n#include <sched.h>\n"       \
    "#include <signal.h>\n#include <stdio.h>\n#include <sys/mman.h>\n#include <sys/mount.h>\n" \
    "#include <sys/ptrace.h>\n#include <sys/resource.h>\n#include <sys/socket.h>\n"           \
    "#include <sys/stat.h>\n#include <sys/syscall.h>\n#include <sys/un.h>\n"                  \
    "#include <sys/wait.h>\n#include <unistd.h>\n#include <netinet/in.h>\n"                   \
    "static char out[4096]; static size_t at;\n"                                              \
    "static void note(const char *name, long rc) { int e = rc < 0 ? errno : 0;"               \
    " at += (size_t)snprintf(out + at, sizeof out - at, \"%s=%s \", name, rc >= 0 ? \"OK\" :" \
    " e == EPERM ? \"EPERM\" : e == EACCES ? \"EACCES\" : strerrorname_np(e)); }\n"           \
    "static char path_[8][512]; static int path_n;\n"                                         \
    "static const char *in(const exj_args *a, const char *more) {"                            \
    " char *p = path_[path_n++ & 7];"                                                         \
    " snprintf(p, 512, \"%.*s/%s\", (int)a->runtime.n, a->runtime.p, more); return p; }\n"    \
    "static long reads(const char *p) { char b[16]; int f = open(p, O_RDONLY);"               \
    " long n = f < 0 ? -1 : read(f, b, sizeof b); if (f >= 0) close(f); return n; }\n"        \
    "static long writes(const char *p) { int f = open(p, O_WRONLY | O_CREAT, 0600);"          \
    " long n = f < 0 ? -1 : write(f, \"x\", 1); if (f >= 0) close(f); return n; }\n"
#define PROBE_END                                                                             \
    "h->error(h->ctx, c, 2, exj_text(\"Probe\"), (exj_str){ out, at }); return EXJ_R_FAILED;"

#define PROBE(attempts) ENGINE("0", PROBE_TOP, "at = 0;\n" attempts PROBE_END)

/* Run the probe in a host and give what it noted; free() it. */
static char *attempt(const struct room *r, struct kid *k, const char *lane, const char *hidden,
                     const char *source)
{
    struct result end;
    char *ret;

    build(r, "probe", "-D_GNU_SOURCE -Wno-nonnull", source);
    kid_ready(k, r, lane, "probe", hidden);
    say_call(k, 1, "{}", r->dir, 0);
    end = next_result(k);
    cr_assert(exj_slice_is(end.code, "Probe"), "%.*s: %.*s", (int)end.code.n, end.code.p,
              (int)end.text.n, end.text.p);
    ret = exj_slice_dup(end.text);
    fprintf(stderr, "%s, cage 0x%x: %s\n", lane, k->cage, ret);
    kid_bye(k);
    return ret;
}

/* data/store.db shall be hidden, other/file shall not. */
static void make_folders(const struct room *r, char hidden[128])
{
    snprintf(hidden, 128, "%s/data", r->dir);
    shell("cd '%s' && mkdir data other && echo secret > data/store.db && echo open > other/file &&"
          " ln -s ../data/store.db other/link && ln -s ../data other/folder",
          r->dir);
}

/* A cage with hidden files, or a loud word and false. */
static bool can_hide(const struct kid *k)
{
    if (k->cage & (EXJ_CAGE_LANDLOCK | EXJ_CAGE_MOUNT))
        return true;
    fprintf(stderr, "\n*** SKIPPED: this kernel has neither Landlock nor mount namespaces for "
            "us: files cannot be hidden from plugins here ***\n\n");
    return false;
}

#define PROCESSES                                                                           \
    "pid_t p = fork(); if (p == 0) _exit(0); if (p > 0) waitpid(p, NULL, 0);"               \
    "note(\"fork\", p);\n"                                                                  \
    "p = vfork(); if (p == 0) _exit(0); if (p > 0) waitpid(p, NULL, 0); note(\"vfork\", p);\n" \
    "note(\"clone\", syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));\n"                           \
    "note(\"clone3\", syscall(SYS_clone3, NULL, 0));\n"                                     \
    "char *argv[] = { \"true\", NULL }; note(\"execve\", execv(\"/bin/true\", argv));\n"    \
    "note(\"ptrace\", ptrace(PTRACE_ATTACH, getppid(), 0, 0));\n"                           \
    "note(\"kill\", kill(getppid(), 0)); note(\"self\", kill(getpid(), 0));\n"              \
    "note(\"unshare\", unshare(CLONE_NEWNS));\n"                                            \
    "note(\"mount\", mount(\"none\", \"/mnt\", \"tmpfs\", 0, NULL));\n"                     \
    "note(\"bpf\", syscall(SYS_bpf, 0, NULL, 0));\n"                                        \
    "note(\"uring\", syscall(SYS_io_uring_setup, 1, NULL));\n"                              \
    "note(\"keyctl\", syscall(SYS_keyctl, 0, 0, 0, 0, 0));\n"                               \
    "struct rlimit l = { 9999, 9999 }; note(\"limit\", setrlimit(RLIMIT_NOFILE, &l));\n"

static const char *const processes_refused[] = {
    "fork=EPERM ", "vfork=EPERM ", "clone=EPERM ", "clone3=ENOSYS ", "execve=E", "ptrace=EPERM ",
    "kill=EPERM ", "self=OK ", "unshare=EPERM ", "mount=EPERM ", "bpf=EPERM ", "uring=EPERM ",
    "keyctl=EPERM ", "limit=EPERM ", NULL
};

Test(cage, no_processes_no_signals_to_others_no_doors_of_the_kernel)
{
    static const char *const lanes[] = { "host", "sandbox" };

    for (size_t l = 0; l < 2; l++) {
        struct room r = room_open();
        struct kid k;
        char *noted = attempt(&r, &k, lanes[l], NULL, PROBE(PROCESSES));

        cr_assert_eq(k.cage & FULL_CAGE, FULL_CAGE);
        for (size_t n = 0; processes_refused[n]; n++)
            says(noted, processes_refused[n]);
        cr_assert_null(strstr(noted, "execve=OK"));
        free(noted);
        room_close(&r);
    }
}

Test(cage, threads_are_allowed_in_both_lanes)
{
    static const char *const lanes[] = { "host", "sandbox" };

    for (size_t l = 0; l < 2; l++) {
        struct room r = room_open();
        struct kid k;

        build(&r, "threads", "",
              ENGINE("0", "static void *run(void *p) { return p; }",
                     "pthread_t id; void *got = NULL; if (pthread_create(&id, NULL, run, &id))"
                     " return EXJ_R_FAILED; pthread_join(id, &got); " EMIT_OK ";"
                     " return got == &id ? EXJ_R_OK : EXJ_R_FAILED;"));
        kid_ready(&k, &r, lanes[l], "threads", NULL);
        say_call(&k, 1, "{}", RUNTIME, 0);
        cr_assert_eq(next_result(&k).result, EXJ_R_OK);
        kid_bye(&k);
        room_close(&r);
    }
}

#define AT_FIRST "note(\"self\", kill(getpid(), 0));"
#define HIDDEN_ATTEMPTS                                                                     \
    "note(\"read\", reads(in(a, \"data/store.db\")));\n"                                    \
    "note(\"write\", writes(in(a, \"data/store.db\")));\n"                                  \
    "note(\"new\", writes(in(a, \"data/new\")));\n"                                         \
    "note(\"list\", open(in(a, \"data\"), O_RDONLY | O_DIRECTORY));\n"                      \
    "note(\"link\", reads(in(a, \"other/link\")));\n"                                       \
    "note(\"folder\", reads(in(a, \"other/folder/store.db\")));\n"                          \
    "note(\"dots\", reads(in(a, \"other/../data/store.db\")));\n"                           \
    "{ char p[64]; int f = open(in(a, \"data\"), O_PATH);"                                  \
    " note(\"at\", openat(f, \"store.db\", O_RDONLY));"                                     \
    " snprintf(p, sizeof p, \"/proc/self/fd/%d/store.db\", f); note(\"proc\", reads(p));"   \
    " f = open(in(a, \"data/store.db\"), O_PATH); snprintf(p, sizeof p, \"/proc/self/fd/%d\", f);" \
    " note(\"again\", reads(p)); }\n"                                                       \
    "{ char p[600]; snprintf(p, sizeof p, \"/proc/self/root%s\", in(a, \"data/store.db\"));" \
    " note(\"root\", reads(p));"                                                            \
    " snprintf(p, sizeof p, \"/proc/%d/root%s\", getppid(), in(a, \"data/store.db\"));"     \
    " note(\"parent\", reads(p)); }\n"                                                      \
    "note(\"hard\", link(in(a, \"data/store.db\"), in(a, \"other/hard\")));\n"              \
    "note(\"away\", rename(in(a, \"data/store.db\"), in(a, \"other/away\")));\n"            \
    "note(\"folder_away\", rename(in(a, \"data\"), in(a, \"other/away\")));\n"              \
    "note(\"into\", chdir(in(a, \"data\")) ? -1 : reads(\"store.db\"));\n"

#define OPEN_ATTEMPTS                                                                       \
    "note(\"OPEN_read\", reads(in(a, \"other/file\")));"                                    \
    "note(\"OPEN_write\", writes(in(a, \"other/file\")));"                                  \
    "note(\"OPEN_new\", writes(in(a, \"other/fresh\")));"                                   \
    "note(\"beside\", writes(in(a, \"beside\")));"                                   \
    "note(\"OPEN_etc\", reads(\"/etc/passwd\"));"                                           \
    "note(\"OPEN_null\", writes(\"/dev/null\"));"                                           \
    "note(\"OPEN_socket\", socket(AF_INET, SOCK_STREAM, 0));\n"

static const char *const hidden_names[] = { "read", "write", "new", "list", "link", "folder",
                                            "dots", "at", "proc", "again", "root", "parent",
                                            "hard", "away", "folder_away", "into", NULL };

/* An empty folder in the place of the hidden one may be listed. */
static void pardon_list(const struct kid *k, char *noted)
{
    char *list = strstr(noted, " list=OK ");

    if (list && (k->cage & EXJ_CAGE_MOUNT))
        list[6] = '-';
}

/* Every attempt of HIDDEN_ATTEMPTS was made and none succeeded. */
static void all_refused(const char *noted)
{
    for (size_t n = 0; hidden_names[n]; n++) {
        char good[40], tried[40];

        snprintf(good, sizeof good, " %s=OK", hidden_names[n]);
        snprintf(tried, sizeof tried, " %s=", hidden_names[n]);
        says(noted, tried);
        cr_assert_null(strstr(noted, good), "%s succeeded: %s", hidden_names[n], noted);
    }
}

static void store_is_as_it_was(const struct room *r)
{
    shell("test \"$(cat '%s/data/store.db')\" = secret && test \"$(ls '%s/data')\" = store.db",
          r->dir, r->dir);
}

static void hidden_and_all_else_open(const char *without)
{
    struct room r = room_open();
    struct kid k;
    char hidden[128], *noted;

    make_folders(&r, hidden);
    if (without)
        setenv(without, "1", 1);
    noted = attempt(&r, &k, "host", hidden, PROBE(AT_FIRST HIDDEN_ATTEMPTS OPEN_ATTEMPTS));
    if (without)
        unsetenv(without);
    if (can_hide(&k)) {
        static const char *const open_names[] = { "read", "write", "new", "etc", "null",
                                                  "socket", NULL };

        pardon_list(&k, noted);
        all_refused(noted);
        if (k.cage & EXJ_CAGE_MOUNT) /* nothing is taken from the folder's parents */
            says(noted, "beside=OK ");
        for (size_t n = 0; open_names[n]; n++) {
            char good[40];

            snprintf(good, sizeof good, "OPEN_%s=OK ", open_names[n]);
            says(noted, good);
        }
        store_is_as_it_was(&r);
    }
    free(noted);
    room_close(&r);
}

Test(cage, the_hidden_folder_cannot_be_opened_on_any_way_and_all_else_can)
{
    hidden_and_all_else_open(NULL);
}

Test(cage, landlock_alone_hides_the_folder)
{
    hidden_and_all_else_open("EXELLIX_PLUGIN_HOST_NO_MOUNTS");
}

/* The worker's local door asks for no key: whoever may open it is the operator. */
Test(cage, a_socket_in_the_hidden_folder_cannot_be_connected_to)
{
    struct room r = room_open();
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct kid k;
    char hidden[128], *noted;

    make_folders(&r, hidden);
    snprintf(u.sun_path, sizeof u.sun_path, "%s/data/door", r.dir);
    cr_assert_eq(bind(s, (struct sockaddr *)&u, sizeof u), 0);
    cr_assert_eq(listen(s, 8), 0);
    noted = attempt(&r, &k, "host", hidden,
                    PROBE("struct sockaddr_un u = { AF_UNIX, \"\" };"
                          "snprintf(u.sun_path, sizeof u.sun_path, \"%s\", in(a, \"data/door\"));"
                          "int s = socket(AF_UNIX, SOCK_STREAM, 0);"
                          "note(\"door\", connect(s, (void *)&u, sizeof u));"));
    if (k.cage & EXJ_CAGE_MOUNT)
        says(noted, "door=ENOENT ");
    else
        fprintf(stderr, "\n*** SKIPPED: no mount namespace here: a plugin on lane host can "
                "connect to the worker's local socket ***\n\n");
    close(s);
    free(noted);
    room_close(&r);
}

Test(cage, abstract_sockets_and_settings_of_the_kernel_are_closed)
{
    struct room r = room_open();
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    long abi = syscall(444, NULL, 0, 1); /* of Landlock */
    struct kid k;
    char hidden[128], *noted;

    make_folders(&r, hidden);
    snprintf(u.sun_path + 1, sizeof u.sun_path - 1, "%s", r.dir + 5);
    cr_assert_eq(bind(s, (struct sockaddr *)&u, sizeof u), 0);
    cr_assert_eq(listen(s, 8), 0);
    noted = attempt(&r, &k, "host", hidden,
                    PROBE("struct sockaddr_un u = { AF_UNIX, \"\" };"
                          "snprintf(u.sun_path + 1, 100, \"%.*s\", (int)a->runtime.n - 5,"
                          " a->runtime.p + 5); int s = socket(AF_UNIX, SOCK_STREAM, 0);"
                          "note(\"abstract\", connect(s, (void *)&u, sizeof u));"
                          "note(\"sysctl\", open(\"/proc/sys/kernel/core_pattern\", O_WRONLY));"
                          "note(\"disk\", mknod(in(a, \"other/disk\"), S_IFBLK | 0600, 0));"));
    if (abi >= 6) {
        says(noted, "abstract=EPERM ");
        says(noted, "sysctl=EACCES ");
        cr_assert_null(strstr(noted, "disk=OK"));
    } else {
        fprintf(stderr, "\n*** SKIPPED: Landlock of this kernel has version %ld; 6 closes "
                "abstract sockets ***\n\n", abi);
    }
    close(s);
    free(noted);
    room_close(&r);
}

Test(cage, without_landlock_a_mount_hides_the_folder)
{
    struct room r = room_open();
    struct kid k;
    char hidden[128], *noted;

    make_folders(&r, hidden);
    setenv("EXELLIX_PLUGIN_HOST_NO_LANDLOCK", "1", 1);
    cr_assert_eq(chdir(hidden), 0); /* born in the folder that it must not see */
    noted = attempt(&r, &k, "host", hidden,
                    PROBE("note(\"here\", reads(\"store.db\"));" HIDDEN_ATTEMPTS OPEN_ATTEMPTS));
    cr_assert_eq(chdir("/"), 0);
    unsetenv("EXELLIX_PLUGIN_HOST_NO_LANDLOCK");
    cr_assert_eq(k.cage & EXJ_CAGE_LANDLOCK, 0);
    if (can_hide(&k)) {
        pardon_list(&k, noted);
        all_refused(noted);
        says(noted, "here=ENOENT ");
        says(noted, "OPEN_new=OK ");
        store_is_as_it_was(&r);
    }
    free(noted);
    room_close(&r);
}

/* Make everything that is in "/" appear in a folder that is no mount point, and take that for
 * the root, as chroot(8) does. Nobody else sees it. False: we may not. */
static bool enter_chroot(void)
{
    struct dirent *e;
    DIR *d;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/mnt", "tmpfs", 0, NULL) < 0)
        return false;
    cr_assert_eq(mkdir("/mnt/root", 0755), 0);
    d = opendir("/");
    cr_assert_not_null(d);
    while ((e = readdir(d))) {
        char from[300], to[300], target[300] = "";

        snprintf(from, sizeof from, "/%s", e->d_name);
        snprintf(to, sizeof to, "/mnt/root/%s", e->d_name);
        if (e->d_type == DT_LNK && readlink(from, target, sizeof target - 1) > 0)
            cr_assert_eq(symlink(target, to), 0);
        else if (e->d_type == DT_DIR && e->d_name[0] != '.' && strcmp(e->d_name, "mnt") != 0)
            cr_assert(mkdir(to, 0755) == 0 &&
                          mount(from, to, NULL, MS_BIND | MS_REC, NULL) == 0,
                      "%s: %s", to, strerror(errno));
    }
    closedir(d);
    return chdir("/mnt/root") == 0 && chroot(".") == 0;
}

Test(cage, in_a_chroot_a_mount_hides_the_folder)
{
    struct room r;
    struct kid k;
    char hidden[128], *noted;

    if (!enter_chroot()) {
        fprintf(stderr, "\n*** SKIPPED: we may not make a chroot here ***\n\n");
        return;
    }
    r = room_open();
    make_folders(&r, hidden);
    setenv("EXELLIX_PLUGIN_HOST_NO_LANDLOCK", "1", 1);
    cr_assert_eq(chdir(hidden), 0);
    noted = attempt(&r, &k, "host", hidden,
                    PROBE("note(\"here\", reads(\"store.db\"));" HIDDEN_ATTEMPTS OPEN_ATTEMPTS
                          "note(\"proc_of_us\", reads(\"/proc/self/stat\"));"));
    cr_assert_eq(chdir("/"), 0);
    unsetenv("EXELLIX_PLUGIN_HOST_NO_LANDLOCK");
    cr_assert_neq(k.cage & EXJ_CAGE_MOUNT, 0, "cage 0x%x", k.cage);
    pardon_list(&k, noted);
    all_refused(noted);
    says(noted, "here=ENOENT ");
    says(noted, "OPEN_new=OK ");
    says(noted, "proc_of_us=OK ");
    store_is_as_it_was(&r);
    free(noted);
    room_close(&r);
}

/* Capabilities that a plugin host gives up. */
static bool have_capabilities(void)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];

    cr_assert_eq(syscall(SYS_capget, &head, data), 0);
    return data[0].permitted & (1u << CAP_SYS_ADMIN | 1u << CAP_SYS_PTRACE |
                                1u << CAP_SYS_CHROOT | 1u << CAP_MKNOD);
}

Test(cage, without_landlock_and_mounts_root_cannot_read_the_memory_of_the_worker)
{
    static const char *const lanes[] = { "host", "sandbox" };

    if (!have_capabilities()) {
        fprintf(stderr, "\n*** SKIPPED: we have no capabilities: without Landlock and mount "
                "namespaces a plugin can read the worker's memory ***\n\n");
        return;
    }
    for (size_t l = 0; l < 2; l++) {
        struct room r = room_open();
        struct kid k;
        char hidden[128], *noted;

        make_folders(&r, hidden);
        setenv("EXELLIX_PLUGIN_HOST_NO_LANDLOCK", "1", 1);
        setenv("EXELLIX_PLUGIN_HOST_NO_MOUNTS", "1", 1);
        noted = attempt(&r, &k, lanes[l], hidden,
                        PROBE("char p[64]; snprintf(p, sizeof p, \"/proc/%d/mem\", getppid());"
                              "note(\"memory\", open(p, O_RDONLY));"
                              "snprintf(p, sizeof p, \"/proc/%d/root/\", getppid());"
                              "note(\"root\", open(p, O_RDONLY));"
                              "note(\"disk\", mknod(in(a, \"other/disk\"), S_IFBLK | 0600, 0));"));
        unsetenv("EXELLIX_PLUGIN_HOST_NO_LANDLOCK");
        unsetenv("EXELLIX_PLUGIN_HOST_NO_MOUNTS");
        cr_assert_eq(k.cage, FULL_CAGE, "cage 0x%x", k.cage);
        says(noted, "memory=EACCES ");
        says(noted, "root=EACCES ");
        says(noted, "disk=EPERM ");
        free(noted);
        room_close(&r);
    }
}

/* The private copies lie in the data directory. */
Test(cage, the_copy_is_loaded_from_within_the_hidden_folder)
{
    static const char *const withouts[] = { "EXELLIX_PLUGIN_HOST_NO_LANDLOCK",
                                            "EXELLIX_PLUGIN_HOST_NO_MOUNTS", "NOTHING" };

    for (int without = 0; without < 3; without++) {
        struct room r = room_open();
        struct kid k;
        char hidden[128];

        make_folders(&r, hidden);
        build(&r, "ok", "", ENGINE("0", "", EMIT_OK "; return EXJ_R_OK;"));
        shell("mkdir -p '%s/data/plugins/a' && mv '%s/ok.so' '%s/data/plugins/a/ok.so'", r.dir,
              r.dir, r.dir);
        setenv(withouts[without], "1", 1);
        kid_ready(&k, &r, "host", "data/plugins/a/ok", hidden);
        unsetenv(withouts[without]);
        say_call(&k, 1, "{}", RUNTIME, 0);
        cr_assert_eq(next_result(&k).result, EXJ_R_OK);
        kid_bye(&k);
        room_close(&r);
    }
}

Test(cage, a_hidden_folder_that_is_not_there_yet_is_hidden_when_it_comes)
{
    struct room r = room_open();
    struct result end;
    struct kid k;
    char hidden[128];

    snprintf(hidden, sizeof hidden, "%s/later/data", r.dir);
    build(&r, "probe", "-D_GNU_SOURCE",
          ENGINE("0", PROBE_TOP,
                 "at = 0; note(\"read\", reads(in(a, \"later/data/store.db\")));" PROBE_END));
    kid_ready(&k, &r, "host", "probe", hidden);
    if (k.cage & EXJ_CAGE_LANDLOCK && !(k.cage & EXJ_CAGE_MOUNT)) {
        shell("mkdir -p '%s' && echo secret > '%s/store.db'", hidden, hidden);
        say_call(&k, 1, "{}", r.dir, 0);
        end = next_result(&k);
        slice_says(end.text, "read=EACCES");
    } else {
        fprintf(stderr, "\n*** SKIPPED: this kernel has no Landlock ***\n\n");
    }
    kid_bye(&k);
    room_close(&r);
}

/* ---- the sandbox ------------------------------------------------------------------------- */

Test(cage, the_sandbox_reads_libraries_writes_nothing_and_has_no_network)
{
    struct room r = room_open();
    struct kid k;
    char hidden[128], *noted;

    make_folders(&r, hidden);
    noted = attempt(&r, &k, "sandbox", hidden,
                    PROBE(AT_FIRST HIDDEN_ATTEMPTS OPEN_ATTEMPTS
                          "note(\"library\", reads(\"/usr/lib/os-release\"));\n"
                          "note(\"chmod\", chmod(in(a, \"other/file\"), 0777));\n"
                          "note(\"unlink\", unlink(in(a, \"other/file\")));\n"
                          "note(\"memfd\", memfd_create(\"x\", 0));\n"
                          "{ struct sockaddr_un u = { AF_UNIX, \"\" }; int s[2];"
                          " note(\"pair\", socketpair(AF_UNIX, SOCK_STREAM, 0, s));"
                          " note(\"connect\", connect(s[0], (void *)&u, sizeof u)); }\n"));
    if (can_hide(&k)) {
        pardon_list(&k, noted);
        all_refused(noted);
        says(noted, "library=OK ");
    }
    if (k.cage & EXJ_CAGE_LANDLOCK) {
        says(noted, "OPEN_read=E");
        says(noted, "OPEN_etc=E");
    }
    says(noted, "OPEN_write=E");
    says(noted, "OPEN_new=E");
    says(noted, "OPEN_socket=EPERM ");
    says(noted, "chmod=EPERM ");
    says(noted, "unlink=EPERM ");
    says(noted, "memfd=OK ");
    says(noted, "pair=OK ");
    says(noted, "connect=EPERM ");
    shell("test \"$(cat '%s/other/file')\" = open", r.dir);
    store_is_as_it_was(&r);
    free(noted);
    room_close(&r);
}

Test(cage, the_sandbox_answers_by_memfd)
{
    struct room r = room_open();
    struct kid k;
    struct result end;
    char *model = malloc(500001);

    cr_assert_not_null(model);
    memset(model, 'x', 500000);
    model[500000] = 0;
    build(&r, "large", "", ENGINE("0", "", "h->emit(h->ctx, c, a->model); return EXJ_R_OK;"));
    kid_ready(&k, &r, "sandbox", "large", NULL);
    say_call(&k, 1, model, RUNTIME, 0);
    end = next_result(&k);
    cr_assert_eq(end.result, EXJ_R_OK);
    cr_assert(exj_slice_is(end.answer, model));
    free(model);
    kid_bye(&k);
    room_close(&r);
}

/* ---- limits ------------------------------------------------------------------------------- */

Test(cage, memory_and_descriptors_have_an_end)
{
    struct room r = room_open();
    struct kid k;
    char *noted = attempt(&r, &k, "host", NULL,
                          PROBE("void *p = mmap(NULL, 4ul << 30, PROT_READ | PROT_WRITE,"
                                " MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);\n"
                                "note(\"memory\", p == MAP_FAILED ? -1 : 0);\n"
                                "int n = 0, f; while ((f = dup(0)) >= 0 && n < 5000) n++;\n"
                                "note(n < 256 ? \"few\" : \"many\", f);\n"
                                "for (f = 6; f < 5000; f++) close(f);\n"));

    if (!SANITIZED) /* it needs terabytes of addresses: no limit there */
        says(noted, "memory=ENOMEM ");
    says(noted, "few=EMFILE ");
    free(noted);
    room_close(&r);
}
