"""create and run: what is told of a session in the background."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.client import Mooring
from mooring_cli import launch
from tests.support.fake import clock, declare, engine, service

__all__ = ["clock", "declare", "engine", "service"]


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("sleep 9", "started; its output: mooring logs x; a shell in it: mooring exec x"),
        (None, "running; to open a shell in it: mooring exec x"),
    ],
)
def test_a_command_in_the_background_has_only_been_started(
    service: Mooring,
    declare: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str | None,
    note: str,
) -> None:
    """`create -d` does not call a command running, which may have failed by now, and says where its
    output is; it does not wait to find out."""
    monkeypatch.setattr("mooring.Mooring", lambda: service)
    flags = {"name": "x"} | ({"command": command} if command else {})
    plan = service.sessions.plan(declare(**flags))
    assert launch.launch(plan, launch.LaunchFlags(detach=True)) == 0
    out, err = capsys.readouterr()
    assert out == "x\n"
    assert err.splitlines()[-1] == note
