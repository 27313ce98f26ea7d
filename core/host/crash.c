/* core/host/crash.c - see crash.h. Everything that the handler calls is async-signal-safe, save
 * backtrace and dladdr, which may wait for a lock of the loader that this very thread, or a
 * thread that will not run again, holds: an alarm ends that wait. */
#include "core/host/crash.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/plugin/wire.h"

#define FRAMES 48
#define STACK_BYTES (128u * 1024u)
#define PATIENCE_S 2

static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS };

static exj_crash *crash; /* of sizeof *crash + EXJ_CRASH_TEXT bytes; NULL: none */
static atomic_flag taken = ATOMIC_FLAG_INIT;
static __thread uint64_t call_of_thread;

void exj_crash_in_call(uint64_t call)
{
    call_of_thread = call;
}

uint64_t exj_crash_call(void)
{
    return call_of_thread;
}

static void put(const char *text)
{
    char *to = (char *)(crash + 1);

    while (*text && crash->bytes < EXJ_CRASH_TEXT)
        to[crash->bytes++] = *text++;
}

static void put_hex(uintptr_t v)
{
    char digits[2 * sizeof v + 3];
    size_t at = sizeof digits;

    digits[--at] = 0;
    do {
        digits[--at] = "0123456789abcdef"[v & 15];
        v >>= 4;
    } while (v);
    digits[--at] = 'x';
    digits[--at] = '0';
    put(digits + at);
}

static void put_frame(void *address)
{
    uintptr_t pc = (uintptr_t)address;
    Dl_info where;
    const char *base;

    if (!address || !dladdr(address, &where) || !where.dli_fname) {
        put_hex(pc);
        put("\n");
        return;
    }
    if (where.dli_sname) {
        put(where.dli_sname);
        put("+");
        put_hex(pc - (uintptr_t)where.dli_saddr);
        put(" ");
    }
    base = strrchr(where.dli_fname, '/');
    put("(");
    put(base ? base + 1 : where.dli_fname);
    put("+");
    put_hex(pc - (uintptr_t)where.dli_fbase);
    put(")\n");
}

static void *pc_of(const void *context)
{
    const ucontext_t *u = context;

#if defined(__x86_64__)
    return (void *)(uintptr_t)u->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (void *)(uintptr_t)u->uc_mcontext.pc;
#else
    (void)u;
    return NULL;
#endif
}

static void write_backtrace(const void *context)
{
    void *frames[FRAMES], *pc = pc_of(context);
    int n = backtrace(frames, FRAMES), from = 0;

    while (from < n && frames[from] != pc)
        from++;
    if (from == n) { /* not seen on the way: the place itself, then what there is */
        put_frame(pc);
        from = n > 2 ? 2 : n; /* behind the handler and the way into it */
    }
    for (; from < n; from++)
        put_frame(frames[from]);
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    sigset_t alarm_only, one;

    (void)info;
    if (crash && !atomic_flag_test_and_set(&taken)) {
        crash->call = call_of_thread;
        crash->bytes = 0;
        atomic_thread_fence(memory_order_release);
        crash->signal = (uint32_t)sig;
        signal(SIGALRM, SIG_DFL);
        sigemptyset(&alarm_only);
        sigaddset(&alarm_only, SIGALRM);
        sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
        alarm(PATIENCE_S);
        write_backtrace(context);
        alarm(0);
    } else if (crash) {
        for (;;) /* another thread was first; it ends us all */
            pause();
    }
    signal(sig, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, sig);
    raise(sig);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
}

void exj_crash_thread(void)
{
    stack_t s = { .ss_size = STACK_BYTES };

    s.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s.ss_sp != MAP_FAILED)
        sigaltstack(&s, NULL);
}

void exj_crash_thread_end(void)
{
    stack_t none = { .ss_flags = SS_DISABLE }, was;

    if (sigaltstack(&none, &was) == 0 && !(was.ss_flags & SS_DISABLE) &&
        was.ss_size == STACK_BYTES)
        munmap(was.ss_sp, STACK_BYTES);
}

bool exj_crash_setup(void)
{
    size_t bytes = sizeof *crash + EXJ_CRASH_TEXT;
    struct sigaction a = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    void *warm[4];
    struct stat st;
    void *p = MAP_FAILED;

    if (fstat(EXJ_HOST_FD_CRASH, &st) == 0 && st.st_size >= (off_t)bytes)
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, EXJ_HOST_FD_CRASH, 0);
    if (p != MAP_FAILED)
        crash = p;
    backtrace(warm, 4); /* it loads a library at its first use */
    exj_crash_thread();
    sigfillset(&a.sa_mask);
    for (size_t k = 0; k < sizeof signals / sizeof *signals; k++)
        sigaction(signals[k], &a, NULL);
    return crash != NULL;
}
