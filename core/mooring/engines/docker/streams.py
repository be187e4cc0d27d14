"""Streams of a container's processes, over connections hijacked from Docker's HTTP API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from mooring.engines.streams import SocketStream
from mooring.errors import EngineError


class DockerStream(SocketStream):
    """A ``mooring.engines.base.Stream`` over a hijacked connection.

    Args:
        raw: the SDK's socket; it keeps the response, and so the connection, alive.
        tty: the process has a terminal.
        exec_id: the exec's id; empty for a main process.
        resize: called with rows and columns to resize the terminal.
        exit_code: returns the exit code of the process, None while it runs.
    """

    def __init__(
        self,
        raw: Any,
        tty: bool,
        exec_id: str = "",
        *,
        resize: Callable[[int, int], None],
        exit_code: Callable[[], int | None],
    ) -> None:
        super().__init__(getattr(raw, "_sock", raw), tty, exec_id)
        self._raw = raw
        self._resize, self._exit_code = resize, exit_code
        # the timeout of requests does not apply to the stream
        self._socket.settimeout(None)

    def resize(self, rows: int, columns: int) -> None:
        # Fails if the process has just exited or has not started yet
        with contextlib.suppress(EngineError):
            if self.tty:
                self._resize(rows, columns)

    def exit_code(self) -> int | None:
        return self._exit_code()

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError, AttributeError):
            self._raw.close()
