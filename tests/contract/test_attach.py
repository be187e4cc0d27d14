"""Main processes and their clients."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.engines.base import STDERR, STDOUT
from mooring.engines.capabilities import SupportsAttach
from mooring.errors import EngineError, EngineUnavailable
from tests.contract.support import CAT, DEADLINE_S, EXIT_3, GONE, Make, code_of, outputs


class TestAttach:
    """A client of the main process."""

    capability = SupportsAttach

    def test_attach_before_the_start_misses_nothing(self, engine: Any, make: Make) -> None:
        """Who attaches before the start sees the first byte, and the main process's exit code."""
        container = make(EXIT_3, start=False)
        stream = engine.attach(container, tty=False)
        engine.start(container)
        assert outputs(stream) == {STDOUT: b"out\n", STDERR: b"err\n"}
        assert code_of(stream.exit_code) == 3
        stream.close()

    def test_attach_feeds_the_main_process(self, engine: Any, make: Make) -> None:
        """What is sent to an attached stream is the main process's standard input, ended or not."""
        container = make(CAT, start=False, open_stdin=True)
        stream = engine.attach(container, tty=False)
        engine.start(container)
        stream.socket().sendall(b"ahoy\n")
        stream.close_stdin()
        assert outputs(stream)[STDOUT] == b"ahoy\n"
        assert engine.wait(container, timeout_s=DEADLINE_S) == 0
        stream.close()

    def test_closing_a_stream_ends_nothing(self, engine: Any, make: Make) -> None:
        """A stream that is given back leaves its process alone."""
        container = make()
        stream = engine.attach(container, tty=False)
        stream.close()
        assert engine.inspect(container).state == "running"

    def test_logs_are_followed_to_the_end(self, engine: Any, make: Make) -> None:
        """A followed log goes on until the container ends."""
        container = make(CAT, start=False, open_stdin=True)
        stream = engine.attach(container, tty=False)
        engine.start(container)
        log = engine.logs(container, tty=False, follow=True, tail=None)
        for text in (b"one\n", b"two\n"):
            stream.socket().sendall(text)
            assert next(log) == text
        stream.close_stdin()
        assert list(log) == []
        stream.close()

    def test_nothing_can_be_done_with_nothing(self, engine: Any) -> None:
        """Acting on a container that is gone is an EngineError, and not an unavailable engine."""
        with pytest.raises(EngineError) as caught:
            engine.attach(GONE, tty=False)
        assert not isinstance(caught.value, EngineUnavailable)
