"""What a session has left in its private home, which is deleted with it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from mooring.host.text import one_line
from mooring.host.trees import FOLDER, Cursor

MOST_FILES = 10_000
MOST_NAMED = 3


@dataclass(frozen=True)
class HomeFiles:
    """The files that a session has written to its private home.

    Hidden files and folders at its top, where programs keep settings and caches, do not count, nor
    do files that were sent to the session when it was created.

    Attributes:
        count: how many there are; no more than ``MOST_FILES`` are counted.
        size_bytes: the sum of their sizes.
        names: the first ``MOST_NAMED`` paths, relative to the home, in order.
    """

    count: int = 0
    size_bytes: int = 0
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        """Describe them in a line: ``1 file (12 MiB): checkpoints/c.pt``; empty for none."""
        from mooring.spec.units import format_size

        if not self.count:
            return ""
        more = "more than " if self.count >= MOST_FILES else ""
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
    found = _Found()
    try:
        top = os.open(home, FOLDER)
    except OSError:
        return HomeFiles()
    try:
        with Cursor(top) as here:
            ways = [found.visit(here.folder, "", since)]
            while ways and found.count < MOST_FILES:
                if not ways[-1]:
                    ways.pop()
                    if ways:
                        here.up()
                    continue
                folder, name = ways[-1].pop()
                try:
                    here.down(name)
                except OSError:  # closed to its owner, or gone
                    continue
                ways.append(found.visit(here.folder, folder, since))
    except OSError:  # a folder was moved while it was read
        pass
    finally:
        os.close(top)
    return HomeFiles(found.count, found.size_bytes, tuple(found.names))


class _Found:
    """What has been found so far."""

    def __init__(self) -> None:
        self.count = self.size_bytes = 0
        self.names: list[str] = []

    def visit(self, folder: int, path: str, since: float) -> list[tuple[str, str]]:
        """Count the files of a folder.

        Args:
            folder: its file descriptor.
            path: its path in the home; empty for the home.
            since: as for ``home_files``.

        Returns:
            The path and the name of each folder in it, the last one first.
        """
        folders = []
        for name in sorted(os.listdir(folder)):
            if not path and name.startswith("."):
                continue
            try:
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError:
                continue
            below = f"{path}/{name}" if path else name
            if stat.S_ISDIR(info.st_mode):
                folders.append((below, name))
            elif stat.S_ISREG(info.st_mode) and info.st_ctime >= since:
                self.count, self.size_bytes = self.count + 1, self.size_bytes + info.st_size
                if len(self.names) < MOST_NAMED:
                    self.names.append(below)
        return folders[::-1]


def removal_detail(files: HomeFiles, because: str = "") -> str:
    """Return the detail of a ``removed`` event: why, and what the private home contained."""
    return "; ".join(filter(None, (because, str(files) and f"in its private home: {files}")))
