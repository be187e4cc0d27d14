"""Processes of a running session."""

from __future__ import annotations

from mooring import FakeEngine
from mooring.client import Mooring
from mooring.engines.fake import FakeProcess


def test_exec_counts_as_activity(engine: FakeEngine, service: Mooring, declare) -> None:
    """A command without a terminal runs under the clock's eye; one with a terminal has its size."""
    seen: list[FakeProcess] = []
    engine.program = lambda process: seen.append(process) or 0  # type: ignore[func-returns-value]
    session = service.sessions.create(declare(command="x")).session
    for tty in (False, True):
        stream = service.sessions.exec(session, ["true"], tty=tty, stdin=False, size=(40, 100))
        stream.socket().recv(1)
        stream.close()
    plain, terminal = sorted(seen, key=lambda process: process.tty)
    assert plain.argv[2] == "counted"
    assert plain.argv[-2:] == ("--", "true")
    assert terminal.argv[2:] == ("terminal", "40", "100", "--", "true")
    assert terminal.size == (40, 100)
