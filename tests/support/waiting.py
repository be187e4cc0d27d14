"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LONGEST_PAUSE_S = 0.05


def eventually(what: Callable[[], Any], timeout: float = 30, message: str = "") -> Any:
    """Wait until ``what`` returns something true, and return that.

    Args:
        what: called at once, and again after pauses that grow to ``LONGEST_PAUSE_S``.
        timeout: seconds after which the test fails.
        message: what the failure says.
    """
    deadline, pause = time.monotonic() + timeout, 0.001
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, message or f"not within {timeout} s"
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
