"""Kernels whose client was not a server, and has exited without ending them: they end as well.

So do local kernels, which exit when their parent does. A server's kernels wait for the next server.

What runs in a session may keep its kernel host from answering. A session that was made for the
kernel is removed all the same, by the engine. In one that stays, the kernel is tried again later,
each time after a longer pause, which is remembered out of the session's reach::

    sessions/ID/kernels/SHORT.late   how often it did not end, and why its session is kept
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mooring.errors import EngineError
from mooring.host import atomic
from mooring.host.untrusted import parse_json
from mooring.kernels.kernelhost import Patience
from mooring.kernels.killing import kill_kernel
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.kernel_owners import KernelOwners, Ownership, short_id
from mooring.sessions.model import Session, State
from mooring.sessions.usage import used_for

# How long a kernel's end is waited for: in a session that goes anyway, and in one that stays
MADE_S, SHARED_S = 0.2, 0.7
# The pause after the first failure; it doubles with each one
FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True)
class Lateness:
    """What is remembered of a kernel that did not end.

    Attributes:
        failures: how often it was tried.
        kept: why its session is kept, as the history says; empty for a session that stays anyway.
    """

    failures: int = 0
    kept: str = ""

    @property
    def pause_s(self) -> float:
        """How long after the last failure the kernel is left alone."""
        return min(FIRST_PAUSE_S * 2.0 ** min(self.failures - 1, 20), LONGEST_PAUSE_S)


def end_orphans(
    ctx: Context, session: Session, remove: Callable[[], None], patience: Patience | None = None
) -> None:
    """End the kernels in a session whose client has exited, and the session if it was made for one.

    The session is kept if it is also used otherwise. In a session that has ended, there is nothing
    to end, and its files are kept.

    Args:
        ctx: the client's context.
        session: the session.
        remove: removes the session.
        patience: how long kernel hosts are waited for; when it is exhausted, the kernels of a
            session that stays are left to the next call.

    Raises:
        EngineError: a kernel has not ended, whether the session is used cannot be determined, or
            it was not removed; a later call tries again.
    """
    if session.state not in (State.RUNNING, State.STOPPED, State.LOST):
        return
    folder = ctx.folder(session.id)
    orphans = _take(ctx, folder, everything=session.state is not State.RUNNING)
    if not orphans:
        return
    try:
        if session.state is State.RUNNING:
            _end(ctx, session, folder, orphans, remove, patience or Patience())
        else:
            _forget(folder, orphans, orphans)
    finally:
        for ownership in orphans.values():
            ownership.release()


def _take(ctx: Context, folder: SessionFolder, *, everything: bool) -> dict[str, Ownership]:
    """Take ownership of a session's orphans that are due, or of all; by short id."""
    owners = KernelOwners(ctx.installation)
    orphans = {}
    for record in owners.of(folder.id):
        name = short_id(record.kernel_id)
        if record.root or not (everything or _is_due(_late(folder, name))):
            continue
        ownership = owners.take(record)
        if ownership is not None:
            orphans[name] = ownership
    return orphans


def _end(
    ctx: Context,
    session: Session,
    folder: SessionFolder,
    orphans: Mapping[str, Ownership],
    remove: Callable[[], None],
    patience: Patience,
) -> None:
    tried = not patience.exhausted
    made = folder.record().identity.ends_with_kernels
    with patience.turn(MADE_S if made else SHARED_S) as deadline:
        ended = {name for name in orphans if tried and _end_kernel(ctx, session, name, deadline)}
    late = orphans.keys() - ended if tried else set()
    reason = ""
    try:
        reason = used_for(ctx, session, orphans) if made else ""
        if made and not reason:
            remove()
            return
        if reason and tried and reason not in {_read(_late(folder, one)).kept for one in orphans}:
            ctx.history.add(session.id, "kept", "reconciler", reason)
    finally:
        if folder.exists:
            for name in late:
                _remember(_late(folder, name), reason)
    for name in ended:
        with contextlib.closing(ctx.kernel_handle(session.id, name)) as handle:
            handle.forget()
    _forget(folder, orphans, ended)
    if late:
        raise EngineError(f"session {session.name}: a kernel has not ended yet")


def _end_kernel(ctx: Context, session: Session, kernel_id: str, deadline: float) -> bool:
    """End a kernel; return whether it has ended, according to its kernel host."""
    with contextlib.closing(ctx.kernel_handle(session.id, kernel_id)) as handle:
        connection = handle.connection()  # None also if the kernel has removed its own file
        if not kill_kernel(handle, deadline):
            return False
        name = connection.kernel_name if connection else "kernel"
        detail = f"{name} {kernel_id} ended: its client has exited"
        ctx.history.add(session.id, "kernel", "reconciler", detail)
    return True


def _forget(
    folder: SessionFolder, orphans: Mapping[str, Ownership], names: Collection[str]
) -> None:
    for name in names:
        with contextlib.suppress(OSError):
            _late(folder, name).unlink()
        orphans[name].forget()


def _late(folder: SessionFolder, name: str) -> Path:
    return folder.path / "kernels" / f"{name}.late"


def _is_due(late: Path) -> bool:
    """Return whether a kernel is to be tried now; also if the clock was set back meanwhile."""
    try:
        age_s = time.time() - late.stat().st_mtime
    except OSError:
        return True
    return not 0 <= age_s < _read(late).pause_s


def _read(late: Path) -> Lateness:
    try:
        stored = parse_json(late.read_text())
        return Lateness(max(1, int(stored["failures"])), str(stored["kept"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Lateness()


def _remember(late: Path, reason: str) -> None:
    """Remember one more failure; on a full disk, the next listing tries again."""
    with contextlib.suppress(OSError):
        atomic.write_text(late, json.dumps(asdict(Lateness(_read(late).failures + 1, reason))))
