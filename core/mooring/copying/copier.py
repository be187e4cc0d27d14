"""Files and folders, copied between this machine and a session: ``docker cp``'s rules.

They go through processes that run in the session as its user, tar where the image has it, and
never through the engine's archives, which read and write as root and follow links.
"""

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, BinaryIO

from mooring.copying import packing, plain
from mooring.copying.merging import place, removed
from mooring.copying.streams import CHUNK, Pipe
from mooring.copying.unpacking import FOLDER, HostileArchive, Path, Unpacker, shown
from mooring.errors import MooringError

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.session import Session

Told = Callable[[str], None]
Progress = Callable[[int], None]

_REMOTE = re.compile(r"(?![./])([^:/]*):(.*)", re.DOTALL)
_END = bytes(2 * tarfile.BLOCKSIZE)


_DRAFT = ".mooring-cp-"
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
class Looked:
    """What is at a path of a session.

    Attributes:
        kind: missing, file, folder, link or special.
        where: what a link leads to in the end, else as ``kind``.
        parent: its folder is there.
        tar: the image has one.
    """

    kind: str
    where: str
    parent: bool
    tar: bool


class Copier:
    """Copies between this machine and one session.

    Args:
        told: called with a line for each file that is left out, or could not be read.
        progress: called with how many bytes of content have passed.
    """

    def __init__(
        self,
        mooring: Mooring,
        session: Session,
        *,
        told: Told = lambda line: None,
        progress: Progress = lambda count: None,
    ) -> None:
        self._mooring, self._session = mooring, session
        self._told, self._progress = told, progress
        self._script = (resources.files("mooring") / "guest" / "copy.sh").read_text()

    # out of the session

    def fetch(self, source: str, target: str, *, follow: bool = False) -> bool:
        """Copy a path of the session to this machine.

        Args:
            target: a path; what is there already is replaced, folders are merged.
            follow: if the source is a link, copy what it leads to.

        Returns:
            False if something could not be read, or was left out; ``told`` was told.

        Raises:
            CopyError, HostileArchive: nothing was copied.
            EngineError
        """
        inside = _Inside.of(source)
        looked = self._look(inside.path)
        is_folder = looked.kind == "folder" or (
            looked.where == "folder" and (follow or inside.slash)
        )
        self._must_be_there(source, looked, inside, is_folder)
        if not os.path.isdir(target) and target.endswith("/"):
            raise CopyError(f"{shown(target)} is no folder", "make it first")
        with _told_plainly(target, "is there space, and may you read and write there?"):
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
                return self._fetch_to(above, name, inside, looked, is_folder, follow)
            finally:
                os.close(above)

    def _fetch_to(
        self, above: int, name: str, inside: _Inside, looked: Looked, is_folder: bool, follow: bool
    ) -> bool:
        clean = True

        def told(line: str) -> None:
            nonlocal clean
            clean = False
            self._told(line)

        with _draft(above) as draft:
            if not looked.tar:
                plain.fetch(
                    self._run, draft, inside.path, is_folder, told=told, progress=self._progress
                )
            else:
                folder, entry = (inside.path, ".") if is_folder else inside.split
                expected = () if is_folder else (entry,)

                def below(path: Path) -> Path:
                    if path[: len(expected)] != expected or (expected and path != expected):
                        raise HostileArchive(
                            f"the session sent what nobody asked for: {shown('/'.join(path))}"
                        )
                    return ("x", *path[len(expected) :])

                # a folder is packed from within, and is so wherever a link led
                mode = "follow" if follow and not is_folder else "pack"
                with self._run(mode, folder, entry) as pipe:
                    unpacker = Unpacker(draft, place=below, told=told, progress=self._progress)
                    unpacker.unpack(pipe.exactly)
                    if pipe.finish():
                        told(pipe.complaint or "tar could not read everything")
            if not _exists(draft, "x"):
                raise CopyError(f"{shown(inside.path)}: nothing came that may be copied")
            place(draft, "x", above, name)
        return clean

    def fetch_tar(self, source: str, out: BinaryIO, *, follow: bool = False) -> bool:
        """Write a path of the session as a tar stream, as it comes.

        Returns:
            False if something could not be read.

        Raises:
            CopyError: there is no such path, or no tar in the image.
        """
        inside = _Inside.of(source)
        looked = self._look(inside.path)
        self._must_be_there(source, looked, inside, looked.where == "folder")
        if not looked.tar:
            raise CopyError("the image has no tar, and so cannot make a stream", "copy to a path")
        folder, entry = (inside.path, ".") if inside.contents else inside.split
        with self._run("follow" if follow else "pack", folder, entry) as pipe:
            while data := pipe.read(CHUNK):
                out.write(data)
                self._progress(len(data))
            out.flush()
            if pipe.finish() == 0:
                return True
            self._told(pipe.complaint or "tar could not read everything")
            return False

    # into the session

    def send(self, source: str, target: str, *, follow: bool = False) -> bool:
        """Copy a path of this machine into the session.

        Args, Returns, Raises: as ``fetch``.
        """
        clean = True

        def told(line: str) -> None:
            nonlocal clean
            clean = False
            self._told(line)

        with (
            _told_plainly(source, "is it still there, and may you read it?"),
            _local(source, follow) as (above, name, is_folder, base, contents),
        ):
            inside = _Inside.of(target)
            looked = self._look(inside.path)
            if looked.where == "folder":
                folder, final = inside.path, "." if contents else base
            else:
                if inside.slash:
                    raise CopyError(
                        f"{shown(target)} is no folder of the session",
                        f"make it first: mooring exec {self._session.name} -- mkdir {target}",
                    )
                if is_folder and looked.kind != "missing":
                    raise CopyError(
                        f"{shown(target)} is a file there, and {shown(source)} is a folder",
                        "copy it into a folder",
                    )
                if not looked.parent:
                    raise CopyError(
                        f"the folder of {shown(target)} is not there in the session",
                        f"make it first: mooring exec {self._session.name} -- mkdir -p …",
                    )
                folder, final = inside.split
            draft = f"{_DRAFT}{secrets.token_hex(4)}"
            if looked.tar:
                self._send_tar(above, name, (folder, draft, final), told, looked)
            else:
                plain.send(
                    self._run,
                    above,
                    name,
                    (folder, draft, final),
                    told=told,
                    progress=self._progress,
                )
        return clean

    def _send_tar(
        self, above: int, name: str, where: Sequence[str], told: Told, looked: Looked
    ) -> None:
        with self._run("unpack", *where) as pipe:
            chunks = packing.pack(above, name, "x", told=told, progress=self._progress)
            with contextlib.closing(chunks):
                whole = all(pipe.write(chunk) for chunk in chunks)
            if whole:
                done = packing.header("done", tarfile.REGTYPE, os.stat(os.devnull))
                pipe.write(done + _END)
            if pipe.finish():
                merged = looked.where == "folder"  # perhaps: then some of it may be in place
                raise CopyError(
                    f"the session did not take it: {_last_line(pipe.complaint)}",
                    ("" if merged else "nothing was left half; ")
                    + "is there space, and may you write there?",
                )

    def send_tar(self, source: BinaryIO, target: str) -> None:
        """Unpack a tar stream in a folder of the session.

        Raises:
            CopyError: there is no such folder, or no tar in the image, or it did not take it.
        """
        inside = _Inside.of(target)
        looked = self._look(inside.path)
        if looked.where != "folder":
            raise CopyError(f"{shown(target)} is no folder of the session", "make it first")
        if not looked.tar:
            raise CopyError("the image has no tar, and so takes no stream", "copy from a path")
        with (
            _told_plainly("standard input", "pipe a tar stream in"),
            self._run("take", inside.path) as pipe,
        ):
            while (data := source.read(CHUNK)) and pipe.write(data):
                self._progress(len(data))
            if pipe.finish():
                raise CopyError(f"the session did not take it: {_last_line(pipe.complaint)}")

    # helpers

    def _run(self, *words: str) -> Pipe:
        for word in words:
            if not _is_text(word):
                raise CopyError(
                    f"{shown(word)} is no UTF-8: the engine takes no such name",
                    "copy the folder that it is in",
                )
        argv = ["/bin/sh", "-c", self._script, "copy", *words]
        return Pipe(self._mooring.exec(self._session, argv, tty=False, stdin=True))

    def _look(self, path: str) -> Looked:
        with self._run("look", path) as pipe:
            words = pipe.exactly(CHUNK).decode(errors="replace").split()
            if pipe.finish() or len(words) != 4:
                raise CopyError(f"cannot look into the session: {_last_line(pipe.complaint)}")
        kind, where, parent, tar = words
        return Looked(kind, where, parent == "folder", tar == "tar")

    def _must_be_there(self, source: str, looked: Looked, inside: _Inside, is_folder: bool) -> None:
        name = self._session.name
        if looked.kind == "missing":
            raise CopyError(
                f"there is no {shown(source)} in session {name}",
                "relative paths start at its working directory",
            )
        if looked.kind == "special":
            raise CopyError(f"{shown(source)} is a device, a pipe or a socket of the session")
        if inside.slash and not is_folder:
            raise CopyError(f"{shown(source)} is no folder of session {name}")


