"""What all benchmarks share: commands, seconds, and rows of two sides."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOORING = [str(Path(sys.executable).with_name("mooring"))]


def session(name: str, *options: str) -> tuple[str, str]:
    """Make a session in the background; its name, and its container's id."""
    run(*MOORING, "create", "-d", "--name", name, *options)
    rows = json.loads(run(*MOORING, "ps", "--json").stdout)
    return name, next(row["container"] for row in rows if row["name"] == name)


def in_turn(rounds: int, mine: list[str], theirs: list[str]) -> tuple[list[float], list[float]]:
    sides: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for side, command in zip(sides, (mine, theirs), strict=True):
            took = timed(lambda c=command: run(*c))
            if number:
                side.append(took)
    return sides


def timed(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} failed:\n{done.stderr}")
    return done


def row(name: str, mine: list[float], theirs: list[float]) -> dict[str, Any]:
    mooring, reference = statistics.median(mine), statistics.median(theirs)
    return {
        "name": name,
        "mooring": round(mooring, 4),
        "reference": round(reference, 4),
        "ratio": round(mooring / reference, 3),
        "unit": "s",
    }
