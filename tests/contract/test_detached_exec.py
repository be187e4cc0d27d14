"""Processes without a client."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mooring.engines.capabilities import SupportsDetachedExec
from mooring.errors import EngineError, EngineUnavailable
from tests.contract.support import (
    DEADLINE_S,
    EXIT_3,
    GONE,
    SAY_SIZE,
    SIGKILLED,
    Make,
    code_of,
)


class TestDetachedExec:
    """Processes that are known by their id."""

    capability = SupportsDetachedExec

    def test_exec_detached_is_asked_for_its_code(self, engine: Any, make: Make) -> None:
        """A detached exec's exit code is told by its id; one that is gone was killed."""
        container = make()
        exec_id = engine.exec_detached(container, ["/bin/sh", "-c", EXIT_3])
        assert code_of(lambda: engine.exec_exit_code(exec_id)) == 3
        assert engine.exec_exit_code(GONE) == SIGKILLED

    def test_no_exec_in_what_does_not_run(self, engine: Any, make: Make) -> None:
        """An exec in a container that does not run is an EngineError."""
        container = make(start=False)
        with pytest.raises(EngineError, match="not running"):
            engine.exec_detached(container, ["true"])

    def test_nothing_can_be_done_with_nothing(self, engine: Any) -> None:
        """Acting on a container that is gone is an EngineError, and not an unavailable engine."""
        with pytest.raises(EngineError) as caught:
            engine.exec_detached(GONE, ["true"])
        assert not isinstance(caught.value, EngineUnavailable)

    def test_a_terminal_is_resized_by_its_id(self, engine: Any, make: Make) -> None:
        """Any client that knows the id of a process may size its terminal, and ask how it ended."""
        container = make()
        stream = engine.exec(container, ["/bin/sh", "-c", SAY_SIZE], tty=True, stdin=True)
        stream.socket().settimeout(DEADLINE_S)
        deadline, seen = time.monotonic() + DEADLINE_S, b""
        while b"41 132" not in seen:
            assert time.monotonic() < deadline, seen
            engine.resize(container, 41, 132, exec_id=stream.exec_id)
            engine.resize(container, 0, 0, exec_id=stream.exec_id)
            stream.socket().sendall(b"\n")
            seen += b"".join(piece for _, piece in stream.recv())
        assert engine.exec_exit_code(stream.exec_id) is None
        stream.close()