@dataclass(frozen=True)
class _Inside:
    """A path of a session, so written that no program takes it for an option."""

    path: str
    slash: bool  # it has to be a folder
    contents: bool  # what is in it is meant, not itself

    @classmethod
    def of(cls, text: str) -> _Inside:
        if "\0" in text:
            raise CopyError("a path holds no NUL")
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


@contextlib.contextmanager
def _local(source: str, follow: bool) -> Iterator[tuple[int, str, bool, str, bool]]:
    """What to send: folder, name in it, whether it is a folder, its name, whether its contents."""
    path = os.path.realpath(source) if follow or source.endswith("/") else source
    last = posixpath.basename(source.rstrip("/") or "/")
    contents = last in (".", "..", "")
    try:
        if source.endswith("/") and not os.path.isdir(source):
            raise CopyError(f"{shown(source)} is no folder", "leave the slash out")
        above, name = (_folder(path), ".") if contents else packing.opened(path)
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
def _told_plainly(path: str, hint: str) -> Iterator[None]:
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
def _draft(above: int) -> Iterator[int]:
    """A private folder beside what it becomes; gone at the end, or with the next copy to there.

    It is locked while it is used: what a copy that was killed has left, nobody holds.
    """
    with contextlib.suppress(OSError):
        _sweep(above)
    name = f"{_DRAFT}{secrets.token_hex(4)}"
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
        if not name.startswith(_DRAFT):
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
        return packing.opened(os.path.realpath(target))
    except OSError as error:
        raise CopyError(
            f"the folder of {shown(target)}: {error.strerror}", "make it first"
        ) from None


def _exists(folder: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    return False


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return shown(lines[-1]) if lines else "it did not say why"
