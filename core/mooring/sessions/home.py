"""What a session has left in its private home, which is deleted with it."""

from __future__ import annotations

import itertools
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from mooring.host.text import one_line
from mooring.host.trees import FOLDER, Cursor

MOST_FILES = 10_000
# A session can make folders faster than they are read, and without end
MOST_ENTRIES = 100_000
LONGEST_S = 1.0
MOST_NAMED = 3


@dataclass(frozen=True)
class HomeFiles:
    """The files that a session has written to its private home.

    Hidden files and folders at its top, where programs keep settings and caches, do not count, nor
    do files that were sent to the session when it was created.

    Attributes:
        count: how many there are; no more than ``MOST_FILES`` are counted, and no more than are
            found in ``LONGEST_S`` and among ``MOST_ENTRIES`` files and folders.
        size_bytes: the sum of their sizes.
        names: the first ``MOST_NAMED`` paths, relative to the home, in order.
        complete: whether these are all.
    """

    count: int = 0
    size_bytes: int = 0
    names: tuple[str, ...] = ()
    complete: bool = True

    @property
    def deletion_note(self) -> str:
        """A note for their user, after the session's removal."""
        return (
            f"its private home contained {self}, deleted with it; "
            "what is written to the project or to outputs stays"
        )

    def __bool__(self) -> bool:
        return self.count > 0 or not self.complete

    def __str__(self) -> str:
        """Describe them in a line: ``1 file (12 MiB): checkpoints/c.pt``; empty for none."""
        from mooring.spec.units import format_size

        if not self.count:
            return "" if self.complete else "more folders than were looked at"
        more = "" if self.complete else "more than "
        names = ", ".join(one_line(name, 60) for name in self.names)
        names += ", …" if self.count > len(self.names) else ""
        plural = "s" if self.count > 1 else ""
        return f"{more}{self.count} file{plural} ({format_size(self.size_bytes)}): {names}"


def home_files(home: Path, since: float) -> HomeFiles:
    """Return what a session has written to its private home; empty if it cannot be read.

    Args:
        home: the home's path on this machine.
        since: files that have not changed since this time are not the session's, in seconds since
            the epoch.
    """
    found = _Found(since)
    try:
        top = os.open(home, FOLDER)
    except OSError:
        return HomeFiles()
    try:
        with Cursor(top) as here:
            ways = [found.visit(here.folder, [])]
            path = list[str]()
            while ways and found.complete:
                if not ways[-1]:
                    ways.pop()
                    if ways:
                        here.up()
                        path.pop()
                    continue
                name = ways[-1].pop()
                try:
                    here.down(name)
                except OSError:  # closed to its owner, or gone
                    continue
                path.append(name)
                ways.append(found.visit(here.folder, path))
    except OSError:  # a folder was moved while it was read
        pass
    finally:
        os.close(top)
    return HomeFiles(found.count, found.size_bytes, tuple(found.names), found.complete)


class _Found:
    """What has been found so far.

    Args:
        since: as for ``home_files``.
    """

    def __init__(self, since: float) -> None:
        self.count = self.size_bytes = 0
        self.names: list[str] = []
        self._since = since
        self._seen = 0
        self._until = time.monotonic() + LONGEST_S

    @property
    def complete(self) -> bool:
        """Whether one may go on."""
        few = self.count < MOST_FILES and self._seen < MOST_ENTRIES
        return few and time.monotonic() < self._until

    def visit(self, folder: int, path: list[str]) -> list[str]:
        """Count the files of a folder.

        Args:
            folder: its file descriptor.
            path: the names that lead to it; empty for the home.

        Returns:
            The name of each folder in it, the last one first.
        """
        folders = []
        with os.scandir(folder) as rows:
            names = sorted(row.name for row in itertools.islice(rows, MOST_ENTRIES))
        for name in names:
            if not self.complete:
                break
            self._seen += 1
            if not path and name.startswith("."):
                continue
            try:
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(info.st_mode):
                folders.append(name)
            elif stat.S_ISREG(info.st_mode) and info.st_ctime >= self._since:
                self.count, self.size_bytes = self.count + 1, self.size_bytes + info.st_size
                if len(self.names) < MOST_NAMED:
                    self.names.append("/".join((*path, name)))
        return folders[::-1]


def removal_detail(files: HomeFiles, because: str = "") -> str:
    """Return the detail of a ``removed`` event: why, and what the private home contained."""
    return "; ".join(filter(None, (because, str(files) and f"in its private home: {files}")))
