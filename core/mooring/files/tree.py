"""The files of a stopped session that are on this machine, addressed by the session's paths.

Its private home and its mounts are folders here. A path is resolved component by component,
relative to file descriptors, and symbolic links are resolved here as they would be in the session,
never by the operating system. Mooring's own files and those of the image are inaccessible.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mooring.files.paths import CopyError
from mooring.files.unpack import MAX_DEPTH, shown
from mooring.host.filesystems import LINKS_MAX, is_below
from mooring.sessions.record import Layout

_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC  # needs no read permission

Names = tuple[str, ...]
Identity = tuple[int, int]


@dataclass(frozen=True)
class Mount:
    """A mount of a session; `source` is empty if its files are inaccessible from here."""

    source: str
    target: Names
    read_only: bool


@dataclass(frozen=True)
class Entry:
    """A path of a session, valid while its parent folder is open.

    Attributes:
        above: a file descriptor of its parent folder.
        name: its name there.
        kind: missing, file, folder, link or special.
        link: the target of a link; empty for all else.
        read_only: whether it is in a read-only mount of the session.
    """

    above: int
    name: str
    kind: str
    link: str
    read_only: bool


class Tree:
    """The accessible files of a stopped session.

    Args:
        name: the session's name, for errors.
        home: the session's private home on this machine.
        state: the installation's state folder, which is inaccessible.
        layout: the mounts, from the session's record.

    Raises (all methods):
        CopyError: the path is inaccessible or does not exist.
        OSError
    """

    def __init__(self, name: str, home: Path, state: Path, layout: Layout) -> None:
        self._name = name
        self.workdir = layout.workdir
        real_home = os.path.realpath(home)
        own = os.path.realpath(state)
        info = os.stat(own)
        self._own: Identity = (info.st_dev, info.st_ino)
        self._mounts: list[Mount] = []
        self._home = real_home
        self._mounts += [Mount("", _names(target), True) for target in layout.image]
        for source, target, read_only in layout.binds:
            real = real_home if source == str(home) else source
            closed = real == os.devnull or (real != real_home and is_below(real, own))
            self._mounts.append(Mount("" if closed else real, _names(target), read_only))

    def find(self, path: str, *, follow: bool) -> Names:
        """Resolve a path of the session; its last component need not exist.

        Args:
            path: absolute, or relative to the session's working directory.
            follow: resolve the last component, too, if it is a link.

        Returns:
            The components of the absolute path.
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
                if links > LINKS_MAX:
                    raise CopyError(f"{shown(path)}: too many levels of symbolic links")
                pending += _names(link, keep_up=True)[::-1]
                here = () if link.startswith("/") else here
                continue
            if pending and kind != "folder":
                raise self.missing(path)
            if len(there) > MAX_DEPTH:
                raise CopyError(f"{shown(path)} leads more than {MAX_DEPTH} folders deep")
            here = there
        return here

    @contextlib.contextmanager
    def opened(self, there: Names) -> Iterator[Entry]:
        """Context manager that opens the parent folder of a path that `find` returned."""
        mount = self._mount_of(there)
        *above, first = _names(mount.source)
        *folders, name = (first, *there[len(mount.target) :])
        with _Way(above) as way:
            for each in folders:
                try:
                    way.enter(each)
                except (FileNotFoundError, NotADirectoryError):
                    raise self.missing("/" + "/".join(there)) from None
                self._check(os.fstat(way.folder), there)
            try:
                info = os.stat(name, dir_fd=way.folder, follow_symlinks=False)
            except FileNotFoundError:
                yield Entry(way.folder, name, "missing", "", mount.read_only)
                return
            self._check(info, there)
            kind = _kind(info)
            link = os.readlink(name, dir_fd=way.folder) if kind == "link" else ""
            yield Entry(way.folder, name, kind, link, mount.read_only)

    def mounts_below(self, there: Names) -> list[Names]:
        """The targets of the session's mounts at or below a path, relative to it."""
        size = len(there)
        return [one.target[size:] for one in self._mounts if one.target[:size] == there]

    def left_out(self, there: Names) -> dict[Identity, str]:
        """The files to leave out when copying a folder: mount points and mooring's own folder.

        Returns:
            Reasons by (device, inode), as for `pack`.
        """
        out: dict[Identity, str] = {}
        mount = self._mount_of(there)
        for below in filter(None, self.mounts_below(there)):
            *folders, name = (*_names(mount.source), *there[len(mount.target) :], *below)
            with contextlib.suppress(OSError), _Way(folders) as way:
                info = os.stat(name, dir_fd=way.folder, follow_symlinks=False)
                out[(info.st_dev, info.st_ino)] = "a mount: copy it by its own path"
        out[self._own] = "mooring's own folder"
        return out

    def missing(self, path: str) -> CopyError:
        """The error for a path that does not exist."""
        return CopyError(
            f"there is no {shown(path)} in session {self._name}",
            f"relative paths start at {self.workdir}",
        )

    def closed(self, there: Names) -> CopyError:
        """The error for a path that is inaccessible until the session runs again."""
        first = sorted(self._mounts, key=lambda one: one.source != self._home)
        open_here = ["/" + "/".join(one.target) for one in first if one.source]
        return CopyError(
            f"session {self._name} is not running, and {shown('/' + '/'.join(there))} is not in "
            f"its home or mounts: {', '.join(map(shown, open_here[:6]))}",
            f"for other paths start it: mooring start {self._name} (runs its command again)",
        )

    def _is_above(self, there: Names) -> bool:
        """Whether a folder is in no mount, and has mounts below it."""
        on = any(there[: len(one.target)] == one.target for one in self._mounts)
        return not on and any(one.target[: len(there)] == there for one in self._mounts)

    def _mount_of(self, there: Names) -> Mount:
        mount = self._mount_over(there)
        if mount is None:
            raise self.closed(there)
        return mount

    def _mount_over(self, there: Names) -> Mount | None:
        """The mount that contains a path; None if there is none, or its files are inaccessible."""
        over = [one for one in self._mounts if there[: len(one.target)] == one.target]
        mount = max(over, key=lambda one: len(one.target), default=None)
        return mount if mount is not None and mount.source else None

    def _check(self, info: os.stat_result, there: Names) -> None:
        if (info.st_dev, info.st_ino) == self._own:
            raise self.closed(there)


