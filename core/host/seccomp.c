/* core/host/seccomp.c - system calls that a plugin has no use for.
 *
 * Answered with EPERM: a plugin that tries gets an error, as it would without privileges, and
 * may go on. New processes are refused because nothing else stops a fork bomb of root's.
 */
#include "core/host/cage.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <unistd.h>

/* In both lanes. Numbers that an architecture does not have are skipped by libseccomp. */
static const int never[] = {
    /* other processes, and new ones */
    SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(kcmp),
    SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_send_signal), SCMP_SYS(tkill), SCMP_SYS(fork),
    SCMP_SYS(vfork), SCMP_SYS(execve), SCMP_SYS(execveat),
    /* wide or rarely used doors of the kernel */
    SCMP_SYS(bpf), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register), SCMP_SYS(userfaultfd), SCMP_SYS(perf_event_open),
    SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at), SCMP_SYS(lookup_dcookie), SCMP_SYS(syslog), SCMP_SYS(acct),
    SCMP_SYS(quotactl), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(setrlimit),
    /* the whole machine */
    SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(init_module),
    SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(reboot), SCMP_SYS(swapon),
    SCMP_SYS(swapoff), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex), SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(vhangup),
    /* another view of the files */
    SCMP_SYS(mount), SCMP_SYS(umount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot),
    SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen), SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr), SCMP_SYS(setns),
    SCMP_SYS(unshare),
};

/* In the sandbox too: the network, other programs, and what Landlock leaves of the files. */
static const int never_in_sandbox[] = {
    SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept),
    SCMP_SYS(accept4), SCMP_SYS(shmget), SCMP_SYS(shmat), SCMP_SYS(msgget), SCMP_SYS(semget),
    SCMP_SYS(mq_open), SCMP_SYS(mq_unlink), SCMP_SYS(chmod), SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat), SCMP_SYS(chown), SCMP_SYS(fchown), SCMP_SYS(lchown), SCMP_SYS(fchownat),
    SCMP_SYS(utime), SCMP_SYS(utimes), SCMP_SYS(utimensat), SCMP_SYS(futimesat),
    SCMP_SYS(setxattr), SCMP_SYS(lsetxattr), SCMP_SYS(fsetxattr), SCMP_SYS(removexattr),
    SCMP_SYS(lremovexattr), SCMP_SYS(fremovexattr), SCMP_SYS(truncate), SCMP_SYS(creat),
    SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(unlink),
    SCMP_SYS(unlinkat), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(rmdir), SCMP_SYS(link),
    SCMP_SYS(linkat), SCMP_SYS(symlink), SCMP_SYS(symlinkat), SCMP_SYS(mknod), SCMP_SYS(mknodat),
    SCMP_SYS(inotify_init), SCMP_SYS(inotify_init1), SCMP_SYS(fanotify_init),
};

static bool refuse_all(scmp_filter_ctx f, const int *numbers, size_t n)
{
    bool good = true;

    for (size_t k = 0; k < n; k++)
        good &= seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), numbers[k], 0) == 0;
    return good;
}

/* Refuse `number` when argument `arg` & `mask` is `value`. */
static bool refuse_when(scmp_filter_ctx f, int number, unsigned arg, uint64_t mask,
                        uint64_t value)
{
    struct scmp_arg_cmp when = { .arg = arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask,
                                 .datum_b = value };

    return seccomp_rule_add_array(f, SCMP_ACT_ERRNO(EPERM), number, 1, &when) == 0;
}

/* Signals reach this process only. */
static bool refuse_others(scmp_filter_ctx f, int number)
{
    struct scmp_arg_cmp when = { .arg = 0, .op = SCMP_CMP_NE, .datum_a = (uint64_t)getpid() };

    return seccomp_rule_add_array(f, SCMP_ACT_ERRNO(EPERM), number, 1, &when) == 0;
}

static bool refuse_writing(scmp_filter_ctx f)
{
    static const struct {
        int number;
        unsigned arg;
    } opens[] = { { SCMP_SYS(open), 1 }, { SCMP_SYS(openat), 2 } };
    bool good = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(openat2), 0) == 0;

    for (size_t k = 0; k < sizeof opens / sizeof *opens; k++) {
        good &= refuse_when(f, opens[k].number, opens[k].arg, O_ACCMODE, O_WRONLY);
        good &= refuse_when(f, opens[k].number, opens[k].arg, O_ACCMODE, O_RDWR);
        good &= refuse_when(f, opens[k].number, opens[k].arg, O_CREAT, O_CREAT);
        good &= refuse_when(f, opens[k].number, opens[k].arg, O_TRUNC, O_TRUNC);
    }
    return good;
}

bool exj_seccomp_close(const exj_cage *c, bool writes)
{
    static const int to_others[] = { SCMP_SYS(kill), SCMP_SYS(tgkill), SCMP_SYS(rt_sigqueueinfo),
                                     SCMP_SYS(rt_tgsigqueueinfo) };
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    struct scmp_arg_cmp new_limit = { .arg = 2, .op = SCMP_CMP_NE, .datum_a = 0 };
    bool good;

    if (!f)
        return false;
    good = refuse_all(f, never, sizeof never / sizeof *never);
    for (size_t k = 0; k < sizeof to_others / sizeof *to_others; k++)
        good &= refuse_others(f, to_others[k]);
    /* threads yes, processes no. clone3 hides its flags from us: the C library then takes
     * clone. */
    good &= refuse_when(f, SCMP_SYS(clone), 0, CLONE_THREAD, 0);
    good &= seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0;
    good &= seccomp_rule_add_array(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), 1,
                                   &new_limit) == 0;
    if (c->sandbox) {
        good &= refuse_all(f, never_in_sandbox,
                           sizeof never_in_sandbox / sizeof *never_in_sandbox);
        if (writes)
            good &= refuse_writing(f);
    }
    /* whatever could not be added: the rest is loaded, and the mask tells the truth */
    good = seccomp_load(f) == 0 && good;
    seccomp_release(f);
    return good;
}
