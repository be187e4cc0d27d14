"""Who is said to have done it."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User

from tests.server.conftest import Serve


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
