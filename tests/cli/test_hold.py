"""hold: names and a duration in one list of arguments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mooring as package
from mooring import FakeEngine, LaunchOptions
from mooring.client import Mooring
from mooring.errors import SpecError
from mooring.spec.resolve import resolve
from mooring_cli.hold import hold


@pytest.fixture
def held(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, float]]]:
    """Three sessions, and what is held for how many seconds."""
    mooring = Mooring(FakeEngine())
    for name in ("bert", "2h", "other"):
        mooring.sessions.create(resolve(flags={"command": "x"}), LaunchOptions(name=name))
    calls: list[tuple[str, float]] = []
    monkeypatch.setattr(
        mooring.sessions, "hold", lambda session, seconds: calls.append((session.name, seconds))
    )
    monkeypatch.setattr(package, "Mooring", lambda: mooring)
    yield calls
    for session in mooring.sessions.list():
        mooring.sessions.remove(session, force=True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("bert", [("bert", 7200.0)]),
        ("bert 45m", [("bert", 2700.0)]),
        ("bert other off", [("bert", 0.0), ("other", 0.0)]),
        ("2h", [("2h", 7200.0)]),
        ("bert 2h", [("bert", 7200.0)]),
        ("2h 30m", [("2h", 1800.0)]),
        ("bert other", [("bert", 7200.0), ("other", 7200.0)]),
    ],
)
def test_the_last_argument_may_be_a_duration(
    held: list[tuple[str, float]], arguments: str, expected: list[tuple[str, float]]
) -> None:
    """A duration after names is one; alone it is a name, if there is such a session."""
    hold(arguments.split())
    assert held == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("45m", "no session is named, only a duration: 45m"),
        ("bert soon", "duration: 'soon' "),
    ],
)
def test_an_argument_that_is_neither(
    held: list[tuple[str, float]], arguments: str, message: str
) -> None:
    """What is neither a session nor a duration is an error, and nothing is held."""
    with pytest.raises(SpecError) as caught:
        hold(arguments.split())
    assert caught.value.message.startswith(message)
    assert held == []
