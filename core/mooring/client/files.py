"""``Mooring.files``."""

from __future__ import annotations

import os
from collections.abc import Callable

from mooring.errors import SessionStateError
from mooring.files import pack
from mooring.files.copier import Copier
from mooring.files.stopped import StoppedCopier
from mooring.sessions import find
from mooring.sessions.context import Context


def _ignore_line(line: str) -> None:
    """Discard a line."""


def _ignore_bytes(count: int) -> None:
    """Discard a count."""


def size_of(path: str) -> int | None:
    """Return the size in bytes of a local file or folder; None if it cannot be read."""
    try:
        parent, name = pack.opened(path)
    except OSError:
        return None
    try:
        return pack.measure(parent, name)
    finally:
        os.close(parent)


class Files:
    """Copying files between this machine and sessions."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def copier(
        self,
        name: str,
        *,
        warn: Callable[[str], None] = _ignore_line,
        progress: Callable[[int], None] = _ignore_bytes,
    ) -> Copier | StoppedCopier:
        """Return a copier for a running session, or a stopped one whose files are on this machine.

        Args:
            name: the session's name, or the beginning of its id.
            warn: called with a line for each file that is skipped or could not be read.
            progress: called with the number of bytes of content copied since the last call.

        Raises:
            SessionNotFound: no session has that name.
            SessionStateError: it does not run, and its files are not on this machine.
            EngineError
        """
        try:
            session = find.get_running(self._ctx, name)
        except SessionStateError:
            session = find.get(self._ctx, name)
            if not StoppedCopier.takes(self._ctx, session):
                raise
            return StoppedCopier(self._ctx, session, warn=warn, progress=progress)
        return Copier(self._ctx, session, warn=warn, progress=progress)
