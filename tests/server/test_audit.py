"""The audit trail: every change is told, with who, what and what came of it, and no secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mooring.host.users import caller
from mooring_server_extension import audit
from tests.server.conftest import Serve
from tests.server.inprocess import operations


@pytest.fixture
def trail(serve: Serve, tmp_path: Path) -> Any:
    """A server that writes its events to a file, and what is in that file."""
    file = tmp_path / "audit.jsonl"
    handler = logging.FileHandler(file)
    server = serve(EventLogger={"handlers": [handler]})

    def records() -> list[tuple[str, str, str, str]]:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [
            (one["user"], one["action"], one["session"], one["outcome"])
            for one in lines
            if one["__schema__"] == audit.SCHEMA_ID
        ]

    yield server, records, file
    handler.close()


def test_every_change_is_told(trail: Any) -> None:
    """Done, refused or failed: each request that changes something leaves one line."""
    server, records, _ = trail
    me = caller().name
    server.ask("POST", "/sessions", {"name": "aa"})
    server.ask("POST", "/sessions", {"name": "aa"})
    server.ask("POST", "/sessions/aa/hold", {"duration": "1h"})
    server.ask("PATCH", "/sessions/aa", {"idle_timeout": "1h"})
    server.ask("PATCH", "/sessions/aa", {"idle": "1h"})
    server.ask("POST", "/sessions/aa/stop")
    server.ask("POST", "/sessions/aa/terminals")
    server.ask("POST", "/sessions/aa/kernels", {})
    server.ask("POST", "/sessions/aa/start")
    server.ask("DELETE", "/sessions/aa")
    server.ask("DELETE", "/sessions/bb")
    server.ask("GET", "/sessions")
    assert records() == [
        (me, "create", "aa", "done"),
        (me, "create", "aa", "session_exists"),
        (me, "hold", "aa", "done"),
        (me, "update", "aa", "done"),
        (me, "update", "aa", "bad_request"),
        (me, "stop", "aa", "done"),
        (me, "terminal", "aa", "session_state_error"),
        (me, "kernel", "aa", "session_state_error"),
        (me, "start", "aa", "done"),
        (me, "remove", "aa", "session_state_error"),
        (me, "remove", "bb", "session_not_found"),
    ]


def test_no_write_is_forgotten(trail: Any) -> None:
    """Every route that writes leaves a line, also one that is added later."""
    server, records, _ = trail
    for method, template, _ in operations():
        if method == "get":
            continue
        before = len(records())
        path = template.removeprefix("/mooring/api").replace("{name}", "aa")
        server.ask(method.upper(), path, {})
        assert len(records()) == before + 1, f"{method} {template}"


def test_no_secret_is_in_the_trail(trail: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a secret's value nor anything else of a body is written."""
    server, records, file = trail
    monkeypatch.setenv("PLANTED", "s3ntinel-audit")
    values = {"secrets": {"T": {"env": "PLANTED"}}, "env": {"A": "s3ntinel-env"}}
    assert server.ask("POST", "/sessions", {"name": "aa", "values": values})[0] == 201
    server.ask("POST", "/sessions/aa/hold", {"duration": "s3ntinel-duration"})
    assert len(records()) == 2
    assert "s3ntinel" not in file.read_text()
