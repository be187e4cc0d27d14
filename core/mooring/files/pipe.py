"""A file-like interface to a process in a session.

The end of its standard error is kept. Output is received while input is written, which avoids a
deadlock.
"""

from __future__ import annotations

import selectors
from types import TracebackType

from mooring.engines.base import STDERR, Stream
from mooring.terminals.pump import exit_code

CHUNK = 1 << 18
STDERR_BYTES = 8192


class Pipe:
    """The three standard streams of a process without a terminal.

    Args:
        stream: from `sessions.processes.exec_in` or an engine's `exec`, with standard input.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._socket = stream.socket()
        self._socket.setblocking(False)
        self._selector = selectors.PollSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._out: list[memoryview] = []
        self._ended = False
        self._deaf = False
        self._code: int | None = None
        self.stderr = b""

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes of standard output; empty at end-of-file."""
        while not self._out:
            if self._ended:
                return b""
            self._selector.select()
            self._receive()
        piece = self._out[0]
        if len(piece) <= size:
            return bytes(self._out.pop(0))
        self._out[0] = piece[size:]
        return bytes(piece[:size])

    def exactly(self, size: int) -> bytes:
        """Read `size` bytes of standard output, fewer only at end-of-file."""
        first = self.read(size) if size else b""
        if len(first) == size or not first:
            return first
        parts, count = [first], len(first)
        while count < size and (piece := self.read(size - count)):
            parts.append(piece)
            count += len(piece)
        return b"".join(parts)

    def write(self, data: bytes | memoryview) -> bool:
        """Write to standard input; returns False if the process no longer reads it."""
        view = memoryview(data)
        while view and not self._deaf and not self._ended:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                both = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(self._socket, both)
                for _, events in self._selector.select():
                    if events & selectors.EVENT_READ:
                        self._receive()
                self._selector.modify(self._socket, selectors.EVENT_READ)
            except (BrokenPipeError, ConnectionResetError):
                self._deaf = True
        return not (self._deaf or self._ended)

    def finish(self) -> int:
        """Close standard input, discard the remaining output, and return the exit code."""
        if self._code is None:
            self._stream.close_stdin()
            while self.read(CHUNK):
                pass
            self._code = exit_code(self._stream)
        return self._code

    def close(self) -> None:
        """Close the connection and the process's standard input. Idempotent."""
        self._selector.close()
        self._stream.close()

    @property
    def complaint(self) -> str:
        """The last `STDERR_BYTES` of standard error, as text."""
        return self.stderr.decode(errors="replace").strip()

    def _receive(self) -> None:
        try:
            pieces = self._stream.recv(CHUNK)
        except BlockingIOError:
            return
        self._ended = not pieces
        for number, piece in pieces:
            if number == STDERR:
                self.stderr = (self.stderr + piece)[-STDERR_BYTES:]
            else:
                self._out.append(piece)
