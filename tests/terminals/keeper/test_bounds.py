"""What a session's terminals keep on disk has a bound, however many there are."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from mooring.terminals.keeper import bounds, server, spool
from mooring.terminals.keeper.bounds import trim
from mooring.terminals.keeper.server import Keeper
from mooring.terminals.keeper.spool import Spool
from mooring.terminals.keeper.state import Client, Terminal

SEGMENT = 100


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper's folder, with small bounds."""
    (tmp_path / "term").mkdir()
    monkeypatch.chdir(tmp_path / "term")
    monkeypatch.setattr(bounds, "MAX_BYTES", 1000)


def terminal(name: str, size: int, **about: Any) -> Terminal:
    made = Terminal(name, {"since": time.time(), **about})
    made.spool.remove()
    made.spool = Spool(f"{name}/spool", segment=SEGMENT)
    for _ in range(size // 50):
        made.spool.append(bytes(50))
    return made


def on_disk() -> int:
    return sum(one.stat().st_size for one in Path().glob("*/spool/*"))


def kept(terminals: list[Terminal], attached: str = "") -> list[str]:
    """The names of the terminals that are left; one has a client."""
    near, far = socket.socketpair()
    client = Client(near)
    by_name = {one.name: one for one in terminals}
    client.terminal = by_name.get(attached)
    trim(by_name, [client])
    client.close()
    far.close()
    assert sorted(by_name) == sorted(one.name for one in Path().iterdir())
    return list(by_name)


def test_those_that_ended_first_go_first() -> None:
    """Only as many as have to, never the main one, and none that somebody reads."""
    terminals = [
        terminal("main", 300, code=0, ended_at=1.0),
        terminal("t1", 300, code=0, ended_at=3.0),
        terminal("t2", 300, code=0, ended_at=2.0),
        terminal("t3", 300, code=0, ended_at=1.0),
        terminal("t4", 300),
    ]
    assert kept(terminals, "t3") == ["main", "t3", "t4"]


def test_the_longest_that_run_lose_their_oldest_output() -> None:
    """If nothing has ended; a short one keeps all of its own."""
    terminals = [terminal("t1", 200), terminal("t2", 900), terminal("t3", 500)]
    assert kept(terminals) == ["t1", "t2", "t3"]
    assert [one.spool.size for one in terminals] == [200, 400, 400]
    assert on_disk() == 1000
    for one in terminals:
        assert one.spool.read(one.spool.start, 10) == bytes(10)


def test_each_keeps_its_newest_output() -> None:
    """However many there are."""
    terminals = [terminal(f"t{number}", 200) for number in range(20)]
    assert len(kept(terminals)) == 20
    assert {one.spool.size for one in terminals} == {SEGMENT}


def test_sixty_four_are_kept_after_their_ends() -> None:
    """As long as they have little to tell."""
    terminals = [terminal(f"t{number}", 0, code=0, ended_at=number) for number in range(1, 71)]
    assert kept(terminals) == [f"t{number}" for number in range(7, 71)]


def test_a_keeper_minds_it_while_programs_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each segment, and for what an earlier keeper has left."""
    (tmp_path / "record.json").write_text("{}")
    monkeypatch.setattr(server, "SEGMENT_BYTES", SEGMENT)
    for number in range(5):
        terminal(f"t{number}", 300, code=0, ended_at=float(number + 1)).save()
    monkeypatch.setattr(spool, "SEGMENT_BYTES", SEGMENT)
    keeper = Keeper(lambda: 0)
    assert sorted(keeper.terminals) == ["t2", "t3", "t4"]
    running = keeper.terminals["t9"] = terminal("t9", 0)
    pieces = [bytes(50)] * 8
    monkeypatch.setattr(running, "read", pieces.pop)
    while pieces:
        keeper._read_terminal(running, 0.0)
        assert on_disk() <= 1000 + SEGMENT
    assert sorted(keeper.terminals) == ["t3", "t4", "t9"]
    keeper.close()
