"""Pack files of this machine as a tar stream while other processes may change them.

A session may have the same folder mounted, and replace any name in it with a symbolic link.
Therefore every file is opened relative to its folder's file descriptor, and links are not followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mooring.errors import MooringError
from mooring.files.unpack import BLOCK, CHUNK, MAX_DEPTH, PLAIN_MODE, shown
from mooring.host import trees

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(path: str) -> tuple[int, str]:
    """Open the parent folder of a path.

    Returns:
        A file descriptor of the folder, and the path's last component, which may be a link.

    Raises:
        OSError
    """
    folder, _, name = path.rstrip("/").rpartition("/")
    above = folder or ("/" if path.startswith("/") else ".")
    return os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name or "."


def pack(
    above: int,
    name: str,
    root: str,
    *,
    warn: Callable[[str], None],
    progress: Callable[[int], None],
    left_out: Mapping[tuple[int, int], str] = MappingProxyType({}),
) -> Generator[bytes, None, None]:
    """Pack a file, link or folder recursively as a tar stream without the end-of-archive blocks.

    Every entry is owned by the calling user. Times are whole seconds. Folders at `MAX_DEPTH` are
    left out: no stream that has them can be unpacked.

    Args:
        above: a file descriptor of its parent folder.
        name: its name there.
        root: its name in the stream.
        warn: called with a message for each file that is left out.
        progress: called with the number of bytes of content read since the last call.
        left_out: the files to leave out: reasons by (device, inode).

    Raises:
        MooringError: a file shrank or was replaced while it was read.
        OSError: a file cannot be read.
    """
    packing = _Packing(warn, left_out)
    pending: list[Iterator[tuple[str, str]]] = [iter([(name, root)])]
    folders: list[tuple[str, os.stat_result, int]] = []  # entered, each with its mode's gaps
    with trees.Cursor(above) as cursor:
        while pending:
            pair = next(pending[-1], None)
            if pair is None:
                pending.pop()
                if folders:
                    stored, info, locked = folders.pop()
                    if locked:
                        yield header(stored, tarfile.DIRTYPE, info)
                    cursor.up()
                continue
            name, stored = pair
            info = os.stat(name, dir_fd=cursor.folder, follow_symlinks=False)
            if packing.leaves_out(info, name, stored, depth=len(folders)):
                continue
            if stat.S_ISDIR(info.st_mode):
                cursor.down(name)
                info, names = os.fstat(cursor.folder), sorted(cursor.names())
                # Some tars set a folder's mode at once, so one that is read-only is sent as
                # writable, and once more after what it holds (busybox's leaves it writable, except
                # as root)
                locked = ~info.st_mode & stat.S_IRWXU if names else 0
                yield header(stored, tarfile.DIRTYPE, info, mode=info.st_mode | locked)
                folders.append((stored, info, locked))
                pending.append(iter([(each, f"{stored}/{each}") for each in names]))
            elif stat.S_ISLNK(info.st_mode):
                target = os.readlink(name, dir_fd=cursor.folder)
                yield header(stored, tarfile.SYMTYPE, info, target)
            else:
                yield from _file(cursor.folder, name, stored, progress)


@dataclass(frozen=True)
class _Packing:
    """What ``pack`` leaves out; see its arguments."""

    warn: Callable[[str], None]
    left_out: Mapping[tuple[int, int], str]

    def leaves_out(self, info: os.stat_result, name: str, stored: str, depth: int) -> bool:
        why = self.left_out.get((info.st_dev, info.st_ino), "")
        if not why and stat.S_ISDIR(info.st_mode):
            why = f"more than {MAX_DEPTH} folders deep" if depth >= MAX_DEPTH - 1 else ""
        elif not why and not (stat.S_ISLNK(info.st_mode) or stat.S_ISREG(info.st_mode)):
            why = "a special file"
        if why:
            self.warn(f"left out: {shown(stored.partition('/')[2] or name)} is {why}")
        return bool(why)


def measure(above: int, name: str) -> int:
    """The bytes of content that `pack` would read; a folder that cannot be opened counts as 0.

    Args:
        above: a file descriptor of its parent folder.
        name: its name there.
    """
    total = 0
    pending = [iter([name])]
    with trees.Cursor(above) as cursor, contextlib.suppress(OSError):
        while pending:
            each = next(pending[-1], None)
            if each is None:
                pending.pop()
                if pending:
                    cursor.up()
                continue
            with contextlib.suppress(OSError):
                info = os.stat(each, dir_fd=cursor.folder, follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    total += info.st_size
                elif stat.S_ISDIR(info.st_mode) and len(pending) < MAX_DEPTH:
                    cursor.down(each)
                    pending.append(iter(cursor.names()))
    return total


def header(
    name: str, kind: bytes, info: os.stat_result, link: str = "", *, mode: int | None = None
) -> bytes:
    """The header of an entry in GNU format, one or more blocks of 512 bytes.

    Args:
        name: the entry's name.
        kind: one of tarfile's types.
        info: its mode, modification time and size.
        link: the target of a link.
        mode: its permissions, if other than in ``info``.
    """
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    entry.mode = (info.st_mode if mode is None else mode) & PLAIN_MODE
    entry.mtime = max(0, int(info.st_mtime))
    entry.size = info.st_size if kind == tarfile.REGTYPE else 0
    entry.uid, entry.gid = os.getuid(), os.getgid()
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _file(above: int, name: str, root: str, progress: Callable[[int], None]) -> Iterator[bytes]:
    with _regular(above, name) as descriptor:
        info = os.fstat(descriptor)
        yield header(root, tarfile.REGTYPE, info)
        for data in _pieces(descriptor, info.st_size):
            yield data
            progress(len(data))
        if info.st_size % BLOCK:
            yield bytes(-info.st_size % BLOCK)


@contextlib.contextmanager
def _regular(above: int, name: str) -> Iterator[int]:
    """Open a regular file for reading without following a link."""
    descriptor = os.open(name, _FILE, dir_fd=above)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MooringError(f"{shown(name)} was replaced while it was read", "try again")
        yield descriptor
    finally:
        os.close(descriptor)


def _pieces(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file; raises MooringError if it has fewer."""
    while size:
        data = os.read(descriptor, min(size, CHUNK))
        if not data:
            raise MooringError("a file shrank while it was read", "try again")
        size -= len(data)
        yield data
