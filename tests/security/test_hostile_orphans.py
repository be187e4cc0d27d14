"""Kernels that play dead when their client has exited: nobody waits for them, and they end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.errors import EngineError, EngineUnavailable
from mooring.sessions import usage
from mooring.sessions.context import Context
from mooring.sessions.kernel_owners import KernelRecord, Ownership
from mooring.sessions.model import Session, State
from tests.support.fake import clock, declare, engine, service
from tests.support.kernel_clients import install, jupyter, only_session
from tests.support.pace import in_time
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["clock", "declare", "engine", "jupyter", "service"]

# What one listing may take, of any number of sessions
LISTING_S = 3.0
# Of a session whose kernel host takes all of its time
ONE_S = 1.5
HOSTILE = r"""
import os, socket, sys, time
run = "/run/mooring"
if os.fork() == 0:
    os.setsid()
    os.unlink(f"{run}/kernelhost.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{run}/kernelhost.sock")
    listener.listen(64)
    open("begun", "w").close()
    kept = []
    while True:
        kept.append(listener.accept())
start = open("/proc/self/stat").read().rpartition(")")[2].split()[19]
open(f"{run}/x/forged", "w").write(f"{os.getpid()} {start}\n")
open(f"{run}/hold", "w").write(f"{float(open('/proc/uptime').read().split()[0]) + 1e6:.2f}\n")
os.makedirs(f"{run}/k/another")
open(f"{run}/k/another/pid", "w").write(f"{os.getpid()} {start}\n")
open(f"{run}/k/another/c.json", "w").write("{}")
os.openpty()
time.sleep(600)
"""
Host = Callable[[Path], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def serving(path: Path, act: Callable[[socket.socket], Any]) -> Iterator[None]:
    """Something listens at a path, and does what it likes with each connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        over = threading.Event()

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                while not over.is_set():
                    act(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while not over.is_set():
                    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def send(connection: socket.socket, data: bytes, pause_s: float = 0.01) -> None:
    connection.sendall(data)
    time.sleep(pause_s)


def silent(path: Path) -> contextlib.AbstractContextManager[None]:
    return serving(path, lambda _: time.sleep(0.05))


def slow(path: Path) -> contextlib.AbstractContextManager[None]:
    return serving(path, lambda connection: send(connection, b"{"))


def garbage(path: Path) -> contextlib.AbstractContextManager[None]:
    return serving(path, lambda connection: send(connection, b"\xff\n"))


def lying(path: Path) -> contextlib.AbstractContextManager[None]:
    return serving(path, lambda connection: send(connection, b'{"sent": true}\n'))


@contextlib.contextmanager
def full(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(path))
        yield


@contextlib.contextmanager
def fifo(path: Path) -> Iterator[None]:
    os.mkfifo(path)
    yield


@contextlib.contextmanager
def file(path: Path) -> Iterator[None]:
    path.write_text("{}")
    yield


@contextlib.contextmanager
def folder(path: Path) -> Iterator[None]:
    path.mkdir()
    yield


HOSTS = (silent, slow, garbage, lying, full, fifo, file, folder)


def own(service: Mooring, session: Session) -> Ownership:
    """A kernel of this process in a session."""
    kernel = session.id + "-4567-89ef-0123-456789abcdef"
    owned = service.kernels.owners.own(KernelRecord(session.id, kernel, "mk", root="", cwd="/"))
    assert owned is not None
    return owned


def listing(service: Mooring) -> tuple[list[Session], float]:
    began = time.monotonic()
    found = service.sessions.list()
    return found, time.monotonic() - began


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("made", [True, False], ids=["made", "shared"])
def test_no_listing_waits_for_a_kernel_host(
    service: Mooring, declare: Any, monkeypatch: pytest.MonkeyPatch, host: Host, made: bool
) -> None:
    """Whatever is in the place of its socket; a session that was made for the kernel is removed."""
    monkeypatch.setattr(usage, "running_execs", lambda *_: [])
    options = LaunchOptions(name="hostile", ends_with_kernels=made)
    session = service.sessions.create(declare(command="x"), options).session
    owned = own(service, session)
    with host(session_folder(session.id).run / "kernelhost.sock"):
        owned.release()
        found, took = listing(service)
        assert in_time(took, ONE_S)
        assert [one.name for one in found] == ([] if made else ["hostile"])
        assert in_time(listing(service)[1], 0.5)


def test_many_kernel_hosts_share_one_patience(
    service: Mooring, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions made for a kernel go at once; the others have their turn at some listing."""
    monkeypatch.setattr(usage, "running_execs", lambda *_: [])
    with contextlib.ExitStack() as stack:
        for number in range(8):
            options = LaunchOptions(name=f"s{number}", ends_with_kernels=number >= 6)
            session = service.sessions.create(declare(command="x"), options).session
            stack.enter_context(silent(session_folder(session.id).run / "kernelhost.sock"))
            own(service, session).release()
        found, took = listing(service)
        assert in_time(took, LISTING_S)
        assert {one.name for one in found} == {f"s{number}" for number in range(6)}
        for _ in range(2):
            assert in_time(listing(service)[1], LISTING_S)
        assert in_time(listing(service)[1], 0.5)
        late = list(service.installation.sessions.glob("*/kernels/*.late"))
        assert len(late) == 6


# What counts as used


@pytest.fixture
def made(service: Mooring, declare: Any) -> Session:
    options = LaunchOptions(name="made", ends_with_kernels=True)
    return service.sessions.create(declare(command="x"), options).session


def used(service: Mooring, session: Session, *kernels: str) -> str:
    return usage.used_for(Context(service.engine), session, kernels)


@pytest.fixture
def execs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What clients run in any session, as the engine tells."""
    running: list[dict[str, Any]] = []
    monkeypatch.setattr(usage, "running_execs", lambda *_: iter(running))
    return running


def test_nothing_that_a_session_writes_is_a_use(
    service: Mooring, made: Session, execs: list[dict[str, Any]]
) -> None:
    """Neither a command, nor a kernel, nor a hold."""
    run = session_folder(made.id)
    run.guest.write("x/forged", f"{os.getpid()} 1\n")
    run.guest.make_folder("k/another")
    run.guest.write("k/another/pid", f"{os.getpid()} 1")
    run.clock.hold(1e6)
    with silent(run.run / "kernelhost.sock"):
        assert used(service, made) == ""


def test_a_hold_that_a_client_asked_for_is_a_use(
    service: Mooring, made: Session, execs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it was asked for, and until it is given up, whatever the session adds to it."""
    service.sessions.hold(made, 3900)
    assert used(service, made) == "it is held"
    now = time.time()
    session_folder(made.id).clock.hold(1e6)
    with monkeypatch.context() as later:
        later.setattr("mooring.sessions.usage.time.time", lambda: now + 3 * 3900)
        assert used(service, made) == ""
    service.sessions.hold(made, 0)
    session_folder(made.id).clock.hold(1e6)
    assert used(service, made) == ""
    session_folder(made.id).guest.write("hold", "for ever")
    assert used(service, made) == ""


def test_a_kernel_of_a_client_is_a_use(
    service: Mooring, made: Session, execs: list[dict[str, Any]]
) -> None:
    """While its client lives; not one that has ended, and none in a session without its host."""
    owned = own(service, made)
    assert used(service, made) == "", "no kernel host"
    with silent(session_folder(made.id).run / "kernelhost.sock"):
        assert used(service, made) == "another kernel lives in it"
        assert used(service, made, made.id) == ""
        owned.release()
        assert used(service, made) == "", "its client has exited"


def test_a_kernel_that_nobody_owns_is_a_use(
    service: Mooring, made: Session, execs: list[dict[str, Any]]
) -> None:
    """One that is to survive its client, or is the library's: its sockets are pinned."""
    place = session_folder(made.id)
    (place.path / "k" / "independent").mkdir(parents=True)
    with silent(place.run / "kernelhost.sock"):
        assert used(service, made) == "another kernel lives in it"
        place.guest.make_folder("k/independent")
        place.guest.write("k/independent/exit", '{"code": 0}')
        assert used(service, made) == ""


@pytest.mark.parametrize(
    ("argv", "tty", "why"),
    [
        (("/bin/sh", "{}/exec.sh", "counted", "1", "--", "make"), False, "a command runs in it"),
        (("/bin/sh", "-c", "cd", "/p", "/bin/sh", "{}/exec.sh"), False, "a command runs in it"),
        (("bash",), True, "a terminal is open in it"),
        (("python", "{}/kernelhost.py"), False, ""),
        (("/bin/sh", "-c", "kill -9 1"), False, ""),
    ],
    ids=["a command", "a command in a folder", "a terminal", "a kernel host", "a signal"],
)
def test_what_clients_run_is_a_use(
    service: Mooring,
    made: Session,
    execs: list[dict[str, Any]],
    argv: tuple[str, ...],
    tty: bool,
    why: str,
) -> None:
    """As the engine was asked to run it; mooring's own programs are none."""
    words = [word.format(session_folder(made.id).programs_target) for word in argv]
    execs.append({"entrypoint": words[0], "arguments": words[1:], "tty": tty})
    assert used(service, made) == why


def test_where_the_engine_does_not_tell_a_session_is_kept(
    service: Mooring, made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown is not unused."""
    assert used(service, made) == "what runs in it cannot be seen", "the fake has no socket"

    def refuse(*_: object) -> None:
        raise EngineError("no")

    monkeypatch.setattr(usage, "running_execs", refuse)
    assert used(service, made) == "what runs in it cannot be seen"

    def unavailable(*_: object) -> None:
        raise EngineUnavailable("no engine answers")

    monkeypatch.setattr(usage, "running_execs", unavailable)
    with pytest.raises(EngineUnavailable):
        used(service, made)


# With an engine


@contextlib.contextmanager
def notebook(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client that executes one cell, which says by a file that it has begun."""
    spec = {"name": "mk", "display_name": "mk", "language": "python"}
    cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "n.ipynb")
    argv = [sys.executable, "-m", "papermill", "n.ipynb", "out.ipynb", "--no-progress-bar"]
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with subprocess.Popen(argv, **quiet) as process:
        try:
            eventually(lambda: Path("begun").exists(), timeout=90)
            yield process
        finally:
            process.kill()


@pytest.mark.engine
def test_a_notebook_that_plays_dead_ends_with_its_client(mooring: Mooring, jupyter: Path) -> None:
    """It silences its kernel host, and pretends to be used in every way that a file can say."""
    install()
    with notebook(HOSTILE) as client:
        session = only_session(mooring)
        client.kill()
        client.wait()
        for _ in range(2):
            assert in_time(listing(mooring)[1], LISTING_S)
        eventually(lambda: not mooring.records.exists(session.id), timeout=10)
        assert mooring.engine.list({"mooring.installation": mooring.installation.id}) == []
    events = [event.kind for event in mooring.sessions.events(session.id)]
    assert events[-1] == "removed"
    assert "kept" not in events


@pytest.mark.engine
@pytest.mark.parametrize("how", ["command", "terminal"])
def test_what_a_client_runs_in_it_keeps_a_session(
    mooring: Mooring, jupyter: Path, how: str
) -> None:
    """Its kernel ends all the same; the engine knows what runs."""
    install()
    with notebook("open('begun', 'w').close(); import time; time.sleep(600)") as client:
        session = only_session(mooring)
        if how == "terminal":
            stream = mooring.terminals.open(session, ["sleep", "600"], size=(24, 80))
        else:
            stream = mooring.sessions.exec(session, ["sleep", "600"], stdin=False)
        with contextlib.closing(stream):
            client.send_signal(signal.SIGKILL)
            client.wait()
            eventually(lambda: not mooring.kernels.list(session.id))
            assert [one.state for one in mooring.sessions.list()] == [State.RUNNING]
    eventually(lambda: [one for one in mooring.sessions.events(session.id) if one.kind == "kept"])
    kept = [one.detail for one in mooring.sessions.events(session.id) if one.kind == "kept"]
    assert len(kept) == 1
    assert how in kept[0]
