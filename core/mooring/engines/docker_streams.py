"""Connections that Docker hands over: the streams of a container's processes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mooring.errors import EngineError

if TYPE_CHECKING:
    from docker.api.client import APIClient

    from mooring.engines.base import Engine

# Set in a thread that asks for a stream
_asking = threading.local()


@contextlib.contextmanager
def asking_for_a_stream() -> Iterator[None]:
    """What this thread asks for in the block is answered with a stream."""
    _asking.stream = True
    try:
        yield
    finally:
        _asking.stream = False


def leave_streams_alone(client: APIClient) -> None:
    """Have the heads of answers read byte by byte where a stream follows.

    http.client reads as much as is there; of a stream, whose first bytes may have come with the
    head where this process had to wait for its turn, they would be lost.
    """
    from http.client import HTTPResponse

    class Answer(HTTPResponse):
        def __init__(self, connected: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(connected, *arguments, **options)
            if getattr(_asking, "stream", False):
                self.fp.close()
                self.fp = connected.makefile("rb", 1)

    adapter = client.get_adapter(client.base_url)
    pool_of = adapter.get_connection

    def get_connection(*arguments: Any, **options: Any) -> Any:
        pool = pool_of(*arguments, **options)
        if "_new_conn" not in vars(pool):
            connect = pool._new_conn

            def new_connection() -> Any:
                connection = connect()
                connection.response_class = Answer
                return connection

            pool._new_conn = new_connection
        return pool

    adapter.get_connection = get_connection


class DockerStream:
    """``mooring.engines.base.Stream`` over a connection that Docker has handed over."""

    def __init__(
        self, engine: Engine, raw: Any, tty: bool, *, container: str = "", exec_id: str = ""
    ) -> None:
        self.tty = tty
        self._engine = engine
        self._raw = raw  # keeps the response, and so the connection, alive
        self._socket: socket.socket = getattr(raw, "_sock", raw)
        self._container = container
        self.exec_id = exec_id
        # the request's timeout is not the stream's
        self._socket.settimeout(None)

    def socket(self) -> socket.socket:
        return self._socket

    def close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def resize(self, rows: int, columns: int) -> None:
        # A process that has just ended, or not quite begun, has no terminal to resize
        with contextlib.suppress(EngineError):
            if self.tty:
                self._engine.resize(self._container, rows, columns, exec_id=self.exec_id)

    def exit_code(self) -> int | None:
        if self.exec_id:
            return self._engine.exec_exit_code(self.exec_id)
        detail = self._engine.inspect(self._container)
        return 137 if detail is None else detail.exit_code

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
        with contextlib.suppress(OSError, AttributeError):
            self._raw.close()
