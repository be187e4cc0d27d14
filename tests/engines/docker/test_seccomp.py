"""The profile that denies set-ID modes: what it lets through, on paper."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mooring.engines.docker.seccomp import profile, why_not

DENIED = 0o6000
CREATE, TMPFILE, EXCL = 0o100, 0o20200000, 0o200
DOCKER = {"Architecture": "x86_64", "SecurityOptions": ["name=seccomp,profile=default"]}


def allows(call: str, *arguments: int, denied: int = DENIED) -> bool:
    """Whether a rule of the profile allows a call, as libseccomp reads it."""
    relations = {
        "SCMP_CMP_EQ": lambda given, rule: given == rule["value"],
        "SCMP_CMP_LT": lambda given, rule: given < rule["value"],
        "SCMP_CMP_GT": lambda given, rule: given > rule["value"],
        "SCMP_CMP_MASKED_EQ": lambda given, rule: given & rule["value"] == rule["valueTwo"],
    }
    return any(
        all(relations[one["op"]](arguments[one["index"]], one) for one in rule["args"])
        for rule in rules(denied)
        if call in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"
    )


def rules(denied: int = DENIED) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(profile(denied))["syscalls"]
    return found


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755, 0o2000, 0o104755, 1 << 40 | 0o4000])
def test_no_call_sets_a_denied_mode(mode: int) -> None:
    """A mode with a denied bit is refused wherever a call takes one, with any other bits."""
    assert not allows("chmod", 0, mode)
    assert not allows("fchmod", 0, mode)
    assert not allows("fchmodat", 0, 0, mode)
    assert not allows("fchmodat2", 0, 0, mode, 0)
    assert not allows("creat", 0, mode)
    assert not allows("mknod", 0, mode, 0)
    assert not allows("mknodat", 0, 0, mode, 0)
    for flags in (CREATE, CREATE | EXCL | 1, TMPFILE | 2, 0o20000000):
        assert not allows("open", 0, flags, mode)
        assert not allows("openat", 0, 0, flags, mode)


@pytest.mark.parametrize("mode", [0, 0o644, 0o755, 0o1777, 0o100755])
def test_other_modes_are_let_through(mode: int) -> None:
    """Permissions and the sticky bit are nobody else's business."""
    assert allows("chmod", 0, mode)
    assert allows("fchmodat", 0, 0, mode)
    assert allows("mknodat", 0, 0, mode, 0)
    assert allows("open", 0, CREATE, mode)
    assert allows("openat", 0, 0, TMPFILE, mode)


def test_a_file_that_is_only_opened_has_no_mode() -> None:
    """Without creation the mode is not read, and may be anything that was in the register."""
    assert allows("open", 0, 0, 0o6777)
    assert allows("openat", 0, 0, 0o2000000 | 2, -1 & 0xFFFFFFFF)


def test_one_bit_can_be_denied_alone() -> None:
    """Where folders are shared, only set-user-ID is denied."""
    assert allows("chmod", 0, 0o2775, denied=0o4000)
    assert not allows("chmod", 0, 0o4755, denied=0o4000)
    assert not allows("chmod", 0, 0o6755, denied=0o4000)


@pytest.mark.parametrize("call", ["clone3", "openat2"])
def test_what_no_filter_can_read_does_not_exist(call: str) -> None:
    """A call whose arguments are behind a pointer answers ENOSYS: programs then use another."""
    assert not allows(call, 0, 0, 0, 0)
    (rule,) = [rule for rule in rules() if call in rule["names"]]
    assert (rule["action"], rule["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


@pytest.mark.parametrize(
    "call",
    """acct add_key bpf chroot clock_settime delete_module fanotify_init finit_module fsconfig
    fsmount
    fsopen fspick init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
    kexec_file_load kexec_load keyctl lookup_dcookie mbind mount mount_setattr move_mount
    name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root
    process_madvise quotactl quotactl_fd reboot request_key set_mempolicy setdomainname sethostname
    setns settimeofday stime swapoff swapon syslog umount umount2 unshare userfaultfd vhangup
    vm86""".split(),
)
def test_what_the_engine_denies_is_denied(call: str) -> None:
    """The profile takes the place of the engine's own, and is not more generous."""
    assert not [rule for rule in rules() if call in rule["names"]]


def test_no_namespace_and_no_odd_socket() -> None:
    """A session makes threads and processes, not namespaces; and no socket to a hypervisor or to
    the kernel's cryptography."""
    threads, processes, users = 0x3D0F00, 17, 0x10000000
    assert allows("clone", threads)
    assert allows("clone", processes)
    assert not allows("clone", users | processes)
    assert not allows("clone", 0x20000)  # CLONE_NEWNS
    for family in (1, 2, 10, 16, 17, 39, 44):
        assert allows("socket", family)
    assert not allows("socket", 38)
    assert not allows("socket", 40)
    assert allows("personality", 0xFFFFFFFF)
    assert not allows("personality", 0x40000)  # ADDR_NO_RANDOMIZE


def test_every_call_is_named_once_or_with_conditions() -> None:
    """A call that has conditions is not allowed without them elsewhere."""
    plain = [name for rule in rules() if not rule.get("args") for name in rule["names"]]
    conditional = [name for rule in rules() if rule.get("args") for name in rule["names"]]
    assert len(plain) == len(set(plain))
    assert not set(plain) & set(conditional)


def test_32_bit_programs_are_filtered_too() -> None:
    """The filter covers the other modes of the same processor."""
    machines = json.loads(profile(DENIED))["archMap"]
    assert {machine["architecture"]: machine["subArchitectures"] for machine in machines} == {
        "SCMP_ARCH_X86_64": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "SCMP_ARCH_AARCH64": ["SCMP_ARCH_ARM"],
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin"]}, ""),
        ({"Architecture": "aarch64"}, ""),
        ({"Architecture": "amd64"}, ""),
        ({"SecurityOptions": ["name=apparmor"]}, "does not filter"),
        ({"SecurityOptions": None}, "does not filter"),
        ({"SecurityOptions": ["name=seccomp,profile=/etc/docker/own.json"]}, "of its own"),
        ({"SecurityOptions": ["name=seccomp,profile=unconfined"]}, "of its own"),
        ({"Architecture": "s390x"}, "s390x"),
    ],
)
def test_where_it_is_not_used(changes: dict[str, Any], why: str) -> None:
    """An engine that cannot filter, has its administrator's profile, or a processor with other
    calls keeps what it has, and doctor says so."""
    told = why_not(DOCKER | changes)
    assert why in told
    assert bool(told) == bool(why)
