"""Folder trees that a session may have written: walk, copy and delete them.

Such a tree may be deeper than Python's stack, than a path may be long and than there are file
descriptors, its folders may be closed to their owner, and a process may rename anything in it at
any time. So everything here is a loop, works relative to a bounded number of file descriptors, and
follows no link.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN_MODE = 0o777
# How many folders of a way down stay open
_MOST_OPEN = 32
_CHUNK = 1 << 24
_MOST_IDLE = 20


class Cursor:
    """A folder in a tree, and the way back to where it began; a context manager.

    Args:
        folder: a file descriptor of the folder where it begins, which it does not close.
    """

    def __init__(self, folder: int) -> None:
        self._folder = os.dup(folder)
        self._above: list[int | None] = []  # the folders on the way, of which the last stay open
        self._identities = [_identity(folder)]

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (*self._above, self._folder):
            if descriptor is not None:
                os.close(descriptor)
        self._above, self._folder = [], -1

    @property
    def folder(self) -> int:
        """A file descriptor of the folder, valid until the next move."""
        return self._folder

    def names(self) -> list[str]:
        """Return the names in the folder. Raises OSError."""
        return os.listdir(self.folder)

    def down(self, name: str) -> None:
        """Move to a folder in the folder; on an error stay.

        Raises:
            OSError: it is missing, not a folder, or may not be read.
        """
        below = os.open(name, FOLDER, dir_fd=self.folder)
        self._above.append(self._folder)
        self._folder = below
        self._identities.append(_identity(below))
        oldest = len(self._above) - _MOST_OPEN
        if oldest > 0:  # the first one stays open: ".." need not lead to it
            descriptor, self._above[oldest] = self._above[oldest], None
            if descriptor is not None:
                os.close(descriptor)

    def up(self) -> None:
        """Move back to the folder above.

        Raises:
            OSError: the folder was moved elsewhere meanwhile (ESTALE), or the one above is closed.
        """
        above = self._above[-1]
        if above is None:
            above = self._above[-1] = os.open("..", FOLDER, dir_fd=self._folder)
        if _identity(above) != self._identities[-2]:
            raise OSError(errno.ESTALE, "a folder was moved while it was read")
        os.close(self._folder)
        self._folder = above
        self._above.pop()
        self._identities.pop()


def copy_path(source: Path, target: Path) -> None:
    """Copy what a path names, as ``copy``; links in the paths of both parents are followed.

    Raises:
        OSError
    """
    with _parent_of(source) as above, _parent_of(target) as into:
        copy(above, source.name, into, target.name)


@contextlib.contextmanager
def _parent_of(path: Path) -> Iterator[int]:
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy(above: int, name: str, into: int, target: str) -> None:
    """Copy a file, a link or a folder recursively, with permission bits and modification times.

    Args:
        above: a file descriptor of its parent folder.
        name: its name there.
        into: a file descriptor of the target's parent folder.
        target: a name there that does not exist.

    Raises:
        OSError: a file cannot be read or written, or is a device, a pipe or a socket; ``filename``
            is its path from the parent folder. What was copied before remains.
    """
    names: list[str] = []
    pending: list[Iterator[tuple[str, str]]] = [iter([(name, target)])]
    with Cursor(above) as here, Cursor(into) as there:
        while pending:
            pair = next(pending[-1], None)
            try:
                if pair is not None:
                    names.append(pair[0])
                    if _copy_entry(here, pair[0], there, pair[1]):
                        pending.append((each, each) for each in here.names())
                        continue
                else:
                    pending.pop()
                    if pending:
                        _copy_status(os.fstat(here.folder), there.folder)
                        here.up()
                        there.up()
            except OSError as error:
                raise OSError(error.errno, error.strerror, "/".join(names)) from error
            if pending:
                names.pop()


def _copy_entry(here: Cursor, name: str, there: Cursor, target: str) -> bool:
    """Copy a file or a link; for a folder create one, move to both, and return True."""
    info = os.stat(name, dir_fd=here.folder, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        os.mkdir(target, 0o700, dir_fd=there.folder)
        here.down(name)
        there.down(target)
        return True
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(name, dir_fd=here.folder), target, dir_fd=there.folder)
    elif stat.S_ISREG(info.st_mode):
        _copy_file(here.folder, name, there.folder, target)
    else:
        raise OSError(errno.EINVAL, "it is a device, a pipe or a socket")
    return False


def _copy_file(above: int, name: str, into: int, target: str) -> None:
    source = os.open(name, _FILE, dir_fd=above)
    try:
        info = os.fstat(source)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it was replaced while it was copied")
        copied = os.open(target, _NEW, 0o600, dir_fd=into)
        try:
            while os.sendfile(copied, source, None, _CHUNK):
                pass
            _copy_status(info, copied)
        finally:
            os.close(copied)
    finally:
        os.close(source)


def _copy_status(info: os.stat_result, descriptor: int) -> None:
    os.fchmod(descriptor, info.st_mode & _PLAIN_MODE)
    os.utime(descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))


def remove_path(path: Path) -> None:
    """Delete what a path names, as ``remove``; links in the path of its parent are followed.

    Raises:
        OSError
    """
    with _parent_of(path) as above:
        remove(above, path.name)


def remove(above: int, name: str, *, timeout_s: float = math.inf) -> None:
    """Delete a file, a link, or a folder recursively, even if its folders are closed to the owner.

    After an error it goes on, so that only what cannot be deleted remains.

    Args:
        above: a file descriptor of its parent folder.
        name: its name there, which need not exist.
        timeout_s: gives up after that many seconds, for a folder in which a process may create
            files as fast as they are deleted.

    Raises:
        OSError: the first error.
    """
    try:
        os.unlink(name, dir_fd=above)
        return
    except FileNotFoundError:
        return
    except OSError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise
    folder = opened(above, name)
    try:
        failure = _Removal(folder, time.monotonic() + timeout_s).run()
    finally:
        os.close(folder)
    if failure is not None:
        raise failure
    with contextlib.suppress(FileNotFoundError):  # another process deletes it too
        os.rmdir(name, dir_fd=above)


def opened(above: int, name: str) -> int:
    """Open a folder after giving its owner all rights to it, if that is the caller.

    Returns:
        A file descriptor.

    Raises:
        OSError: it is not a folder, or belongs to another user who does not let the caller in.
    """
    # pinned first: a link could take its name, and chmod would follow it
    pin = os.open(name, os.O_PATH | FOLDER, dir_fd=above)
    try:
        info = os.fstat(pin)
        if ~info.st_mode & stat.S_IRWXU and info.st_uid == os.geteuid():
            mode = stat.S_IMODE(info.st_mode) | stat.S_IRWXU
            os.chmod(f"/proc/self/fd/{pin}", mode)
        return os.open(".", FOLDER, dir_fd=pin)
    finally:
        os.close(pin)


class _Removal:
    """Empties a folder with two file descriptors, however deep its tree is.

    A folder in it that is not empty is emptied in turn: files are deleted, and folders moved up
    into the first one, where the next pass finds them.

    Args:
        top: a file descriptor of the folder.
        deadline: when to give up, in seconds of the monotonic clock.
    """

    def __init__(self, top: int, deadline: float) -> None:
        self._top, self._deadline = top, deadline
        self._mark, self._numbers = secrets.token_hex(8), itertools.count()
        self._failure: OSError | None = None
        self._progress = False

    def run(self) -> OSError | None:
        """Delete what can be deleted, and return the first error of the last pass."""
        idle = 0  # passes in a row whose files another process was faster to delete
        while idle < _MOST_IDLE:
            found, failure = self._pass()
            if not found:
                return None
            if failure is not None and not self._progress:
                return failure
            idle = 0 if self._progress else idle + 1
        return OSError(errno.ENOTEMPTY, "what it lists cannot be deleted")

    def _pass(self) -> tuple[bool, OSError | None]:
        """Return whether there was an entry, and the first error."""
        self._failure, self._progress = None, False
        found = False
        with os.scandir(self._top) as entries:
            for entry in entries:
                found = True
                with self._attempt():
                    if not self._removed(self._top, entry):
                        self._empty(entry.name)
        return found, self._failure

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[None]:
        """Go on after an error; no error if an entry is gone already."""
        if time.monotonic() > self._deadline:
            raise TimeoutError(errno.ETIMEDOUT, "files are created as fast as they are deleted")
        try:
            yield
            self._progress = True
        except FileNotFoundError:
            pass
        except TimeoutError:
            raise
        except OSError as error:
            self._failure = self._failure or error

    def _removed(self, folder: int, entry: os.DirEntry[str]) -> bool:
        """Delete a file or an empty folder; return False for one that is not empty."""
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=folder)
            return True
        try:
            os.rmdir(entry.name, dir_fd=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return False
        return True

    def _empty(self, name: str) -> None:
        """Empty a folder in the first one, and delete it; raise OSError if nothing was done."""
        folder = opened(self._top, name)
        before, self._progress = self._progress, False
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    with self._attempt():
                        if not self._removed(folder, entry):
                            self._move_up(folder, entry.name)
            done, self._progress = self._progress, before or self._progress
        finally:
            os.close(folder)
        try:
            os.rmdir(name, dir_fd=self._top)
        except OSError as error:
            self._failure = self._failure or error
            if not done:
                raise

    def _move_up(self, folder: int, name: str) -> None:
        os.close(opened(folder, name))  # a folder that its owner cannot write to cannot be moved
        fresh = f".{self._mark}.{next(self._numbers)}"
        os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=self._top)


def _identity(descriptor: int) -> tuple[int, int]:
    info = os.fstat(descriptor)
    return info.st_dev, info.st_ino
