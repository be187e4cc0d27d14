"""events: each thing that happened is told once."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import mooring
from mooring.sessions.history import Event
from mooring_cli import events


def test_an_event_is_told_once_when_a_clock_was_set_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Following goes on behind the newest number, in whatever order times put the events."""
    happened = [
        Event(number, "s1", at, kind, "cli", "")
        for number, at, kind in ((1, 20.0, "requested"), (2, 10.0, "started"))
    ]

    class Known:
        def find(self, names: Sequence[str]) -> Sequence[Any]:
            return [SimpleNamespace(id="s1", name="box")]

        def events(self, session_id: str, after: int = 0) -> Sequence[Event]:
            return [event for event in happened if event.number > after]

        def exists(self, session_id: str) -> bool:
            return False

        def list(self) -> None:
            happened.append(Event(3, "s1", 30.0, "removed", "cli", ""))

    monkeypatch.setattr(
        mooring, "Mooring", lambda: SimpleNamespace(sessions=Known(), records=Known())
    )
    monkeypatch.setattr(events, "POLL_S", 0.0)
    events.events(["box"], follow=True)
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == [
        "started",
        "requested",
        "removed",
    ]
