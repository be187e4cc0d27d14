"""Removing a session, by whomever: its container, its files, and what the history says of it.

Before the container goes, the record says that it will, and who removes it: what is left without a
container is not lost. Other processes leave it alone while that process is at it, and complete the
removal if it was killed.
"""

from __future__ import annotations

import contextlib
import os
import time

from mooring.host.processes import process_mark
from mooring.sessions import recreate
from mooring.sessions.containers import remove_container
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.home import removal_detail
from mooring.sessions.model import Session
from mooring.sessions.record import Removal


def remove_session(ctx: Context, session: Session, *, actor: str, because: str = "") -> None:
    """Remove a session with its private files, and record it. Idempotent.

    Args:
        ctx: the client's context.
        session: the session, in any state.
        actor: the actor recorded in the history.
        because: the reason for the history; empty if a user asked for the removal.

    Raises:
        EngineError: the container, or the snapshot image, was not removed.
        MooringError: some of its files cannot be deleted; everything else is.
    """
    folder = ctx.folder(session.id)
    removal = Removal(process_mark(os.getpid()), actor, because)
    with contextlib.suppress(OSError):  # disk full: the removal frees space
        folder.update_state(removing=removal)
    try:
        remove_container(ctx, session.id, session.container)
        complete(ctx, folder, removal)
    finally:
        with contextlib.suppress(OSError):  # its folder is gone
            folder.update_state(removing=removal._replace(process=""))


def complete(ctx: Context, folder: SessionFolder, removal: Removal) -> None:
    """Remove what a session without a container has left, and record what is not recorded yet."""
    recreate.forget(ctx, folder)
    if all(event.kind != "removed" for event in ctx.history.events(folder.id)):
        if not folder.record().state.end_recorded:
            reason = removal.because or f"removed by {removal.actor}"
            ctx.history.session_ended(folder.id, at=time.time(), reason=reason, exit_code=None)
        # first, because who follows the events stops when the folder has gone
        detail = removal_detail(folder.home_files(), removal.because)
        ctx.history.add(folder.id, "removed", removal.actor, detail)
    if folder.exists:
        folder.remove()
