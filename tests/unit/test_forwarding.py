"""port-forward's own side: whose connections it takes, and how often it asks the engine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mooring import forward
from mooring.errors import EngineError, SessionNotFound
from mooring.forward import Forwarder
from mooring.sessions.model import State
from mooring.terminals.pump import Demultiplexer

PORT = 6006


class Service:
    """A session that runs, on an engine that starts nothing in it."""

    def __init__(self) -> None:
        self.engine = self
        self.asked = 0
        self.gone = False

    def exec(self, *_: object, **__: object) -> None:
        self.asked += 1
        assert self.asked < 10, "asked again and again"
        raise EngineError("no")

    def get(self, session_id: str) -> Any:
        if self.gone:
            raise SessionNotFound("gone")
        return SimpleNamespace(id=session_id, name="box", state=State.RUNNING, container="c")


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def forwarder(service: Service, told: list[str]) -> Iterator[Forwarder]:
    mooring: Any = service
    made = Forwarder(mooring, service.get("s1"), [], told.append)
    yield made
    made.close()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listening(forwarder: Forwarder) -> int:
    number, sockets = forward._listen(0, PORT, lambda line: None)
    forwarder._listening = [(each, PORT) for each in sockets]
    return number


def accepted(forwarder: Forwarder, true: Callable[[], object]) -> None:
    """Take what has connected by now, until something is true."""
    thread = threading.Thread(target=forwarder._accept)
    thread.start()
    until(true)
    forwarder._closed.set()
    thread.join()


def test_one_that_closed_at_once_is_no_stranger(forwarder: Forwarder, told: list[str]) -> None:
    """Who sends and is gone before the system tells whose it was is not called somebody else,
    and many of them are told once.
    """
    number = listening(forwarder)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", number)) as quick:
            quick.sendall(b"metric 1\n")
    accepted(forwarder, lambda: told and forwarder._room._value == forward.AT_ONCE)
    assert told == [f"port {PORT}: a connection was closed before its owner could be told"]


def test_a_stranger_is_turned_away(
    forwarder: Forwarder, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's connection is closed, and told each time."""
    monkeypatch.setattr(forward, "owner", lambda near: 4711)
    number = listening(forwarder)
    with socket.create_connection(("127.0.0.1", number)) as near:
        accepted(forwarder, lambda: told)
        assert near.recv(1) == b""
    assert told == [f"port {PORT}: turned away somebody who is not you"]


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
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard kills by number: it is told of one that is free to be another process's."""
    near, far = socket.socketpair()
    guard, hears = socket.socketpair()
    stream: Any = SimpleNamespace(socket=lambda: near, close=near.close)
    forwarder._guard = SimpleNamespace(  # type: ignore[assignment]
        socket=lambda: guard, close=guard.close, close_stdin=lambda: None
    )
    forwarder._spares = [forward._Relay(stream, "42", Demultiplexer())]
    monkeypatch.setattr(forwarder, "_spare", lambda: None)
    far.close()
    with hears:
        with pytest.raises(EngineError):
            forwarder._relay()
        hears.settimeout(5)
        assert hears.recv(100) == b"drop 42\n"
    assert near.fileno() == -1
