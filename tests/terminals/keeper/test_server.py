"""The keeper of terminals: the failure of one ends neither the others nor the keeper."""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.terminals.keeper import protocol, server, state
from mooring.terminals.keeper.server import Keeper


class Peer:
    """The other end of a connection to a keeper, at a time that only the test moves."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.now = 1000.0
        self.socket, near = socket.socketpair()
        near.setblocking(False)
        self.client = state.Client(near)
        self.frames = protocol.Frames()
        keeper.clients.append(self.client)

    def say(self, op: str, *, fd: int | None = None, **fields: Any) -> None:
        rights = array.array("i", [fd] if fd is not None else [])
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        self.socket.sendmsg([protocol.encode(op, **fields)], extra)

    def type(self, data: bytes) -> None:
        self.socket.sendall(protocol.encode_data(data))

    def hear(self) -> list[Any]:
        """All that the keeper sends now: messages, and a terminal's bytes."""
        received: list[Any] = []
        for _ in range(3):
            self.keeper.step(self.now)
            while select.select([self.socket], [], [], 0)[0] and (data := self.socket.recv(65536)):
                for kind, payload in self.frames.feed(data):
                    received.append(payload if kind == protocol.DATA else protocol.decode(payload))
        return received

    def hear_nothing(self) -> None:
        """Let the keeper notice that this connection is closed."""
        self.keeper.step(self.now)

    def open(self) -> tuple[Any, socket.socket]:
        """Hand a stream over: the keeper's answer, and the program's end of the stream."""
        program, stream = socket.socketpair()
        self.say("open", fd=stream.fileno(), about={"command": ["sh"]})
        stream.close()
        return self.hear()[-1], program

    def close(self) -> None:
        self.socket.close()


class Helpers:
    """Starts no process that asks the engine, and counts."""

    def __init__(self) -> None:
        self.started = 0
        self.error: OSError | None = None

    def __call__(self) -> int:
        if self.error:
            raise self.error
        self.started += 1
        return 0  # over already


@pytest.fixture
def helpers() -> Helpers:
    return Helpers()


