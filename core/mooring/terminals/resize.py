"""Detect size changes of this process's terminal, and resize the terminal in the session."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from mooring.errors import MooringError

# How often a failed resize is retried, and the delay between retries
MAX_RETRIES, RETRY_DELAY_S = 5, 0.5
# Programs read the size shortly after SIGWINCH
REDRAW_S = 0.05
APPLY_TIMEOUT_S = 2.0


class Resizable(Protocol):
    """A terminal in a session."""

    def resize(self, rows: int, columns: int) -> None:
        """Set its size in rows and columns. Raises MooringError."""


@contextlib.contextmanager
def size_changes(watched: bool) -> Iterator[int]:
    """Yield a file descriptor that becomes readable when this process's terminal is resized.

    Args:
        watched: if False, the descriptor never becomes readable and no signal handler is changed.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    # Python's C-level handler writes to the descriptor from any thread. A Python handler would run
    # in the main thread, which may be blocked
    handler = signal.signal(signal.SIGWINCH, lambda *_: None) if watched else None
    descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False) if watched else -1
    try:
        yield reading
    finally:
        if watched:
            signal.set_wakeup_fd(descriptor)
            signal.signal(signal.SIGWINCH, handler)
        os.close(writing)
        os.close(reading)


class Resizer:
    """Sets a terminal's size in a separate thread, because an engine may be slow or frozen.

    Args:
        terminal: the terminal to resize.
        retry_delay_s: delay before a failed resize is retried, in seconds.
    """

    def __init__(self, terminal: Resizable, retry_delay_s: float = RETRY_DELAY_S) -> None:
        self._terminal = terminal
        self._retry_delay_s = retry_delay_s
        self._wanted: tuple[tuple[int, int], bool] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._applied = threading.Event()
        self._closed = False

    def apply(self, size: tuple[int, int], *, redraw: bool = False) -> None:
        """Request a size and return immediately; a newer request replaces a pending one.

        Args:
            size: rows and columns.
            redraw: change the size twice, so that the program redraws its screen.
        """
        with self._changed:
            self._wanted = size, redraw or bool(self._wanted and self._wanted[1])
            self._applied.clear()
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float = APPLY_TIMEOUT_S) -> bool:
        """Wait until the size is set or all retries have failed.

        Args:
            timeout_s: timeout in seconds.

        Returns:
            False after the timeout.
        """
        return self._applied.wait(timeout_s)

    def close(self) -> None:
        """Tell the thread to exit, without waiting for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        retries = 0
        while True:
            with self._changed:
                while self._wanted is None and not self._closed:
                    self._changed.wait()
                if self._closed or self._wanted is None:
                    return
                (rows, columns), redraw = self._wanted
                self._wanted = None
            try:
                if redraw:
                    self._terminal.resize(rows, max(1, columns - 1))
                    time.sleep(REDRAW_S)
                self._terminal.resize(rows, columns)
            except MooringError:  # the engine failed, or the process has ended
                with self._changed:
                    if self._wanted is None and retries < MAX_RETRIES:
                        self._changed.wait(self._retry_delay_s)
                        self._wanted = self._wanted or ((rows, columns), redraw)
                        retries += 1
                        continue
            retries = 0
            with self._changed:
                if self._wanted is None:
                    self._applied.set()
