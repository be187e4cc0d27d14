"""Source and target of a copy: parse and check their paths, and open the folders here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import re
import secrets
import stat
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from mooring.errors import MooringError
from mooring.files import pack
from mooring.files.unpack import FOLDER, shown
from mooring.host import trees

_REMOTE = re.compile(r"(?![./])([^:/]*):(.*)", re.DOTALL)
#: The end-of-archive blocks of a tar stream.
END = bytes(2 * tarfile.BLOCKSIZE)
#: The prefix of a draft folder's name.
DRAFT = ".mooring-cp-"
_DRAFT_AGE_S = 60.0  # a younger draft may not be locked yet


class CopyError(MooringError):
    """A copy failed, before or after a part of the files was copied."""


@dataclass(frozen=True)
class Place:
    """The source or target of a copy: a path in a session or on this machine.

    Attributes:
        session: the session's name; empty for this machine.
        path: as given; `-` on this machine means a tar stream on standard input or output.
    """

    session: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """Parse `NAME:PATH` or a path of this machine; `./a:b` is a local path with a colon.

        Raises:
            CopyError: the text is empty, is a local path with a NUL, or has no name before the
                colon.
        """
        remote = _REMOTE.fullmatch(text)
        if remote is None:
            if not text or "\0" in text:
                raise CopyError("the path is empty", "name a file or a folder")
            return cls("", text)
        name, path = remote.groups()
        if not name:
            raise CopyError(
                f"{shown(text)}: no session before the colon", f"for a local file write ./{text}"
            )
        return cls(name, path or ".")

    @property
    def is_stream(self) -> bool:
        return not self.session and self.path == "-"


@dataclass(frozen=True)
class SessionPath:
    """A normalized path of a session that no program mistakes for an option.

    Attributes:
        text: the path: absolute, beginning with `./`, or `.`.
        slash: the path must be a folder.
        contents: the path means the folder's content, not the folder itself.
    """

    text: str
    slash: bool
    contents: bool

    @classmethod
    def of(cls, text: str, home: str = "") -> SessionPath:
        """Parse a path.

        Args:
            text: the path as the user wrote it.
            home: replaces a leading `~`; empty to leave it.

        Raises:
            CopyError: it contains a NUL.
        """
        if "\0" in text:
            raise CopyError("a path cannot contain NUL")
        if home and (text == "~" or text.startswith("~/")):
            text = home + text[1:]
        bare = text.rstrip("/") or "/"
        contents = posixpath.basename(bare) in (".", "..", "")
        path = posixpath.normpath(text)
        if not path.startswith("/"):
            path = f"./{path}" if path != "." else "."
        return cls(path, slash=text.endswith(("/", "/.", "/..")), contents=contents)

    @property
    def name(self) -> str:
        """The last component of the path."""
        return posixpath.basename(self.text)

    @property
    def split(self) -> tuple[str, str]:
        """The path's parent folder, and its last component."""
        folder, _, name = self.text.rpartition("/")
        return (folder or ("/" if self.text.startswith("/") else "."), name)


def require_source(
    session: str, source: str, kind: str, path: SessionPath, is_folder: bool
) -> None:
    """Check that a path of a session can be copied.

    Args:
        session: the session's name.
        source: the path as the user wrote it.
        kind: missing, file, folder, link or special.
        path: the parsed source.
        is_folder: whether a folder is to be copied.

    Raises:
        CopyError: it cannot be copied.
    """
    if kind == "missing":
        raise CopyError(
            f"there is no {shown(source)} in session {session}",
            "relative paths start at its working directory",
        )
    if kind == "special":
        raise CopyError(f"{shown(source)} is a device, a pipe or a socket in the session")
    if path.slash and not is_folder:
        raise CopyError(f"{shown(source)} is not a folder in session {session}")


def require_target(
    source: str,
    is_folder: bool,
    target: str,
    path: SessionPath,
    *,
    exists: bool,
    has_parent: bool,
    how: str,
) -> None:
    """Check that a file or folder of this machine can be copied to a path of a session.

    Args:
        source: a path on this machine.
        is_folder: whether the source is a folder.
        target: a path of the session that is not an existing folder, as the user wrote it.
        path: the parsed target.
        exists: whether the target exists.
        has_parent: whether the target's parent folder exists.
        how: how to create a folder there, for the hint.

    Raises:
        CopyError: it cannot be copied there.
    """
    if path.slash:
        raise CopyError(
            f"{shown(target)} is not a folder in the session", f"create it first: {how}"
        )
    if is_folder and exists:
        raise CopyError(
            f"{shown(target)} is a file in the session, and {shown(source)} is a folder",
            "copy it into a folder",
        )
    if not has_parent:
        raise CopyError(
            f"the parent folder of {shown(target)} does not exist in the session",
            f"create it first: {how}",
        )


