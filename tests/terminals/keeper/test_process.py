"""The process of a keeper: small, one a session, and gone with it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.errors import SessionStateError
from mooring.terminals.keeper.client import (
    KeeperClient,
    Link,
    end_keeper,
    keeper_pid,
    keeper_serves,
)

ROOT = str(Path(sys.modules["mooring"].__file__ or "").parents[1])


def test_the_keeper_imports_little() -> None:
    """It stays small: neither mooring's models nor any package is in it."""
    script = (
        "import sys; sys.path[:0] = [sys.argv.pop()]; import mooring.terminals.keeper.process; "
        "print(*sorted(name for name in sys.modules if '.' not in name))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, ROOT], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert not loaded & {"typing", "dataclasses", "inspect", "pydantic", "docker", "subprocess"}


def test_there_is_one_a_session(session_dir: Path) -> None:
    """Starting it twice, and by two at once, leaves one process that serves all."""
    keepers = [KeeperClient.start(session_dir) for _ in range(2)]
    for keeper in keepers:
        keeper.connect().close()
    pid = keeper_pid(session_dir)
    assert pid
    again = KeeperClient.start(session_dir)
    with contextlib.closing(again.connect()) as link:
        assert link.list_terminals() == []
    assert keeper_pid(session_dir) == pid


def test_it_is_ended_whatever_it_holds(session_dir: Path) -> None:
    """The keeper of a session that is removed ends while a client is connected."""
    keeper = KeeperClient.start(session_dir)
    with contextlib.closing(keeper.connect()):
        end_keeper(session_dir)
        assert not keeper_serves(session_dir)
    with pytest.raises(OSError, match=r"refused|No such file"):
        Link.open(session_dir)
    end_keeper(session_dir)


def test_a_keeper_that_cannot_start_is_told_with_its_last_words(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the last line of its log."""
    monkeypatch.setattr("mooring.terminals.keeper.client.ROOT", "/nowhere")
    monkeypatch.setattr("mooring.terminals.keeper.client.START_TIMEOUT_S", 0.3)
    with pytest.raises(SessionStateError, match="No module named 'mooring'"):
        KeeperClient.start(session_dir).connect()
