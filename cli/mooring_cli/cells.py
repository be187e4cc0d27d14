"""What a session's cells say in `ps` and `top`, and how they are coloured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mooring.sessions.model import Session, State
from mooring.spec.units import format_duration
from mooring_cli.output import Giving, part_text, size_text

if TYPE_CHECKING:
    from mooring.gpus.claims import Claim

# A GPU that nobody has used for so long is marked: people think for a while between two cells
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
# The names are the last to be cut: everything else is told by `describe` too
GIVE: Giving = (
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
    """One field of a session, as a person reads it."""
    how = _CELLS.get(column)
    return str(getattr(session, column)) if how is None else how(session)


def style(session: Session, column: str) -> str:
    """The colour of a cell: the state's, and red for what is wrong."""
    if column == "state":
        return "bad" if session.degraded else STYLES.get(session.state, "")
    if column == "gpus":
        return "busy" if unused_for(session) is not None else ""
    return ""


def state(session: Session) -> str:
    """With why, as briefly as STOPS IN has it: ``stopped (idle)``, ``running (gpu lost)``."""
    because = session.reason or session.degraded
    for long, short in _BRIEF.items():
        because = because.replace(long, short)
    return f"{session.state} ({because})" if because else str(session.state)


def gpus(session: Session) -> str:
    """How many it holds, or waits for, and for how long it has not used them: ``2, unused 25m``."""
    unused = unused_for(session)
    return gpu_count(session) + ("" if unused is None else f", unused {format_duration(unused)}")


def gpu_count(session: Session) -> str:
    """How many GPUs it holds, or waits for: ``2``, ``0.5``; ``-`` for none."""
    held: float = sum(claim.share for claim in held_by(session))
    if session.state is State.PENDING:
        wanted = session.spec.get("gpus")
        held = wanted.get("count", 1) if isinstance(wanted, dict) else wanted or 0
    return f"{held:g}" if held else "-"


def held_by(session: Session) -> tuple[Claim, ...]:
    """What it holds now: a stopped one's GPUs are others' until it is started again."""
    ended = (State.STOPPED, State.LOST, State.GONE)
    return () if session.state in ended else session.claims


def unused_for(session: Session) -> float | None:
    """For how many seconds it has held a GPU without using it; None for a user, or for a while."""
    clock = session.clock
    if not session.claims or clock is None or session.state is not State.RUNNING:
        return None
    unused = clock.gpu_unused_s
    return unused if unused is not None and unused >= UNUSED_AFTER_S else None


def kernels(session: Session) -> str:
    live = session.live_kernels
    busy = sum(kernel.busy for kernel in live)
    return f"{len(live)}, {busy} busy" if busy else str(len(live) or "-")


def stops_in(session: Session) -> str:
    """When and why it will end, unless somebody works in it."""
    clock = session.clock
    if clock is None or session.state is not State.RUNNING:
        return "-"
    ends = [(clock.idle_in_s, "idle"), (clock.max_in_s, "max")]
    known = [(seconds, why) for seconds, why in ends if seconds is not None]
    if not known:
        return "never"
    seconds, why = min(known)
    return f"{format_duration(max(0.0, seconds))} ({why})"


def activity(session: Session) -> str:
    """What shows that somebody works in it, or what it waits for."""
    clock = session.clock
    if clock is None or session.state is not State.RUNNING:
        return session.waiting or "-"
    if clock.held_for_s > 0:
        return f"held {format_duration(clock.held_for_s)}"
    if clock.unknown:
        return "unknown"
    return ", ".join(clock.active) or "idle"


def cpu(session: Session) -> str:
    """Of one core, as `top` counts: 800% are eight cores."""
    return _percent(session.clock.cpu_percent if session.clock else None)


def gpu_use(session: Session) -> str:
    """The highest of the GPUs that it holds, as its clock saw it last."""
    return _percent(session.clock.gpu_percent if session.clock and session.claims else None)


def memory(session: Session) -> str:
    """In use, and its limit if it has one: ``12.1 GiB / 16 GiB``."""
    used = session.clock.memory_bytes if session.clock else None
    limit = session.spec.get("memory")
    if used is None:
        return "-"
    return part_text(used, limit) if isinstance(limit, int) and limit else size_text(used)


def ago(at: float) -> str:
    """How long ago that time (epoch) was; ``-`` for 0, which is unknown."""
    return f"{format_duration(max(0.0, time.time() - at))} ago" if at else "-"


def changed_at(session: Session) -> float:
    """When its state last changed (epoch): what `ps` sorts by."""
    return session.changed_at or (session.end.time if session.end else 0.0) or session.created_at


def heads(columns: Sequence[str]) -> list[str]:
    return [COLUMNS[column] for column in columns]


def ports(session: Session) -> str:
    """``127.0.0.1:6006->6006, …``: this machine's, and the session's; ``-`` for none."""
    told = (f"127.0.0.1:{here}->{inside}" for here, inside in session.ports)
    return ", ".join(told) or "-"


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


def folder_note(session: Session) -> str:
    """What its user may not expect of the folder that it was made in; known once it has begun."""
    from mooring.sessions.record import Folder

    return "" if session.foreign else str(Folder.open(session.id).record().get("note", ""))
