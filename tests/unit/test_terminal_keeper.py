"""The keeper of terminals: what fails for one of them ends neither the others nor itself."""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.terminals.keeper import protocol, server, state
from mooring.terminals.keeper.server import Keeper
from mooring.terminals.listing import TerminalEntry, unattached


class Peer:
    """The other end of a connection to a keeper."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.socket, near = socket.socketpair()
        near.setblocking(False)
        self.client = state.Client(near)
        self.frames = protocol.Frames()
        keeper.clients.append(self.client)

    def say(self, op: str, *, fd: int | None = None, **fields: Any) -> None:
        rights = array.array("i", [fd] if fd is not None else [])
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        self.socket.sendmsg([protocol.said(op, **fields)], extra)

    def type(self, data: bytes) -> None:
        self.socket.sendall(protocol.data(data))

    def hear(self) -> list[Any]:
        """All that the keeper has to say now: what is said, and a terminal's bytes."""
        heard: list[Any] = []
        for _ in range(3):
            self.keeper._round(time.monotonic())
            while select.select([self.socket], [], [], 0)[0] and (data := self.socket.recv(65536)):
                for kind, payload in self.frames.feed(data):
                    heard.append(payload if kind == protocol.DATA else protocol.understood(payload))
        return heard

    def open(self) -> tuple[Any, socket.socket]:
        """Hand a stream over: the keeper's answer, and the program's end of the stream."""
        program, stream = socket.socketpair()
        self.say("open", fd=stream.fileno(), about={"command": ["sh"]})
        stream.close()
        return self.hear()[-1], program

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    (tmp_path / "term").mkdir()
    (tmp_path / "record.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "term")
    monkeypatch.setattr(server, "TICK_S", 0.0)  # a round waits for nobody
    made = Keeper()
    yield made
    for client in made.clients:
        client.socket.close()
    made.clients.clear()
    made.listener.close()
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
    """On a full disk a new terminal is refused, the others go on, and no number is lost."""
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
    """While no more files can be opened a client is sent away; it has all when it is back."""
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
    keeper: Keeper, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no process can be made to ask how a terminal ended, its keeper asks again later."""
    _, program = peer.open()
    program.close()
    peer.hear()
    with monkeypatch.context() as starved:
        starved.setattr(os, "fork", failing(errno.EAGAIN))
        starved.setattr(sys, "argv", ["keeper", sys.executable, "/"])
        keeper._look_around(time.monotonic() + server.ASKED_S + 1)
    assert keeper.helper == 0
    assert not keeper.stopped
    assert keeper.terminals["t1"].cut_at


def test_a_client_that_comes_back_is_known_before_it_has_typed(keeper: Keeper, peer: Peer) -> None:
    """Whose first keys were lost on the way is told that none were taken, and sends them again;
    to one that another keeper knew nothing is said.
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
    """However many have come and gone, what one that stays has typed is counted on."""
    monkeypatch.setattr(server, "KEPT_SENDERS", 3)
    _, program = peer.open()
    with program:
        hello(peer, "stays")
        peer.type(b"abc")
        for number in range(6):
            other = Peer(keeper)
            hello(other, f"other{number}")
            other.close()
            peer.hear()
        assert len(keeper.terminals["t1"].taken) == 3
        assert hello(peer, "stays")["taken"] == 3


def entry(name: str, **facts: Any) -> TerminalEntry:
    values: dict[str, Any] = {
        "command": (), "since": 0.0, "size": (24, 80), "clients": 0, "bytes": 0,
        "ended": False, "code": None, "lost": False, "label": "",
    }  # fmt: skip
    return TerminalEntry(id=name, **values | facts)


def test_a_terminal_that_has_ended_is_not_one_to_work_in() -> None:
    """By its label only one that goes on is found; without, the rest of one that ended, at last."""
    ended = entry("t2", ended=True, code=0, label="panel")
    going = entry("t1", label="panel")
    assert unattached([ended], "panel") == ""
    assert unattached([going, ended], "panel") == "t1"
    assert unattached([going, ended]) == "t1"
    assert unattached([ended]) == "t2"
    assert unattached([entry("t1", clients=1), entry("t2", ended=True, lost=True)]) == ""
    assert unattached([going, entry("t3")], "panel") == "t1"
    assert unattached([going, entry("t3")]) == "t3"