@pytest.fixture
def keeper(helpers: Helpers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    (tmp_path / "term").mkdir()
    (tmp_path / "record.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "term")
    monkeypatch.setattr(server, "TICK_S", 0.0)  # a round waits for nobody
    made = Keeper(helpers)
    yield made
    made.close()
    for terminal in made.terminals.values():
        terminal.remove()


@pytest.fixture
def peer(keeper: Keeper) -> Iterator[Peer]:
    made = Peer(keeper)
    yield made
    made.close()


def hello(peer: Peer, name: str = "c") -> Any:
    peer.say("attach", terminal="t1", client=name)
    return next(each for each in peer.hear() if each["op"] == "hello")


def failing(number: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_terminal_that_cannot_be_kept_is_refused_alone(
    keeper: Keeper, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a new terminal is refused, the others go on, and no number is skipped."""
    first, program = peer.open()
    with program, monkeypatch.context() as full:
        full.setattr(os, "mkdir", failing(errno.ENOSPC))
        refused, orphan = peer.open()
        with orphan:
            assert refused["op"] == "refused"
            assert "No space" in refused["why"]
            assert orphan.recv(1) == b""  # the stream is not held
        assert first["terminal"] == "t1"
        assert keeper.terminals["t1"].stream is not None
        full.undo()
        again, another = peer.open()
        with another:
            assert again["terminal"] == "t2"


def test_output_that_cannot_be_read_now_cuts_off_one_client(
    keeper: Keeper, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While no more files can be opened a client is dropped; it has all when it reconnects."""
    _, program = peer.open()
    with program:
        program.sendall(b"hello")
        peer.hear()
        peer.say("attach", terminal="t1", client="c")
        with monkeypatch.context() as starved:
            starved.setattr(os, "open", failing(errno.EMFILE))
            peer.hear()
            assert keeper.clients == []
        back = Peer(keeper)
        back.say("attach", terminal="t1", client="c", offset=0)
        assert b"hello" in back.hear()
        back.close()


def test_a_helper_that_cannot_be_started_is_started_later(
    keeper: Keeper, peer: Peer, helpers: Helpers
) -> None:
    """Where no process can be made to ask how a terminal ended, its keeper tries again later."""
    _, program = peer.open()
    program.close()
    peer.hear()
    helpers.error = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    keeper.maintain(peer.now + 1)
    assert (keeper.helper, keeper.stopped, helpers.started) == (0, False, 0)
    helpers.error = None
    keeper.maintain(peer.now + 1 + server.HELPER_INTERVAL_S)
    assert helpers.started == 0  # not right away
    keeper.maintain(peer.now + 2 + server.HELPER_INTERVAL_S)
    assert helpers.started == 1
    assert keeper.terminals["t1"].disconnected_at


def test_a_client_that_is_there_is_asked_first(
    keeper: Keeper, peer: Peer, helpers: Helpers
) -> None:
    """No process is started as long as a client may ask the engine how a terminal ended."""
    _, program = peer.open()
    hello(peer)
    program.close()
    assert peer.hear()[-1] == {"op": "exit", "code": None}
    keeper.maintain(peer.now + server.ASK_TIMEOUT_S)
    assert helpers.started == 0
    peer.say("ended", terminal="t1", code=7)
    peer.hear()
    keeper.maintain(peer.now + 100)
    assert helpers.started == 0
    assert keeper.terminals["t1"].code == 7


def test_a_slow_client_holds_the_program_back_for_a_while(
    keeper: Keeper, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that takes nothing makes the program wait, and no longer than it may."""
    monkeypatch.setattr(server, "MAX_LAG_BYTES", 1000)
    _, program = peer.open()
    with program:
        hello(peer)
        program.setblocking(False)
        write_all_that_fits(keeper, peer, program)
        assert keeper.clients[0].lag > 1000
        stuck = keeper.terminals["t1"].spool.end
        keeper.step(peer.now + server.PATIENCE_S)
        assert keeper.terminals["t1"].spool.end == stuck
        keeper.step(peer.now + server.PATIENCE_S + 1)
        keeper.step(peer.now + server.PATIENCE_S + 1)
        assert keeper.terminals["t1"].spool.end > stuck


def write_all_that_fits(keeper: Keeper, peer: Peer, program: socket.socket) -> None:
    """Print until neither the program nor the keeper gets any further."""
    before = -1
    while keeper.terminals["t1"].spool.end != before:
        before = keeper.terminals["t1"].spool.end
        for _ in range(3):
            try:
                while program.send(b"x" * 10_000):
                    pass
            except BlockingIOError:
                keeper.step(peer.now)


def test_it_stays_while_there_is_something_to_keep(keeper: Keeper, peer: Peer) -> None:
    """Without clients it goes on for its terminals, and ends a while after the last of them."""
    later = time.monotonic() + 1000
    _, program = peer.open()
    peer.close()
    peer.hear_nothing()
    keeper.maintain(later)
    assert not keeper.stopped
    keeper.terminals.pop("t1").remove()
    program.close()
    keeper.maintain(later + server.UNUSED_LINGER_S)
    assert not keeper.stopped
    keeper.maintain(later + server.UNUSED_LINGER_S + 1)
    assert keeper.stopped


def test_it_ends_with_its_session(keeper: Keeper, tmp_path: Path) -> None:
    """A session that was removed has no keeper."""
    (tmp_path / "record.json").unlink()
    keeper.maintain(0.0)
    assert keeper.stopped


def test_a_later_keeper_knows_what_is_lost(keeper: Keeper, peer: Peer, helpers: Helpers) -> None:
    """After a keeper was killed, an exec's terminal is lost, and stays listed as such when a
    client was told; numbers go on.
    """
    for expected in ("t1", "t2"):
        opened, program = peer.open()
        program.close()
        assert opened["terminal"] == expected
    later = Keeper(helpers)
    assert later.terminals["t2"].about["lost"] is True
    other = Peer(later)
    opened, program = other.open()
    with program:
        assert opened["terminal"] == "t3"
    told = Peer(later)
    told.say("attach", terminal="t1", client="told", replay=0)
    assert told.hear()[-1] == {"op": "exit", "code": None, "lost": True}
    told.close()
    other.hear_nothing()
    assert later.terminals["t1"].delivered
    other.close()
    later.close()


def test_a_client_that_comes_back_is_known_before_it_has_typed(keeper: Keeper, peer: Peer) -> None:
    """A client whose first keys were lost on the way learns that none were accepted, and sends
    them again; a client of another keeper learns nothing.
    """
    _, program = peer.open()
    with program:
        assert hello(peer)["taken"] is None
        peer.close()
        back = Peer(keeper)
        assert hello(back)["taken"] == 0
        back.type(b"keys")
        back.hear()
        assert program.recv(100) == b"keys"
        assert hello(back)["taken"] == 4
        back.close()


def test_many_clients_make_none_of_those_attached_unknown(
    keeper: Keeper, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many clients came and went, the input of one that stays is still counted."""
    monkeypatch.setattr(state, "REMEMBERED_CLIENTS", 3)
    _, program = peer.open()
    with program:
        hello(peer, "stays")
        peer.type(b"abc")
        for number in range(6):
            other = Peer(keeper)
            hello(other, f"other{number}")
            other.close()
            peer.hear()
        assert len(keeper.terminals["t1"].accepted) == 3
        assert hello(peer, "stays")["taken"] == 3


def test_no_program_makes_its_terminal_unattachable(
    keeper: Keeper, peer: Peer, helpers: Helpers
) -> None:
    """However much a program sets in its terminal, a client is greeted, also by a later keeper, and
    lists do not carry it."""
    _, program = peer.open()
    with program:
        program.sendall(b"\x1b]8;;" + b"\xff" * 2000 + b"\x07")
        for number in range(600):
            for size in (2000, 80):
                program.sendall(b"\x1b]4;%d;%s\x07" % (number, b"\xff" * size))
            if not number % 20:
                peer.hear()
        peer.hear()
        modes = hello(peer)["modes"]
        assert len(modes) > 50_000
    peer.hear()
    later = Keeper(helpers)
    other = Peer(later)
    greeting = hello(other)
    assert greeting["modes"] == modes
    assert "modes" not in greeting["about"]
    lists = Peer(later)
    lists.say("list")
    assert "modes" not in lists.hear()[0]["terminals"][0]
    lists.close()
    other.close()
    later.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "size", "rows": float("inf"), "columns": 1},
        {"op": "size", "rows": "9" * 900_000, "columns": 1},
        {"op": "size"},
        {"op": "attach", "client": "c", "replay": float("-inf")},
        {"op": "attach", "client": "c", "offset": float("nan")},
        {"op": "attach", "client": "c", "offset": []},
        {"op": "ended", "terminal": {}, "code": []},
        {"op": "open", "about": {"size": 7}},
        {"op": "open", "about": {"size": [1, 2]}},
    ],
)
def test_a_message_that_is_not_understood_ends_nothing(
    keeper: Keeper, peer: Peer, fields: dict[str, Any], tmp_path: Path
) -> None:
    """The client that sent it is refused in a few words and answered when it asks again; the
    terminals and the other clients go on."""
    _, program = peer.open()
    with program, (tmp_path / "no stream").open("w") as file:
        hello(peer)
        message = protocol.encode(**fields)
        if fields["op"] == "open":  # with what is no stream
            peer.say(**fields, fd=file.fileno())
        else:
            for start in range(0, len(message), 50_000):
                peer.socket.sendall(message[start : start + 50_000])
                keeper.step(peer.now)
        (refused,) = peer.hear()
        assert refused["op"] == "refused"
        assert len(refused["why"]) <= 1000
        assert len(hello(peer)["terminal"]) == 2
        assert keeper.terminals["t1"].stream is not None


def test_messages_after_one_that_is_not_understood_are_answered(keeper: Keeper, peer: Peer) -> None:
    """Messages that arrive together are independent of each other."""
    peer.socket.sendall(protocol.encode("size", terminal="t9") + protocol.encode("list"))
    assert [message["op"] for message in peer.hear()] == ["refused", "terminals"]


def test_who_speaks_another_protocol_is_told_and_dropped(keeper: Keeper, peer: Peer) -> None:
    """Nothing that it sends after that is read, or kept in memory."""
    peer.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert "not a frame" in peer.hear()[0]["why"]
    assert keeper.clients == []
    assert peer.socket.recv(1) == b""
