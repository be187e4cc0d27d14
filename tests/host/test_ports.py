"""Ports of this machine: listening on one, and who listens on one."""

from __future__ import annotations

import os
import pwd
import socket

import pytest

from mooring.errors import PortTaken
from mooring.host.ports import listen, listener


def test_a_listening_program_is_named() -> None:
    """With its number, its name and its user."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        user = pwd.getpwuid(os.getuid()).pw_name
        shown = listener(listening.getsockname()[1])
        assert shown.startswith(f"process {os.getpid()} (")
        assert shown.endswith(f" of {user}")
    assert listener(1) == "another program"


def test_a_free_port_is_the_same_on_both_loopbacks() -> None:
    """`localhost` leads to this process, whichever address it means first."""
    warnings: list[str] = []
    number, sockets = listen(0, hint="", warn=warnings.append)
    try:
        assert {each.getsockname()[:2] for each in sockets} == {
            ("127.0.0.1", number),
            ("::1", number),
        }
    finally:
        for each in sockets:
            each.close()
    assert warnings == []


def test_a_port_of_one_loopback_alone_is_said() -> None:
    """Where another process has the port of ::1, `localhost` may lead to it: a line says so."""
    warnings: list[str] = []
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        number = other.getsockname()[1]
        _, sockets = listen(number, hint="", warn=warnings.append)
        for each in sockets:
            each.close()
    assert warnings == [f"port {number} of ::1 is taken: use 127.0.0.1, not localhost"]


def test_a_taken_port_names_its_process() -> None:
    """The error names the process, and carries the number and the caller's hint."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"is taken by process {os.getpid()}") as caught:
            listen(number, hint="use another", warn=lambda line: None)
    assert (caught.value.port, caught.value.hint) == (number, "use another")
