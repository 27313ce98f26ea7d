/* What goes wrong. Each fault is told to the history before it is made. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/chaos/chaos.h"

#define LEASE_MS 1000
#define DAY_NS (INT64_C(86400) * 1000000000)
#define HOSTS_MOST 64

const char *const fault_words[F_COUNT] = {
    "kill", "stop", "kill-host", "stop-host", "reload", "clock", "full", "io", "pause"
};

static void wait_ms(uint64_t ms)
{
    poll(NULL, 0, (int)ms);
}

/* Before its exec a child has whatever its parent has, the lock of the store too: stopped then,
 * it would hold the store of a worker that is killed. */
static bool is_program_of_its_own(pid_t child, pid_t parent)
{
    char path[2][32], exe[2][512];
    ssize_t n[2];

    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof(path[i]), "/proc/%d/exe", i ? parent : child);
        n[i] = readlink(path[i], exe[i], sizeof(exe[i]));
    }
    return n[0] > 0 && n[1] > 0 && (n[0] != n[1] || memcmp(exe[0], exe[1], (size_t)n[0]) != 0);
}

/* Children of the worker; each is a plugin host or the transform. */
static size_t hosts_of(pid_t parent, pid_t ret[HOSTS_MOST])
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    size_t n = 0;

    while (proc && n < HOSTS_MOST && (entry = readdir(proc))) {
        char path[64], line[600];
        const char *close;
        FILE *f;
        int of = 0;

        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof(path), "/proc/%.20s/stat", entry->d_name);
        f = fopen(path, "re");
        if (!f)
            continue;
        if (fgets(line, sizeof(line), f) && (close = strrchr(line, ')')) != NULL &&
            sscanf(close + 1, " %*c %d", &of) == 1 && of == parent &&
            is_program_of_its_own(atoi(entry->d_name), parent))
            ret[n++] = atoi(entry->d_name);
        fclose(f);
    }
    if (proc)
        closedir(proc);
    return n;
}

static void kill_worker(struct chaos *c)
{
    chaos_tell(c, EXJ_HIST_FAULT, "kill", "worker", c->d.prog.pid);
    exj_prog_signal(&c->d.prog, SIGKILL);
    exj_prog_wait(&c->d.prog, 10000);
    if (chaos_any(&c->seed, 5))
        return;
    exj_daemon_spawn(&c->d); /* and again while it starts */
    c->starts++;
    wait_ms(chaos_any(&c->seed, 40));
    chaos_tell(c, EXJ_HIST_FAULT, "kill", "worker", c->d.prog.pid);
    exj_prog_signal(&c->d.prog, SIGKILL);
    exj_prog_wait(&c->d.prog, 10000);
    c->faults[F_KILL]++;
}

static void stop_worker(struct chaos *c)
{
    chaos_tell(c, EXJ_HIST_FAULT, "stop", "worker", c->d.prog.pid);
    exj_prog_signal(&c->d.prog, SIGSTOP);
    wait_ms(LEASE_MS + 100 + chaos_any(&c->seed, 500));
    chaos_tell(c, EXJ_HIST_FAULT, "continue", "worker", c->d.prog.pid);
    exj_prog_signal(&c->d.prog, SIGCONT);
}

/* A stopped host does not see that its worker is killed: it goes on when the faults are over, or
 * when many more were stopped after it. */
static void go_on_later(struct chaos *c, pid_t host)
{
    int *slot = &c->stopped[c->stopped_len++ % (sizeof(c->stopped) / sizeof(*c->stopped))];

    if (*slot > 0) {
        syscall(SYS_pidfd_send_signal, *slot, SIGCONT, NULL, 0);
        close(*slot);
    }
    *slot = (int)syscall(SYS_pidfd_open, host, 0);
}

static bool fault_host(struct chaos *c, bool kills)
{
    pid_t hosts[HOSTS_MOST], host;
    size_t n = hosts_of(c->d.prog.pid, hosts);

    if (!n)
        return false;
    host = hosts[chaos_any(&c->seed, n)];
    chaos_tell(c, EXJ_HIST_FAULT, kills ? "kill" : "stop", "host", host);
    if (!kills)
        go_on_later(c, host);
    if (kill(host, kills ? SIGKILL : SIGSTOP) != 0)
        return false;
    if (!kills && chaos_any(&c->seed, 2)) { /* else its calls run out of time */
        wait_ms(chaos_any(&c->seed, 300));
        kill(host, SIGCONT);
    }
    return true;
}

