"""A tar stream that nobody vouches for, unpacked below one folder of this machine.

What comes out of a container may be anything. No name leads out of the folder, no link is
followed, nothing but files, folders and links is made, and none of them has more than plain
permissions. Python's own unpacking has no such filter before 3.12 (PEP 706), reads headers of any
length into memory, and follows links that it has just made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mooring.errors import MooringError

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 18
# A path has 4 KiB at most; a pax header holds two of them and some numbers
MAX_HEADER_BYTES = 32 << 10
MAX_EXTRA_HEADERS = 8
MAX_DEPTH = 256
PLAIN_MODE = 0o777
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DRAFT = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}

Read = Callable[[int], bytes]
Path = tuple[str, ...]
CUT_OFF = "what came out of the session was cut off"


class HostileArchive(MooringError):
    """What came out of a session is nothing that may be unpacked here."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "nothing was copied; look at what is there: mooring exec")


@dataclass(frozen=True)
class Member:
    """One entry of the stream, as its headers tell; ``path`` holds plain names only."""

    path: Path
    kind: bytes
    mode: int
    mtime_ns: int
    size: int
    link: str


def members(read: Read) -> Iterator[Member]:
    """The entries of a tar stream. Each one's content must be read before the next is asked for.

    Args:
        read: gives so many bytes, fewer only at the end of the stream.

    Raises:
        HostileArchive: it is no tar stream, is cut off, or holds what no honest one does.
    """
    longer: dict[str, str] = {}
    extras = 0
    while True:
        block = read(BLOCK)
        if len(block) < BLOCK:
            raise HostileArchive(CUT_OFF)
        if not block.strip(b"\0"):
            return
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise HostileArchive("what came out of the session is no tar stream") from None
        if entry.size < 0 or (entry.type == tarfile.GNUTYPE_SPARSE):
            raise HostileArchive(f"{shown(entry.name)}: sparse files cannot be copied")
        if entry.type in _EXTRA:
            extras += 1
            if entry.size > MAX_HEADER_BYTES or extras > MAX_EXTRA_HEADERS:
                raise HostileArchive("the stream out of the session has a header without end")
            longer.update(_EXTRA[entry.type](_content(read, entry.size)))
            continue
        name = longer.get("path", entry.name)
        kind = entry.type
        if kind in (tarfile.AREGTYPE, tarfile.CONTTYPE):
            kind = tarfile.REGTYPE
        if kind == tarfile.REGTYPE and name.endswith("/"):
            kind = tarfile.DIRTYPE
        if any(key.startswith("GNU.sparse") for key in longer):
            raise HostileArchive(f"{shown(name)}: sparse files cannot be copied")
        try:
            size = int(longer.get("size", entry.size))
            seconds = float(longer.get("mtime", entry.mtime))
            mtime_ns = min(max(int(seconds * 10**9), 0), 2**62)
        except (ValueError, OverflowError):
            raise HostileArchive(f"{shown(name)}: its header has no numbers") from None
        if size < 0:
            raise HostileArchive(f"{shown(name)}: its header has no numbers")
        yield Member(
            path=plain_path(name),
            kind=kind,
            mode=entry.mode & PLAIN_MODE,
            mtime_ns=mtime_ns,
            size=size if kind == tarfile.REGTYPE else 0,
            link=longer.get("linkpath", entry.linkname),
        )
        longer, extras = {}, 0


def plain_path(name: str) -> Path:
    """The names on the way to an entry.

    Raises:
        HostileArchive: it is absolute, climbs, or is deeper than any honest one.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise HostileArchive(f"the session sent a name that leads elsewhere: {shown(name)}")
    if len(parts) > MAX_DEPTH:
        raise HostileArchive(f"the session sent folders {len(parts)} deep")
    return parts


def shown(name: str) -> str:
    """A name of others for an error: printable, and not long."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 120 else f"{text[:60]}…{text[-59:]}"


