"""Which sessions a command applies to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.errors import SessionNotFound, SpecError
from mooring.launch.options import LaunchOptions
from mooring_cli.rm import rm
from mooring_cli.selection import select
from tests.support.fake import clock, declare, engine, service

__all__ = ["clock", "declare", "engine", "service"]


def test_commands_are_called_as_they_are_typed(state: Path) -> None:
    """What removes is rm."""
    with pytest.raises(SpecError, match=r"^rm needs the name of a session"):
        select(Mooring(FakeEngine()), None, verb="remove")


def test_all_when_none_is_fit(
    service: Mooring, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rm --all` beside sessions that run says that they run and what removes them, instead of
    that there are none."""
    monkeypatch.setattr("mooring.Mooring", lambda: service)
    with pytest.raises(SessionNotFound, match=r"^there is no session to remove "):
        rm(everything=True, yes=True)
    for name in ("a", "b"):
        service.sessions.create(declare(command="x"), LaunchOptions(name=name))
    with pytest.raises(SessionNotFound, match=r"no session to remove, but 2 running ") as caught:
        rm(everything=True, yes=True)
    assert "mooring rm --all --force" in caught.value.hint
    rm(everything=True, yes=True, force=True)
    assert service.sessions.list() == []
