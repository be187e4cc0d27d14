"""The reconciler: compares labels with reality and repairs what no living process is handling.

Safe to run at any time, by any process. It is level-triggered: it acts on the current state, not on
remembered events. It queries the engine again before it removes a half-created session, and leaves
alone whatever lacks this installation's id, or has no record in this installation.

Whatever fails for one session, of whatever class, costs the others nothing: it is recorded in that
session's history, once, and the next run retries it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mooring.engines.base import Container
from mooring.engines.capabilities import SupportsOomEvents
from mooring.engines.labels import LABEL_ID, LABEL_PROBE, container_name
from mooring.errors import EngineUnavailable, MooringError
from mooring.host import atomic, trees
from mooring.host.boot import boot_id
from mooring.host.processes import alive, process_mark
from mooring.host.text import one_line
from mooring.kernels.kernelhost import Patience
from mooring.sessions import lease, recreate
from mooring.sessions.context import Context
from mooring.sessions.folder import GONE, SessionFolder, undeletable
from mooring.sessions.model import Session, State, from_container, from_foreign, from_record
from mooring.sessions.overdue import end_overdue
from mooring.sessions.removal import complete, remove_session
from mooring.sessions.usage import remove_unless_used

if TYPE_CHECKING:
    from mooring.sessions.history import Event

log = logging.getLogger(__name__)

DRAFT_AGE_S = 60.0
SWEPT_AGE_S = 3600.0
SIGKILLED = 128 + 9
# How long before the end of a session's main process the kernel has killed it
OOM_BEFORE_S = 2.0
#: The kind of the event of a repair that failed.
PROBLEM = "problem"
# Exits of kernels recorded in one run and session, which may have invented them
MOST_EXITS = 50
# How long files that could not be deleted are left alone
RETRY_S = 60.0


class Repairs(NamedTuple):
    """The repairs of one run: ids of sessions (for probes, of containers)."""

    half_created: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def reconcile(ctx: Context) -> tuple[list[Session], Repairs]:
    """Run the reconciler once.

    Returns:
        All sessions of this installation, and the repairs.

    Raises:
        EngineUnavailable: the engine cannot be reached; repairs made before that stay.
    """
    # List folders before containers: a session that is created in between then has a container
    # and no folder here, never a folder and no container, which would look lost.
    folders = {folder.id: folder for folder in ctx.folders()}
    rows = ctx.labelled()
    own = {row.id: ctx.is_own(row) for row in rows}
    containers = {row.labels[LABEL_ID]: row for row in rows if own[row.id]}
    strangers = [row for row in rows if not own[row.id]]
    probes = _remove_probes(ctx, [row for row in rows if row.labels.get(LABEL_PROBE)])
    half_created = _remove_unfinished(ctx, folders, containers)
    half_created += _remove_late(ctx, strangers)
    for row in strangers:
        with _one_repair(ctx, row.labels.get(LABEL_ID, ""), f"container {row.name}"):
            recreate.clear(ctx, row)
    _sweep_drafts(ctx)
    boot = boot_id()
    sessions = [_session(ctx, row, boot) for row in containers.values()]
    patience = Patience()
    sessions = [
        session
        for session in sessions
        if not _remove_abandoned(ctx, session) and not _end_orphans(ctx, session, patience)
    ]
    ended: list[str] = []
    for number, session in enumerate(sessions):
        for repair in (_stop_unverified, end_overdue, _record_dead_kernels):
            with _one_repair(ctx, session.id, f"session {session.name}"):
                repair(ctx, session)
        with _one_repair(ctx, session.id, f"session {session.name}"):
            if not _in_removal(ctx, containers[session.id]):  # who removes it records why
                sessions[number] = _settle(ctx, session, ended)
    known = {*containers, *half_created}
    without = [folder for session_id, folder in folders.items() if session_id not in known]
    more, lost = _without_container(ctx, without)
    repairs = Repairs(tuple(half_created), tuple(probes), tuple(ended), tuple(lost))
    return sessions + more, repairs


def unknown_sessions(ctx: Context) -> list[Session]:
    """Return the completely created sessions, from their folders, in state ``unknown``."""
    return [
        from_record(folder, State.UNKNOWN, "the engine does not answer")
        for folder in ctx.folders()
        if folder.ready
    ]


@contextlib.contextmanager
def _one_repair(ctx: Context, session_id: str, what: str) -> Iterator[None]:
    """Report an exception instead of raising it, except EngineUnavailable.

    Args:
        ctx: the client's context.
        session_id: the session to which the event belongs; empty for none.
        what: what is repaired, for the report.
    """
    try:
        yield
    except EngineUnavailable:
        raise
    except Exception as error:
        _report(ctx, session_id, what, error)


def _report(ctx: Context, session_id: str, what: str, error: Exception) -> None:
    """Log a failed repair and record it in the session's history, unless that is its last word."""
    known = isinstance(error, (MooringError, OSError))
    why = error if known else f"{type(error).__name__}: {error}"
    text = f"{one_line(what)}: {one_line(why, 1000)}"
    log.debug("%s", text, exc_info=error)
    last = _last_problem(ctx, session_id) if session_id else None
    if last is not None and last.detail == text:
        return
    log.warning("%s", text)
    if session_id:
        ctx.history.add(session_id, PROBLEM, "reconciler", text)


