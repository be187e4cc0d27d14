"""Streams of a container's processes, over connections hijacked from Docker's HTTP API."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from mooring.engines.streams import SocketStream
from mooring.errors import EngineError


class DockerStream(SocketStream):
    """A ``mooring.engines.base.Stream`` over a hijacked connection.

    Args:
        connection: the socket, after the response's head.
        tty: the process has a terminal.
        exec_id: the exec's id; empty for a main process.
        resize: called with rows and columns to resize the terminal.
        exit_code: returns the exit code of the process, None while it runs.
    """

    def __init__(
        self,
        connection: socket.socket,
        tty: bool,
        exec_id: str = "",
        *,
        resize: Callable[[int, int], None],
        exit_code: Callable[[], int | None],
    ) -> None:
        super().__init__(connection, tty, exec_id)
        self._resize, self._exit_code = resize, exit_code

    def resize(self, rows: int, columns: int) -> None:
        # Fails if the process has just exited or has not started yet
        with contextlib.suppress(EngineError):
            if self.tty:
                self._resize(rows, columns)

    def exit_code(self) -> int | None:
        return self._exit_code()
