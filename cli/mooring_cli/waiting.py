"""What a command waits for, told while it waits: a spinner, or lines where nobody watches."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mooring.errors import SpecError
from mooring_cli.output import clean, note

SHOWN_AFTER_S = 0.5
# How far a pull is changes all the time; that it goes on does not
_PULL = re.compile(r"(pulling [^ ]+): .*")


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """A callable that shows the step that goes on now.

    A spinner where a person watches. Elsewhere a line on standard error for each step that lasts:
    what comes and goes in a moment was not waited for.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("looking for the engine") as status:
            yield lambda text: status.update(clean(text))
        return
    lines = _Lines()
    try:
        yield lines
    finally:
        lines.close()


class _Lines:
    """Writes a line for each step that is another than the last one, and lasts."""

    def __init__(self) -> None:
        self._step = ""
        self._timer: threading.Timer | None = None

    def __call__(self, text: str) -> None:
        step = _PULL.sub(r"\1", text)
        if step == self._step:
            return
        self.close()
        self._step = step
        self._timer = threading.Timer(SHOWN_AFTER_S, note, args=(step,))
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def longest_wait(text: str | None) -> float | None:
    """The seconds of ``--max-wait``: a bare number is seconds; None for as long as it takes.

    Raises:
        SpecError: it is no duration.
    """
    from mooring.quantities import parse_duration

    if text is None or text.strip().lower() in ("off", "never"):
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SpecError(f"flag --max-wait: {text!r} {error}") from None
