"""Copying between pairs of sockets: ends, resets, and those who do not read."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from mooring.client import joined
from mooring.client.joined import CHUNK, Joined

PATIENCE_S = 20.0


class Pair:
    """The two outer ends of a pair, and whether it has ended."""

    def __init__(self, copier: Joined) -> None:
        self.ended = threading.Event()
        (self.client, near), (far, self.service) = _tcp(), _tcp()
        copier.add(near, far, self.ended.set)

    def close(self) -> None:
        self.client.close()
        self.service.close()


def _tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as port:
        one = socket.create_connection(port.getsockname(), timeout=PATIENCE_S)
        other, _ = port.accept()
    other.settimeout(PATIENCE_S)
    return one, other


@pytest.fixture
def gone() -> set[int]:
    """The ports of clients that have closed their connections."""
    return set()


@pytest.fixture
def copier(gone: set[int]) -> Iterator[Joined]:
    made = Joined(lambda near: near.getpeername()[1] in gone)
    yield made
    made.close()


@pytest.fixture
def pair(copier: Joined) -> Iterator[Pair]:
    with contextlib.closing(Pair(copier)) as made:
        yield made


def test_either_end_may_end_first(copier: Joined) -> None:
    """The other one goes on, and learns of it."""
    for first in ("client", "service"):
        with contextlib.closing(Pair(copier)) as pair:
            ends = [pair.client, pair.service]
            one, other = ends if first == "client" else ends[::-1]
            one.sendall(b"question")
            one.shutdown(socket.SHUT_WR)
            assert other.recv(100) == b"question"
            assert other.recv(100) == b""
            other.sendall(b"answer")
            assert one.recv(100) == b"answer"
            assert not pair.ended.is_set()
            other.shutdown(socket.SHUT_WR)
            assert one.recv(100) == b""
            assert pair.ended.wait(PATIENCE_S)


def test_a_reset_arrives_as_one(pair: Pair) -> None:
    """Who resets a connection has not ended what it sent."""
    pair.service.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.service.close()
    with pytest.raises(ConnectionResetError):
        pair.client.recv(100)
    assert pair.ended.wait(PATIENCE_S)


def test_who_does_not_read_is_sent_no_more(copier: Joined, pair: Pair) -> None:
    """What waits for it is bounded, other pairs go on, and in the end all of it arrives."""
    pair.service.settimeout(1.0)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += pair.service.send(bytes(CHUNK))
    with contextlib.closing(Pair(copier)) as other:
        other.client.sendall(b"hello")
        assert other.service.recv(100) == b"hello"
    pair.service.shutdown(socket.SHUT_WR)
    got = 0
    while data := pair.client.recv(CHUNK):
        got += len(data)
    assert got == sent


def test_a_client_that_has_gone_ends_a_silent_service(
    gone: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is closed looks like one whose client only sends no more."""
    monkeypatch.setattr(joined, "CLOSED_S", 0.05)
    copier = Joined(lambda near: near.getpeername()[1] in gone)
    with contextlib.closing(copier), contextlib.closing(Pair(copier)) as pair:
        pair.client.shutdown(socket.SHUT_WR)
        assert pair.service.recv(100) == b""
        assert not pair.ended.wait(0.2)
        gone.add(pair.client.getsockname()[1])
        assert pair.ended.wait(PATIENCE_S)
        with pytest.raises(ConnectionError):
            pair.service.sendall(b"anybody?")


def test_closing_ends_all(pair: Pair, copier: Joined) -> None:
    """Also what was just added."""
    with contextlib.closing(Pair(copier)) as late:
        copier.close()
        assert pair.ended.wait(PATIENCE_S)
        assert late.ended.wait(PATIENCE_S)
