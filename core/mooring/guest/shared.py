"""Files where the container can write too.

What runs in a session may turn any name in its run directory into a link, a pipe or a folder, at
any moment. So a name is never followed out of the directory, only regular files are read, and no
more of them than a bound.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 64 << 10
MAX_ENTRIES = 1000

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def _above(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """The folder of ``root/name`` as a descriptor that no link led to, and the name in it."""
    *folders, last = name.split("/")
    here = os.open(root, _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here, last
    finally:
        os.close(here)


@contextlib.contextmanager
def opened(root: Path, name: str) -> Iterator[int]:
    """A regular file, for reading, as a descriptor.

    Raises:
        OSError: there is none, or it is something else.
    """
    with _above(root, name) as (folder, last):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(last, flags, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def pinned_sockets(root: Path, names: list[str]) -> Iterator[list[str]]:
    """Sockets, by paths that lead to these very ones whatever becomes of their names.

    Raises:
        OSError: there is none of a name, or it is something else.
    """
    with contextlib.ExitStack() as stack:
        paths = []
        for name in names:
            with _above(root, name) as (folder, last):
                pin = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, pin)
            if not stat.S_ISSOCK(os.fstat(pin).st_mode):
                raise OSError(errno.ENOTSOCK, "not a socket", name)
            paths.append(f"/proc/self/fd/{pin}")
        yield paths


def read(root: Path, name: str, *, tail: bool = False) -> str:
    """A file's text, ``MAX_BYTES`` of it at most; what is no UTF-8 is replaced.

    Args:
        tail: the last bytes of a longer file, not the first.

    Raises:
        OSError: there is none, or it is something else.
    """
    with opened(root, name) as descriptor:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, MAX_BYTES, max(0, size - MAX_BYTES) if tail else 0)
    return data.decode(errors="replace")


def text(root: Path, name: str) -> str:
    """A file's text without the space around it; empty where ``read`` would raise."""
    try:
        return read(root, name).strip()
    except OSError:
        return ""


def write(root: Path, name: str, content: str) -> None:
    """Replace a file whole, with mode 0600: a reader sees the old text or the new one.

    Raises:
        OSError
    """
    with _above(root, name) as (folder, last):
        draft = f".{last}.{secrets.token_hex(4)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(draft, flags, 0o600, dir_fd=folder), "w") as file:
                file.write(content)
            os.replace(draft, last, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise


def create(root: Path, name: str) -> None:
    """Make an empty file. Raises FileExistsError if the name is taken, and OSError."""
    with _above(root, name) as (folder, last):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(last, flags, 0o600, dir_fd=folder))


def make_folder(root: Path, name: str) -> None:
    """Make a folder with mode 0700; one that is there will do. Raises OSError."""
    with _above(root, name) as (folder, last), contextlib.suppress(FileExistsError):
        os.mkdir(last, 0o700, dir_fd=folder)


def remove(root: Path, name: str) -> None:
    """Delete a name that is no folder; there may be none. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), _above(root, name) as (folder, last):
        os.unlink(last, dir_fd=folder)


def remove_folder(root: Path, name: str) -> None:
    """Delete a folder with all that is in it; what cannot be deleted stays, as does a link."""
    with contextlib.suppress(OSError), _above(root, name) as (folder, last):
        shutil.rmtree(f"/proc/self/fd/{folder}/{last}", ignore_errors=True)


def exists(root: Path, name: str) -> bool:
    """Whether there is anything of that name, wherever it leads."""
    try:
        with _above(root, name) as (folder, last):
            os.stat(last, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def modified_at(root: Path, name: str) -> float:
    """When a file was last written to, in seconds since the epoch; 0 for none."""
    try:
        with opened(root, name) as descriptor:
            return os.fstat(descriptor).st_mtime
    except OSError:
        return 0.0


def entries(root: Path, name: str) -> list[str]:
    """The names in a folder, sorted, ``MAX_ENTRIES`` at most; none where there is no folder."""
    try:
        with _above(root, f"{name}/") as (folder, _):
            return sorted(os.listdir(folder))[:MAX_ENTRIES]
    except OSError:
        return []
