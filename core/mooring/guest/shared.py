"""A run folder on this machine that its container can write to as well.

Processes in the session can replace any file in it with a link, a FIFO or a folder at any time.
Therefore links are not followed, only regular files are read, and reads are limited.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from mooring.host import boot, trees

MAX_BYTES = 64 << 10
MAX_ENTRIES = 1000
# A session that still runs may create files as fast as they are deleted
REMOVE_TIMEOUT_S = 10.0

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SharedGuest:
    """The ``Guest`` of a session whose container runs on this machine.

    Args:
        root: the path of the run folder on this machine.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"SharedGuest({str(self.root)!r})"

    @contextlib.contextmanager
    def _above(self, name: str) -> Iterator[tuple[int, str]]:
        """Open the parent folder of a name without following links.

        Returns:
            Its file descriptor, and the last component of the name.
        """
        *folders, last = name.split("/")
        here = os.open(self.root, _FOLDER)
        try:
            for folder in folders:
                below = os.open(folder, _FOLDER, dir_fd=here)
                os.close(here)
                here = below
            yield here, last
        finally:
            os.close(here)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """Context manager that opens a regular file for reading, and returns its file descriptor.

        Raises:
            OSError: the file does not exist, or is not a regular file.
        """
        with self._above(name) as (folder, last):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(last, flags, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", name)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def expose(self, names: list[str]) -> Iterator[list[str]]:
        """See ``Guest.expose``; the paths are those of open file descriptors in /proc/self/fd."""
        with contextlib.ExitStack() as stack:
            paths = []
            for name in names:
                with self._above(name) as (folder, last):
                    pin = os.open(last, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                stack.callback(os.close, pin)
                if not stat.S_ISSOCK(os.fstat(pin).st_mode):
                    raise OSError(errno.ENOTSOCK, "not a socket", name)
                paths.append(f"/proc/self/fd/{pin}")
            yield paths

    def pin(self, names: list[str]) -> None:
        """See ``Guest.pin``; the paths are hard links in the folder that has the run folder."""
        with self.expose(names) as paths:
            for name, path in zip(names, paths, strict=True):
                link = self.root.parent / name
                link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                # with a folder's descriptor, even an unused one, link(2) follows the path in /proc
                above = os.open(link.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.link(path, link, src_dir_fd=above, follow_symlinks=True)
                finally:
                    os.close(above)

    def listen(self, name: str) -> socket.socket:
        """See ``Guest.listen``."""
        listening = socket.socket(socket.AF_UNIX)
        try:
            with self._above(name) as (folder, last):
                # bind(2) creates the file itself, and follows no link in its last component
                listening.bind(f"/proc/self/fd/{folder}/{last}")
            listening.listen()
        except BaseException:
            listening.close()
            raise
        return listening

    def socket_path(self, name: str) -> str:
        """See ``Guest.socket_path``."""
        return str(self.root.parent / name)

    def unpin(self, folder: str) -> None:
        """See ``Guest.unpin``."""
        with contextlib.suppress(OSError):
            trees.remove_path(self.root.parent / folder)

    def path(self, name: str) -> str:
        """See ``Guest.path``."""
        return str(self.root / name)

    def read(self, name: str, *, tail: bool = False) -> str:
        """See ``Guest.read``."""
        with self.opened(name) as descriptor:
            size = os.fstat(descriptor).st_size
            data = os.pread(descriptor, MAX_BYTES, max(0, size - MAX_BYTES) if tail else 0)
        return data.decode(errors="replace")

    def read_bytes(self, name: str, limit: int) -> bytes:
        """See ``Guest.read_bytes``."""
        with self.opened(name) as descriptor:
            return os.pread(descriptor, limit, 0)

    def text(self, name: str) -> str:
        """See ``Guest.text``."""
        try:
            return self.read(name).strip()
        except OSError:
            return ""

    def write(self, name: str, content: str | bytes) -> None:
        """See ``Guest.write``."""
        with self._above(name) as (folder, last):
            draft = f".{last}.{secrets.token_hex(4)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(draft, flags, 0o600, dir_fd=folder), "wb") as file:
                    file.write(content.encode() if isinstance(content, str) else content)
                try:
                    os.replace(draft, last, src_dir_fd=folder, dst_dir_fd=folder)
                except IsADirectoryError:
                    trees.remove(folder, last, timeout_s=REMOVE_TIMEOUT_S)
                    os.replace(draft, last, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(draft, dir_fd=folder)
                raise

    def create(self, name: str) -> None:
        """See ``Guest.create``."""
        with self._above(name) as (folder, last):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(last, flags, 0o600, dir_fd=folder))

    def make_folder(self, name: str) -> None:
        """See ``Guest.make_folder``."""
        with self._above(name) as (folder, last), contextlib.suppress(FileExistsError):
            os.mkdir(last, 0o700, dir_fd=folder)

    def remove(self, name: str) -> None:
        """See ``Guest.remove``."""
        with contextlib.suppress(FileNotFoundError), self._above(name) as (folder, last):
            trees.remove(folder, last, timeout_s=REMOVE_TIMEOUT_S)

    def remove_folder(self, name: str) -> None:
        """See ``Guest.remove_folder``."""
        with contextlib.suppress(OSError), self._above(name) as (folder, last):
            trees.remove(folder, last, timeout_s=REMOVE_TIMEOUT_S)

    def gone(self) -> bool:
        """See ``Guest.gone``."""
        return not self.root.exists()

    def exists(self, name: str) -> bool:
        """See ``Guest.exists``."""
        try:
            with self._above(name) as (folder, last):
                os.stat(last, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        return True

    def modified_at(self, name: str) -> float:
        """See ``Guest.modified_at``."""
        try:
            with self.opened(name) as descriptor:
                return os.fstat(descriptor).st_mtime
        except OSError:
            return 0.0

    def names(self, folder: str) -> list[str]:
        """See ``Guest.names``."""
        try:
            with self._above(f"{folder}/") as (descriptor, _), os.scandir(descriptor) as entries:
                return sorted(entry.name for entry in itertools.islice(entries, MAX_ENTRIES))
        except OSError:
            return []

    def uptime(self) -> float:
        """See ``Guest.uptime``."""
        return boot.uptime()