def _last_problem(ctx: Context, session_id: str) -> Event | None:
    problems = [event for event in ctx.history.events(session_id) if event.kind == PROBLEM]
    return problems[-1] if problems else None


def _session(ctx: Context, row: Container, boot: str) -> Session:
    """Return the session of a container; from its labels alone if its files cannot be read."""
    session_id = row.labels[LABEL_ID]
    try:
        return from_container(row, ctx.folder(session_id), boot)
    except Exception as error:
        session = dataclasses.replace(from_foreign(row), foreign=False)
        folder = ctx.folder(session_id)
        if folder.unverified or not folder.ready:
            session = dataclasses.replace(session, state=State.STARTING)
        _report(ctx, session_id, f"the files of session {session.name}", error)
        return session


def _settle(ctx: Context, session: Session, ended: list[str]) -> Session:
    """Record what happened to a session since the last run, and remove it if that was asked for.

    Args:
        ctx: the client's context.
        session: the session.
        ended: its id is added if its end is recorded now.

    Returns:
        The session, with ``out_of_memory`` set.
    """
    if session.state not in (State.STOPPED, State.LOST):
        return session
    if session.exit_code == SIGKILLED and session.end is None:
        session = _with_memory(ctx, session)
    if _record_end(ctx, session):
        ended.append(session.id)
    _remove_at_end(ctx, session)
    return session


def _remove_unfinished(
    ctx: Context, folders: dict[str, SessionFolder], containers: dict[str, Container]
) -> list[str]:
    """Remove the sessions whose creator died, also from ``containers``; return their ids."""
    removed = []
    for session_id, folder in folders.items():
        if folder.ready or folder.enqueued or folder.in_creation():
            continue
        if folder.exists and not folder.ready:
            with _one_repair(ctx, session_id, "what is left of its creation"):
                _remove_half_created(ctx, folder, containers.get(session_id))
            containers.pop(session_id, None)
            removed.append(session_id)
    return removed


def _remove_half_created(ctx: Context, folder: SessionFolder, row: Container | None) -> None:
    name = folder.record().identity.name
    if not folder.exists:
        return  # another process was faster
    log.info("session %s was never finished: removing what there is of it", folder.id)
    # The container may have been created between the listing and its creator's death
    for container in [row] if row is not None else ctx.containers(id=folder.id):
        ctx.engine.remove(container.id)
    if name:  # the engine may still be creating the container: see _remove_late
        with contextlib.suppress(OSError):  # disk full: removing the folder frees space
            mark = ctx.installation.swept / folder.id
            atomic.write_text(mark, container_name(name, folder.id))
    ctx.history.add(folder.id, "removed", "reconciler", "its creation was cut off")
    ctx.history.session_ended(
        folder.id, at=time.time(), reason="its creation was cut off", exit_code=None
    )
    with contextlib.suppress(MooringError):
        folder.remove()


