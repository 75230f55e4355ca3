/* See confine.h.
**
** The filter has three tiers: calls that an association needs are allowed; calls that only an
** intruder would want (new programs, processes, connections, tracing, kernel interfaces) kill the
** child; everything else fails with EPERM, so that a C library that tries something newer falls
** back instead of dying. Source: seccomp(2); the list was found with strace. */
#include "dicom/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#endif

enum { MAX_OPEN_FILES = 32 };

#ifdef NATIVE_ARCH
static const int allowed[] = {
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_ppoll,
    SYS_pselect6,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_sendto,
    SYS_recvfrom,
    SYS_getpeername,
    SYS_getsockname,
    SYS_setsockopt,
    SYS_getsockopt,
    SYS_shutdown,
    SYS_close,
    SYS_openat,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statfs,
    SYS_fstatfs,
    SYS_lseek,
    SYS_fdatasync,
    SYS_fsync,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_sync_file_range,
    SYS_renameat,
    SYS_renameat2,
    SYS_unlinkat,
    SYS_brk,
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    SYS_futex,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_getpid,
    SYS_gettid,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_nanosleep,
    SYS_gettimeofday,
    SYS_getrandom,
    SYS_restart_syscall,
    SYS_exit,
    SYS_exit_group,
#ifdef SYS_poll
    SYS_poll,
    SYS_select,
    SYS_time,
    SYS_rename,
    SYS_unlink,
#endif
};

static const int deadly[] = {
    SYS_execve,
    SYS_execveat,
    SYS_clone,
    SYS_clone3,
    SYS_socket,
    SYS_socketpair,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    SYS_ptrace,
    SYS_kill,
    SYS_tkill,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_mprotect,
    SYS_pkey_mprotect,
    SYS_bpf,
    SYS_mount,
    SYS_umount2,
    SYS_unshare,
    SYS_setns,
    SYS_chroot,
    SYS_pivot_root,
    SYS_init_module,
    SYS_finit_module,
    SYS_kexec_load,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_keyctl,
    SYS_add_key,
    SYS_io_uring_setup,
    SYS_memfd_create,
    SYS_setuid,
    SYS_setgid,
    SYS_prctl,
    SYS_seccomp,
    SYS_pidfd_getfd,
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
};

enum {
    N_ALLOWED = (int)(sizeof allowed / sizeof allowed[0]),
    N_DEADLY = (int)(sizeof deadly / sizeof deadly[0]),
    FILTER_SIZE = 4 + 2 * (N_ALLOWED + N_DEADLY) + 1
};

static int add_rules(struct sock_filter *filter, int n, const int *calls, int n_calls,
                     unsigned action)
{
    for (int i = 0; i < n_calls; i++) {
        filter[n++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    }
    return n;
}

static Status filter_system_calls(Err *err)
{
    static struct sock_filter filter[FILTER_SIZE];
    int n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                               (unsigned)offsetof(struct seccomp_data, arch));
    filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                               (unsigned)offsetof(struct seccomp_data, nr));
    n = add_rules(filter, n, allowed, N_ALLOWED, SECCOMP_RET_ALLOW);
    n = add_rules(filter, n, deadly, N_DEADLY, SECCOMP_RET_KILL_PROCESS);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    ASSERT(n == FILTER_SIZE);
    struct sock_fprog program = {(unsigned short)n, filter};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return err_sys(err, errno, "seccomp");
    return ST_OK;
}
#else
static Status filter_system_calls(Err *err)
{
    (void)err; /* no list for this processor: the other limits hold */
    return ST_OK;
}
#endif

static Status limit(int resource, uint64_t value, Err *err)
{
    struct rlimit r = {value, value};
    if (setrlimit((__rlimit_resource_t)resource, &r) != 0)
        return err_sys(err, errno, "setrlimit %d", resource);
    return ST_OK;
}

/* Address space in use now, in bytes; 0 if unknown. */
static uint64_t address_space(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    (void)fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

Status confine_process(uint64_t max_file_bytes, uint64_t more_memory_bytes, Err *err)
{
    /* Too large a file is then a failed write (answered A700H), not the end of the process. */
    (void)signal(SIGXFSZ, SIG_IGN);
    TRY(limit(RLIMIT_CORE, 0, err));
    TRY(limit(RLIMIT_NOFILE, MAX_OPEN_FILES, err));
    TRY(limit(RLIMIT_NPROC, 0, err));
    TRY(limit(RLIMIT_FSIZE, max_file_bytes, err));
    uint64_t now = address_space();
    if (!SANITIZED && now > 0)
        TRY(limit(RLIMIT_AS, now + more_memory_bytes, err));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0)
        return err_sys(err, errno, "prctl");
    return SANITIZED ? ST_OK : filter_system_calls(err);
}
