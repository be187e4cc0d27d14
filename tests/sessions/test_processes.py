"""Processes of a running session."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.engines.fake import FakeProcess
from mooring.terminals.keeper.client import KeeperClient


def test_exec_counts_as_activity(
    engine: FakeEngine, service: Mooring, declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command without a terminal runs under the clock's eye; one with a terminal has its size."""

    def no_keeper(path: Path) -> KeeperClient:
        raise OSError("no process can be started")

    monkeypatch.setattr(KeeperClient, "start", no_keeper)
    seen: list[FakeProcess] = []
    engine.program = lambda process: seen.append(process) or 0  # type: ignore[func-returns-value]
    session = service.sessions.create(declare(command="x")).session
    for stream in (
        service.sessions.exec(session, ["true"], stdin=False),
        service.terminals.open(session, ["true"], size=(40, 100)),
    ):
        stream.socket().recv(1)
        stream.close()
    plain, terminal = sorted(seen, key=lambda process: process.tty)
    assert plain.argv[2] == "counted"
    assert plain.argv[-2:] == ("--", "true")
    assert terminal.argv[2:] == ("terminal", "40", "100", "--", "true")
    assert terminal.size == (40, 100)