def _remove_late(ctx: Context, strangers: list[Container]) -> list[str]:
    """Remove containers that appeared after their creator died and their folder was removed."""
    removed = []
    for mark in ctx.installation.swept.iterdir():
        for row in strangers:
            if row.labels.get(LABEL_ID) != mark.name:
                continue
            with _one_repair(ctx, mark.name, f"container {row.name}"):
                if row.name == mark.read_text(errors="replace"):
                    ctx.engine.remove(row.id)
                    removed.append(mark.name)
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime > SWEPT_AGE_S:
                mark.unlink()
    return removed


def _remove_probes(ctx: Context, rows: list[Container]) -> list[str]:
    """Remove image probes, which run for seconds, whose creator has exited; return their ids."""
    records = {path.name: path for path in ctx.installation.images.glob("mooring-probe-*")}
    old = [row for row in rows if row.name in records and not alive(row.labels[LABEL_PROBE])]
    for row in old:
        with _one_repair(ctx, "", f"container {row.name}"):
            ctx.engine.remove(row.id)
            records[row.name].unlink(missing_ok=True)
    for name in records.keys() - {row.name for row in rows}:  # interrupted before creation
        with contextlib.suppress(OSError):
            if time.time() - records[name].stat().st_mtime > DRAFT_AGE_S:
                records[name].unlink()
    return [row.id for row in old]


def _sweep_drafts(ctx: Context) -> None:
    """Delete folders whose creation or removal was interrupted; they have no container."""
    for path in ctx.installation.sessions.glob(".*"):
        with contextlib.suppress(FileNotFoundError):  # another process deletes it too
            session_id, _, rest = path.name[1:].partition(".")
            creator = rest.removesuffix(".new") if rest.endswith(".new") else ""
            young = time.time() - path.stat().st_mtime <= DRAFT_AGE_S
            if young and not path.name.endswith(GONE) and (not creator or alive(creator)):
                continue
            last = _last_problem(ctx, session_id)
            if last is not None and 0 <= time.time() - last.time < RETRY_S:
                continue
            with _one_repair(ctx, session_id, "its files"):
                _delete(path)


def _delete(path: Path) -> None:
    try:
        trees.remove_path(path)
    except OSError as error:
        raise undeletable(path, error) from error


def _remove_abandoned(ctx: Context, session: Session) -> bool:
    """Remove a launcher's session if both the launcher and its watchdog have exited.

    A session that is also used otherwise, or that was ended by a restart of the machine, is kept.

    Returns:
        Whether the session was removed.
    """
    removed = False
    with _one_repair(ctx, session.id, f"session {session.name}, abandoned by its launcher"):
        abandoned = lease.abandoned(ctx.folder(session.id))
        removed = abandoned is not None and _remove_with_lease(ctx, session, abandoned)
    return removed


def _remove_with_lease(ctx: Context, session: Session, abandoned: lease.Lease) -> bool:
    folder = ctx.folder(session.id)
    removed = False

    def remove() -> None:
        nonlocal removed
        remove_session(ctx, session, actor="reconciler", because="its kernel's launcher was killed")
        removed = True

    try:
        boot = boot_id()
        if session.state is State.LOST or (folder.record().state.boot_id or boot) != boot:
            abandoned.dissolve()
            return False
        remove_unless_used(ctx, session, abandoned, remove, actor="reconciler")
    finally:
        abandoned.release()
    return removed


def _end_orphans(ctx: Context, session: Session, patience: Patience) -> bool:
    """End kernels whose client has exited; return whether the session was removed with them."""
    if not ctx.folder(session.id).has_owned_kernels:
        return False
    from mooring.sessions.orphans import end_orphans

    removed = False

    def remove() -> None:
        nonlocal removed
        remove_session(ctx, session, actor="reconciler", because="its client has exited")
        removed = True

    with _one_repair(ctx, session.id, f"session {session.name}, whose client has exited"):
        end_orphans(ctx, session, remove, patience)
    return removed


