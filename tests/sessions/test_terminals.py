"""Terminals of a session, and its main process's streams."""

from __future__ import annotations

from mooring.client import Mooring


def test_a_session_of_kernels_has_nothing_to_attach_to(service: Mooring, declare) -> None:
    """The main process of a kernel's session is its clock: there is no stream to it."""
    with_kernel = service.sessions.create(declare(kernel="python3")).session
    assert service.terminals.attach(with_kernel) is None
    with_command = service.sessions.create(declare(command="x")).session
    stream = service.terminals.attach(with_command)
    assert stream is not None
    stream.close()
