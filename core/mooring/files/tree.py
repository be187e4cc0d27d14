"""The files of a session that does not run, as far as they lie on this machine: by its own paths.

Its private home and what is mounted are folders here. A path of the session is walked name by
name below their descriptors, and no name is followed by the system: a link leads where it would
lead in the session, or nowhere. What is mooring's own, and what the image has, is closed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooring.files.paths import CopyError
from mooring.files.unpack import shown
from mooring.host import paths
from mooring.sessions.record import Folder

MAX_LINKS = 40  # as Linux
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # needs no right to read

Names = tuple[str, ...]
Identity = tuple[int, int]


@dataclass(frozen=True)
class Mount:
    """One of a session's; ``source`` is empty where nothing of it may be had from here."""

    source: str
    target: Names
    read_only: bool


@dataclass(frozen=True)
class Entry:
    """A path of a session, held open.

    Attributes:
        above, name: a folder's descriptor, and a name in it.
        kind: missing, file, folder, link or special.
        link: what it says, of a link.
    """

    above: int
    name: str
    kind: str
    link: str
    read_only: bool


class Tree:
    """What of a session's files can be had without it.

    Args:
        name: the session's, for errors.
        layout: what its record has of its mounts.

    Raises (all of its methods):
        CopyError: the path leads elsewhere, or is not there.
        OSError
    """

    def __init__(self, name: str, folder: Folder, layout: dict[str, Any]) -> None:
        self._name = name
        self.workdir = str(layout["workdir"])
        home = os.path.realpath(folder.home)
        own = Path(os.path.realpath(paths.state_dir()))
        found = os.stat(own)
        self._own: Identity = (found.st_dev, found.st_ino)
        self._mounts: list[Mount] = []
        self._home = home
        self._mounts += [Mount("", _names(target), True) for target in layout["image"]]
        for source, target, read_only in layout["binds"]:
            real = home if source == str(folder.home) else source
            closed = real == os.devnull or (real != home and _is_within(Path(real), own))
            self._mounts.append(Mount("" if closed else real, _names(target), bool(read_only)))

    def find(self, path: str, *, follow: bool) -> Names:
        """Where a path leads in the session; its last name need not be there.

        Args:
            follow: its last name too, if it is a link.
        """
        pending = list(_names(os.path.join(self.workdir, path))[::-1])
        here: Names = ()
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                here = here[:-1]
                continue
            there = (*here, name)
            if self._is_above(there):
                here = there
                continue
            if not self._mount_over(there):
                raise self.closed((*there, *pending[::-1]))
            with self.opened(there) as entry:
                kind, link = entry.kind, entry.link
            if kind == "link" and (pending or follow):
                links += 1
                if links > MAX_LINKS:
                    raise CopyError(f"{shown(path)}: its links go round in circles")
                pending += _names(link, keep_up=True)[::-1]
                here = () if link.startswith("/") else here
                continue
            if pending and kind != "folder":
                raise self.missing(path)
            here = there
        return here

    @contextlib.contextmanager
    def opened(self, there: Names) -> Iterator[Entry]:
        """Hold a path that ``find`` has found."""
        mount = self._mount_of(there)
        below = there[len(mount.target) :]
        *folders, name = below or ("",)
        with contextlib.ExitStack() as held:
            root, own_name = self._root(mount, held)
            here = root
            if below:
                for each in (own_name, *folders):
                    try:
                        here = os.open(each, _PASS, dir_fd=here)
                    except (FileNotFoundError, NotADirectoryError):
                        raise self.missing("/" + "/".join(there)) from None
                    held.callback(os.close, here)
                    self._check(os.fstat(here), there)
            else:
                name = own_name
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                yield Entry(here, name, "missing", "", mount.read_only)
                return
            self._check(found, there)
            kind = _kind(found)
            link = os.readlink(name, dir_fd=here) if kind == "link" else ""
            yield Entry(here, name, kind, link, mount.read_only)

    def mounts_below(self, there: Names) -> list[Names]:
        """The mounts that a running session has below a path, by the way to them from there."""
        size = len(there)
        return [one.target[size:] for one in self._mounts if one.target[:size] == there]

    def left_out(self, there: Names) -> dict[Identity, str]:
        """What must not go along with a folder, and why: what others are mounted over."""
        out: dict[Identity, str] = {}
        mount = self._mount_of(there)
        for below in filter(None, self.mounts_below(there)):
            with contextlib.suppress(OSError, CopyError), contextlib.ExitStack() as held:
                here, name = self._root(mount, held)
                for each in (*there[len(mount.target) :], *below):
                    here = os.open(name, _PASS, dir_fd=here)
                    held.callback(os.close, here)
                    name = each
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
                out[(found.st_dev, found.st_ino)] = "mounted there: copy it by its own path"
        out[self._own] = "mooring's own"
        return out

    def missing(self, path: str) -> CopyError:
        return CopyError(
            f"there is no {shown(path)} in session {self._name}",
            f"relative paths start at {self.workdir}",
        )

    def closed(self, there: Names) -> CopyError:
        """The error for what cannot be had before the session runs again."""
        first = sorted(self._mounts, key=lambda one: one.source != self._home)
        had = ["/" + "/".join(one.target) for one in first if one.source]
        return CopyError(
            f"session {self._name} does not run, and {shown('/' + '/'.join(there))} is in none of "
            f"its folders here: {', '.join(map(shown, had[:6]))}",
            f"for the rest it must run: mooring start {self._name} (which runs its command again)",
        )

    def _is_above(self, there: Names) -> bool:
        """Whether nothing but mounts below it is known of a folder."""
        on = any(there[: len(one.target)] == one.target for one in self._mounts)
        return not on and any(one.target[: len(there)] == there for one in self._mounts)

    def _mount_of(self, there: Names) -> Mount:
        mount = self._mount_over(there)
        if mount is None:
            raise self.closed(there)
        return mount

    def _mount_over(self, there: Names) -> Mount | None:
        """The mount that a path lies in; None where it lies in none that is open."""
        over = [one for one in self._mounts if there[: len(one.target)] == one.target]
        mount = max(over, key=lambda one: len(one.target), default=None)
        return mount if mount is not None and mount.source else None

    def _root(self, mount: Mount, held: contextlib.ExitStack) -> tuple[int, str]:
        """The folder that a mount's source is in, and its name there; no link leads to it."""
        *folders, name = _names(mount.source)
        here = os.open("/", _PASS)
        held.callback(os.close, here)
        for each in folders:
            here = os.open(each, _PASS, dir_fd=here)
            held.callback(os.close, here)
        return here, name

    def _check(self, found: os.stat_result, there: Names) -> None:
        if (found.st_dev, found.st_ino) == self._own:
            raise self.closed(there)


def _is_within(path: Path, top: Path) -> bool:
    return path == top or top in path.parents


def _names(path: str, keep_up: bool = False) -> Names:
    if not keep_up:
        path = os.path.normpath(path)
    return tuple(name for name in path.split("/") if name not in ("", "."))


def _kind(found: os.stat_result) -> str:
    if stat.S_ISDIR(found.st_mode):
        return "folder"
    if stat.S_ISLNK(found.st_mode):
        return "link"
    return "file" if stat.S_ISREG(found.st_mode) else "special"


def below(folder: int, names: Sequence[str]) -> bool:
    """Whether there is anything at this path, which no link leads to."""
    with contextlib.ExitStack() as held:
        try:
            for each in names[:-1]:
                folder = os.open(each, _PASS, dir_fd=folder)
                held.callback(os.close, folder)
            os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True
