"""The two sides of a copy: how a path is written, and what this machine's side of it needs."""

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
from mooring.files.merge import removed
from mooring.files.unpack import FOLDER, shown

_REMOTE = re.compile(r"(?![./])([^:/]*):(.*)", re.DOTALL)
END = bytes(2 * tarfile.BLOCKSIZE)


DRAFT = ".mooring-cp-"
_DRAFT_AGE_S = 60.0  # a younger one may be about to be locked


class CopyError(MooringError):
    """Nothing was copied, or not all of it."""


@dataclass(frozen=True)
class Place:
    """One side of a copy: a path, in a session or on this machine.

    Attributes:
        session: its name; empty on this machine.
        path: as given; ``-`` on this machine is a tar stream.
    """

    session: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """``NAME:PATH``, or a path of this machine; ``./a:b`` is one with a colon in its name.

        Raises:
            CopyError: there is nothing before or after the colon.
        """
        remote = _REMOTE.fullmatch(text)
        if remote is None:
            if not text or "\0" in text:
                raise CopyError("an empty path names nothing", "name a file or a folder")
            return cls("", text)
        name, path = remote.groups()
        if not name:
            raise CopyError(f"{shown(text)}: no session before the colon", f"write ./{text}")
        return cls(name, path or ".")

    @property
    def is_stream(self) -> bool:
        return not self.session and self.path == "-"


@dataclass(frozen=True)
class Inside:
    """A path of a session, so written that no program takes it for an option."""

    path: str
    slash: bool  # it has to be a folder
    contents: bool  # what is in it is meant, not itself

    @classmethod
    def of(cls, text: str, home: str = "") -> Inside:
        """As it was written.

        Args:
            home: what a leading ``~`` stands for.

        Raises:
            CopyError: it is no path.
        """
        if "\0" in text:
            raise CopyError("a path holds no NUL")
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
        return posixpath.basename(self.path)

    @property
    def split(self) -> tuple[str, str]:
        folder, _, name = self.path.rpartition("/")
        return (folder or ("/" if self.path.startswith("/") else "."), name)


def must_be_there(session: str, source: str, kind: str, inside: Inside, is_folder: bool) -> None:
    """Raise CopyError unless a path of a session can be copied.

    Args:
        kind: what it is: missing, file, folder, link or special.
    """
    if kind == "missing":
        raise CopyError(
            f"there is no {shown(source)} in session {session}",
            "relative paths start at its working directory",
        )
    if kind == "special":
        raise CopyError(f"{shown(source)} is a device, a pipe or a socket of the session")
    if inside.slash and not is_folder:
        raise CopyError(f"{shown(source)} is no folder of session {session}")


def must_fit(
    source: str,
    is_folder: bool,
    target: str,
    inside: Inside,
    *,
    exists: bool,
    has_parent: bool,
    how: str,
) -> None:
    """Raise CopyError unless something of this machine can become a path of a session.

    Args:
        target: a path of the session where no folder is; ``exists``: but something else.
        has_parent: its folder is there.
        how: a folder can be made there.
    """
    if inside.slash:
        raise CopyError(f"{shown(target)} is no folder of the session", f"make it first: {how}")
    if is_folder and exists:
        raise CopyError(
            f"{shown(target)} is a file there, and {shown(source)} is a folder",
            "copy it into a folder",
        )
    if not has_parent:
        raise CopyError(
            f"the folder of {shown(target)} is not there in the session", f"make it first: {how}"
        )


@contextlib.contextmanager
def landing(source: str, target: str, inside: Inside, is_folder: bool) -> Iterator[tuple[int, str]]:
    """Where what comes out of a session goes: a folder of this machine, and the name in it.

    Raises:
        CopyError: there is no such place; or this machine's files refuse what is done there.
    """
    if not os.path.isdir(target) and target.endswith("/"):
        raise CopyError(f"{shown(target)} is no folder", "make it first")
    with told_plainly(target, "is there space, and may you read and write there?"):
        if os.path.isdir(target):
            above, name = _folder(target), "." if inside.contents else inside.name
        elif is_folder and os.path.lexists(target):
            raise CopyError(
                f"{shown(target)} is a file, and {shown(source)} is a folder",
                "copy it into a folder",
            )
        else:
            above, name = _parent(target)
        try:
            yield above, name
        finally:
            os.close(above)


@contextlib.contextmanager
def local(source: str, follow: bool) -> Iterator[tuple[int, str, bool, str, bool]]:
    """What to send: folder, name in it, whether it is a folder, its name, whether its contents."""
    path = os.path.realpath(source) if follow or source.endswith("/") else source
    last = posixpath.basename(source.rstrip("/") or "/")
    contents = last in (".", "..", "")
    try:
        if source.endswith("/") and not os.path.isdir(source):
            raise CopyError(f"{shown(source)} is no folder", "leave the slash out")
        above, name = (_folder(path), ".") if contents else pack.opened(path)
    except OSError as error:
        raise CopyError(f"{shown(source)}: {error.strerror}", "correct the path") from None
    try:
        try:
            found = os.stat(name, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            raise CopyError(f"{shown(source)}: {error.strerror}", "correct the path") from None
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)) and not stat.S_ISLNK(
            found.st_mode
        ):
            raise CopyError(f"{shown(source)} is a device, a pipe or a socket")
        yield above, name, stat.S_ISDIR(found.st_mode), last, contents
    finally:
        os.close(above)


@contextlib.contextmanager
def told_plainly(path: str, hint: str) -> Iterator[None]:
    """What this machine's files refuse is no fault of mooring's: an error with their name.

    Args:
        path: named where the system names none.
    """
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else path
        raise CopyError(f"{shown(name)}: {error.strerror or error}", hint) from None


@contextlib.contextmanager
def drafted(above: int) -> Iterator[int]:
    """A private folder beside what it becomes; gone at the end, or with the next copy to there.

    It is locked while it is used: what a copy that was killed has left, nobody holds.
    """
    with contextlib.suppress(OSError):
        _sweep(above)
    name = f"{DRAFT}{secrets.token_hex(4)}"
    try:
        os.mkdir(name, 0o700, dir_fd=above)
    except OSError as error:
        raise CopyError(f"cannot write there: {error.strerror}", "name another target") from None
    try:
        draft = os.open(name, FOLDER, dir_fd=above)
        try:
            fcntl.flock(draft, fcntl.LOCK_EX)
            yield draft
        finally:
            os.close(draft)
    finally:
        with contextlib.suppress(OSError):  # it goes with the next copy to there
            removed(above, name)


def _sweep(above: int) -> None:
    """Delete this user's drafts in a folder that nobody uses any more."""
    for name in os.listdir(above):
        if not name.startswith(DRAFT):
            continue
        with contextlib.suppress(OSError):  # somebody else's, or in use
            draft = os.open(name, FOLDER, dir_fd=above)
            try:
                found = os.fstat(draft)
                if found.st_uid == os.getuid() and time.time() - found.st_mtime > _DRAFT_AGE_S:
                    fcntl.flock(draft, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    removed(above, name)
            finally:
                os.close(draft)


def _folder(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _parent(target: str) -> tuple[int, str]:
    """The folder of a target; where it is a link, of what that leads to."""
    try:
        return pack.opened(os.path.realpath(target))
    except OSError as error:
        raise CopyError(
            f"the folder of {shown(target)}: {error.strerror}", "make it first"
        ) from None


def exists(folder: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return shown(lines[-1]) if lines else "it did not say why"
