"""How a caller waits for operations that can take long: an image pull, the GPU queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


def _ignore(text: str) -> None:
    """Show nothing."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Wait:
    """How to wait, as an argument of ``create`` and ``start``.

    ==============================  =========================================================
    ``Wait()``                      without a time limit or output
    ``Wait(max_wait_s=60)``         a minute at most for GPUs, then ``SessionTimeout``
    ``Wait(progress=print)``        print each step
    ``Wait(cancelled=flag.is_set)`` raise ``Cancelled`` once ``flag`` is set
    ==============================  =========================================================

    Attributes:
        progress: called with a line at each step that takes time.
        cancelled: called several times a second; a true result cancels.
        max_wait_s: timeout for GPUs, in seconds; None for no limit.
    """

    progress: Callable[[str], None] = _ignore
    cancelled: Callable[[], bool] = _never
    max_wait_s: float | None = None

    def after(self, seconds: float) -> Wait:
        """Return how to wait when that many seconds have passed; in tenths, as messages show it."""
        if self.max_wait_s is None:
            return self
        return replace(self, max_wait_s=max(0.0, round(self.max_wait_s - seconds, 1)))
