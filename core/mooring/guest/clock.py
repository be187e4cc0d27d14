"""A session's clock, through files that it shares with this machine.

``guest/clock.sh`` in the container reads ``settings``, which the session cannot write to, ``hold``
and ``exec``, and writes ``status`` and ``end``; it documents their format.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from typing import NamedTuple

from mooring.guest.channel import Guest

_COUNT = re.compile(r"[0-9]{1,15}")
# Larger numbers in a status are invalid
_MAX_NUMBER = 1e15
# Maximum characters of a line that the clock wrote
_MAX_TEXT = 1000


class ClockStatus(NamedTuple):
    """The last status of a session's clock. Times are seconds, relative to now.

    Attributes:
        age_s: since the clock's last sample.
        idle_stop_in_s: until the idle timeout, without activity; None for never.
        max_stop_in_s: until the maximum duration; None for never.
        active_signals: active at the last sample: kernel, terminal, cpu, gpu, exec, hold.
        failed_probes: signals that could not be sampled; they pause the idle timeout.
        held_for_s: until a hold ends; 0 for none.
        cpu_percent: CPU usage, 100 for one core; None if unknown.
        last_signal: the signal that was active last.
        last_signal_ago_s: since then.
        running_for_s: since the clock started.
        memory_bytes: memory usage; None if unknown.
        gpu_percent: utilization of the busiest GPU at the last sample; None if unknown.
        gpu_unused_s: since a GPU was at 5 % or more, or since the start; None if unknown.
        gpu_lost: its GPUs existed at the start and can no longer be opened.
        gpu_absent: it has GPUs, but nothing in the container can sample their utilization.
    """

    age_s: float
    idle_stop_in_s: float | None
    max_stop_in_s: float | None
    active_signals: tuple[str, ...]
    failed_probes: tuple[str, ...]
    held_for_s: float
    cpu_percent: float | None
    last_signal: str
    last_signal_ago_s: float
    running_for_s: float = 0.0
    memory_bytes: int | None = None
    gpu_percent: float | None = None
    gpu_unused_s: float | None = None
    gpu_lost: bool = False
    gpu_absent: bool = False


class StopReason(NamedTuple):
    """Why a session's clock ended it.

    Attributes:
        reason: ``idle``, ``max_duration``, ``stopped``, ``refused``, ``missing`` …
        time: seconds since the epoch.
        detail: one line, shown to users.
        signals: the signals that the decision was based on.
    """

    reason: str
    time: float
    detail: str
    signals: str

    def __str__(self) -> str:
        words = {
            "idle": "idle timeout",
            "max_duration": "maximum duration",
            "stopped": self.detail or "on request",
            "missing": f"command {self.detail}",
            "unrunnable": f"command {self.detail}",
        }
        return words.get(self.reason, self.reason)


class Clock:
    """The clock of one session.

    Args:
        guest: the session's run folder.
        programs: the session's folder of programs and settings.
    """

    def __init__(self, guest: Guest, programs: Guest) -> None:
        self._guest, self._programs = guest, programs

    # files that the clock reads

    def write_settings(self, **settings: str | float) -> None:
        """Replace the clock's settings, which it reads at its next sample. Raises OSError."""
        text = "".join(f"{key} {value}\n" for key, value in settings.items())
        self._programs.write("settings", text)

    def settings(self) -> dict[str, str]:
        """The settings as text, by name."""
        lines = self._programs.text("settings").splitlines()
        return dict(line.split(" ", 1) for line in lines if " " in line)

    def setting_s(self, key: str) -> float | None:
        """A setting in seconds, 0 for never; None if it is missing or not a number."""
        try:
            return max(0.0, _number(self.settings()[key]))
        except (KeyError, ValueError):
            return None

    def deadlines(self) -> dict[str, float]:
        """The current ``idle_timeout`` and ``max_duration`` in seconds, 0 for never, if valid."""
        deadlines = {key: self.setting_s(f"{key}_s") for key in ("idle_timeout", "max_duration")}
        return {key: seconds for key, seconds in deadlines.items() if seconds is not None}

    def hold(self, seconds: float) -> None:
        """Suspend the idle timeout for a number of seconds; 0 ends a hold. Raises OSError."""
        until = self._guest.uptime() + seconds if seconds > 0 else 0.0
        self._guest.write("hold", f"{until:.2f}\n")

    def held_for_s(self) -> float:
        """Seconds until the session's hold ends; 0 for none.

        Raises:
            ValueError: the file is not a number, because the session changed it.
        """
        return max(0.0, _number(self._guest.text("hold") or "0") - self._guest.uptime())

    def mark_exec(self) -> None:
        """Record the start of an exec, so that the clock counts it even if it ends before a sample.

        Errors are ignored.
        """
        with contextlib.suppress(OSError):  # a full disk; a running exec is sampled anyway
            self._guest.write("exec", f"{self._guest.uptime():.6f}\n")

    # files that the clock writes

    def status(self) -> ClockStatus | None:
        """The clock's last status; None if it is missing or invalid."""
        lines = _lines(self._guest.text("status"))
        try:
            now, sampled = self._guest.uptime(), _number(lines["sampled"])
            last_at, last = lines.get("last_signal", "0 start").split(" ", 1)
            percent, memory = lines.get("cpu_percent", ""), lines.get("memory_bytes", "")
            started, gpu = _number(lines.get("started", lines["sampled"])), lines.get("gpu", "")
            status = ClockStatus(
                age_s=now - sampled,
                idle_stop_in_s=_until(lines.get("idle_at", "never"), now),
                max_stop_in_s=_until(lines.get("max_at", "never"), now),
                active_signals=tuple(lines.get("active", "").split()),
                failed_probes=tuple(lines.get("unknown", "").split()),
                held_for_s=self.held_for_s(),
                cpu_percent=max(0.0, _number(percent)) if percent else None,
                last_signal=last,
                last_signal_ago_s=max(0.0, now - _number(last_at)),
                running_for_s=now - started,
                memory_bytes=int(memory) if _COUNT.fullmatch(memory) else None,
                gpu_percent=max(0.0, _number(lines["gpu_percent"])) if gpu == "ok" else None,
                gpu_unused_s=_gpu_unused_s(lines, now, started) if gpu == "ok" else None,
                gpu_lost=gpu == "lost",
                gpu_absent=gpu == "absent",
            )
            return self._with_hold(self._with_exec(status))
        except (KeyError, ValueError):
            return None

    def _with_exec(self, status: ClockStatus) -> ClockStatus:
        """Apply an exec that started after the clock's last sample."""
        try:
            ago_s = self._guest.uptime() - _number(self._guest.text("exec"))
        except ValueError:
            return status
        if not 0 <= ago_s < status.age_s:
            return status
        idle_stop_in_s = status.idle_stop_in_s
        if idle_stop_in_s is not None:
            timeout_s = self.setting_s("idle_timeout_s") or 0.0
            idle_stop_in_s = max(idle_stop_in_s, timeout_s - ago_s)
        others = tuple(signal for signal in status.active_signals if signal != "exec")
        return status._replace(
            active_signals=(*others, "exec"),
            idle_stop_in_s=idle_stop_in_s,
            last_signal="exec",
            last_signal_ago_s=ago_s,
        )

    def _with_hold(self, status: ClockStatus) -> ClockStatus:
        """Apply a hold that began or ended after the clock's last sample."""
        active = status.active_signals
        if (status.held_for_s > 0) == ("hold" in active):
            return status
        timeout_s = self.setting_s("idle_timeout_s") or 0.0
        idle_stop_in_s = status.idle_stop_in_s
        if status.held_for_s == 0:
            return status._replace(
                active_signals=tuple(signal for signal in active if signal != "hold"),
                idle_stop_in_s=None if idle_stop_in_s is None else min(idle_stop_in_s, timeout_s),
            )
        if idle_stop_in_s is not None:
            idle_stop_in_s = max(idle_stop_in_s, status.held_for_s + timeout_s)
        return status._replace(
            active_signals=(*active, "hold"),
            idle_stop_in_s=idle_stop_in_s,
            last_signal="hold",
            last_signal_ago_s=0.0,
        )

    def end(self) -> StopReason | None:
        """Why the clock ended the session; None if it did not."""
        return stop_reason(self._guest)

    def write_end(self, reason: str, detail: str) -> None:
        """Record an end that the clock did not record itself. Raises OSError."""
        self._guest.write("end", f"reason {reason}\ntime {time.time():.0f}\ndetail {detail}\n")


def stop_reason(guest: Guest) -> StopReason | None:
    """Why a session's clock ended it; None if it did not.

    Args:
        guest: the session's run folder.
    """
    lines = _lines(guest.text("end"))
    if "reason" not in lines:
        return None
    try:
        at = _number(lines.get("time", "0"))
    except ValueError:
        at = 0.0
    at = at or guest.modified_at("end")
    texts = (lines.get(key, "")[:_MAX_TEXT] for key in ("reason", "detail", "signals"))
    reason, detail, signals = texts
    return StopReason(reason, max(0.0, min(at, time.time())), detail, signals)


def _gpu_unused_s(lines: dict[str, str], now: float, started: float) -> float:
    seen = dict(pair.split("=", 1) for pair in lines["seen"].split())["gpu"]
    return max(0.0, now - (started if seen == "never" else _number(seen)))


def _until(text: str, now: float) -> float | None:
    return None if text == "never" else _number(text) - now


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or abs(number) > _MAX_NUMBER:
        raise ValueError(text)
    return number


def _lines(text: str) -> dict[str, str]:
    parts = (line.partition(" ") for line in text.splitlines())
    return {key: value for key, _, value in parts}
