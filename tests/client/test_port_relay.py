"""The process that makes a forward's connections, run on this machine, and one that lies."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mooring.client import port_relay
from mooring.client.port_relay import PortRelay, Refused, RelayEnded
from mooring.engines.base import STDERR
from mooring.engines.streams import HEADER, SocketStream
from mooring.errors import EngineError
from mooring.guest.paths import GUEST_RUN
from mooring.guest.shared import SharedGuest


class Session:
    """A session whose processes run here, and whose run folder is ``run``."""

    id, container = "s1", "c"

    def __init__(self, run: Path) -> None:
        self.engine, self.guest, self.run = self, SharedGuest(run), run
        self.started: list[subprocess.Popen[bytes]] = []
        self.threads: list[threading.Thread] = []
        self.path = ""

    def folder(self, _: str) -> Session:
        return self

    def refuse_unverified(self) -> None:
        """Its container is checked."""

    def exec(self, _: str, argv: Sequence[str], **__: object) -> SocketStream:
        words = [word.replace(GUEST_RUN, str(self.run)) for word in argv]
        self.path = words[-1]
        near, far = socket.socketpair()
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.started.append(process)

        def feed() -> None:
            with far, contextlib.suppress(OSError):
                while far.recv(100):
                    pass
            if process.stdin:
                process.stdin.close()

        def show() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                with contextlib.suppress(OSError):
                    far.sendall(HEADER.pack(STDERR, len(line)) + line)
            process.stderr.close()
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)

        self.threads += [threading.Thread(target=feed), threading.Thread(target=show)]
        for thread in self.threads[-2:]:
            thread.start()
        return SocketStream(near, tty=False)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait(20)
    for thread in made.threads:
        thread.join(20)


@pytest.fixture
def relay(session: Session) -> Iterator[PortRelay]:
    ctx: Any = session
    made = PortRelay(ctx, ctx)
    yield made
    made.close()


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def service(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    host = "::1" if request.param == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=request.param) as made:
        made.settimeout(20)
        yield made


def test_a_connected_socket_is_passed(relay: PortRelay, service: socket.socket) -> None:
    """The bytes do not pass through the process: the socket is this program's own."""
    assert not relay.is_guard
    with relay.connect(service.getsockname()[1]) as far:
        accepted, _ = service.accept()
        with accepted:
            far.sendall(b"hello")
            assert accepted.recv(10) == b"hello"
            far.shutdown(socket.SHUT_WR)
            assert accepted.recv(10) == b""
            accepted.sendall(b"bye")
        assert far.recv(10) == b"bye"
        assert far.recv(10) == b""


def test_where_nothing_listens(relay: PortRelay) -> None:
    """A refusal is no other error, and does not end the process."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    for _ in range(20):
        with pytest.raises(Refused):
            relay.connect(port)


def test_it_ends_with_its_input(relay: PortRelay, session: Session) -> None:
    """Nothing of it is left, and who asks then is told."""
    relay.close()
    assert session.started[0].wait(20) == 0
    assert list(session.run.iterdir()) == []
    with pytest.raises(RelayEnded):
        relay.connect(80)


def test_one_that_was_killed(relay: PortRelay, session: Session) -> None:
    """Its socket is still there, and answers nobody."""
    session.started[0].kill()
    session.started[0].wait(20)
    with pytest.raises(RelayEnded):
        relay.connect(80)


def _udp() -> socket.socket:
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.connect(("127.0.0.1", 9))
    return made


@pytest.mark.parametrize(
    "make",
    [
        socket.socket,
        _udp,
        lambda: socket.socket(socket.AF_UNIX),
        lambda: os.fdopen(os.open("/dev/zero", os.O_RDONLY), "rb"),
    ],
    ids=["unconnected", "udp", "unix", "file"],
)
def test_what_is_no_connection_is_closed(
    relay: PortRelay, session: Session, make: Callable[[], Any]
) -> None:
    """A process of the session's can take its place, and pass anything."""
    os.unlink(session.path)
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack:
        listening.bind(session.path)
        listening.listen()

        def lie() -> None:
            client, _ = listening.accept()
            with client, contextlib.closing(make()) as thing:
                client.recv(16)
                passed = array.array("i", [thing.fileno()] * 5)
                client.sendmsg([b"open\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])

        liar = threading.Thread(target=lie)
        liar.start()
        stack.callback(liar.join, 20)
        with pytest.raises(EngineError, match="no connection"):
            relay.connect(80)
    stack.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_never_answers(
    relay: PortRelay, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for a limited time."""
    monkeypatch.setattr(port_relay, "TIMEOUT_S", 0.1)
    os.unlink(session.path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(session.path)
        listening.listen()
        with pytest.raises(EngineError, match="does not answer"):
            relay.connect(80)


def test_a_python_that_does_not_work(session: Session, tmp_path: Path) -> None:
    """The image's other programs are used then."""
    exec_ = session.exec

    def broken(container: str, argv: Sequence[str], **_: object) -> SocketStream:
        words = [*argv[:-2], "1/0", argv[-1]] if "serve" in argv else argv
        return exec_(container, words)

    session.exec = broken  # type: ignore[method-assign]
    ctx: Any = session
    with contextlib.closing(PortRelay(ctx, ctx)) as relay:
        assert relay.is_guard
        assert session.started[0].wait(20) == 1


def test_of_several_descriptors_none_is_left_open() -> None:
    """A session may pass more than one with an answer, of any kind."""
    listening = socket.create_server(("127.0.0.1", 0))
    one = socket.create_connection(listening.getsockname())
    two = socket.create_connection(listening.getsockname())
    with listening, one, two:
        pipe = os.pipe()
        before = len(os.listdir("/proc/self/fd"))
        for numbers in ([one.fileno(), pipe[0]], [pipe[0], one.fileno()], [one.fileno()] * 2):
            far = port_relay._checked([os.dup(number) for number in numbers], port_relay._TCP)
            assert far is not None
            assert far.getpeername() == one.getpeername()
            far.close()
            assert len(os.listdir("/proc/self/fd")) == before
        for number in pipe:
            os.close(number)
