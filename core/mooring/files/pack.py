"""Files of this machine as a tar stream, read while others may change them.

A session may have the same folder mounted, and exchange any name in it for a link: so every file
is opened below its folder's descriptor, and no link is followed but the one that the user named.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType

from mooring.errors import MooringError
from mooring.files.unpack import BLOCK, CHUNK, FOLDER, PLAIN_MODE, shown

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(path: str) -> tuple[int, str]:
    """The folder of a path, and the last name in it: what the user named, and no link yet.

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
    told: Callable[[str], None],
    progress: Callable[[int], None],
    left_out: Mapping[tuple[int, int], str] = MappingProxyType({}),
) -> Generator[bytes, None, None]:
    """One file, link or folder with all that is in it, as a tar stream without its end.

    Owners are left out: what is unpacked belongs to whoever unpacks it. Times are whole seconds.

    Args:
        above, name: what to pack: a folder's descriptor, and a name in it.
        root: what it is called in the stream.
        told: called with a line for each file that is left out.
        progress: called with how many bytes of content were read.
        left_out: what does not go along, by device and inode, and why.

    Raises:
        MooringError: a file shrank while it was read.
        OSError: it cannot be read.
    """
    found = os.stat(name, dir_fd=above, follow_symlinks=False)
    if (found.st_dev, found.st_ino) in left_out:
        why = left_out[found.st_dev, found.st_ino]
        told(f"left out: {shown(root.partition('/')[2] or name)} is {why}")
    elif stat.S_ISDIR(found.st_mode):
        here = os.open(name, FOLDER, dir_fd=above)
        try:
            yield header(root, tarfile.DIRTYPE, os.fstat(here))
            with os.scandir(here) as entries:
                names = sorted(entry.name for entry in entries)
            for each in names:
                yield from pack(
                    here, each, f"{root}/{each}", told=told, progress=progress, left_out=left_out
                )
        finally:
            os.close(here)
    elif stat.S_ISLNK(found.st_mode):
        yield header(root, tarfile.SYMTYPE, found, os.readlink(name, dir_fd=above))
    elif stat.S_ISREG(found.st_mode):
        yield from _file(above, name, root, progress)
    else:
        told(f"left out: {shown(root.partition('/')[2] or name)} is a special file")


def measure(above: int, name: str) -> int:
    """How many bytes of content ``pack`` is going to read, as far as it can be told."""
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size if stat.S_ISREG(found.st_mode) else 0
        here = os.open(name, FOLDER, dir_fd=above)
    except OSError:
        return 0
    try:
        return sum(measure(here, each) for each in os.listdir(here))
    finally:
        os.close(here)


def header(name: str, kind: bytes, found: os.stat_result, link: str = "") -> bytes:
    """The header of an entry."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    entry.mode = found.st_mode & PLAIN_MODE
    entry.mtime = max(0, int(found.st_mtime))
    entry.size = found.st_size if kind == tarfile.REGTYPE else 0
    entry.uid, entry.gid = os.getuid(), os.getgid()
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _file(above: int, name: str, root: str, progress: Callable[[int], None]) -> Iterator[bytes]:
    with regular(above, name) as descriptor:
        found = os.fstat(descriptor)
        yield header(root, tarfile.REGTYPE, found)
        for data in pieces(descriptor, found.st_size):
            yield data
            progress(len(data))
        if found.st_size % BLOCK:
            yield bytes(-found.st_size % BLOCK)


@contextlib.contextmanager
def regular(above: int, name: str) -> Iterator[int]:
    """A regular file, for reading, that no link led to. Raises MooringError and OSError."""
    descriptor = os.open(name, _FILE, dir_fd=above)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MooringError(f"{shown(name)} was exchanged while it was read", "try again")
        yield descriptor
    finally:
        os.close(descriptor)


def pieces(descriptor: int, size: int) -> Iterator[bytes]:
    """So many bytes of a file. Raises MooringError if there are fewer by now."""
    while size:
        data = os.read(descriptor, min(size, CHUNK))
        if not data:
            raise MooringError("a file shrank while it was read", "try again")
        size -= len(data)
        yield data