@contextlib.contextmanager
def open_target(
    source: str, target: str, path: SessionPath, is_folder: bool
) -> Iterator[tuple[int, str]]:
    """Context manager that opens the folder of a copy's target on this machine.

    Args:
        source: the path in the session, as the user wrote it.
        target: a path on this machine.
        path: the parsed source.
        is_folder: whether the source is a folder.

    Returns:
        A file descriptor of the folder, and the name in it; `.` merges into the folder itself.

    Raises:
        CopyError: the folder does not exist, the target is a file and the source a folder, or the
            body raised OSError.
    """
    if not os.path.isdir(target) and target.endswith("/"):
        raise CopyError(f"{shown(target)} is not a folder", "create it first")
    with as_copy_error(target, "check free space and permissions"):
        if os.path.isdir(target):
            above, name = _open_folder(target), "." if path.contents else path.name
        elif is_folder and os.path.lexists(target):
            raise CopyError(
                f"{shown(target)} is a file, and {shown(source)} is a folder",
                "copy it into a folder",
            )
        else:
            above, name = _open_parent(target)
        try:
            yield above, name
        finally:
            os.close(above)


@contextlib.contextmanager
def open_source(source: str, follow: bool) -> Iterator[tuple[int, str, bool, str, bool]]:
    """Context manager that opens the folder of a copy's source on this machine.

    Args:
        source: the path.
        follow: if it is a symbolic link, copy its target.

    Returns:
        A file descriptor of the folder, the source's name in it, whether the source is a folder,
        the last component of the path, and whether to copy the folder's content only.

    Raises:
        CopyError: the path does not exist, or is a special file.
    """
    path = os.path.realpath(source) if follow or source.endswith("/") else source
    last = posixpath.basename(source.rstrip("/") or "/")
    contents = last in (".", "..", "")
    with contextlib.ExitStack() as stack:
        try:
            if source.endswith("/") and not os.path.isdir(source):
                raise CopyError(f"{shown(source)} is not a folder", "omit the slash at the end")
            above, name = (_open_folder(path), ".") if contents else pack.opened(path)
            stack.callback(os.close, above)
            mode = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
        except OSError as error:
            raise CopyError(f"{shown(source)}: {error.strerror}", "correct the path") from None
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise CopyError(f"{shown(source)} is a device, a pipe or a socket")
        yield above, name, stat.S_ISDIR(mode), last, contents


@contextlib.contextmanager
def as_copy_error(path: str, hint: str) -> Iterator[None]:
    """Context manager that converts OSError to CopyError with the file's name.

    Args:
        path: the name to use if the error has no file name.
        hint: the hint of the CopyError.
    """
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else path
        raise CopyError(f"{shown(name)}: {error.strerror or error}", hint) from None


@contextlib.contextmanager
def draft_folder(above: int) -> Iterator[int]:
    """Context manager that creates a private folder beside the target, and removes it on exit.

    The draft folder is locked while it is in use. A draft that a killed copy left behind is not
    locked, and a later copy into the same folder removes it.

    Args:
        above: a file descriptor of the target's folder.

    Returns:
        A file descriptor of the draft folder.

    Raises:
        CopyError: it cannot be created.
    """
    with contextlib.suppress(OSError):
        _sweep(above)
    name = f"{DRAFT}{secrets.token_hex(4)}"
    try:
        os.mkdir(name, 0o700, dir_fd=above)
    except OSError as error:
        raise CopyError(
            f"cannot write to the target: {error.strerror}", "use another target"
        ) from None
    try:
        draft = os.open(name, FOLDER, dir_fd=above)
        try:
            fcntl.flock(draft, fcntl.LOCK_EX)
            yield draft
        finally:
            os.close(draft)
    finally:
        with contextlib.suppress(OSError):  # a later copy into this folder removes it
            trees.remove(above, name)


def _sweep(above: int) -> None:
    """Delete this user's draft folders that are not in use."""
    for name in os.listdir(above):
        if not name.startswith(DRAFT):
            continue
        with contextlib.suppress(OSError):  # another user's, or in use
            draft = os.open(name, FOLDER, dir_fd=above)
            try:
                info = os.fstat(draft)
                if info.st_uid == os.getuid() and time.time() - info.st_mtime > _DRAFT_AGE_S:
                    fcntl.flock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    trees.remove(above, name)
            finally:
                os.close(draft)


def _open_folder(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _open_parent(target: str) -> tuple[int, str]:
    """Open the parent folder of a target after resolving links.

    Returns:
        Its file descriptor, and the target's name in it.
    """
    try:
        return pack.opened(os.path.realpath(target))
    except OSError as error:
        raise CopyError(
            f"the parent folder of {shown(target)}: {error.strerror}", "create it first"
        ) from None


def exists(folder: int, name: str) -> bool:
    """Whether a folder has an entry of that name, which may be a broken link."""
    with contextlib.suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def is_text(word: str) -> bool:
    """Whether a file name can be encoded in UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def last_line(text: str) -> str:
    """The last line of a program's error output, for an error message."""
    lines = text.strip().splitlines()
    return shown(lines[-1]) if lines else "no reason given"