class Unpacker:
    """Puts entries below a folder that is its own: empty, and nobody else's.

    Args:
        root: a descriptor of that folder.
        place: where below it an entry goes, by the names on the way to it.
        told: called with a line for each entry that is left out.
        progress: called with how many bytes have come.
    """

    def __init__(
        self,
        root: int,
        *,
        place: Callable[[Path], Path],
        told: Callable[[str], None],
        progress: Callable[[int], None],
    ) -> None:
        self._root, self._place, self._told, self._progress = root, place, told, progress
        self._entered: list[Member] = []

    def unpack(self, read: Read) -> None:
        """Everything in a stream, to its end.

        Raises:
            HostileArchive
            OSError: this machine's own: no space, no permission.
        """
        for member in members(read):
            self.add(member, _pieces(member.size, read))
        self.finish()

    def add(self, member: Member, content: Iterator[bytes]) -> None:
        """One entry; a file's content is read to its end. Raises as ``unpack``."""
        path = self._place(member.path)
        self._leave_for(path)
        with self._folder_of(path) as (folder, name):
            self._make(folder, name, replace(member, path=path), content)

    def finish(self) -> None:
        """There are no more entries."""
        self._leave_for(None)

    def _make(self, folder: int, name: str, member: Member, content: Iterator[bytes]) -> None:
        if member.kind == tarfile.DIRTYPE:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            os.close(_opened(folder, name))
            self._entered.append(member)
        elif member.kind == tarfile.REGTYPE:
            _clear(folder, name)
            descriptor = os.open(name, _DRAFT, 0o600, dir_fd=folder)
            try:
                for piece in content:
                    self._progress(len(piece))
                    data = memoryview(piece)
                    while data:
                        data = data[os.write(descriptor, data) :]
                os.fchmod(descriptor, member.mode)
                os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))
            finally:
                os.close(descriptor)
        elif member.kind == tarfile.SYMTYPE:
            if not member.link or "\0" in member.link:
                raise HostileArchive(f"{shown(name)}: a link to nothing")
            _clear(folder, name)
            os.symlink(member.link, name, dir_fd=folder)
            times = (member.mtime_ns, member.mtime_ns)
            os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)
        elif member.kind == tarfile.LNKTYPE:
            self._link(folder, name, member)
        else:
            what = _SPECIAL.get(member.kind, "a special file")
            self._told(f"left out: {shown('/'.join(member.path[1:]) or name)} is {what}")

    def _link(self, folder: int, name: str, member: Member) -> None:
        """A second name of a file that came before, and so lies below this very folder."""
        path = self._place(plain_path(member.link))
        if path == member.path:
            raise HostileArchive(f"{shown(name)}: a hard link to itself")
        with self._folder_of(path, make=False) as (there, target):
            try:
                found = os.stat(target, dir_fd=there, follow_symlinks=False)
            except FileNotFoundError:
                raise HostileArchive(
                    f"{shown(name)}: a hard link to what was not sent: {shown(member.link)}"
                ) from None
            if not stat.S_ISREG(found.st_mode):
                raise HostileArchive(f"{shown(name)}: a hard link to what is no file")
            _clear(folder, name)
            os.link(target, name, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)

    @contextlib.contextmanager
    def _folder_of(self, path: Path, make: bool = True) -> Iterator[tuple[int, str]]:
        """The folder of an entry, reached without any link, and the entry's name in it."""
        *folders, name = path
        here = os.dup(self._root)
        try:
            for each in folders:
                below = _opened(here, each, make=make)
                os.close(here)
                here = below
            yield here, name
        finally:
            os.close(here)

    def _leave_for(self, path: Path | None) -> None:
        """Give folders that are complete their modes and times."""
        while self._entered:
            last = self._entered[-1]
            if path is not None and path[: len(last.path)] == last.path:
                return
            self._entered.pop()
            with self._folder_of(last.path, make=False) as (folder, name):
                descriptor = _opened(folder, name)
                try:
                    os.fchmod(descriptor, last.mode)
                    os.utime(descriptor, ns=(last.mtime_ns, last.mtime_ns))
                finally:
                    os.close(descriptor)


def _opened(folder: int, name: str, make: bool = False) -> int:
    """A folder in a folder; neither a link nor a file is taken for one."""
    try:
        try:
            return os.open(name, FOLDER, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
            os.mkdir(name, 0o755, dir_fd=folder)
            return os.open(name, FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise HostileArchive(
            f"the session sent a name that leads through a link or a file: {shown(name)}"
        ) from None


def _clear(folder: int, name: str) -> None:
    """Make room for an entry that comes a second time; a folder stays."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        raise HostileArchive(f"the session sent a folder and a file as {shown(name)}") from None


def _pieces(size: int, read: Read) -> Iterator[bytes]:
    """A file's content, and its padding behind it."""
    left = size
    while left:
        piece = read(min(left, CHUNK))
        if not piece:
            raise HostileArchive(CUT_OFF)
        left -= len(piece)
        yield piece
    read(-size % BLOCK)


def _content(read: Read, size: int) -> bytes:
    """An extra header's content, without its padding."""
    content = read(size + -size % BLOCK)
    if len(content) < size:
        raise HostileArchive(CUT_OFF)
    return content[:size]


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _pax(content: bytes) -> dict[str, str]:
    """pax(1), "pax Extended Header": ``LENGTH KEY=VALUE`` lines, LENGTH counting all of its own."""
    found = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6:
            break
        line, content = content[: int(length)], content[max(int(length), 1) :]
        key, _, value = line[len(length) + 1 :].partition(b"=")
        found[_text(key)] = value[:-1].decode("utf-8", "surrogateescape")
    return found


_EXTRA: dict[bytes, Callable[[bytes], dict[str, str]]] = {
    tarfile.GNUTYPE_LONGNAME: lambda content: {"path": _text(content)},
    tarfile.GNUTYPE_LONGLINK: lambda content: {"linkpath": _text(content)},
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: lambda content: {},
}
