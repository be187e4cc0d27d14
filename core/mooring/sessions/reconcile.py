"""Labels against reality: what no living process answers for is put in order.

Safe to run at any time by anyone: it is level-triggered (it looks at what is, never at what it
remembers), a half-created session is looked up again before it goes, and it touches nothing that
does not carry this installation's id, or that this installation has no record of.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mooring.engines.base import Container, Engine
from mooring.errors import EngineUnavailable, MooringError
from mooring.host import paths
from mooring.host.processes import alive, process_mark
from mooring.kernels.kernel import KernelHandle
from mooring.labels import LABEL_ID, LABEL_INSTALLATION, LABEL_PROBE, container_name
from mooring.sessions import lease, recreate
from mooring.sessions.history import History
from mooring.sessions.model import Session, State, from_container, from_record, is_own
from mooring.sessions.record import Folder, boot_id
from mooring.sessions.usage import used_for

log = logging.getLogger(__name__)

DRAFT_AGE_S = 60.0
SWEPT_AGE_S = 3600.0
SIGKILLED = 128 + 9


@dataclass(frozen=True)
class Repairs:
    """What one run put in order: ids of sessions (of containers, for probes)."""

    half_created: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def reconcile(engine: Engine, history: History) -> tuple[list[Session], Repairs]:
    """Look once, repair, and tell what there is.

    Returns:
        All sessions of this installation, and what was repaired.

    Raises:
        EngineUnavailable: the engine does not answer; nothing was touched.
    """
    mine = {LABEL_INSTALLATION: paths.installation_id()}
    # Folders first: a session that is created in between then has a container and no folder
    # here, never a folder and no container, which would look lost.
    folders = {folder.id: folder for folder in Folder.all()}
    rows = engine.list(mine)
    own = {row.id: is_own(row) for row in rows}
    containers = {row.labels[LABEL_ID]: row for row in rows if own[row.id]}
    probes = _remove_probes(engine, [row for row in rows if LABEL_PROBE in row.labels])
    half_created = []
    for session_id, folder in folders.items():
        if folder.ready or folder.enqueued or folder.being_created():
            continue
        if folder.exists and not folder.ready:
            with _one_repair(f"session {session_id}, never finished,"):
                _remove_half_created(engine, history, folder, containers.get(session_id))
            containers.pop(session_id, None)
            half_created.append(session_id)
    strangers = [row for row in rows if not own[row.id]]
    half_created += _remove_late(engine, strangers)
    recreate.clear(engine, strangers)
    _sweep_drafts()
    boot = boot_id()
    sessions = [from_container(row, boot) for row in containers.values()]
    sessions = [one for one in sessions if not _remove_abandoned(engine, history, one)]
    lost, ended = [], []
    for number, session in enumerate(sessions):
        _record_dead_kernels(history, session)
        if session.state not in (State.STOPPED, State.LOST):
            continue
        if session.exit_code == SIGKILLED and session.end is None:
            session = sessions[number] = _with_memory(engine, session)
        if _record_end(history, session):
            ended.append(session.id)
        folder = Folder.open(session.id)
        waiting = folder.record().get("remove")
        # its creator, if it lives, wants to know how it ended before it is removed
        if waiting and (waiting == process_mark(os.getpid()) or not alive(waiting)):
            with _one_repair(f"session {session.name}"):
                engine.remove(session.container)
                recreate.forget(engine, folder)
                folder.remove()
                history.add(session.id, "removed", "reconciler", "as its creation asked")
    for session_id, folder in folders.items():
        if session_id in containers or session_id in half_created or not folder.exists:
            continue
        if not folder.ready:
            sessions.append(from_record(folder, State.STARTING, ""))
            continue
        if folder.record().get("abandoned"):  # its removal was cut off
            with _one_repair(f"session {session_id}, that nobody answers for,"):
                recreate.forget(engine, folder)
                folder.remove()
            continue
        session = from_record(folder, State.LOST, "its container was removed outside mooring")
        sessions.append(session)
        if _record_end(history, session):
            lost.append(session_id)
    return sessions, Repairs(tuple(half_created), tuple(probes), tuple(ended), tuple(lost))


@contextlib.contextmanager
def _one_repair(what: str) -> Iterator[None]:
    """One that the engine refuses, or a full disk, is tried again next time, and keeps nobody from
    looking."""
    try:
        yield
    except EngineUnavailable:
        raise
    except (MooringError, OSError) as error:
        log.warning("%s cannot be removed now: %s", what, error)


def unknown_sessions() -> list[Session]:
    """What the folders tell when the engine does not: every session, in state ``unknown``."""
    return [
        from_record(folder, State.UNKNOWN, "the engine does not answer")
        for folder in Folder.all()
        if folder.ready
    ]


def _record_dead_kernels(history: History, session: Session) -> None:
    """Write down the deaths that no client saw."""
    for kernel in session.kernels:
        if kernel.exit is not None:
            with contextlib.suppress(MooringError):
                KernelHandle(Folder.open(session.id), kernel.id).tell_end(history)


def _remove_abandoned(engine: Engine, history: History, session: Session) -> bool:
    """A session of a launcher's: neither that nor its keeper lives any more.

    One that was in use otherwise, or that the machine's restart ended, is left as it is.
    """
    folder = Folder.open(session.id)
    held = lease.abandoned(folder)
    if held is None:
        return False
    removed = []
    try:
        with _one_repair(f"session {session.name}, that nobody answers for,"):
            boot = boot_id()
            if session.state is State.LOST or folder.record().get("boot_id", boot) != boot:
                held.dissolve()
                return False
            why = used_for(engine, session, held.kernels)
            if why:
                held.dissolve()
                history.add(session.id, "kept", "reconciler", why)
                return False
            engine.remove(session.container)
            with contextlib.suppress(OSError):  # a full disk, in which the rest is to make room
                folder.update_record(abandoned=True)
            history.add(session.id, "removed", "reconciler", "its kernel's launcher was killed")
            history.session_ended(
                session.id, at=time.time(), reason="its launcher was killed", exit_code=None
            )
            recreate.forget(engine, folder)
            folder.remove()
            removed.append(session.id)
    finally:
        held.release()
    return bool(removed)


def _remove_half_created(
    engine: Engine, history: History, folder: Folder, row: Container | None
) -> None:
    name = folder.record().get("name", "")
    if not folder.exists:
        return  # another one was quicker
    log.info("session %s was never finished: removing what there is of it", folder.id)
    # Made between the listing and the death of its creator, perhaps: looked for once more
    made = {LABEL_INSTALLATION: paths.installation_id(), LABEL_ID: folder.id}
    rows = [row] if row is not None else [found for found in engine.list(made) if is_own(found)]
    for found in rows:
        engine.remove(found.id)
    if name:  # the engine may still be at work on it: it lists one before it can remove it
        with contextlib.suppress(OSError):  # a full disk: the folder is to make room
            _mark_swept(folder.id, container_name(name, folder.id))
    history.add(folder.id, "removed", "reconciler", "its creation was cut off")
    history.session_ended(
        folder.id, at=time.time(), reason="its creation was cut off", exit_code=None
    )
    with contextlib.suppress(MooringError):
        folder.remove()


def _mark_swept(session_id: str, container: str) -> None:
    """Leave the name of a container that may still come; several do it at once, and each whole."""
    mark = paths.swept_dir() / session_id
    draft = paths.state_dir() / f".swept.{session_id}.{os.getpid()}.{threading.get_ident()}"
    try:
        draft.write_text(container)
        draft.replace(mark)
    finally:
        draft.unlink(missing_ok=True)


def _remove_late(engine: Engine, strangers: list[Container]) -> list[str]:
    """Containers that came after their creator's death and their folder's removal."""
    removed = []
    for mark in paths.swept_dir().iterdir():
        for row in strangers:
            if row.labels.get(LABEL_ID) == mark.name and row.name == mark.read_text():
                with _one_repair(f"container {row.name}"):
                    engine.remove(row.id)
                    removed.append(mark.name)
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime > SWEPT_AGE_S:
                mark.unlink()
    return removed


def _remove_probes(engine: Engine, rows: list[Container]) -> list[str]:
    """Containers that looked into an image and whose maker is gone: they live for seconds."""
    records = {path.name: path for path in paths.images_dir().glob("mooring-probe-*")}
    old = [row for row in rows if row.name in records and not alive(row.labels[LABEL_PROBE])]
    for row in old:
        with _one_repair(f"container {row.name}"):
            engine.remove(row.id)
            records[row.name].unlink(missing_ok=True)
    for name in records.keys() - {row.name for row in rows}:  # the look itself was cut off
        with contextlib.suppress(OSError):
            if time.time() - records[name].stat().st_mtime > DRAFT_AGE_S:
                records[name].unlink()
    return [row.id for row in old]


def _with_memory(engine: Engine, session: Session) -> Session:
    """A killed session, and whether it was for want of memory: asked once, then remembered."""
    folder = Folder.open(session.id)
    known = folder.record().get("out_of_memory")
    if known is None:
        detail = engine.inspect(session.container)
        known = bool(detail and detail.oom_killed)
        with contextlib.suppress(OSError):
            folder.update_record(out_of_memory=known)
    return dataclasses.replace(session, out_of_memory=known)


def _record_end(history: History, session: Session) -> bool:
    """Write an end into the history once; it happened without any of mooring's doors."""
    folder = Folder.open(session.id)
    if folder.record().get("end_recorded"):
        return False
    with contextlib.suppress(OSError):  # a full disk: it will be written another time
        at = session.end.time if session.end else time.time()
        folder.update_record(end_recorded=True, changed_at=at)
        by_clock = session.end is not None and session.end.reason in ("idle", "max_duration")
        actor = "clock" if by_clock else "engine"
        detail = session.reason
        if session.end is not None and session.end.detail:
            detail += f": {session.end.detail}"
        history.add(session.id, "ended", actor, detail, at=at)
        history.session_ended(session.id, at=at, reason=session.reason, exit_code=session.exit_code)
        return True
    return False


def _sweep_drafts() -> None:
    """Folders whose making or deleting was cut off; they never had a container."""
    for path in paths.sessions_dir().glob(".*"):
        with contextlib.suppress(OSError):
            gone = path.name.endswith(".gone")
            if gone or time.time() - path.stat().st_mtime > DRAFT_AGE_S:
                shutil.rmtree(path, ignore_errors=True)
