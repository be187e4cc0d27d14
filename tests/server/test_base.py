"""What all handlers have in common: the actor, and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jupyter_server.auth.identity import IdentityProvider, User

from tests.server.conftest import Serve
from tests.server.inprocess import InProcess


class Directory(IdentityProvider):
    """A provider that knows its users, as JupyterHub's does."""

    def get_user(self, handler: Any) -> User | None:
        name = handler.request.headers.get("X-Name")
        return User(name, name) if name else None


def test_a_known_user_is_named(serve: Serve) -> None:
    """Where the server knows who asks, the history and the reason say so."""
    server = serve(ServerApp={"identity_provider_class": Directory, "disable_check_xsrf": True})

    def ask(name: str, method: str, path: str, body: Any = None) -> Any:
        return server.ask(method, path, body, headers={"X-Name": name})[1]

    ask("ann", "POST", "/sessions", {"name": "aa"})
    assert ask("bob", "POST", "/sessions/aa/stop")["reason"] == "by bob"
    events = ask("ann", "GET", "/sessions/aa/events")["events"]
    assert [(one["kind"], one["actor"]) for one in events] == [
        ("requested", "ann"),
        ("started", "ann"),
        ("stopped", "bob"),
    ]


def test_a_failure_that_nobody_foresaw_tells_nothing(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception is 500, and none of its text reaches the client."""
    monkeypatch.setattr(
        "mooring.client.sessions.Sessions.get",
        lambda *_: (_ for _ in ()).throw(ValueError("s3cret")),
    )
    status, reply = server.ask("GET", "/sessions/aa")
    assert (status, reply["code"]) == (500, "internal_error")
    assert "s3cret" not in json.dumps(reply)
