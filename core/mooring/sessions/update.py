"""Change the deadlines and the limits of a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mooring.engines.base import ResourceLimits
from mooring.engines.capabilities import SupportsLimits, require
from mooring.errors import NoCapacity, SessionStateError, SpecError
from mooring.host import memory
from mooring.sessions.context import Context
from mooring.sessions.lifecycle import disk_errors
from mooring.sessions.model import Session, State

#: The key of a spec that each limit of a container is.
SPEC_KEYS = {"cpus": "cpus", "memory_bytes": "memory", "pids_limit": "pids_limit"}
_NONE = ResourceLimits()


def parse(values: Mapping[str, Any], flag: Callable[[str], str] = str) -> ResourceLimits:
    """Parse limits as a spec has them.

    Args:
        values: ``cpus``, ``memory`` and ``pids_limit``, such as ``8g``; None for those to keep.
        flag: returns what an error calls a key.

    Raises:
        SpecError: a value is invalid.
    """
    from mooring.spec.validation import validate

    given = {key: value for key, value in values.items() if value is not None}
    spec = validate(given, where=lambda path: flag(str(path[0])))
    return ResourceLimits(
        **{name: getattr(spec, key) for name, key in SPEC_KEYS.items() if key in given}
    )


@disk_errors()
def update(
    ctx: Context,
    session: Session,
    *,
    idle_timeout_s: float | None = None,
    max_duration_s: float | None = None,
    limits: ResourceLimits = _NONE,
) -> None:
    """Change the deadlines and the limits of a session; see ``Sessions.update``."""
    deadlines = {
        key: seconds
        for key, seconds in (("idle_timeout", idle_timeout_s), ("max_duration", max_duration_s))
        if seconds is not None
    }
    wanted = {key: value for key, value in limits._asdict().items() if value is not None}
    if deadlines:
        _check_deadlines(ctx, session, deadlines)
    if wanted:
        _check_limits(ctx, session, limits)
        require(ctx.engine, SupportsLimits).update_limits(session.container, limits)
        folder = ctx.folder(session.id)
        changed = {SPEC_KEYS[key]: value for key, value in wanted.items()}
        folder.update_state(limits={**folder.record().state.limits, **changed})
    if deadlines:
        clock = ctx.folder(session.id).clock
        times = {f"{key}_s": f"{seconds:g}" for key, seconds in deadlines.items()}
        clock.write_settings(**clock.settings() | times)
    ctx.add_event(session.id, "updated", _described(deadlines, limits))


def _check_deadlines(ctx: Context, session: Session, deadlines: dict[str, float]) -> None:
    """Refuse deadlines that the policy does not allow, or that have passed."""
    from mooring.policy import limits
    from mooring.spec.units import format_duration

    if session.state is not State.RUNNING:
        raise SessionStateError(
            f"session {session.name} is {session.state} and its deadlines cannot be updated",
            f"start it first: mooring start {session.name}",
        )
    if "max_duration" in deadlines:
        limits.load().check_duration(deadlines["max_duration"])
    status = ctx.folder(session.id).clock.status()
    if status is None:
        return
    # durations by the session's clock: the system time may have been set
    resting = not (status.active_signals or status.failed_probes or status.held_for_s)
    idle_s = status.last_signal_ago_s if resting else 0.0
    for key, passed_s, has in (
        ("max_duration", status.running_for_s, "has run"),
        ("idle_timeout", idle_s, "has been idle"),
    ):
        new_s = deadlines.get(key)
        if new_s and new_s <= passed_s:
            raise SpecError(
                f"session {session.name} {has} for {format_duration(passed_s)} already",
                f"to end it now: mooring stop {session.name}",
            )


def _check_limits(ctx: Context, session: Session, limits: ResourceLimits) -> None:
    """Refuse limits of a session without a container, and memory that it cannot have or uses."""
    from mooring.spec.units import format_size

    if session.state not in (State.RUNNING, State.STOPPED):
        raise SessionStateError(
            f"session {session.name} is {session.state} and its limits cannot be updated",
            f"see what it waits for: mooring why {session.name}",
        )
    asked, most = limits.memory_bytes or 0, memory.total_memory()
    if not memory.has(asked):
        raise NoCapacity(
            f"this machine has {format_size(most)} of memory, less than {format_size(asked)}",
            f"request at most {most >> 30}GiB",
        )
    status = ctx.folder(session.id).clock.status() if session.state is State.RUNNING else None
    used = status.memory_bytes if status else None
    # with version 2 of cgroups, the kernel would kill processes until the rest fits
    if asked and used and used > asked:
        raise SpecError(
            f"session {session.name} uses {format_size(used)} of memory, more than "
            f"{format_size(asked)}",
            f"end what uses it, or allow more; see: mooring top {session.name}",
        )


def _described(deadlines: dict[str, float], limits: ResourceLimits) -> str:
    """The changes in words, for the history."""
    from mooring.spec.units import format_duration, format_size

    changes = [
        f"{key} {format_duration(seconds) if seconds else 'never'}"
        for key, seconds in deadlines.items()
    ]
    if limits.cpus is not None:
        changes.append(f"cpus {limits.cpus:g}")
    if limits.memory_bytes is not None:
        changes.append(f"memory {format_size(limits.memory_bytes)}")
    if limits.pids_limit is not None:
        changes.append(f"pids_limit {limits.pids_limit or 'off'}")
    return ", ".join(changes)
