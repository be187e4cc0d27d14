"""A kernel's life in its session: restarts, interrupts, deaths, and what outlives them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from tornado.web import HTTPError

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.support.kernel_clients import (
    finish,
    host_pids,
    install,
    jupyter,
    kernel,
    kernel_hosts,
    kernel_processes,
    only_session,
    run,
)
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

WHO = "import os; print(os.getpid())"


@pytest.mark.parametrize("now", [False, True])
def test_a_restart_is_in_place(mooring: Mooring, jupyter: Path, now: bool) -> None:
    """A restart keeps the container and its files, and brings another process that counts anew."""
    with kernel(install()) as (manager, client):
        before = run(client, f"{WHO}; x = 1; open('/tmp/kept', 'w').write('kept')")
        container = only_session(mooring).container
        connection = manager.get_connection_info()
        manager.restart_kernel(now=now)
        client.wait_for_ready(timeout=60)
        after = run(client, f"{WHO}; print(open('/tmp/kept').read(), 'x' in globals())")
        assert after.text.split()[1:] == ["kept", "False"]
        assert after.text.split()[0] != before.text
        assert after.count == 1
        assert only_session(mooring).container == container
        assert manager.get_connection_info() == connection
    assert mooring.sessions.list() == []


def comm(pid: int) -> str:
    """The name of a process; empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


@pytest.mark.parametrize("mode", ["message", "signal"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import subprocess; subprocess.run(['sleep', '{}'])", "error"),
        ("import os; os.system('sleep {}')", "ok"),  # the shell that waits ignores it, as locally
    ],
)
def test_an_interrupt_reaches_the_children(
    mooring: Mooring, jupyter: Path, mode: str, code: str, status: str
) -> None:
    """An interrupt ends what a cell has started, whichever way it comes."""
    mark = str(10**8 + os.getpid())
    with kernel(install()) as (manager, client):
        asked = client.execute(code.format(mark))
        # its shell may ignore an interrupt just before it becomes the command (dash does)
        eventually(lambda: [pid for pid in host_pids(mark) if comm(pid) == "sleep"])
        if mode == "message":
            manager.interrupt_kernel()
        else:
            manager.signal_kernel(signal.SIGINT)
        reply = client.get_shell_msg(timeout=30)
        assert reply["content"]["status"] == status
        finish(client, asked)
        assert host_pids(mark) == []
        assert run(client, "print('goes on')").text == "goes on"


def test_a_kernel_that_was_killed_starts_again_in_the_same_container(
    mooring: Mooring, jupyter: Path
) -> None:
    """After kill -9 of the kernel, poll tells it, no signal to it raises, and a restart works."""
    with kernel(install()) as (manager, client):
        container = only_session(mooring).container
        run(client, "open('/tmp/kept', 'w').write('kept')")
        client.execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
        eventually(lambda: not manager.is_alive(), timeout=10)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            for _ in range(3):
                manager.signal_kernel(signum)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        assert run(client, "print(open('/tmp/kept').read())").text == "kept"
        session = only_session(mooring)
        assert session.container == container
        told = [e.detail for e in mooring.sessions.events(session.id) if "ended" in e.detail]
        assert len(told) == 1
        assert told[0].endswith("ended: killed by SIGKILL")


def test_a_kernel_host_that_was_killed_is_replaced(mooring: Mooring, jupyter: Path) -> None:
    """Its kernels end with it, what they started by the next one; the session stays."""
    mark = str(2 * 10**8 + os.getpid())
    with kernel(install()) as (manager, client):
        session = only_session(mooring)
        folder = session_folder(session.id)
        run(client, f"import subprocess; subprocess.Popen(['sleep', '{mark}'])")
        eventually(lambda: host_pids(mark))
        (host,) = kernel_hosts(folder)
        os.kill(host, signal.SIGKILL)
        eventually(lambda: not kernel_processes(folder), timeout=10)
        assert not manager.is_alive()
        manager.restart_kernel(now=False)
        client.wait_for_ready(timeout=60)
        assert run(client, "1").text == "1"
        assert host_pids(mark) == []
        (second,) = kernel_hosts(folder)
        assert second != host
        assert only_session(mooring).container == session.container


def test_out_of_memory_is_said_as_such(mooring: Mooring, jupyter: Path, project: Path) -> None:
    """A kernel that the memory limit ends is told apart from a killed one, with the limit."""
    name = install(flags={"memory": "128MiB"})
    with kernel(name) as (manager, client):
        session = only_session(mooring)
        client.execute("x = bytearray(400 << 20)")
        eventually(lambda: not manager.is_alive(), timeout=60)
        handle = manager.provisioner.kernel
        assert handle.describe_exit() == "out of memory (limit 128 MiB)"
        mooring.sessions.list()
        mooring.sessions.list()
        told = [
            e.detail for e in mooring.sessions.events(session.id) if "out of memory" in e.detail
        ]
        assert told == [f"python3 {handle.id} ended: out of memory (limit 128 MiB)"]
        assert only_session(mooring).state is State.RUNNING
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        assert run(client, "1").text == "1"


def test_two_kernels_share_a_session(mooring: Mooring, jupyter: Path) -> None:
    """Kernels of one named session see each other's processes and files; it outlives them both."""
    name = install(session="shared")
    with kernel(name) as (_, one), kernel(name) as (_, two):
        session = only_session(mooring)
        assert session.name == "shared"
        assert len(session.live_kernels) == 2
        pid = run(one, "import os; open('/tmp/mine', 'w').write('hello'); print(os.getpid())").text
        seen = run(two, f"import os; os.kill({pid}, 0); print(open('/tmp/mine').read())")
        assert seen.text == "hello"
    after = only_session(mooring)
    assert after.id == session.id
    assert after.state is State.RUNNING
    assert after.kernels == ()
    with kernel(name) as (_, three):
        assert run(three, "print(open('/tmp/mine').read())").text == "hello"
    mooring.sessions.remove(after, force=True)


@pytest.mark.parametrize("end", ["stop", "idle"])
def test_a_session_that_ended_is_started_again_by_a_person_only(
    mooring: Mooring, jupyter: Path, end: str
) -> None:
    """poll tells the death of a session; an autorestart leaves it ended; a restart starts it."""
    with kernel(install(flags={"idle_timeout": "3s" if end == "idle" else "1h"})) as (
        manager,
        client,
    ):
        run(client, "open('/tmp/kept', 'w').write('kept')")
        session = only_session(mooring)
        if end == "stop":
            mooring.sessions.stop(session)
        eventually(lambda: not manager.is_alive(), timeout=60)
        eventually(lambda: only_session(mooring).state is State.STOPPED)
        assert ("idle" in only_session(mooring).reason) is (end == "idle")
        with pytest.raises(HTTPError, match="is stopped"):
            manager.restart_kernel(now=True)  # what a restarter calls
        assert only_session(mooring).state is State.STOPPED
        manager.restart_kernel(now=False)  # what a person's click calls
        client.wait_for_ready(timeout=60)
        assert run(client, "print(open('/tmp/kept').read())").text == "kept"
        again = only_session(mooring)
        assert (again.container, again.state) == (session.container, State.RUNNING)
    assert mooring.sessions.list() == []