class _Way:
    """A folder reached from a folder step by step, through no link; a context manager.

    Args:
        names: the first steps.
        begin: a file descriptor of the folder where it begins; None for the root folder.

    Raises:
        OSError: there is no such folder.
    """

    def __init__(self, names: Sequence[str], begin: int | None = None) -> None:
        self.folder = os.open("/", _PASS) if begin is None else os.dup(begin)
        try:
            for each in names:
                self.enter(each)
        except BaseException:
            os.close(self.folder)
            raise

    def enter(self, name: str) -> None:
        """Go on to a folder in the folder. Raises OSError."""
        below = os.open(name, _PASS, dir_fd=self.folder)
        os.close(self.folder)
        self.folder = below

    def __enter__(self) -> _Way:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)


def _names(path: str, keep_up: bool = False) -> Names:
    if not keep_up:
        path = os.path.normpath(path)
    return tuple(name for name in path.split("/") if name not in ("", "."))


def _kind(info: os.stat_result) -> str:
    if stat.S_ISDIR(info.st_mode):
        return "folder"
    if stat.S_ISLNK(info.st_mode):
        return "link"
    return "file" if stat.S_ISREG(info.st_mode) else "special"


def below(folder: int, names: Sequence[str]) -> bool:
    """Whether a path below a folder exists; no link is followed."""
    try:
        with _Way(names[:-1], folder) as way:
            os.stat(names[-1], dir_fd=way.folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
