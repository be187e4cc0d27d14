"""Terminals and pipes: this process's on one side, a process in a session on the other.

What passes is bytes, both ways at once, with bounded memory: neither side's silence blocks the
other.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import struct
import sys
import termios
import time
import tty as tty_modes
from collections.abc import Callable, Iterator
from types import FrameType

from mooring.engines.base import Stream

CHUNK = 65536
# Docker Engine API, "Attach to a container", stream format: type, three zeros, length
HEADER = struct.Struct(">BxxxL")
STDERR = 2


class Demultiplexer:
    """Takes the bytes of a multiplexed stream as they come; gives back what they carry."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._kind = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Pairs of stream number (1 standard output, 2 standard error) and a piece of it."""
        while data:
            if self._left == 0:
                need = HEADER.size - len(self._head)
                self._head, data = self._head + data[:need], data[need:]
                if len(self._head) < HEADER.size:
                    return
                self._kind, self._left = HEADER.unpack(self._head)
                self._head = b""
                continue
            piece, data = data[: self._left], data[self._left :]
            self._left -= len(piece)
            yield self._kind, piece


def connect(
    stream: Stream,
    *,
    stdin: int | None = 0,
    stdout: int = 1,
    stderr: int = 2,
    size: Callable[[], tuple[int, int]] | None = None,
) -> None:
    """Join this process to the far one until the far one's output ends.

    Args:
        stdin, stdout, stderr: file descriptors; ``stdin`` None sends nothing.
        size: rows and columns of the terminal now; called at once and after each SIGWINCH.

    Raises:
        BrokenPipeError: nobody reads our output any more.
    """
    if stream.tty and size is not None:
        with _resized(stream, size), _raw(stdin):
            _pump(stream, stdin, stdout, stderr)
    else:
        _pump(stream, stdin, stdout, stderr)


def exit_code(stream: Stream, patience_s: float = 3.0) -> int | None:
    """How the far process ended; None if it has not (the terminal was detached from it).

    The engine closes the output a moment before it knows the code, hence the patience.
    """
    deadline = time.monotonic() + patience_s
    while True:
        code = stream.exit_code()
        if code is not None or time.monotonic() > deadline:
            return code
        time.sleep(0.005)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of this process's terminal."""
    for descriptor in (1, 0, 2):
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(descriptor)
            return found.lines, found.columns
    return 24, 80


def is_interactive() -> bool:
    """Whether a person sits at both ends: standard input and output are terminals."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _pump(stream: Stream, stdin: int | None, stdout: int, stderr: int) -> None:
    far = stream.socket()
    far.setblocking(False)
    demultiplexer = None if stream.tty else Demultiplexer()
    pending = b""
    with selectors.PollSelector() as selector:  # epoll refuses regular files
        selector.register(far, selectors.EVENT_READ)
        if stdin is not None:
            selector.register(stdin, selectors.EVENT_READ)
        elif not stream.tty:
            stream.close_stdin()
        while True:
            for key, events in selector.select():
                if key.fileobj is far:
                    if events & selectors.EVENT_WRITE and pending:
                        pending = _send(far, pending)
                        if not pending:
                            selector.modify(far, selectors.EVENT_READ)
                            if stdin is not None:
                                selector.register(stdin, selectors.EVENT_READ)
                    if events & selectors.EVENT_READ:
                        try:
                            data = far.recv(CHUNK)
                        except BlockingIOError:
                            continue
                        except ConnectionError:
                            data = b""
                        if not data:
                            return
                        if demultiplexer is None:
                            _write_all(stdout, data)
                        else:
                            for kind, piece in demultiplexer.feed(data):
                                _write_all(stderr if kind == STDERR else stdout, piece)
                elif stdin is not None:
                    try:
                        data = os.read(stdin, CHUNK)
                    except OSError:  # the terminal was hung up
                        data = b""
                    if not data:
                        selector.unregister(stdin)
                        stdin = None
                        if not stream.tty:
                            stream.close_stdin()
                        continue
                    pending = _send(far, data)
                    if pending:  # read no more than can be passed on
                        selector.unregister(stdin)
                        selector.modify(far, selectors.EVENT_READ | selectors.EVENT_WRITE)


def _send(far: object, data: bytes) -> bytes:
    try:
        sent: int = far.send(data)  # type: ignore[attr-defined]
    except BlockingIOError:
        return data
    except (BrokenPipeError, ConnectionResetError):
        return b""  # the far process reads no more; its output may still come
    return data[sent:]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            with selectors.PollSelector() as selector:
                selector.register(descriptor, selectors.EVENT_WRITE)
                selector.select()


@contextlib.contextmanager
def _raw(descriptor: int | None) -> Iterator[None]:
    if descriptor is None or not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty_modes.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resized(stream: Stream, size: Callable[[], tuple[int, int]]) -> Iterator[None]:
    def tell(number: int = 0, frame: FrameType | None = None) -> None:
        stream.resize(*size())

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        tell()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
