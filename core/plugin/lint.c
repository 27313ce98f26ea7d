#include "core/plugin/lint.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/plugin/guest.h"

#define HEADERS_MAX 4096u
#define DYNAMIC_MAX 4096u
#define SYMBOLS_MAX 200000u
#define STRINGS_MAX (32u * 1024u * 1024u)
#define ENTRY "exellix_plugin_v1"

/* The file being looked at, and what was seen so far. */
struct look {
    int fd;
    const char *shown;
    uint64_t bytes;
    exj_lint *l;
    exj_err *err;
    Elf64_Ehdr h;
    /* from the dynamic segment; addresses, 0: absent */
    uint64_t symtab, strtab, strsz, init_arraysz;
    uint64_t needed[EXJ_LINT_NEEDED_MAX], runpath[2];
    unsigned needed_len, runpath_len;
    bool textrel, bind_now, nodelete, static_tls, preinit;
    char *strings; /* owned: the dynamic string table with a NUL behind it */
    size_t strings_len;
    /* from the symbols */
    unsigned stray, unique, imports_pinned, imports_shared;
    char first_stray[EXJ_LINT_NAME_BYTES], first_unique[EXJ_LINT_NAME_BYTES];
};

const char *exj_reload_class_word(exj_reload_class c)
{
    static const char *const words[] = { "closable", "pinned", "isolate-only" };

    return (unsigned)c < 3 ? words[c] : "?";
}

static void note(struct look *k, const char *level, const char *code, exj_reload_class reload,
                 const char *fix, const char *format, ...) __attribute__((format(printf, 6, 7)));

static void note(struct look *k, const char *level, const char *code, exj_reload_class reload,
                 const char *fix, const char *format, ...)
{
    exj_lint *l = k->l;
    char raw[sizeof l->findings[0].message];
    exj_lint_finding *f;
    va_list ap;

    if (reload > l->reload)
        l->reload = reload;
    l->fails |= strcmp(level, "fail") == 0;
    if (l->findings_len == EXJ_LINT_FINDINGS_MAX)
        return; /* more than there are codes: cannot be */
    f = &l->findings[l->findings_len++];
    f->level = level;
    f->code = code;
    f->fix = fix;
    f->reload = reload;
    va_start(ap, format);
    vsnprintf(raw, sizeof raw, format, ap);
    va_end(ap);
    exj_clean_text(raw, strlen(raw), f->message, sizeof f->message);
}

/* ---- reading ---------------------------------------------------------------------------- */

static bool inside(const struct look *k, uint64_t at, uint64_t n)
{
    return at <= k->bytes && n <= k->bytes - at;
}

