"""Unpack an untrusted tar stream below a folder of this machine.

No name can leave the folder, no link is followed, only files, folders and links are created, and
their modes have no set-user-ID, set-group-ID or sticky bits. `tarfile` has no such filter in
Debian's Python 3.11.2 (PEP 706), reads headers of any length into memory, and follows links that it
has just extracted.
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
# A path has at most 4 KiB; a pax header contains two paths and some numbers
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
CUT_OFF = "the session sent a truncated tar stream"


class HostileArchive(MooringError):
    """A session sent a tar stream that is invalid or unsafe to unpack."""

    def __init__(self, message: str) -> None:
        super().__init__(
            message, "nothing was copied; check the files in the session: mooring exec"
        )


@dataclass(frozen=True)
class Member:
    """One entry of the stream, as its headers describe it.

    Attributes:
        path: the components of its path, none of them `.` or `..`.
        kind: one of tarfile's types.
        mode: the permission bits.
        mtime_ns: modification time in nanoseconds since the epoch.
        size: bytes of content; 0 unless it is a file.
        link: the target of a link.
    """

    path: Path
    kind: bytes
    mode: int
    mtime_ns: int
    size: int
    link: str


def members(read: Read) -> Iterator[Member]:
    """Iterate over a tar stream; the caller must read each entry's content before the next.

    Args:
        read: returns the given number of bytes, fewer only at the end of the stream.

    Raises:
        HostileArchive: the stream is invalid, truncated or unsafe.
    """
    extra: dict[str, str] = {}
    extra_headers = 0
    while True:
        block = read(BLOCK)
        if len(block) < BLOCK:
            raise HostileArchive(CUT_OFF)
        if not block.strip(b"\0"):
            return
        try:
            entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            raise HostileArchive("the session did not send a tar stream") from None
        if entry.size < 0 or (entry.type == tarfile.GNUTYPE_SPARSE):
            raise HostileArchive(f"{shown(entry.name)}: sparse files cannot be copied")
        if entry.type in _EXTRA:
            extra_headers += 1
            if entry.size > MAX_HEADER_BYTES or extra_headers > MAX_EXTRA_HEADERS:
                raise HostileArchive("the session sent a tar header that is too large")
            extra.update(_EXTRA[entry.type](_content(read, entry.size)))
            continue
        yield _member(entry, extra)
        extra, extra_headers = {}, 0


def _member(entry: tarfile.TarInfo, extra: dict[str, str]) -> Member:
    """Combine an entry's header with the extended headers before it."""
    name = extra.get("path", entry.name)
    kind = entry.type
    if kind in (tarfile.AREGTYPE, tarfile.CONTTYPE):
        kind = tarfile.REGTYPE
    if kind == tarfile.REGTYPE and name.endswith("/"):
        kind = tarfile.DIRTYPE
    if any(key.startswith("GNU.sparse") for key in extra):
        raise HostileArchive(f"{shown(name)}: sparse files cannot be copied")
    try:
        size = int(extra.get("size", entry.size))
        seconds = float(extra.get("mtime", entry.mtime))
        mtime_ns = min(max(int(seconds * 10**9), 0), 2**62)
    except (ValueError, OverflowError):
        raise HostileArchive(f"{shown(name)}: its tar header is invalid") from None
    if size < 0:
        raise HostileArchive(f"{shown(name)}: its tar header is invalid")
    return Member(
        path=plain_path(name),
        kind=kind,
        mode=entry.mode & PLAIN_MODE,
        mtime_ns=mtime_ns,
        size=size if kind == tarfile.REGTYPE else 0,
        link=extra.get("linkpath", entry.linkname),
    )


def plain_path(name: str) -> Path:
    """The components of an entry's path.

    Raises:
        HostileArchive: it is absolute, contains `..` or NUL, or is deeper than `MAX_DEPTH`.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise HostileArchive(f"the session sent a path outside the copied folder: {shown(name)}")
    if len(parts) > MAX_DEPTH:
        raise HostileArchive(f"the session sent a path that is {len(parts)} folders deep")
    return parts


def shown(name: str) -> str:
    """Make an untrusted name printable, and at most 120 characters long, for a message."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 120 else f"{text[:60]}…{text[-59:]}"