def _in_removal(ctx: Context, row: Container) -> bool:
    """Return whether a session's container is being removed.

    A removal that was interrupted before is forgotten: the session is as it was.
    """
    folder = ctx.folder(row.labels[LABEL_ID])
    removal = folder.record().state.removing
    if row.state == "removing" or (removal is not None and alive(removal.process)):
        return True
    if removal is not None:
        # the engine goes on without the client, and lists a state from before it began
        detail = ctx.engine.inspect(row.id)
        if detail is not None and detail.state == "removing":
            return True
        if detail is not None:
            folder.update_state(removing=None)
    return False


def _stop_unverified(ctx: Context, session: Session) -> None:
    """Stop a session whose start was interrupted before its mounts were checked."""
    folder = ctx.folder(session.id)
    if session.state is not State.STARTING or not folder.ready or not folder.acquire():
        return
    try:
        if folder.unverified:
            ctx.engine.stop(session.container, grace_s=0.0)
            folder.clock.write_end("stopped", "its start was interrupted")
            folder.unmark_unverified()
            ctx.history.add(session.id, "cancelled", "reconciler", "its start was interrupted")
    finally:
        folder.release()


def _record_dead_kernels(ctx: Context, session: Session) -> None:
    """Record the exits of kernels that no client has recorded; the next run continues."""
    dead = [kernel for kernel in session.kernels if kernel.exit is not None and not kernel.recorded]
    for kernel in dead[:MOST_EXITS]:
        with contextlib.closing(ctx.kernel_handle(session.id, kernel.id)) as handle:
            handle.record_exit(ctx.history)


def _with_memory(ctx: Context, session: Session) -> Session:
    """Return a killed session with ``out_of_memory`` set; the engine is asked once."""
    folder = ctx.folder(session.id)
    killed = folder.record().state.out_of_memory
    if killed is None:
        detail = ctx.engine.inspect(session.container)
        killed = bool(detail and detail.oom_killed)
        if detail and not killed and isinstance(ctx.engine, SupportsOomEvents):
            # an engine that learns of the kernel's kill after the end does not say it here
            ended = detail.finished_at
            killed = ctx.engine.out_of_memory(session.container, ended - OOM_BEFORE_S, ended)
        with contextlib.suppress(OSError):
            folder.update_state(out_of_memory=killed)
    return dataclasses.replace(session, out_of_memory=killed)


def _record_end(ctx: Context, session: Session) -> bool:
    """Record the end of a session in the history, once; return whether it was recorded now."""
    folder = ctx.folder(session.id)
    if folder.record().state.end_recorded:
        return False
    with contextlib.suppress(OSError):  # disk full: the next run retries
        at = session.end.time if session.end else time.time()
        folder.update_state(end_recorded=True, changed_at=at)
        by_clock = session.end is not None and session.end.reason in ("idle", "max_duration")
        detail = session.reason
        if session.end is not None and session.end.detail:
            detail += f": {session.end.detail}"
        ctx.history.add(session.id, "ended", "clock" if by_clock else "engine", detail, at=at)
        ctx.history.session_ended(
            session.id, at=at, reason=session.reason, exit_code=session.exit_code
        )
        return True
    return False


def _remove_at_end(ctx: Context, session: Session) -> None:
    """Remove an ended session that was created with ``remove``."""
    folder = ctx.folder(session.id)
    creator = folder.record().state.remove_with
    # a creator that is still alive first reads the exit code
    if creator and (creator == process_mark(os.getpid()) or not alive(creator)):
        remove_session(ctx, session, actor="reconciler", because="as its creation asked")


def _without_container(
    ctx: Context, folders: list[SessionFolder]
) -> tuple[list[Session], list[str]]:
    """Return the sessions that have a folder only, and the ids of those newly found lost."""
    sessions: list[Session] = []
    lost: list[str] = []
    for folder in folders:
        with _one_repair(ctx, folder.id, "a session without a container"):
            removal = folder.record().state.removing
            if not folder.exists:
                continue
            if removal is not None:
                if not alive(removal.process):
                    complete(ctx, folder, removal)
            elif not folder.ready:
                sessions.append(from_record(folder, State.STARTING))
            else:
                because = "its container was removed outside mooring"
                sessions.append(from_record(folder, State.LOST, because))
                if _record_end(ctx, sessions[-1]):
                    lost.append(folder.id)
    return sessions, lost
