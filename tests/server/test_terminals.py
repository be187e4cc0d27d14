"""Terminals that cannot be had: said in one line, on the fake engine."""

from __future__ import annotations

from tests.server.conftest import Serve
from tests.server.inprocess import InProcess


def test_no_terminals_no_terminal(serve: Serve) -> None:
    """A server without terminals says so, and how to get them."""
    server = serve(ServerApp={"terminals_enabled": False})
    server.ask("POST", "/sessions", {"name": "aa"})
    status, reply = server.ask("POST", "/sessions/aa/terminals")
    assert (status, reply["code"]) == (501, "not_supported")
    assert "terminals_enabled" in reply["hint"]


def test_a_stopped_session_has_no_terminal_and_no_kernel(server: InProcess) -> None:
    """It is said what it is instead, and how to go on."""
    server.ask("POST", "/sessions", {"name": "aa"})
    server.ask("POST", "/sessions/aa/stop")
    for path in ("terminals", "kernels"):
        status, reply = server.ask("POST", f"/sessions/aa/{path}")
        assert (status, reply["code"]) == (409, "session_state_error")
        assert "start" in reply["hint"]
