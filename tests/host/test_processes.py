"""Processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.host import processes
from tests.support.waiting import eventually

GONE = 2**22 + 1  # above the largest process id there can be, see proc_sys_kernel(5)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name holds what separates the fields of its stat file."""
    program = tmp_path / "a) S (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        eventually(lambda: processes.living_name(child.pid) == program.name)  # it has executed
        yield child
        child.kill()


def test_fields_are_told_whatever_the_name_holds(sleeper: subprocess.Popen[bytes]) -> None:
    """A name with brackets and spaces moves no field of proc_pid_stat(5)."""
    fields = processes.stat_fields(sleeper.pid)
    assert fields[:2] == [str(sleeper.pid), "a) S (b"]
    assert fields[3] == str(os.getpid())
    assert processes.stat_fields("self")[0] == str(os.getpid())
    assert processes.stat_fields(GONE) == []


def test_a_mark_is_one_process_and_no_later_one() -> None:
    """A process is told from one that has its number later, by when it started."""
    mark = processes.process_mark(os.getpid())
    assert processes.alive(mark)
    number, _, start = mark.partition(":")
    assert not processes.alive(f"{number}:{int(start) + 1}")


@pytest.mark.parametrize("mark", ["", ":", "x:1", f"{GONE}:gone", f"{GONE}:1", "1", "-1:5"])
def test_what_is_no_mark_of_a_living_process(mark: str) -> None:
    """Neither a process that has exited nor rubbish counts as alive."""
    assert not processes.alive(mark)


def test_a_mark_of_one_that_is_gone() -> None:
    """The mark of a process that does not exist never names a living one."""
    assert processes.process_mark(GONE) == f"{GONE}:gone"
    assert not processes.alive(processes.process_mark(GONE))


def test_a_process_that_waits_to_be_reaped_has_no_name(sleeper: subprocess.Popen[bytes]) -> None:
    """A process has a name while it lives, and none when only its exit code is left."""
    assert processes.living_name(sleeper.pid) == "a) S (b"
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert processes.stat_fields(sleeper.pid)
    assert processes.living_name(sleeper.pid) == ""
    assert processes.living_name(GONE) == ""


def test_the_owner_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is owned by a user, who is named by number if there is no name."""
    import pwd

    assert processes.owner_name(os.getpid()) == pwd.getpwuid(os.geteuid()).pw_name
    assert processes.owner_name(GONE) == ""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert processes.owner_name(os.getpid()) == f"uid {os.geteuid()}"


def test_a_mark_is_the_same_in_every_process() -> None:
    """What one process writes down about itself another one can check."""
    code = "import os; from mooring.host.processes import process_mark as p; print(p(os.getppid()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == processes.process_mark(os.getpid())
