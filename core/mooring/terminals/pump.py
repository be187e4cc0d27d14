"""Copy bytes between this process's terminal or pipes and a process in a session.

Both directions are copied concurrently with bounded memory, so an idle side does not block the
other one.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import termios
import time
import tty as tty_modes
from collections.abc import Callable, Iterator

from mooring.engines.base import STDERR, Stream
from mooring.terminals.detach_keys import DetachKeys
from mooring.terminals.modes import Modes
from mooring.terminals.resize import size_changes

CHUNK = 65536


def connect(
    stream: Stream,
    *,
    stdin: int | None = 0,
    stdout: int = 1,
    stderr: int = 2,
    size: Callable[[], tuple[int, int]] | None = None,
    detach_keys: str = "",
) -> bool:
    """Connect this process to a remote process until the remote output ends.

    Args:
        stream: the engine's stream of the remote process.
        stdin, stdout, stderr: file descriptors; if ``stdin`` is None, no input is sent.
        size: returns the rows and columns of this process's terminal; called at the start and after
            each change of the size. None to leave the remote size as it is.
        detach_keys: the keys that the stream was opened with, in the format of ``key_codes``; used
            only with a terminal and ``size``.

    Returns:
        True after the detach keys, False at the end of the output. After the detach keys the remote
        process keeps running; the engine also receives them, and its output from then on is not
        shown. What the remote process changed in this process's terminal is undone.

    Raises:
        BrokenPipeError: the reader of this process's output has closed the pipe.
        ValueError: ``detach_keys`` are not valid.
    """
    descriptors = stdin, stdout, stderr
    if not stream.tty or size is None:
        return _Pump(stream, descriptors).run()

    def resize() -> None:
        stream.resize(*size())

    with size_changes(True) as changed:
        resize()  # before raw mode, in which Ctrl-C would not interrupt a hanging engine call
        modes = Modes()
        with raw(stdin):
            try:
                keys = DetachKeys(key_codes(detach_keys))
                return _Pump(stream, descriptors, keys, modes, (changed, resize)).run()
            finally:
                undo(modes, stdin, stdout)


def exit_code(stream: Stream) -> int:
    """Wait for the remote process's exit code and return it.

    An engine closes the output shortly before the exit code is available.
    """
    pause_s = 0.002
    while True:
        code = stream.exit_code()
        if code is not None:
            return code
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.25)


def key_codes(names: str) -> bytes:
    """Return the bytes that a terminal sends for keys such as ``ctrl-p,ctrl-q``.

    Args:
        names: keys separated by commas, in Docker's notation: a character, or ``ctrl-`` and one of
            ``a`` to ``z`` or ``@[\\]^_``.

    Raises:
        ValueError: a name is not a key in this notation.
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
    """Return the rows and columns of this process's terminal, or 24 and 80 if it has none."""
    for descriptor in (1, 0, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            return size.lines, size.columns
    return 24, 80


def is_interactive() -> bool:
    """Return whether standard input and output are terminals, and this process may use them."""
    terminals = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    return terminals and not in_background()


def in_background(descriptor: int = 0) -> bool:
    """Return whether this process runs in the background of a terminal.

    A process that reads from the terminal or changes its modes then is stopped by the kernel
    (SIGTTIN, SIGTTOU).

    Args:
        descriptor: the terminal's file descriptor; the answer is no for another kind of file.
    """
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # not a terminal, or not this process's own
        return False


class _Pump:
    """Copies bytes until the remote output ends or the detach keys are typed."""

    def __init__(
        self,
        stream: Stream,
        descriptors: tuple[int | None, int, int],
        keys: DetachKeys | None = None,
        modes: Modes | None = None,
        on_resize: tuple[int, Callable[[], None]] | None = None,
    ) -> None:
        self._stream = stream
        self._stdin, self._stdout, self._stderr = descriptors
        self._keys, self._modes = keys, modes
        self._on_resize = on_resize
        self._far = stream.socket()
        self._far.setblocking(False)
        self._selector = selectors.PollSelector()  # epoll refuses regular files
        self._unsent = b""
        self._detached = False

    def run(self) -> bool:
        """Copy until the end; return whether the detach keys were typed."""
        with self._selector:
            self._selector.register(self._far, selectors.EVENT_READ)
            if self._on_resize is not None:
                self._selector.register(self._on_resize[0], selectors.EVENT_READ)
            if self._stdin is not None:
                self._selector.register(self._stdin, selectors.EVENT_READ)
            elif not self._stream.tty:
                self._stream.close_stdin()
            while True:
                for key, events in self._selector.select():
                    if key.fileobj is not self._far:
                        self._read_here(key.fd)
                        if self._detached:
                            return True
                        continue
                    if events & selectors.EVENT_WRITE:
                        self._send_rest()
                    if events & selectors.EVENT_READ and not self._read_far():
                        return False

    def _read_far(self) -> bool:
        """Write the output that is available; return False at its end."""
        try:
            pieces = self._stream.recv(CHUNK)
        except BlockingIOError:
            return True
        for number, piece in pieces:
            output = self._stderr if number == STDERR else self._stdout
            write_all(output, piece)
            if self._modes is not None and (after := self._modes.feed(bytes(piece))):
                write_all(output, after)
        return bool(pieces)

    def _read_here(self, descriptor: int) -> None:
        if self._on_resize is not None and descriptor == self._on_resize[0]:
            os.read(descriptor, CHUNK)
            self._on_resize[1]()
            return
        try:
            data = os.read(descriptor, CHUNK)
        except OSError:  # the terminal has hung up
            data = b""
        if not data:
            self._selector.unregister(descriptor)
            self._stdin = None
            if not self._stream.tty:
                self._stream.close_stdin()
            return
        self._unsent = _send(self._far, data)
        if self._keys is not None:
            _, self._detached = self._keys.feed(data, 0.0)
        if self._unsent:  # stop reading until all of it is sent
            self._selector.unregister(descriptor)
            self._selector.modify(self._far, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _send_rest(self) -> None:
        self._unsent = _send(self._far, self._unsent)
        if not self._unsent:
            self._selector.modify(self._far, selectors.EVENT_READ)
            if self._stdin is not None:
                self._selector.register(self._stdin, selectors.EVENT_READ)


def _send(far: socket.socket, data: bytes) -> bytes:
    """Send data without blocking; return the part that could not be sent yet."""
    try:
        return data[far.send(data) :]
    except BlockingIOError:
        return data
    except (BrokenPipeError, ConnectionResetError):
        return b""  # the remote process has closed its input; its output may continue


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all data to a file descriptor, even a non-blocking one.

    Args:
        descriptor: the file descriptor.
        data: the bytes to write.

    Raises:
        OSError: writing failed.
    """
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
    """Put a terminal into raw mode, in which every key including Ctrl-C is read as input.

    Args:
        descriptor: the terminal's file descriptor; no effect on None or another kind of file.
    """
    if descriptor is None or not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty_modes.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal has hung up
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def undo(modes: Modes, stdin: int | None, stdout: int) -> None:
    """Undo on this process's terminal what a program has changed there.

    Args:
        modes: what it has changed.
        stdin, stdout: the terminal's file descriptors. Input that was not read yet is discarded if
            the terminal reports the mouse and such by itself.
    """
    with contextlib.suppress(OSError, termios.error):  # the terminal has hung up
        write_all(stdout, modes.undone())
        if stdin is not None and modes.reports and os.isatty(stdin):
            termios.tcdrain(stdin)
            termios.tcflush(stdin, termios.TCIFLUSH)
