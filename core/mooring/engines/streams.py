"""Connections to processes: Docker's multiplexed stream format and a socket stream."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from mooring.engines.base import STDOUT

RECEIVED_BYTES = 65536
# Docker Engine API, "Attach to a container", stream format: type, three zero bytes, length
HEADER = struct.Struct(">BxxxL")


class Demultiplexer:
    """Decodes a multiplexed stream that is fed in chunks of any length."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._number = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Decode the next bytes.

        Returns:
            Pairs of a stream number and a view of its bytes in ``data``.
        """
        rest = memoryview(data)
        while rest:
            if self._left == 0:
                need = HEADER.size - len(self._head)
                self._head, rest = self._head + rest[:need], rest[need:]
                if len(self._head) < HEADER.size:
                    return
                self._number, self._left = HEADER.unpack(self._head)
                self._head = b""
                continue
            piece, rest = rest[: self._left], rest[self._left :]
            self._left -= len(piece)
            yield self._number, piece


class SocketStream:
    """Base class for a ``mooring.engines.base.Stream`` over a socket in Docker's format.

    Args:
        connection: the socket, which is closed with the stream.
        tty: the process has a terminal; its bytes are not multiplexed.
        exec_id: the exec's id; empty for the main process.
        flags: of recv(2); MSG_DONTWAIT if others may change whether the socket blocks.
    """

    def __init__(
        self, connection: socket.socket, tty: bool, exec_id: str = "", *, flags: int = 0
    ) -> None:
        self.tty = tty
        self.exec_id = exec_id
        self._socket, self._flags = connection, flags
        self._demultiplexer = Demultiplexer()

    def socket(self) -> socket.socket:
        return self._socket

    def recv(self, size: int = RECEIVED_BYTES) -> list[tuple[int, memoryview]]:
        while True:
            try:
                data = self._socket.recv(size, self._flags)
            except ConnectionError:
                return []
            if not data:
                return []
            if self.tty:
                return [(STDOUT, memoryview(data))]
            pieces = list(self._demultiplexer.feed(data))
            if pieces:
                return pieces

    def close_stdin(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
