"""Values and texts for the tests of the command line."""

from __future__ import annotations

import re
from typing import Any

from mooring.guest.clock import ClockStatus
from mooring.sessions.model import Session, State

_STYLE = re.compile(r"\033\[[0-9;]*m")


def plain(text: str) -> str:
    """A text without colours and weights."""
    return _STYLE.sub("", text)


def session(name: str = "train", state: State = State.RUNNING, **changes: Any) -> Session:
    """A session as the engine and its folder would tell of it, with ``changes`` to its fields."""
    values: dict[str, Any] = {
        "id": "0123456789ab", "name": name, "owner": "ann", "state": state, "image": "host",
        "container": "c" * 64, "created_at": 1.0, "exit_code": None, "declared": {}, "clock": None,
        "end": None, "kernels": (),
    }  # fmt: skip
    return Session(**(values | changes))


def clock(**changes: Any) -> ClockStatus:
    """The status of a session's clock, with ``changes`` to its fields."""
    values: dict[str, Any] = {
        "age_s": 1.0, "idle_stop_in_s": 90.0, "max_stop_in_s": None, "active_signals": ("kernel",),
        "failed_probes": (),
        "held_for_s": 0.0, "cpu_percent": 250.0, "last_signal": "kernel", "last_signal_ago_s": 1.0,
    }  # fmt: skip
    return ClockStatus(**(values | changes))
