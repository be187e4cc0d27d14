"""What a command waits for, told while it waits: a spinner, or lines where nobody watches."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mooring.errors import SessionTimeout, SpecError
from mooring_cli.output import clean, note

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.status import Status

SHOWN_AFTER_S = 0.5
STARTING = "starting the container"
# How far a pull is changes all the time; that it goes on does not
_PULL = re.compile(r"(pulling [^ ]+): .*")


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """A callable that shows the step that goes on now, if it lasts.

    A spinner where a person watches; elsewhere a line on standard error for each step. What comes
    and goes in a moment was not waited for, and is not shown.
    """
    shown = _Spinner() if sys.stderr.isatty() else _Lines()
    try:
        yield shown
    finally:
        shown.close()


class _Lines:
    """Writes a line for each step that is another than the last one, and lasts.

    That a container is starting is told only to one who has waited for that.
    """

    def __init__(self) -> None:
        self._step = ""
        self._told = False
        self._timer: threading.Timer | None = None

    def __call__(self, text: str) -> None:
        step = _PULL.sub(r"\1", text)
        if step == self._step:
            return
        self.close()
        self._step = step
        if step and (self._told or step != STARTING):
            self._timer = _later(self._tell)

    def _tell(self) -> None:
        self._told = True
        note(self._step)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Spinner:
    """Shows the step, and that it goes on. What draws it is loaded when it is needed."""

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
                self._plain = Text  # others' words are no markup
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


class Wait:
    """Ends a pull that takes longer than somebody wants to wait; the queue ends its own wait.

    Args:
        max_wait_s: None for as long as it takes.
        show: called with each step.
    """

    def __init__(self, max_wait_s: float | None, show: Callable[[str], None]) -> None:
        self._max_wait_s, self._show, self._step = max_wait_s, show, ""
        self._began = time.monotonic()

    def tell(self, text: str) -> None:
        """What goes on now; ``progress`` of ``Mooring.create``."""
        self._step = text
        self._show(text)

    def over(self) -> bool:
        """``cancelled`` of ``Mooring.create``, which never says yes.

        Raises:
            SessionTimeout: a pull goes on, and the time is up.
        """
        longest = self._max_wait_s
        if longest is None or not _PULL.match(self._step):
            return False
        if time.monotonic() - self._began > longest:
            raise SessionTimeout(
                f"it did not run within {longest:g} s: {self._step}", "wait longer (--max-wait)"
            )
        return False


def longest_wait(text: str | None) -> float | None:
    """The seconds of ``--max-wait``: a bare number is seconds; None for as long as it takes.

    Raises:
        SpecError: it is no duration.
    """
    from mooring.spec.units import parse_duration

    if text is None or text.strip().lower() in ("off", "never"):
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(f"flag --max-wait: {text!r} {error}") from None