static exj_code read_at(const struct look *k, void *to, size_t n, uint64_t at)
{
    char *p = to;

    if (!inside(k, at, n))
        return exj_err_set(k->err, EXJ_INVALID,
                           "%s: cut short: wanted %zu bytes at %llu, the file has %llu", k->shown,
                           n, (unsigned long long)at, (unsigned long long)k->bytes);
    while (n) {
        ssize_t got = pread(k->fd, p, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return exj_err_set(k->err, EXJ_IO, "%s: read: %s", k->shown, strerror(errno));
        if (got == 0)
            return exj_err_set(k->err, EXJ_INVALID, "%s: shrank while it was read", k->shown);
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return EXJ_OK;
}

/* A table of `n` things, read at once. free() it. */
static exj_code read_table(const struct look *k, uint64_t at, uint64_t n, size_t one, void **ret)
{
    void *p;
    exj_code rc;

    *ret = NULL;
    p = calloc((size_t)n + 1, one); /* one more: strings end in NUL */
    if (!p)
        return exj_err_set(k->err, EXJ_NOMEM, "%s: out of memory", k->shown);
    rc = read_at(k, p, (size_t)n * one, at);
    if (rc)
        free(p);
    else
        *ret = p;
    return rc;
}

/* The name at `at` of the string table; "" when it points outside. */
static const char *string_at(const struct look *k, uint64_t at)
{
    return k->strings && at < k->strings_len ? k->strings + at : "";
}

/* ---- the segments ----------------------------------------------------------------------- */

static exj_code look_dynamic(struct look *k, const Elf64_Phdr *p)
{
    uint64_t n = p->p_filesz / sizeof(Elf64_Dyn);
    Elf64_Dyn *d = NULL;
    exj_code rc;

    if (n > DYNAMIC_MAX)
        return exj_err_set(k->err, EXJ_INVALID, "%s: %llu dynamic entries: wanted at most %u",
                           k->shown, (unsigned long long)n, DYNAMIC_MAX);
    rc = read_table(k, p->p_offset, n, sizeof *d, (void **)&d);
    for (uint64_t i = 0; !rc && i < n && d[i].d_tag != DT_NULL; i++) {
        uint64_t v = d[i].d_un.d_val;

        switch (d[i].d_tag) {
        case DT_SYMTAB: k->symtab = v; break;
        case DT_STRTAB: k->strtab = v; break;
        case DT_STRSZ: k->strsz = v; break;
        case DT_INIT_ARRAYSZ: k->init_arraysz = v; break;
        case DT_PREINIT_ARRAY: k->preinit = true; break;
        case DT_TEXTREL: k->textrel = true; break;
        case DT_BIND_NOW: k->bind_now = true; break;
        case DT_NEEDED:
            if (k->needed_len < EXJ_LINT_NEEDED_MAX)
                k->needed[k->needed_len++] = v;
            else
                k->l->needed_more = true;
            break;
        case DT_RPATH:
        case DT_RUNPATH:
            if (k->runpath_len < 2)
                k->runpath[k->runpath_len++] = v;
            break;
        case DT_FLAGS:
            k->textrel |= (v & DF_TEXTREL) != 0;
            k->bind_now |= (v & DF_BIND_NOW) != 0;
            k->static_tls |= (v & DF_STATIC_TLS) != 0;
            break;
        case DT_FLAGS_1:
            k->bind_now |= (v & DF_1_NOW) != 0;
            k->nodelete |= (v & DF_1_NODELETE) != 0;
            break;
        default: break;
        }
    }
    free(d);
    return rc;
}

/* Where an address of the image lies in the file; false: in none of the segments. */
static bool offset_of(const struct look *k, const Elf64_Phdr *p, uint64_t address, uint64_t n,
                      uint64_t *ret)
{
    for (unsigned i = 0; i < k->h.e_phnum; i++)
        if (p[i].p_type == PT_LOAD && address >= p[i].p_vaddr &&
            address - p[i].p_vaddr <= p[i].p_filesz &&
            n <= p[i].p_filesz - (address - p[i].p_vaddr)) {
            *ret = p[i].p_offset + (address - p[i].p_vaddr);
            return *ret >= p[i].p_offset && inside(k, *ret, n);
        }
    return false;
}

static exj_code look_segments(struct look *k, const Elf64_Phdr *p)
{
    bool stack = false, stack_exec = false, dynamic = false, write_exec = false;
    uint64_t at;
    exj_code rc = EXJ_OK;

    for (unsigned i = 0; !rc && i < k->h.e_phnum; i++) {
        if (p[i].p_type == PT_GNU_STACK) {
            stack = true;
            stack_exec |= (p[i].p_flags & PF_X) != 0;
        }
        if (p[i].p_type == PT_LOAD)
            write_exec |= (p[i].p_flags & (PF_W | PF_X)) == (PF_W | PF_X);
        if (p[i].p_type == PT_DYNAMIC && !dynamic) {
            dynamic = true;
            rc = look_dynamic(k, &p[i]);
        }
    }
    if (rc)
        return rc;
    if (!dynamic)
        return exj_err_set(k->err, EXJ_INVALID, "%s: no dynamic segment: not a shared object",
                           k->shown);
    if (!stack || stack_exec)
        note(k, "warn", "ExecutableStack", EXJ_RELOAD_ISOLATE_ONLY,
             "link with -Wl,-z,noexecstack; give assembler files a .note.GNU-stack section",
             "%s, which makes the stacks of the whole process executable",
             stack ? "asks for an executable stack" : "does not say that its stack is data");
    if (write_exec)
        note(k, "warn", "WritableCode", EXJ_RELOAD_ISOLATE_ONLY,
             "link without -N (--omagic) and without a script that joins text and data",
             "has a segment that is both writable and executable");
    if (k->strsz == 0 || k->strsz > STRINGS_MAX || !offset_of(k, p, k->strtab, k->strsz, &at))
        return exj_err_set(k->err, EXJ_INVALID,
                           "%s: string table: wanted 1 to %u bytes inside the file, found %llu "
                           "at address %llu", k->shown, STRINGS_MAX,
                           (unsigned long long)k->strsz, (unsigned long long)k->strtab);
    rc = read_table(k, at, k->strsz, 1, (void **)&k->strings);
    if (!rc)
        k->strings_len = (size_t)k->strsz;
    return rc;
}

/* ---- what the dynamic segment says ------------------------------------------------------- */

static void judge_dynamic(struct look *k)
{
    exj_lint *l = k->l;
    exj_buf b = EXJ_BUF_INIT;

    if (k->textrel)
        note(k, "fail", "TextRelocations", EXJ_RELOAD_ISOLATE_ONLY, "compile with -fPIC",
             "has text relocations: its code is written to while it is loaded");
    if (k->nodelete)
        note(k, "warn", "NoDelete", EXJ_RELOAD_PINNED, "link without -Wl,-z,nodelete",
             "is marked NODELETE: the loader never unmaps it");
    if (!k->bind_now)
        note(k, "warn", "LazyBinding", EXJ_RELOAD_CLOSABLE, "link with -Wl,-z,now -Wl,-z,relro",
             "is not linked with -z now: its table of functions stays writable");
    if (k->preinit)
        note(k, "warn", "Preinit", EXJ_RELOAD_CLOSABLE, "move the code into create",
             "has a .preinit_array, which is not run in a library");
    if (k->init_arraysz > sizeof(uint64_t))
        note(k, "warn", "Constructors", EXJ_RELOAD_CLOSABLE,
             "move the work of constructors and of C++ globals into create",
             "runs %llu functions at load, before it can be asked who it is",
             (unsigned long long)(k->init_arraysz / sizeof(uint64_t)));
    for (unsigned i = 0; i < k->runpath_len; i++)
        note(k, "warn", "RunPath", EXJ_RELOAD_CLOSABLE,
             "link without -Wl,-rpath; install the libraries where the loader looks",
             "has a library path of its own, %s: $ORIGIN there is the folder of the private "
             "copy, and who can write to the path can replace the libraries",
             string_at(k, k->runpath[i]));
    for (unsigned i = 0; i < k->needed_len; i++) {
        const char *name = string_at(k, k->needed[i]);

        exj_clean_text(name, strlen(name), l->needed[i], sizeof l->needed[i]);
        if (exj_buf_add_text(&b, i ? ", " : ""))
            exj_buf_add_text(&b, l->needed[i]);
        if (strchr(name, '/'))
            note(k, "warn", "NeededPath", EXJ_RELOAD_CLOSABLE,
                 "give the library an soname without a path",
                 "needs %s by its path: it will not load elsewhere", name);
        if (l->findings_len > EXJ_LINT_FINDINGS_MAX / 2)
            break; /* a joke of a file; leave room for the rest */
    }
    l->needed_len = k->needed_len;
    note(k, "ok", "Needed", EXJ_RELOAD_CLOSABLE, "", "needs %s%s",
         b.n ? b.p : "no other library", l->needed_more ? ", ..." : "");
    exj_buf_release(&b);
}

/* ---- symbols ----------------------------------------------------------------------------- */

enum import_kind { HARMLESS, DESTRUCTOR, THREAD, KEY, ON_EXIT, SIGNALS, PROCESS, ENDS, IMPORTS };

static const struct {
    enum import_kind kind;
    const char *name;
} imports[] = {
    { DESTRUCTOR, "__cxa_thread_atexit_impl" }, { DESTRUCTOR, "__cxa_thread_atexit" },
    { THREAD, "pthread_create" },  { THREAD, "thrd_create" },
    { THREAD, "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_State" /* std::thread */
              "ESt14default_deleteIS1_EEPFvvE" },
    { KEY, "pthread_key_create" }, { KEY, "tss_create" },
    { ON_EXIT, "on_exit" },
    { SIGNALS, "signal" },         { SIGNALS, "sigaction" },   { SIGNALS, "bsd_signal" },
    { SIGNALS, "sysv_signal" },    { SIGNALS, "__sysv_signal" }, { SIGNALS, "sigset" },
    { SIGNALS, "sigaltstack" },    { SIGNALS, "sigprocmask" }, { SIGNALS, "pthread_sigmask" },
    { PROCESS, "setlocale" },      { PROCESS, "umask" },       { PROCESS, "chdir" },
    { PROCESS, "fchdir" },         { PROCESS, "chroot" },      { PROCESS, "setrlimit" },
    { PROCESS, "setrlimit64" },    { PROCESS, "setuid" },      { PROCESS, "seteuid" },
    { PROCESS, "setresuid" },      { PROCESS, "setgid" },      { PROCESS, "setegid" },
    { PROCESS, "setresgid" },      { PROCESS, "unshare" },     { PROCESS, "setns" },
    { PROCESS, "fork" },           { PROCESS, "vfork" },       { PROCESS, "daemon" },
    { PROCESS, "close_range" },    { PROCESS, "closefrom" },   { PROCESS, "mallopt" },
    { ENDS, "exit" },              { ENDS, "_exit" },          { ENDS, "_Exit" },
    { ENDS, "quick_exit" },        { ENDS, "execve" },         { ENDS, "execv" },
    { ENDS, "execvp" },            { ENDS, "execl" },          { ENDS, "execlp" },
    { ENDS, "fexecve" },
};

static enum import_kind kind_of_import(const char *name)
{
    for (size_t i = 0; i < sizeof imports / sizeof *imports; i++)
        if (strcmp(name, imports[i].name) == 0)
            return imports[i].kind;
    return HARMLESS;
}

static void judge_imports(struct look *k, const exj_buf *names)
{
    static const struct {
        const char *code, *what, *fix;
        exj_reload_class reload;
    } rule[IMPORTS] = {
        [DESTRUCTOR] = { "ThreadLocalDestructor",
                         "has thread-local variables with destructors, which run when a thread "
                         "ends, after it was unmapped",
                         "keep such state in the instance", EXJ_RELOAD_PINNED },
        [THREAD] = { "OwnThreads", "starts threads by itself: nobody can know when they left it",
                     "use thread_start of the host", EXJ_RELOAD_PINNED },
        [KEY] = { "ThreadKey",
                  "makes thread keys, whose destructors run when a thread ends, after it was "
                  "unmapped", "keep such state in the instance", EXJ_RELOAD_PINNED },
        [ON_EXIT] = { "OnExit", "registers on_exit handlers, which are not run at its unload but "
                      "at the exit of the process", "use destroy", EXJ_RELOAD_PINNED },
        [SIGNALS] = { "Signals", "changes signal handlers or masks, which belong to the process",
                      "leave signals to the host; isolate it if it cannot",
                      EXJ_RELOAD_ISOLATE_ONLY },
        [PROCESS] = { "ProcessState", "can change what the whole process shares",
                      "do without, or isolate it", EXJ_RELOAD_ISOLATE_ONLY },
        [ENDS] = { "EndsProcess", "can end or replace the process",
                   "return EXJ_R_INTERNAL instead, or isolate it", EXJ_RELOAD_ISOLATE_ONLY },
    };

    for (int i = 0; i < IMPORTS; i++)
        if (names[i].p)
            note(k, "warn", rule[i].code, rule[i].reload, rule[i].fix, "%s (imports %s)",
                 rule[i].what, names[i].p);
}

static void judge_symbols(struct look *k, const Elf64_Sym *s, uint64_t n)
{
    exj_buf names[IMPORTS] = { { 0 } };
    bool at_exit = false, entry = false;

    for (uint64_t i = 1; i < n; i++) {
        const char *name = string_at(k, s[i].st_name);
        unsigned bind = ELF64_ST_BIND(s[i].st_info);

        if (bind == STB_LOCAL)
            continue;
        if (s[i].st_shndx == SHN_UNDEF) {
            enum import_kind kind = kind_of_import(name);

            at_exit |= strcmp(name, "atexit") == 0;
            if (kind != HARMLESS && names[kind].n < 200) {
                exj_buf_add_text(&names[kind], names[kind].n ? ", " : "");
                exj_buf_add_text(&names[kind], name);
            }
            continue;
        }
        if (bind == STB_GNU_UNIQUE && k->unique++ == 0)
            snprintf(k->first_unique, sizeof k->first_unique, "%s", name);
        if (strcmp(name, ENTRY) == 0)
            entry = true;
        else if (k->stray++ == 0)
            snprintf(k->first_stray, sizeof k->first_stray, "%s", name);
    }
    if (k->stray)
        note(k, "warn", "StrayExport", EXJ_RELOAD_CLOSABLE, "compile with -fvisibility=hidden",
             "exports %u symbols besides " ENTRY ", the first is %s", k->stray, k->first_stray);
    else if (entry)
        note(k, "ok", "Exports", EXJ_RELOAD_CLOSABLE, "", "exports " ENTRY " only");
    if (!entry)
        note(k, "fail", "NoEntry", EXJ_RELOAD_CLOSABLE, "put EXJ_PLUGIN_EXPORT into one file",
             "does not export " ENTRY);
    if (k->unique)
        note(k, "warn", "GnuUnique", EXJ_RELOAD_PINNED, "compile with -fno-gnu-unique",
             "has %u GNU_UNIQUE symbols, the first is %s: the loader never unmaps it and a new "
             "version shares their state", k->unique, k->first_unique);
    judge_imports(k, names);
    if (at_exit && names[THREAD].n)
        note(k, "warn", "AtExitWithThreads", EXJ_RELOAD_PINNED,
             "stop the threads in destroy and drop the atexit handler",
             "registers atexit handlers and starts threads: they meet at its unload");
    for (int i = 0; i < IMPORTS; i++)
        exj_buf_release(&names[i]);
}

static exj_code look_symbols(struct look *k)
{
    Elf64_Shdr *s = NULL;
    Elf64_Sym *symbols = NULL;
    exj_code rc;
    bool found = false;

    if (k->h.e_shnum > HEADERS_MAX || k->h.e_shentsize != sizeof *s)
        return exj_err_set(k->err, EXJ_INVALID, "%s: %u section headers of %u bytes: wanted at "
                           "most %u of %zu", k->shown, k->h.e_shnum, k->h.e_shentsize,
                           HEADERS_MAX, sizeof *s);
    rc = read_table(k, k->h.e_shoff, k->h.e_shnum, sizeof *s, (void **)&s);
    for (unsigned i = 1; !rc && !found && i < k->h.e_shnum; i++) {
        uint64_t n = s[i].sh_size / sizeof(Elf64_Sym);

        /* the table that the loader uses, and no other that a section may name */
        if (s[i].sh_type != SHT_DYNSYM || s[i].sh_addr != k->symtab ||
            s[i].sh_entsize != sizeof(Elf64_Sym) || s[i].sh_link >= k->h.e_shnum ||
            s[s[i].sh_link].sh_addr != k->strtab || n > SYMBOLS_MAX)
            continue;
        found = true;
        rc = read_table(k, s[i].sh_offset, n, sizeof *symbols, (void **)&symbols);
        if (!rc)
            judge_symbols(k, symbols, n);
    }
    if (!rc && !found)
        note(k, "warn", "SymbolsHidden", EXJ_RELOAD_ISOLATE_ONLY,
             "link it anew with an ordinary linker; do not remove section headers",
             "no section with at most %u entries describes the symbols that the loader would "
             "use: its imports are unknown", SYMBOLS_MAX);
    free(symbols);
    free(s);
    return rc;
}

/* ---- the doors --------------------------------------------------------------------------- */

exj_code exj_lint_fd(int fd, const char *shown, exj_lint *ret, exj_err *err)
{
    struct look k = { .fd = fd, .shown = shown, .l = ret, .err = err };
    Elf64_Phdr *p = NULL;
    struct stat st;
    exj_code rc;

    memset(ret, 0, sizeof *ret);
    if (fstat(fd, &st) < 0)
        return exj_err_set(err, EXJ_IO, "%s: %s", shown, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return exj_err_set(err, EXJ_INVALID, "%s: not a regular file", shown);
    k.bytes = (uint64_t)st.st_size;
    rc = read_at(&k, &k.h, sizeof k.h, 0);
    if (!rc && (memcmp(k.h.e_ident, ELFMAG, SELFMAG) != 0 ||
                k.h.e_ident[EI_CLASS] != ELFCLASS64))
        rc = exj_err_set(err, EXJ_INVALID, "%s: not an ELF file of 64 bit", shown);
    if (!rc && (k.h.e_phentsize != sizeof *p || k.h.e_phnum == 0 || k.h.e_phnum > HEADERS_MAX))
        rc = exj_err_set(err, EXJ_INVALID, "%s: %u program headers of %u bytes: wanted 1 to %u "
                         "of %zu", shown, k.h.e_phnum, k.h.e_phentsize, HEADERS_MAX, sizeof *p);
    if (!rc)
        rc = read_table(&k, k.h.e_phoff, k.h.e_phnum, sizeof *p, (void **)&p);
    if (!rc)
        rc = look_segments(&k, p);
    if (!rc) {
        judge_dynamic(&k);
        rc = look_symbols(&k);
    }
    if (!rc && k.static_tls) /* a generation that stays keeps its share of a small block */
        note(&k, "warn", "StaticTls",
             ret->reload == EXJ_RELOAD_CLOSABLE ? EXJ_RELOAD_CLOSABLE : EXJ_RELOAD_ISOLATE_ONLY,
             "compile with -fPIC and without -ftls-model=initial-exec",
             "uses static TLS, of which a process has room for a few libraries only%s",
             ret->reload == EXJ_RELOAD_CLOSABLE ? "" : ", and never gives it back");
    free(k.strings);
    free(p);
    return rc;
}

exj_code exj_lint_file(const char *path, exj_lint *ret, exj_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us */
    exj_code rc;

    if (fd < 0)
        return exj_err_set(err, errno == ENOENT ? EXJ_NOT_FOUND : EXJ_IO, "%s: %s", path,
                           strerror(errno));
    rc = exj_lint_fd(fd, path, ret, err);
    close(fd);
    return rc;
}

void exj_lint_why(const exj_lint *l, char *ret, size_t bytes)
{
    size_t n = (size_t)snprintf(ret, bytes, "%s", exj_reload_class_word(l->reload));
    const char *comma = ": ";

    for (unsigned i = 0; i < l->findings_len && n < bytes; i++)
        if (l->findings[i].reload != EXJ_RELOAD_CLOSABLE) {
            n += (size_t)snprintf(ret + n, bytes - n, "%s%s", comma, l->findings[i].code);
            comma = ", ";
        }
}
