"""Processes that stay: none keeps the variables of the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from tests.conftest import Cli, Terminal
from tests.support.sessions import make_folder
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

# Written apart, so that no command line holds it
SENTINEL = "-".join(("sentinel", "stays", "7c1e"))
LAUNCHER = """
import sys, time
from mooring_provisioner.watchdog import Watchdog
watchdog = Watchdog()
print("started", flush=True)
sys.stdin.read()
"""

OWNER = """
import sys
from mooring import KernelRecord, Mooring
owned = Mooring().kernels.own(KernelRecord("0123456789ab", "k" * 12, "mk", root="", cwd="/"))
print("started", flush=True)
sys.stdin.read()
owned.forget()
"""


def planted() -> dict[str, str]:
    """The variables of somebody who has secrets, under names that look like mooring's own too."""
    names = ("HF_TOKEN", "DOCKER_PASSWORD", "DOCKER_AUTH_CONFIG", "PYTHON_TOKEN", "JPY_API_TOKEN")
    return {**os.environ, **dict.fromkeys(names, SENTINEL)}


def staying(state: Path) -> Iterator[tuple[int, str, bool]]:
    """Every other process that works for this installation: pid, command line, and whether its
    environment has the sentinel."""
    mine = f"MOORING_STATE_DIR={state}".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            environ = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if mine in environ.split(b"\0"):
                yield int(entry.name), command, SENTINEL.encode() in environ


def find(state: Path, program: str) -> list[tuple[int, str, bool]]:
    return [one for one in staying(state) if program in one[1] and not one[1].startswith("/bin/sh")]


def test_the_keeper_of_terminals(
    terminal: Terminal, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that keeps terminals open for days has what it needs, and no token."""
    for name, value in planted().items():
        monkeypatch.setenv(name, value)
    child = terminal("create", "--name", "kept", "--", "sh")
    child.expect("[$#] ")
    child.send("\x10\x11")
    child.expect(pexpect.EOF)
    eventually(lambda: find(state, "keeper.process"), timeout=20)
    assert [secret for _, _, secret in staying(state)] != []
    assert not any(secret for _, _, secret in staying(state))


def test_the_dispatcher(cli: Cli, mooring: Mooring, state: Path, project: Path) -> None:
    """The process that launches what waits has no variable of whoever happened to start it."""
    folder = make_folder("0123456789ab", "waits")  # locked by this process, so it is not launched
    resolved = {"origins": {}, "path": None, "project": "/", "sha256": "", "reaches": []}
    manner = {"cwd": "/", "tty": False, "size": [24, 80], "since": 0}
    launch = {"spec": {"command": ["true"]}, "resolved": resolved | {"extended": []}}
    folder.mark_enqueued(launch | {"manner": manner, "actor": "tester"})
    cli("ps", env=planted(), check=0)
    try:
        eventually(lambda: find(state, "mooring.launch.dispatcher"), timeout=20)
        assert not any(secret for _, _, secret in staying(state)), list(staying(state))
    finally:
        folder.remove()
        folder.release()
    eventually(lambda: not find(state, "mooring.launch.dispatcher"), timeout=30)


def test_the_watchdog_of_a_launcher(state: Path, project: Path) -> None:
    """The process that outlives a client's launcher is a program of its own, without its client's
    variables; the launcher itself is its client's, as any kernel is."""
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=planted(),
    )
    try:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"started\n"
        eventually(lambda: find(state, "mooring_provisioner.watchdog"), timeout=20)
        # one that is to become the watchdog may still be the launcher's fork
        others = [one for one in staying(state) if one[0] != launcher.pid]
        assert others != []
        eventually(
            lambda: not any(secret for pid, _, secret in staying(state) if pid != launcher.pid),
            timeout=20,
        )
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.communicate()
    eventually(lambda: not find(state, "mooring_provisioner.watchdog"), timeout=20)


def test_what_waits_for_a_clients_end(state: Path, project: Path) -> None:
    """The process that ends kernels with their client has none of its variables, and exits when
    there is nothing left to end."""
    folder = make_folder("0123456789ab", "waits")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=planted()
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"started\n"
        eventually(lambda: find(state, "client_watch.py"), timeout=20)
        assert not any(secret for pid, _, secret in staying(state) if pid != owner.pid)
    eventually(lambda: not find(state, "client_watch"), timeout=20)
    folder.release()


def test_the_search_finds_what_it_looks_for(state: Path) -> None:
    """A process that was started with the variables is found with them: the check can fail."""
    with subprocess.Popen(["sleep", "60"], env=planted()) as process:
        try:
            eventually(lambda: find(state, "sleep 60"), timeout=10)
            ((pid, _, secret),) = find(state, "sleep 60")
            assert (pid, secret) == (process.pid, True)
        finally:
            process.kill()
