"""Kernels that cannot be had, and recordings that there are not."""

from __future__ import annotations

from tests.server.inprocess import InProcess


def test_a_kernel_starts_inside_the_root_alone(server: InProcess) -> None:
    """A path out of the server's root is refused before anything starts."""
    server.ask("POST", "/sessions", {"name": "aa"})
    for path in ("..", "../x.ipynb", "/etc"):
        status, reply = server.ask("POST", "/sessions/aa/kernels", {"path": path})
        assert (status, reply["code"]) == (403, "forbidden")


def test_an_unknown_kernel_has_no_recording(server: InProcess) -> None:
    """Whatever is put in the place of an id is just not found."""
    for kernel in ("0" * 12, "..", "%2e%2e%2f%2e%2e", "a" * 3000, "*", "%00"):
        status, reply = server.ask("GET", f"/kernels/{kernel}/recording")
        assert (status, reply["code"]) == (404, "not_found")
