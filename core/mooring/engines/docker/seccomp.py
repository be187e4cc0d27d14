"""Seccomp profiles that deny set-user-ID and set-group-ID modes, for Docker's API.

A file that a session makes set-user-ID in one of its mounts gives whoever runs it on this machine
the rights of the session's owner. A mount cannot prevent that, a filter of system calls can. The
engine takes one profile and does not show its own, so this is a whole one. It allows the calls that
the default profiles of Docker 20.10 and of later versions have in common; calls of newer kernels
that do what those do; and process_vm_readv and process_vm_writev, which 20.10 denies although it
allows ptrace. What the default profiles tie to a capability is denied. Calls that take a file's
mode are allowed for modes without the denied bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

CREATES = 0o100 | 0o20000000  # O_CREAT | __O_TMPFILE: without these, open(2) ignores the mode
NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*
ENOSYS = 38

_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ("SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "SCMP_ARCH_AARCH64": ("SCMP_ARCH_ARM",),
}

# The position of the mode among the arguments of each call that can set a file's
_CHANGE_MODE = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
_CREATE = {"creat": 1, "mknod": 1, "mknodat": 2}
_OPEN = {"open": (1, 2), "openat": (2, 3)}  # flags and mode

# Calls whose arguments are behind a pointer, where no filter sees them; programs that are told that
# the kernel lacks them use older ones
_UNKNOWN = ("clone3", "openat2")

_FILES = """
    _llseek access chdir chown chown32 close close_range copy_file_range dup dup2 dup3 faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchown fchown32 fchownat fcntl fcntl64
    fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat
    io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl
    lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr lremovexattr lseek
    lsetxattr lstat lstat64 mkdir mkdirat newfstatat pipe pipe2 pread64 preadv preadv2 pwrite64
    pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename
    renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs
    statfs64 statx symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask
    unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev
"""
_WAITING = """
    _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
    epoll_wait epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch pause poll ppoll ppoll_time64 pselect6 pselect6_time64 select
"""
_MEMORY = """
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2
    mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free
    pkey_mprotect process_mrelease remap_file_pages
"""
_PROCESSES = """
    capget capset execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait
    futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid getegid32 geteuid
    geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority
    getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32
    ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setuid setuid32 tgkill tkill ugetrlimit vfork wait4 waitid waitpid
"""
_SIGNALS = """
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4
    sigprocmask sigreturn
"""
_COMMUNICATION = """
    accept accept4 bind connect getpeername getsockname getsockopt ipc listen mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg recvmmsg_time64 recvmsg semctl
    semget semop semtimedop semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl
    shmdt shmget shutdown socketcall socketpair
"""
_TIME_AND_SYSTEM = """
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer getrandom gettimeofday
    nanosleep setitimer sysinfo time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times uname
"""
# Earlier kernels filter a call before its tracer may change it
_TRACING = {"minKernel": "4.8"}, "process_vm_readv process_vm_writev ptrace"
# Calls of one processor architecture, by Docker's names of it
_ARCHITECTURES_CALLS = {
    ("amd64", "x32"): "arch_prctl uretprobe",
    ("amd64", "x32", "x86"): "modify_ldt",
    ("arm", "arm64"): "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls "
    "sync_file_range2",
}
# Linux, and as seen on a 32-bit machine; each also as UNAME26; and the query of the current one
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
AF_ALG, AF_VSOCK = 38, 40


#: The machines that the profile is for, as Docker and as Podman name them.
MACHINES = ("x86_64", "aarch64", "amd64", "arm64")


def why_not(daemon: Mapping[str, Any]) -> str:
    """Why an engine's containers cannot have the profile; empty if they can.

    Args:
        daemon: the response to ``GET /info``.
    """
    options = [str(option) for option in daemon.get("SecurityOptions") or []]
    own = [option for option in options if option.partition(",")[0] == "name=seccomp"]
    if not own:
        return "the engine does not filter system calls"
    if own[0].partition("profile=")[2] not in ("", "default", "builtin"):
        return "the engine has a seccomp profile of its own"
    if daemon.get("Architecture") not in MACHINES:
        return f"not known on {daemon.get('Architecture', 'this machine')}"
    return ""


@lru_cache
def profile(denied: int) -> str:
    """A profile as JSON, as in ``HostConfig.SecurityOpt`` after ``seccomp=``.

    Args:
        denied: the mode bits that no file may be given.
    """
    return json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [
                {"architecture": name, "subArchitectures": list(others)}
                for name, others in _ARCHITECTURES.items()
            ],
            "syscalls": _rules(denied),
        },
        separators=(",", ":"),
    )


def _rules(denied: int) -> list[dict[str, Any]]:
    """The rules; a call with several is allowed if one of them allows it."""
    plain = _FILES, _WAITING, _MEMORY, _PROCESSES, _SIGNALS, _COMMUNICATION, _TIME_AND_SYSTEM
    rules = [_allow(" ".join(plain).split())]
    rules.append(_allow(_TRACING[1].split()) | {"includes": _TRACING[0]})
    for names, calls in _ARCHITECTURES_CALLS.items():
        rules.append(_allow(calls.split()) | {"includes": {"arches": list(names)}})
    for call, mode in (_CHANGE_MODE | _CREATE).items():
        rules.append(_allow([call], _without(mode, denied)))
    for call, (flags, mode) in _OPEN.items():
        rules.append(_allow([call], _without(mode, denied)))
        rules.append(_allow([call], _without(flags, CREATES)))
    rules.append(_allow(["clone"], _without(0, NEW_NAMESPACES)))
    rules += [_allow(["personality"], _compare("EQ", 0, value)) for value in _PERSONALITIES]
    for relation, family in (("LT", AF_ALG), ("EQ", AF_ALG + 1), ("GT", AF_VSOCK)):
        rules.append(_allow(["socket"], _compare(relation, 0, family)))
    unknown = {"names": list(_UNKNOWN), "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}
    return [*rules, unknown]


def _allow(names: Sequence[str], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", "args": list(conditions)}


def _without(argument: int, bits: int) -> dict[str, Any]:
    """The condition that none of some bits is set in an argument."""
    return _compare("MASKED_EQ", argument, bits) | {"valueTwo": 0}


def _compare(relation: str, argument: int, value: int) -> dict[str, Any]:
    return {"index": argument, "value": value, "op": f"SCMP_CMP_{relation}"}
