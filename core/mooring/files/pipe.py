"""A process in a session as a file: bytes in, bytes out, and how it ended.

What it prints on standard error is kept, the last of it; it may come at any time, and is read
while bytes are written too, so that neither side waits for the other.
"""

from __future__ import annotations

import selectors
from types import TracebackType

from mooring.engines.base import Stream
from mooring.terminals.pump import HEADER, STDERR, exit_code

CHUNK = 1 << 18
STDERR_BYTES = 8192


class Pipe:
    """The three streams of a process without a terminal.

    Args:
        stream: from ``Mooring.exec`` or an engine's ``exec``, with standard input.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._socket = stream.socket()
        self._socket.setblocking(False)
        self._selector = selectors.PollSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._head = bytearray()
        self._left = 0
        self._kind = 0
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
        """The next bytes of standard output, ``size`` at most; empty at its end."""
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
        """So many bytes of standard output, fewer only where it ends."""
        first = self.read(size) if size else b""
        if len(first) == size or not first:
            return first
        parts, found = [first], len(first)
        while found < size and (piece := self.read(size - found)):
            parts.append(piece)
            found += len(piece)
        return b"".join(parts)

    def write(self, data: bytes | memoryview) -> bool:
        """Pass bytes to standard input; False once the process reads no more."""
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
        """End standard input, let the rest of the output go by, and wait for the exit code."""
        if self._code is None:
            self._stream.close_stdin()
            while self.read(CHUNK):
                pass
            self._code = exit_code(self._stream)
        return self._code

    def close(self) -> None:
        """Give the connection back; standard input ends for the process. Idempotent."""
        self._selector.close()
        self._stream.close()

    @property
    def complaint(self) -> str:
        """The last lines of standard error, as text."""
        return self.stderr.decode(errors="replace").strip()

    def _receive(self) -> None:
        try:
            data = memoryview(self._socket.recv(CHUNK))
        except BlockingIOError:
            return
        except ConnectionError:
            data = memoryview(b"")
        if not data:
            self._ended = True
        while data:
            if not self._left:
                need = HEADER.size - len(self._head)
                self._head += data[:need]
                data = data[need:]
                if len(self._head) < HEADER.size:
                    return
                self._kind, self._left = HEADER.unpack(self._head)
                self._head.clear()
                continue
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            if self._kind == STDERR:
                self.stderr = (self.stderr + piece)[-STDERR_BYTES:]
            else:
                self._out.append(piece)
