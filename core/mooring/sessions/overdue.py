"""Ending sessions that their own clock does not end, because something in them has stopped it.

A session may kill its clock, which runs as the same user, and write what it likes to the clock's
status. It can change neither its settings nor its record, so whoever lists sessions ends those that
are past their maximum duration, or whose clock no longer runs. Until somebody lists, it goes on.
"""

from __future__ import annotations

import contextlib
import time

from mooring.engines.capabilities import SupportsDetachedExec, SupportsProcessList
from mooring.errors import EngineError, EngineUnavailable
from mooring.guest.bundle import end_argv
from mooring.host.boot import boot_id, uptime
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import Session, State
from mooring.spec.units import format_duration

#: How long after its maximum duration a session that still runs is ended from here.
LATE_S = 30.0
#: How old the clock's last sample is when the clock is looked for among the processes. Time during
#: which the machine was suspended counts, and the clock is found then.
SILENT_S = 120.0
#: How long a session that was asked to end has until its container is stopped.
PATIENCE_S = 20.0


def end_overdue(ctx: Context, session: Session) -> None:
    """End a running session that is past its maximum duration, or whose clock does not run.

    Raises:
        EngineUnavailable: the engine does not answer.
    """
    folder = ctx.folder(session.id)
    if session.state is not State.RUNNING or not folder.has_gate or folder.in_creation():
        return
    reason, detail = _why(ctx, session, folder)
    if not reason:
        folder.forget_overdue()
        return
    asked = folder.overdue_since()
    engine = ctx.engine
    try:
        if asked is None:
            with contextlib.suppress(OSError):  # the disk is full: it is asked again
                folder.mark_overdue()
            ctx.add_event(session.id, "overdue", detail)
            if isinstance(engine, SupportsDetachedExec):
                argv = end_argv(folder.programs_target, reason, detail)
                engine.exec_detached(session.container, argv)
        elif time.time() - asked > PATIENCE_S or time.time() < asked:
            engine.stop(session.container, grace_s=0.0)
            with contextlib.suppress(OSError):
                folder.clock.write_end(reason, detail)
    except EngineUnavailable:
        raise
    except EngineError:  # it has ended meanwhile, or the next listing tries again
        return


def _why(ctx: Context, session: Session, folder: SessionFolder) -> tuple[str, str]:
    """Return reason and detail of the end; empty if the session is not overdue."""
    state = folder.record().state
    if not state.started or state.boot_id != boot_id():
        return "", ""
    ran_s = uptime() - state.started
    longest_s = folder.clock.deadlines().get("max_duration", 0.0)
    if longest_s and ran_s > longest_s + LATE_S:
        longest = format_duration(longest_s)
        return "max_duration", f"reached its maximum duration of {longest}, ended from outside"
    status = session.clock
    # a sample of the future is a forged one
    age_s = ran_s if status is None or status.age_s < 0 else min(ran_s, status.age_s)
    if age_s > SILENT_S and _clock_is_dead(ctx, session, folder):
        return "stopped", "its clock did not run any more"
    return "", ""


def _clock_is_dead(ctx: Context, session: Session, folder: SessionFolder) -> bool:
    """Whether a session's clock is no process of its container, or a stopped one.

    A clock that cannot write its status, because the disk is full, is alive.
    """
    engine = ctx.engine
    if not isinstance(engine, SupportsProcessList):
        return False
    try:
        processes = engine.processes(session.container)
    except EngineUnavailable:
        raise
    except EngineError:
        return False
    program = f"{folder.programs_target}/clock.sh"
    return not any(program in process.command and not process.stopped for process in processes)
