"""The columns of `ps` and `top`: a session's cells as text, and their colours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mooring import Session, State, format_duration
from mooring_cli.output import ShrinkOrder, part_text, size_text

# How long a GPU must be unused to be marked; users may pause between two cells
UNUSED_AFTER_S = 300.0

COLUMNS = {
    "name": "NAME",
    "id": "ID",
    "owner": "OWNER",
    "state": "STATE",
    "reason": "REASON",
    "gpus": "GPUS",
    "gpu": "GPU",
    "cpu": "CPU",
    "memory": "MEMORY",
    "kernels": "KERNELS",
    "activity": "ACTIVITY",
    "stops_in": "STOPS IN",
    "priority": "PRIORITY",
    "changed": "CHANGED",
    "created": "CREATED",
    "ended": "ENDED",
    "exit": "EXIT",
    "ports": "PORTS",
    "image": "IMAGE",
    "container": "CONTAINER",
}
DEFAULT_COLUMNS = (
    "name",
    "state",
    "gpus",
    "kernels",
    "activity",
    "stops_in",
    "changed",
    "image",
)
ENDED_COLUMNS = ("name", "state", "exit", "ended", "image")
# Names are cut last: `describe` shows the rest
SHRINK_ORDER: ShrinkOrder = (
    ("ACTIVITY", 60),
    ("IMAGE", 24),
    ("ACTIVITY", 30),
    ("IMAGE", 12),
    ("IMAGE", 0),
    ("CREATED", 0),
    ("CHANGED", 0),
    ("ACTIVITY", 14),
    ("KERNELS", 0),
    ("ACTIVITY", 11),
    ("STATE", 18),
    ("ACTIVITY", 0),
    ("STATE", 9),
    ("GPUS", 9),
    ("STOPS IN", 0),
    ("STATE", 7),
)
_BRIEF = {"idle timeout": "idle", "maximum duration": "max", "exit code": "exit"}
STYLES = {
    State.RUNNING: "good",
    State.STARTING: "busy",
    State.PENDING: "busy",
    State.PAUSED: "busy",
    State.LOST: "bad",
    State.UNKNOWN: "odd",
}


def cell(session: Session, column: str) -> str:
    """Return the text of a cell.

    Args:
        session: the row's session.
        column: a key of ``COLUMNS``.
    """
    text_of = _CELLS.get(column)
    return str(getattr(session, column)) if text_of is None else text_of(session)


def style(session: Session, column: str) -> str:
    """Return a cell's style for ``paint``: that of the state, or a warning; empty for none."""
    if column == "state":
        return "bad" if session.degraded else STYLES.get(session.state, "")
    if column == "gpus":
        return "busy" if unused_for(session) is not None else ""
    return ""


def state(session: Session) -> str:
    """Return the state with its reason, abbreviated: ``stopped (idle)``, ``running (gpu lost)``."""
    reason = session.reason or session.degraded
    for long, short in _BRIEF.items():
        reason = reason.replace(long, short)
    return f"{session.state} ({reason})" if reason else str(session.state)


def gpus(session: Session) -> str:
    """Return the number of GPUs, and how long they have been unused: ``2, unused 25m``."""
    unused = unused_for(session)
    return gpu_count(session) + ("" if unused is None else f", unused {format_duration(unused)}")


def gpu_count(session: Session) -> str:
    """Return the number of GPUs that it holds or waits for: ``2``, ``0.5``; ``-`` for none."""
    count: float = sum(claim.share for claim in session.held_claims)
    if session.state is State.PENDING:
        request = session.declared.get("gpus")
        count = request.get("count", 1) if isinstance(request, dict) else request or 0
    return f"{count:g}" if count else "-"


def unused_for(session: Session) -> float | None:
    """Return how long it has not used a GPU it holds, in seconds; None below ``UNUSED_AFTER_S``."""
    clock = session.clock
    if not session.claims or clock is None or session.state is not State.RUNNING:
        return None
    unused = clock.gpu_unused_s
    return unused if unused is not None and unused >= UNUSED_AFTER_S else None


