"""Mounted folders that were replaced on this machine, as by ``git checkout``.

A mount is of a folder, not of its path: the session keeps the old folder, also a deleted one, until
it is started again.
"""

from __future__ import annotations

import os
from pathlib import Path

from mooring.engines.capabilities import SupportsBinds, require
from mooring.errors import SessionStateError
from mooring.host.text import quoted
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import Session


def replaced_sources(folder: SessionFolder) -> list[str]:
    """Return the sources of a running session's mounts that are not what the session sees.

    Those of a session that an earlier version started are not known.
    """
    return [
        source
        for source, identity in folder.record().state.sources.items()
        if _identity(source) not in (None, tuple(identity))
    ]


def refuse_replaced(folder: SessionFolder, path: str) -> None:
    """Refuse to start something in a folder that was replaced.

    Args:
        folder: the folder of a running session.
        path: a path on this machine.

    Raises:
        SessionStateError: the path, or a folder above it, was replaced.
    """
    for source in replaced_sources(folder):
        if not Path(path).is_relative_to(source):
            continue
        name = folder.record().identity.name
        what = "replaced" if os.path.lexists(source) else "removed"
        raise SessionStateError(
            f"{source} was {what} on this machine, and session {name} still has the old one",
            f"stop the session and start it again: mooring stop {name} && mooring start {name}",
        )


def refuse_without_workdir(ctx: Context, session: Session) -> None:
    """Refuse to start a process in a session whose working directory was deleted.

    An engine starts none there, and says so in words of its own. If the folder was moved away
    instead, the process runs in what it has become.

    Raises:
        SessionStateError: it was deleted.
        EngineError
    """
    folder = ctx.folder(session.id)
    plan = folder.record().plan
    workdir = plan.layout.workdir if plan.layout else ""
    if not any(Path(workdir).is_relative_to(target) for _, target in plan.mounts):
        return  # it is not on this machine
    lost = not os.path.isdir(workdir)
    if not lost and not any(Path(workdir).is_relative_to(one) for one in replaced_sources(folder)):
        return
    (found,) = require(ctx.engine, SupportsBinds).mounted(session.container, [workdir]) or (None,)
    if found is not None and not found.deleted:
        return
    refuse_replaced(folder, workdir)
    raise SessionStateError(
        f"{workdir}, the working directory of session {session.name}, was removed",
        f"create it again: mkdir -p {quoted(workdir)}",
    )


def _identity(source: str) -> tuple[int, int] | None:
    """Return device and inode of a file, zeros if there is none, None if that cannot be known."""
    try:
        status = os.stat(source)
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0
    except OSError:
        return None
    return status.st_dev, status.st_ino
