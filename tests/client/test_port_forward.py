"""port-forward's own side: whose connections it takes, and how often it asks the engine."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mooring.client import port_forward as forward
from mooring.client.port_forward import Forwarder, parse
from mooring.engines.base import STDERR
from mooring.engines.streams import HEADER, SocketStream
from mooring.errors import EngineError, SessionNotFound, SpecError
from mooring.guest.shared import SharedGuest
from mooring.sessions.model import State

PORT = 6006


class Process(SocketStream):
    """A process in a session: its streams, and the test's end of them."""

    def __init__(self) -> None:
        near, self.far = socket.socketpair()
        self.far.settimeout(10)
        super().__init__(near, tty=False)

    def prints(self, text: str) -> None:
        line = f"{text}\n".encode()
        self.far.sendall(HEADER.pack(STDERR, len(line)) + line)


class Service:
    """A session that runs, on an engine that starts nothing in it until it is `willing`.

    Its image has no Python.
    """

    def __init__(self, run: Path) -> None:
        self.engine = self
        self.guest = SharedGuest(run)
        self.asked = 0
        self.gone = False
        self.willing = False
        self.closed = False
        self.guard = Process()
        self.relays: list[Process] = []

    def folder(self, _: str) -> Service:
        return self

    def refuse_unverified(self) -> None:
        """Its container is checked."""

    def exec(self, _: str, argv: Sequence[str], **__: object) -> Process:
        self.asked += 1
        assert self.asked < 10, "asked again and again"
        if not self.willing or self.closed:
            raise EngineError("no")
        if "serve" in argv:
            self.guard.prints("guard")
            return self.guard
        relay = Process()
        relay.prints(str(41 + len(self.relays)))
        self.relays.append(relay)
        return relay

    def get(self, session_id: str) -> Any:
        if self.gone:
            raise SessionNotFound("gone")
        return SimpleNamespace(id=session_id, name="box", state=State.RUNNING, container="c")

    def close(self) -> None:
        self.closed = True  # a spare relay may still be asked for, in the background
        for process in [self.guard, *self.relays]:
            process.close()
            process.far.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.close()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def forwarder(
    service: Service, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Forwarder]:
    monkeypatch.setattr(forward, "get", lambda ctx, session_id: ctx.get(session_id))
    ctx: Any = service
    made = Forwarder(ctx, service.get("s1"), [(0, PORT)], warnings.append)
    yield made
    made.close()


def test_the_same_port_unless_another_is_given() -> None:
    """The session's port alone is the same one here; 0 and an empty one are any free port."""
    assert [parse(text) for text in ("2", "1:2", ":2", "0:2", "127.0.0.1:1:2")] == [
        (2, 2),
        (1, 2),
        (0, 2),
        (0, 2),
        (1, 2),
    ]


@pytest.mark.parametrize("text", ["x", "0", "70000", "1:2:3", "-1", "80:", "²:1", "80/udp"])
def test_what_is_not_a_port_is_refused(text: str) -> None:
    """The error shows the text, and its hint the forms."""
    with pytest.raises(SpecError) as caught:
        parse(text)
    told = "must be a TCP port" if text.endswith("/udp") else f"{text!r} is not a port"
    assert told in caught.value.message
    assert "such as" not in caught.value.message  # the hint says it
    assert "8080:6006" in caught.value.hint


def test_one_that_closed_at_once_is_no_stranger(
    forwarder: Forwarder, service: Service, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without an owner any more is not called another user's, and many of them are
    told once.
    """
    service.willing = True
    monkeypatch.setattr(forward, "owner", lambda near: None)
    ((number, _),) = forwarder.open()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", number)) as quick:
            assert quick.recv(1) == b""
    assert warnings == [f"port {PORT}: a connection was closed before its owner could be found"]


def test_a_stranger_is_turned_away(
    forwarder: Forwarder, service: Service, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's connection is closed, and told each time."""
    service.willing = True
    monkeypatch.setattr(forward, "owner", lambda near: 4711)
    ((number, _),) = forwarder.open()
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", number)) as near:
            assert near.recv(1) == b""
    assert warnings == [f"port {PORT}: refused a connection of another user"] * 2


def test_an_engine_that_refuses_is_asked_no_more_than_once_a_second(
    forwarder: Forwarder, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the session runs and takes no process, a forward waits between its tries."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        service.gone = len(slept) == 3

    now = time.monotonic()
    clock: Any = SimpleNamespace(sleep=sleep, monotonic=lambda: now)
    monkeypatch.setattr(forward, "time", clock)
    assert forwarder.serve() == "session box is gone"
    assert slept == [forward.AGAIN_S] * 3
    assert service.asked == 3


def test_a_relay_that_ended_while_it_waited_is_forgotten_by_the_guard(
    forwarder: Forwarder, service: Service
) -> None:
    """The guard kills by number: it drops one that may be another process's by now."""
    service.willing = True
    ((number, _),) = forwarder.open()
    heard = b""
    while b"add 42" not in heard:
        heard += service.guard.far.recv(100)
    service.relays[0].far.close()
    with socket.create_connection(("127.0.0.1", number)):
        assert service.relays[1].far.recv(100) == b"6006 1776\n"
        while b"drop 41" not in heard:
            heard += service.guard.far.recv(100)
        service.relays[1].far.close()
