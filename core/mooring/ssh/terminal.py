"""A terminal of the session, attached for a channel; it outlives the channel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable

from mooring.engines.streams import SocketStream
from mooring.errors import MooringError
from mooring.ssh.threads import call_soon
from mooring.terminals.attach import Attachment
from mooring.terminals.terminal import PersistentTerminal


class _TerminalStream(SocketStream):
    """A terminal's bytes in both directions."""

    def close_stdin(self) -> None:
        """Does nothing: a terminal's input has no end, and the attachment would take it for one."""


class AttachedTerminal:
    """An attachment in a thread, with a socket for a terminal.

    Args:
        terminal: the new terminal.
        size: its rows and columns.
        warn: called with a line of text for the user, in the event loop.

    Attributes:
        ended: done at the end of the attachment, with the exit code, or None after ``detach``; or
            with a MooringError if the terminal cannot be reached any more.
    """

    def __init__(
        self,
        terminal: PersistentTerminal,
        size: tuple[int, int],
        warn: Callable[[str], None],
    ) -> None:
        self._size = size
        self._ours, self._theirs = socket.socketpair()
        self._resized, self._resize = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int | None] = self._loop.create_future()
        self._attachment = Attachment(
            terminal,
            stdin=self._theirs.fileno(),
            stdout=self._theirs.fileno(),
            size=lambda: self._size,
            offset=0,
            exact=True,
            resized=self._resized,
            detach_at_end=True,
            warn=lambda line: call_soon(self._loop, warn, line),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> SocketStream:
        """Attach; return the stream of the terminal's bytes, which ends with the terminal."""
        self._thread.start()
        return _TerminalStream(self._ours, tty=True)

    def resize(self, size: tuple[int, int]) -> None:
        """Set the terminal's rows and columns."""
        self._size = size
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._resize >= 0:
                os.write(self._resize, b"x")

    def detach(self) -> None:
        """Leave the terminal, whose program goes on. Idempotent."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        code: int | None = None
        error: MooringError | None = None
        try:
            code = self._attachment.run()
        except MooringError as raised:
            error = raised
        except OSError:  # the channel was closed while something was written to it
            pass
        finally:
            self._theirs.close()
            with self._lock:
                os.close(self._resize)
                os.close(self._resized)
                self._resize = -1
            call_soon(self._loop, self._end, code, error)

    def _end(self, code: int | None, error: MooringError | None) -> None:
        if error is None:
            self.ended.set_result(code)
        else:
            self.ended.set_exception(error)
