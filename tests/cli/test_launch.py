"""create and run: what is told of a session in the background."""

from __future__ import annotations

from typing import Any

import pytest

from mooring import FakeEngine
from mooring.client import Mooring
from mooring_cli import launch
from tests.support.fake import clock, declare, engine, service

__all__ = ["clock", "declare", "engine", "service"]


@pytest.mark.parametrize(
    ("command", "code", "note"),
    [
        ("sleep 9", None, "started; its output: mooring logs x; a shell in it: mooring exec x"),
        (None, None, "running; to open a shell in it: mooring exec x"),
        ("nosuch", 127, "it has stopped (exit code 127); its output: mooring logs x"),
    ],
)
def test_a_command_that_fails_at_once(
    service: Mooring,
    engine: FakeEngine,
    declare: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str | None,
    code: int | None,
    note: str,
) -> None:
    """`create -d` does not call a session running whose command has failed already: a mistake in a
    line for a shell shows within a moment."""
    monkeypatch.setattr("mooring.Mooring", lambda: service)

    def pause(seconds: float) -> None:
        (container,) = engine.containers.values()
        if code is not None:
            engine.finish(container.id, code)

    monkeypatch.setattr(launch.time, "sleep", pause)
    flags = {"name": "x"} | ({"command": command} if command else {})
    plan = service.sessions.plan(declare(**flags))
    assert launch.launch(plan, launch.LaunchFlags(detach=True)) == 0
    out, err = capsys.readouterr()
    assert out == "x\n"
    assert err.splitlines()[-1] == note
