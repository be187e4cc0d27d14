"""A command whose session somebody else ends leaves with a line that says so."""

from __future__ import annotations

import getpass
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(mooring: Mooring, project: Path) -> Iterator[Start]:
    """Starts the command line beside the test, with its streams in pipes."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        words = [sys.executable, "-m", "mooring_cli", *arguments]
        begun.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


SAY = "echo begun; while :; do sleep 0.2; echo on; done"


def test_stopped(cli, start: Start, terminal, mooring: Mooring) -> None:  # podman#27368
    """create, attach, and exec with and without a terminal name the session, that it was stopped,
    and by whom; their exit codes are as ever, those of a killed process."""
    created = start("create", "--name", "one", "--", "sh", "-c", SAY)
    assert created.stdout is not None
    assert created.stdout.readline() == "begun\n"
    executed = start("exec", "one", "--", "sh", "-c", SAY)
    assert executed.stdout is not None
    assert executed.stdout.readline() == "begun\n"
    attached = start("attach", "one")
    assert attached.stdout is not None
    assert attached.stdout.readline()
    child = terminal("exec", "one", "--", "sh", "-c", SAY)
    child.expect("begun")
    eventually(lambda: mooring.terminals.list(mooring.sessions.get("one")))
    cli("stop", "one", check=0)
    told = f"session one is stopped: by {getpass.getuser()}"
    for process in (created, executed, attached):
        _, errors = process.communicate(timeout=30)
        assert told in errors.splitlines()
        assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    child.expect(told)
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus in (129, 137, 143)


def test_removed(cli, start: Start, mooring: Mooring) -> None:
    """A session that is removed under a command is gone, not lost; an exit of its own says
    nothing."""
    cli("create", "-d", "--name", "two", "--", "sleep", "1000", check=0)
    failed = cli("exec", "two", "--", "sh", "-c", "exit 200")
    assert (failed.returncode, failed.stderr) == (200, "")
    executed = start("exec", "two", "--", "sh", "-c", SAY)
    assert executed.stdout is not None
    assert executed.stdout.readline() == "begun\n"
    cli("rm", "-f", "two", check=0)
    _, errors = executed.communicate(timeout=30)
    assert errors == f"session two is gone: removed by {getpass.getuser()}\n"
    assert executed.returncode == 137
    assert not [event for event in mooring.history.after(0) if "outside mooring" in event.detail]