static void jump(struct chaos *c)
{
    static const int64_t jumps[] = { DAY_NS, -DAY_NS, DAY_NS / 24, -DAY_NS / 24, 1500000000 };

    c->clock_at += jumps[chaos_any(&c->seed, sizeof(jumps) / sizeof(*jumps))];
    chaos_tell(c, EXJ_HIST_FAULT, "clock", "", c->clock_at / 1000000);
    *c->clock = c->clock_at;
}

/* Until something was written in vain, and some time more. */
static bool disk(struct chaos *c, const char *word, int error)
{
    int64_t failed = c->disk[1], until = exj_test_now_ms() + 300;

    chaos_tell(c, EXJ_HIST_FAULT, word, "", 0);
    c->disk[0] = error;
    while (c->disk[1] == failed && exj_test_now_ms() < until)
        wait_ms(5);
    wait_ms(chaos_any(&c->seed, 150));
    c->disk[0] = 0;
    return c->disk[1] != failed;
}

void chaos_fault(struct chaos *c, enum fault f)
{
    bool done = true;

    switch (f) {
    case F_KILL:
        kill_worker(c);
        break;
    case F_STOP:
        stop_worker(c);
        break;
    case F_KILL_HOST:
        done = fault_host(c, true);
        break;
    case F_STOP_HOST:
        done = fault_host(c, false);
        break;
    case F_RELOAD:
        c->version++;
        chaos_tell(c, EXJ_HIST_FAULT, "reload", c->version % 2 ? "chaos-near" : "chaos-far", 0);
        chaos_put_plugin(c, c->version % 2 ? "near" : "far", c->version / 2);
        break;
    case F_CLOCK:
        jump(c);
        break;
    case F_FULL:
        done = disk(c, "full", ENOSPC);
        break;
    case F_IO:
        done = disk(c, "io", EIO);
        break;
    case F_PAUSE:
        exj_daemon_call(&c->d, "POST", "/v1/workers/pause", NULL, NULL);
        wait_ms(chaos_any(&c->seed, 50));
        exj_daemon_call(&c->d, "POST", "/v1/workers/resume", NULL, NULL);
        break;
    case F_COUNT:
        break;
    }
    c->faults[f] += done;
}

void chaos_calm(struct chaos *c)
{
    c->disk[0] = 0;
    for (size_t i = 0; i < sizeof(c->stopped) / sizeof(*c->stopped); i++)
        if (c->stopped[i] > 0) {
            syscall(SYS_pidfd_send_signal, c->stopped[i], SIGCONT, NULL, 0);
            close(c->stopped[i]);
            c->stopped[i] = 0;
        }
}

static void command(struct chaos *c, const char *const *args)
{
    exj_prog p;

    exj_prog_run(&p, &c->d.tmp, EXJ_BINARY_DIR "/bin/exellix-jobs",
                 (const char *const *)c->d.env, args, 10000);
}

bool chaos_keep_running(struct chaos *c)
{
    for (int tries = 0; !exj_prog_is_running(&c->d.prog); tries++) {
        if (tries == 20) {
            char *said = exj_slurp(c->d.prog.err, NULL);

            printf("%s", said);
            free(said);
            return false;
        }
        if (tries > 2) { /* as an operator would who reads why */
            command(c, (const char *const[]){ "plugin", "release", "chaos-far", NULL });
            command(c, (const char *const[]){ "plugin", "release", "chaos-near", NULL });
        }
        if (c->d.prog.pid) {
            int end = exj_prog_wait(&c->d.prog, 1000);

            c->deaths += end != 1000 + SIGKILL;
        }
        c->starts++;
        exj_daemon_spawn(&c->d);
        exj_daemon_wait_ready(&c->d, 20000); /* it may die by a fault that lasts */
    }
    return true;
}