class Unpacker:
    """Unpacks entries below an empty, private folder.

    Args:
        root: a file descriptor of the folder.
        place: maps an entry's path in the stream to its path below the folder.
        warn: called with a message for each entry that is left out.
        progress: called with the number of bytes of content received since the last call.
    """

    def __init__(
        self,
        root: int,
        *,
        place: Callable[[Path], Path],
        warn: Callable[[str], None],
        progress: Callable[[int], None],
    ) -> None:
        self._root, self._place, self._warn, self._progress = root, place, warn, progress
        self._entered: list[Member] = []

    def unpack(self, read: Read) -> None:
        """Unpack a stream to its end.

        Args:
            read: returns the given number of bytes, fewer only at the end of the stream.

        Raises:
            HostileArchive: the stream is invalid, truncated or unsafe.
            OSError: a file cannot be written, such as for lack of space or permission.
        """
        for member in members(read):
            path = self._place(member.path)
            self._close_folders(path)
            with self._folder_of(path) as (folder, name):
                content = _pieces(member.size, read)
                self._make(folder, name, replace(member, path=path), content)
        self._close_folders(None)

    def _make(self, folder: int, name: str, member: Member, content: Iterator[bytes]) -> None:
        if member.kind == tarfile.DIRTYPE:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            os.close(_opened(folder, name))
            if self._entered and self._entered[-1].path == member.path:
                self._entered.pop()  # of the entries of one folder the last counts
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
                raise HostileArchive(f"{shown(name)}: a symbolic link without a target")
            _clear(folder, name)
            os.symlink(member.link, name, dir_fd=folder)
            times = (member.mtime_ns, member.mtime_ns)
            os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)
        elif member.kind == tarfile.LNKTYPE:
            self._link(folder, name, member)
        else:
            what = _SPECIAL.get(member.kind, "a special file")
            self._warn(f"left out: {shown('/'.join(member.path[1:]) or name)} is {what}")

    def _link(self, folder: int, name: str, member: Member) -> None:
        """Create a hard link to a file that was unpacked before, and so is below the folder."""
        path = self._place(plain_path(member.link))
        if path == member.path:
            raise HostileArchive(f"{shown(name)}: a hard link to itself")
        with self._folder_of(path, make=False) as (there, target):
            try:
                info = os.stat(target, dir_fd=there, follow_symlinks=False)
            except FileNotFoundError:
                raise HostileArchive(
                    f"{shown(name)}: a hard link to a file that was not sent: {shown(member.link)}"
                ) from None
            if not stat.S_ISREG(info.st_mode):
                raise HostileArchive(f"{shown(name)}: a hard link to something other than a file")
            _clear(folder, name)
            os.link(target, name, src_dir_fd=there, dst_dir_fd=folder, follow_symlinks=False)

    @contextlib.contextmanager
    def _folder_of(self, path: Path, make: bool = True) -> Iterator[tuple[int, str]]:
        """Open an entry's parent folder without following links.

        Returns:
            Its file descriptor, and the entry's name in it.
        """
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

    def _close_folders(self, path: Path | None) -> None:
        """Set modes and times of the folders that do not contain `path`; of all if None."""
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
    """Open a folder in a folder; raises HostileArchive for a link or a file."""
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
            f"the session sent a path below a link or a file: {shown(name)}"
        ) from None


def _clear(folder: int, name: str) -> None:
    """Remove a file or link whose name occurs again; raises HostileArchive for a folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        raise HostileArchive(f"the session sent a folder and a file as {shown(name)}") from None


def _pieces(size: int, read: Read) -> Iterator[bytes]:
    """Yield a file's content in chunks, and discard the padding after it."""
    left = size
    while left:
        piece = read(min(left, CHUNK))
        if not piece:
            raise HostileArchive(CUT_OFF)
        left -= len(piece)
        yield piece
    read(-size % BLOCK)


def _content(read: Read, size: int) -> bytes:
    """The content of an extended header, without its padding."""
    content = read(size + -size % BLOCK)
    if len(content) < size:
        raise HostileArchive(CUT_OFF)
    return content[:size]


def _text(content: bytes) -> str:
    return content.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _pax(content: bytes) -> dict[str, str]:
    """The records of a pax(1) extended header, `LENGTH KEY=VALUE` lines."""
    records = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6:
            break
        line, content = content[: int(length)], content[max(int(length), 1) :]
        key, _, value = line[len(length) + 1 :].partition(b"=")
        records[_text(key)] = value[:-1].decode("utf-8", "surrogateescape")
    return records


_EXTRA: dict[bytes, Callable[[bytes], dict[str, str]]] = {
    tarfile.GNUTYPE_LONGNAME: lambda content: {"path": _text(content)},
    tarfile.GNUTYPE_LONGLINK: lambda content: {"linkpath": _text(content)},
    tarfile.XHDTYPE: _pax,
    tarfile.SOLARIS_XHDTYPE: _pax,
    tarfile.XGLTYPE: lambda content: {},
}
