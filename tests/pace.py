"""How fast this machine is today: bounds on seconds are for the usual one, and it is shared."""

from __future__ import annotations

import functools
import time

# Of the loop below, on the machine that the bounds were written for
USUAL_S = 0.38


@functools.cache
def pace() -> float:
    """By how much everything takes longer here than on the usual machine; never below 1."""
    best = min(_loop() for _ in range(3))
    return max(1.0, best / USUAL_S)


def allowed(seconds: float) -> float:
    """What may take so long on the usual machine may take so long here."""
    return seconds * pace()


def _loop() -> float:
    began = time.perf_counter()
    sum(range(20_000_000))
    return time.perf_counter() - began
