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
    detach_keys: str = "",
) -> bool:
    """Join this process to the far one until the far one's output ends.

    Args:
        stdin, stdout, stderr: file descriptors; ``stdin`` None sends nothing.
        size: rows and columns of the terminal now; called at once and after each SIGWINCH.
        detach_keys: those that the stream was opened with.

    Returns:
        True if the user typed the detach keys: the far process goes on. The engine sees them
        too; what it says then is not shown.

    Raises:
        BrokenPipeError: nobody reads our output any more.
    """
    if stream.tty and size is not None:
        with _resized(stream, size), raw(stdin):
            return _pump(stream, stdin, stdout, stderr, key_codes(detach_keys))
    return _pump(stream, stdin, stdout, stderr, b"")


def exit_code(stream: Stream) -> int:
    """How the far process ended. Waits for it: its output may end before itself does.

    The engine closes the output a moment before it knows the code.
    """
    pause_s = 0.002
    while True:
        code = stream.exit_code()
        if code is not None:
            return code
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.25)


def key_codes(names: str) -> bytes:
    """The bytes that ``ctrl-p,ctrl-q`` stand for: Docker's form, letters or ``ctrl-`` and one.

    Raises:
        ValueError: a part is neither.
    """
    codes = b""
    for name in filter(None, names.split(",")):
        letter = name.removeprefix("ctrl-")
        if len(letter) != 1 or not letter.isascii():
            raise ValueError(f"{name!r} is not a key: use a letter, or ctrl- and a letter")
        if letter != name and not "@" <= letter.upper() <= "_":
            raise ValueError(f"{name!r} is not a key: use a letter, or ctrl- and a letter")
        codes += bytes([ord(letter.upper()) - 64]) if letter != name else letter.encode()
    return codes


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


def _pump(stream: Stream, stdin: int | None, stdout: int, stderr: int, leave: bytes) -> bool:
    """Carry bytes until the far side's end, or until those that mean to leave were typed."""
    typed = b""
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
                            return False
                        if demultiplexer is None:
                            write_all(stdout, data)
                        else:
                            for kind, piece in demultiplexer.feed(data):
                                write_all(stderr if kind == STDERR else stdout, piece)
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
                    typed += data
                    if leave and leave in typed:
                        return True
                    typed = typed[-16:]
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


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            with selectors.PollSelector() as selector:
                selector.register(descriptor, selectors.EVENT_WRITE)
                selector.select()


@contextlib.contextmanager
def raw(descriptor: int | None) -> Iterator[None]:
    """Have a terminal pass every key on, Ctrl-C too; no effect on what is no terminal."""
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
    changed = busy = False

    def tell(number: int = 0, frame: FrameType | None = None) -> None:
        # A signal may interrupt the telling of an earlier one: the newest size is told last
        nonlocal changed, busy
        changed = True
        while changed and not busy:
            busy = True
            while changed:
                changed = False
                stream.resize(*size())
            busy = False

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        tell()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