def kernels(session: Session) -> str:
    """Return the number of live kernels, and of busy ones: ``2, 1 busy``; ``-`` for none."""
    live = session.live_kernels
    busy = sum(kernel.busy for kernel in live)
    return f"{len(live)}, {busy} busy" if busy else str(len(live) or "-")


def stops_in(session: Session) -> str:
    """Return the time until it is stopped, and by which limit: ``25m (idle)``, ``20h (max)``."""
    clock = session.clock
    if clock is None or session.state is not State.RUNNING:
        return "-"
    ends = [(clock.idle_stop_in_s, "idle"), (clock.max_stop_in_s, "max")]
    known = [(seconds, limit) for seconds, limit in ends if seconds is not None]
    if not known:
        return "never"
    seconds, limit = min(known)
    return f"{format_duration(max(0.0, seconds))} ({limit})"


def activity(session: Session) -> str:
    """Return its signals of activity, or what it waits for if it does not run yet."""
    clock = session.clock
    if clock is None or session.state is not State.RUNNING:
        return session.waiting or "-"
    if clock.held_for_s > 0:
        return f"held {format_duration(clock.held_for_s)}"
    if clock.failed_probes:
        return "unknown"
    return ", ".join(clock.active_signals) or "idle"


def cpu(session: Session) -> str:
    """Return the CPU use in percent of one core, as in `top`: 800% is eight cores."""
    return _percent(session.clock.cpu_percent if session.clock else None)


def gpu_use(session: Session) -> str:
    """Return the utilization of the busiest of its GPUs, in the last sample."""
    return _percent(session.clock.gpu_percent if session.clock and session.claims else None)


def memory(session: Session) -> str:
    """Return the memory in use, and its limit if there is one: ``12.1 / 16 GiB``."""
    used = session.clock.memory_bytes if session.clock else None
    limit = session.declared.get("memory")
    if used is None:
        return "-"
    return part_text(used, limit) if isinstance(limit, int) and limit else size_text(used)


def ago(at: float) -> str:
    """Format how long ago a time was: ``25m ago``.

    Args:
        at: in seconds since the epoch; 0 means unknown and is formatted as ``-``.
    """
    return f"{format_duration(max(0.0, time.time() - at))} ago" if at else "-"


def moment(at: float) -> str:
    """Format a time and how long ago it was.

    Args:
        at: in seconds since the epoch; 0 means unknown and is formatted as ``-``.
    """
    return f"{time.strftime('%F %T', time.localtime(at))} ({ago(at)})" if at else "-"


def changed_at(session: Session) -> float:
    """Return when its state last changed, in seconds since the epoch; `ps` sorts by it."""
    return session.changed_at or (session.end.time if session.end else 0.0) or session.created_at


def heads(columns: Sequence[str]) -> list[str]:
    """Return the headers of columns."""
    return [COLUMNS[column] for column in columns]


def ports(session: Session) -> str:
    """Return the host's ports and the session's: ``127.0.0.1:6006->6006``; ``-`` for none."""
    return ", ".join(f"127.0.0.1:{here}->{inside}" for here, inside in session.ports) or "-"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}%"


_CELLS: dict[str, Callable[[Session], str]] = {
    "state": state,
    "gpus": gpus,
    "gpu": gpu_use,
    "cpu": cpu,
    "memory": memory,
    "kernels": kernels,
    "activity": activity,
    "stops_in": stops_in,
    "changed": lambda session: ago(changed_at(session)),
    "created": lambda session: ago(session.created_at),
    "ended": lambda session: ago(session.end.time if session.end else 0.0),
    "exit": lambda session: "-" if session.exit_code is None else str(session.exit_code),
    "ports": ports,
    "container": lambda session: session.container[:12],
    "reason": lambda session: session.reason or session.degraded or "-",
}
