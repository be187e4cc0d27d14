"""Show what a command is waiting for: with a spinner at a terminal, otherwise as lines."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mooring import SessionTimeout, SpecError, in_background
from mooring_cli.output import clean, note

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.status import Status

SHOWN_AFTER_S = 0.5
STARTING = "starting the container"
# A pull's text changes continuously, but it is one step
_PULL = re.compile(r"(pulling [^ ]+): .*")


@contextmanager
def show_progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows the current step.

    A terminal shows a spinner; otherwise, and in a terminal's background, each step is a line on
    standard error. Steps that take less than ``SHOWN_AFTER_S`` are not shown.
    """
    display = _Spinner() if sys.stderr.isatty() and not in_background(2) else _Lines()
    try:
        yield display
    finally:
        display.close()


class _Lines:
    """Writes a line for each new step that takes at least ``SHOWN_AFTER_S``.

    The step ``STARTING`` is shown only after another step was shown.
    """

    def __init__(self) -> None:
        self._step = ""
        self._shown = False
        self._timer: threading.Timer | None = None

    def __call__(self, text: str) -> None:
        step = _PULL.sub(r"\1", text)
        if step == self._step:
            return
        self.close()
        self._step = step
        if step and (self._shown or step != STARTING):
            self._timer = _later(self._show)

    def _show(self) -> None:
        self._shown = True
        note(self._step)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Spinner:
    """Shows the step with a spinner; rich, which draws it, is imported only when needed."""

    def __init__(self) -> None:
        self._text = "looking for the engine"
        self._lock = threading.Lock()
        self._closed = False
        self._status: Status | None = None
        self._plain: Callable[[str], RenderableType] = str
        self._timer = _later(self._start)

    def __call__(self, text: str) -> None:
        with self._lock:
            self._text = clean(text) or self._text
            if self._status is not None:
                self._status.update(self._plain(self._text))

    def _start(self) -> None:
        from rich.console import Console
        from rich.text import Text

        with self._lock:
            if not self._closed:
                self._plain = Text  # the text has no markup
                self._status = Console(stderr=True).status(Text(self._text))
                self._status.start()

    def close(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._status is not None:
                self._status.stop()


def _later(act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(SHOWN_AFTER_S, act)
    timer.daemon = True
    timer.start()
    return timer


class PullDeadline:
    """Cancels a pull that takes longer than ``--max-wait``; the GPU queue has its own timeout.

    Args:
        max_wait_s: timeout from now, in seconds; None for no timeout.
        show: called with each step.
    """

    def __init__(self, max_wait_s: float | None, show: Callable[[str], None]) -> None:
        self._max_wait_s, self._show, self._step = max_wait_s, show, ""
        self._began = time.monotonic()

    def progress(self, text: str) -> None:
        """Show a step; the ``progress`` callback of ``Wait``."""
        self._step = text
        self._show(text)

    def cancelled(self) -> bool:
        """Return False; the ``cancelled`` callback of ``Wait``.

        Raises:
            SessionTimeout: a pull continues after the deadline.
        """
        limit_s = self._max_wait_s
        if limit_s is None or not _PULL.match(self._step):
            return False
        if time.monotonic() - self._began > limit_s:
            raise SessionTimeout(
                f"the session did not start within {limit_s:g} s: {self._step}",
                "use a longer --max-wait",
            )
        return False


def parse_max_wait(text: str | None) -> float | None:
    """Parse ``--max-wait``.

    Returns:
        The timeout in seconds; None for no timeout.

    Raises:
        SpecError: the text is not a duration.
    """
    from mooring import parse_duration

    if text is None or text.strip().lower() in ("off", "never"):
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(f"flag --max-wait: {text!r} {error}") from None
