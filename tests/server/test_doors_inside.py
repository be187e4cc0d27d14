"""Terminals and kernels that cannot be had: said in one line, on the fake engine."""

from __future__ import annotations

from tests.server.conftest import Serve
from tests.server.inprocess import InProcess


def test_no_terminals_no_terminal(serve: Serve) -> None:
    """A server without terminals says so, and how to get them."""
    server = serve(ServerApp={"terminals_enabled": False})
    server.ask("POST", "/sessions", {"name": "aa"})
    status, said = server.ask("POST", "/sessions/aa/terminals")
    assert (status, said["code"]) == (501, "not_supported")
    assert "terminals_enabled" in said["hint"]


def test_a_stopped_session_has_no_terminal_and_no_kernel(server: InProcess) -> None:
    """It is said what it is instead, and how to go on."""
    server.ask("POST", "/sessions", {"name": "aa"})
    server.ask("POST", "/sessions/aa/stop")
    for path in ("terminals", "kernels"):
        status, said = server.ask("POST", f"/sessions/aa/{path}")
        assert (status, said["code"]) == (409, "session_state_error")
        assert "start" in said["hint"]


def test_a_kernel_starts_inside_the_root_alone(server: InProcess) -> None:
    """A path out of the server's root is refused before anything starts."""
    server.ask("POST", "/sessions", {"name": "aa"})
    for path in ("..", "../x.ipynb", "/etc"):
        status, said = server.ask("POST", "/sessions/aa/kernels", {"path": path})
        assert (status, said["code"]) == (403, "forbidden")


def test_an_unknown_kernel_has_no_recording(server: InProcess) -> None:
    """Whatever is put in the place of an id is just not found."""
    for kernel in ("0" * 12, "..", "%2e%2e%2f%2e%2e", "a" * 3000, "*", "%00"):
        status, said = server.ask("GET", f"/kernels/{kernel}/recording")
        assert (status, said["code"]) == (404, "not_found")
