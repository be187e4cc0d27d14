"""How fast this machine is just now: bounds on seconds are for the usual one, and it is shared."""

from __future__ import annotations

import statistics
import subprocess
import time

# What the two below take on the machine that the bounds were written for, in seconds
USUAL_COUNTING_S = 0.34
USUAL_START_S = 0.0018


def pace() -> float:
    """By how much work, or the start of a process, takes longer now than usual; never below 1."""
    counting = statistics.median(_took(lambda: sum(range(20_000_000))) for _ in range(3))
    starting = statistics.mean(
        _took(lambda: subprocess.run(["/bin/sh", "-c", ":"], check=True)) for _ in range(30)
    )
    return max(1.0, counting / USUAL_COUNTING_S, starting / USUAL_START_S)


def in_time(took: float, usual: float) -> bool:
    """Whether what may take so long on the usual machine has not taken longer, here and now."""
    return took <= usual or took <= usual * pace()


def _took(act: object) -> float:
    began = time.perf_counter()
    act()  # type: ignore[operator]
    return time.perf_counter() - began
