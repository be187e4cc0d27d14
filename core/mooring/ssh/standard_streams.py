"""This process's standard input and output as one socket, as asyncssh takes it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from mooring.terminals.pump import write_all

_CHUNK = 1 << 18
# How long the last bytes may take to be read by the client
_LAST_S = 5.0


class StandardStreams:
    """Copies between the standard streams and a socket, in two threads.

    Args:
        connected: the socket; it is closed at the end.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._in = threading.Thread(target=self._read, daemon=True)
        self._out = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        """Begin to copy."""
        self._in.start()
        self._out.start()

    def end_input(self) -> None:
        """Let the input end now, as if the client had closed it. Idempotent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def finish(self) -> None:
        """Wait until all output is written, after the other socket was closed."""
        self._out.join(_LAST_S)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(0, _CHUNK):
                self._socket.sendall(data)
        self.end_input()

    def _write(self) -> None:
        try:
            while data := self._socket.recv(_CHUNK):
                write_all(1, data)
        except OSError:  # the client no longer reads
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
