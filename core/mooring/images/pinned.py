"""The sources of a container's mounts, held open while the engine makes the mounts.

An engine mounts paths. Between the check of a path and its mount, somebody may have put something
else in its place. So each source is opened before the container's start, and compared with what is
mounted after it, before anything runs in the container. As long as a file is open, no other file
gets its inode.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from mooring.engines.base import Bind
from mooring.engines.mounted import Mounted
from mooring.errors import PolicyError
from mooring.images.mounts import EXCHANGED_HINT


class PinnedSources:
    """The open sources of binds, from ``pinned``."""

    def __init__(self, binds: Sequence[Bind], identities: Sequence[tuple[int, int]]) -> None:
        self._binds, self._identities = binds, identities

    @property
    def targets(self) -> list[str]:
        """Where the binds are mounted in the container."""
        return [bind.target for bind in self._binds]

    def identities(self) -> dict[str, tuple[int, int]]:
        """Return device and inode of each source, by its path."""
        pairs = zip(self._binds, self._identities, strict=True)
        return {bind.source: identity for bind, identity in pairs}

    def compare(self, mounted: Sequence[Mounted | None]) -> None:
        """Compare what is mounted in a container with the sources.

        Args:
            mounted: what is at each of ``targets``.

        Raises:
            PolicyError: a mount is missing, also one of the same file as is there without it, or is
                of another file, or a read-only one is writable.
        """
        known: set[int] = set()
        for bind, identity, found in zip(self._binds, self._identities, mounted, strict=True):
            if found is None or (found.device, found.inode) != identity:
                raise _changed(bind)
            if found.mount in known:  # what is there is seen through another mount
                raise _changed(bind)
            known.add(found.mount)
            if bind.read_only and found.writable:
                raise PolicyError(
                    f"{found.writable} is writable in the session, and {bind.target} is to be "
                    "read-only",
                    f"a file system was mounted below {bind.source} meanwhile; try again",
                )


@contextlib.contextmanager
def pinned(binds: Iterable[Bind]) -> Iterator[PinnedSources]:
    """Hold the sources of binds open during the block.

    Raises:
        PolicyError: a source is missing, or is no longer at its real path.
    """
    binds = tuple(binds)
    with contextlib.ExitStack() as stack:
        yield PinnedSources(binds, [_identity(bind, stack) for bind in binds])


def _identity(bind: Bind, stack: contextlib.ExitStack) -> tuple[int, int]:
    """Open a source, so that all checks apply to the same file, and return device and inode."""
    try:
        descriptor = os.open(bind.source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise PolicyError(
            f"{bind.source}, mounted at {bind.target}: {error.strerror}",
            "restore it, or remove the session and create it again",
        ) from error
    stack.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if os.readlink(f"/proc/self/fd/{descriptor}") != bind.source or stat.S_ISLNK(status.st_mode):
        raise _changed(bind)
    return status.st_dev, status.st_ino


def _changed(bind: Bind) -> PolicyError:
    return PolicyError(
        f"the mount at {bind.target} has changed since it was checked", EXCHANGED_HINT
    )
