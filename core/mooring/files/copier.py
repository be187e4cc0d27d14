"""Copy files and folders between this machine and a running session, by the rules of `docker cp`.

The image's tar runs in the session as its user. The engine's archive API is not used, because it
reads and writes as root and follows links.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, BinaryIO

from mooring.files import pack
from mooring.files.merge import place
from mooring.files.paths import (
    DRAFT,
    END,
    CopyError,
    SessionPath,
    as_copy_error,
    draft_folder,
    exists,
    is_text,
    last_line,
    open_source,
    open_target,
    require_source,
    require_target,
)
from mooring.files.pipe import CHUNK, Pipe
from mooring.files.unpack import HostileArchive, Path, Unpacker, shown
from mooring.host.users import caller
from mooring.sessions.processes import exec_in

if TYPE_CHECKING:
    from mooring.sessions.context import Context
    from mooring.sessions.model import Session

Warn = Callable[[str], None]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class PathInfo:
    """A path of a session.

    Attributes:
        kind: missing, file, folder, link or special.
        target: the kind of a link's final target; same as `kind` for all else.
        has_parent: whether its parent folder exists.
    """

    kind: str
    target: str
    has_parent: bool


class _Warnings:
    """Forwards warnings, and records whether there were any."""

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self.any = False

    def __call__(self, line: str) -> None:
        self.any = True
        self._warn(line)


class Copier:
    """Copies between this machine and one running session, whose image must have tar.

    Args:
        warn: called with a message for each file that is left out or could not be read.
        progress: called with the number of bytes of content copied since the last call.
    """

    def __init__(
        self,
        ctx: Context,
        session: Session,
        *,
        warn: Warn = lambda line: None,
        progress: Progress = lambda count: None,
    ) -> None:
        self._ctx, self._session = ctx, session
        self._home = caller().home
        self._warn, self._progress = warn, progress
        self._script = (resources.files("mooring") / "guest" / "copy.sh").read_text()

    # out of the session

    def fetch(self, source: str, target: str, *, follow: bool = False) -> bool:
        """Copy a path of the session to this machine.

        Args:
            source: a path in the session.
            target: a path on this machine; an existing file is replaced, folders are merged.
            follow: if the source is a symbolic link, copy its target.

        Returns:
            False if a file was left out or could not be read; `warn` was called for it.

        Raises:
            CopyError, HostileArchive: nothing was copied.
            EngineError
        """
        path = SessionPath.of(source, self._home)
        info = self._look(path.text)
        is_folder = info.kind == "folder" or (info.target == "folder" and (follow or path.slash))
        require_source(self._session.name, source, info.kind, path, is_folder)
        with open_target(source, target, path, is_folder) as (above, name):
            warn = _Warnings(self._warn)
            with draft_folder(above) as draft:
                self._fetch_draft(draft, path, is_folder, follow, warn)
                if not exists(draft, "x"):
                    raise CopyError(f"{shown(path.text)}: the session sent no data")
                place(draft, "x", above, name)
            return not warn.any

    def _fetch_draft(
        self, draft: int, path: SessionPath, is_folder: bool, follow: bool, warn: Warn
    ) -> None:
        """Unpack a path of the session into a draft folder, as `x`."""
        folder, entry = (path.text, ".") if is_folder else path.split
        expected = () if is_folder else (entry,)

        def below(names: Path) -> Path:
            if names[: len(expected)] != expected or (expected and names != expected):
                raise HostileArchive(
                    f"the session sent a file that was not requested: {shown('/'.join(names))}"
                )
            return ("x", *names[len(expected) :])

        # a folder is packed from inside, even if a link led to it
        mode = "follow" if follow and not is_folder else "pack"
        with self._run(mode, folder, entry) as pipe:
            Unpacker(draft, place=below, warn=warn, progress=self._progress).unpack(pipe.exactly)
            if pipe.finish():
                warn(pipe.complaint or "tar could not read everything")

    def fetch_tar(self, source: str, out: BinaryIO, *, follow: bool = False) -> bool:
        """Write a path of the session as a tar stream.

        Args:
            source: a path in the session.
            out: the file to write to.
            follow: if the source is a symbolic link, copy its target.

        Returns:
            False if a file could not be read.

        Raises:
            CopyError: the path does not exist, or the image has no tar.
        """
        path = SessionPath.of(source, self._home)
        info = self._look(path.text)
        require_source(self._session.name, source, info.kind, path, info.target == "folder")
        folder, entry = (path.text, ".") if path.contents else path.split
        with self._run("follow" if follow else "pack", folder, entry) as pipe:
            while data := pipe.read(CHUNK):
                out.write(data)
                self._progress(len(data))
            out.flush()
            if pipe.finish() == 0:
                return True
            self._warn(pipe.complaint or "tar could not read everything")
            return False

    # into the session

    def send(self, source: str, target: str, *, follow: bool = False) -> bool:
        """Copy a path of this machine into the session.

        Args, Returns, Raises: as `fetch`.
        """
        warn = _Warnings(self._warn)
        with (
            as_copy_error(source, "check that it still exists and that you may read it"),
            open_source(source, follow) as (above, name, is_folder, base, contents),
        ):
            path = SessionPath.of(target, self._home)
            info = self._look(path.text)
            merges = info.target == "folder"
            if merges:
                folder, final = path.text, "." if contents else base
            else:
                require_target(
                    *(source, is_folder, target, path),
                    exists=info.kind != "missing",
                    has_parent=info.has_parent,
                    how=f"mooring exec {self._session.name} -- mkdir -p …",
                )
                folder, final = path.split
            draft = f"{DRAFT}{secrets.token_hex(4)}"
            self._send_draft(above, name, (folder, draft, final), warn, merges)
        return not warn.any

    def _send_draft(
        self, above: int, name: str, where: Sequence[str], warn: Warn, merges: bool
    ) -> None:
        with self._run("unpack", *where) as pipe:
            chunks = pack.pack(above, name, "x", warn=warn, progress=self._progress)
            with contextlib.closing(chunks):
                complete = all(pipe.write(chunk) for chunk in chunks)
            if complete:
                done = pack.header("done", tarfile.REGTYPE, os.stat(os.devnull))
                pipe.write(done + END)
            if pipe.finish():
                # a merge may be partly done
                raise CopyError(
                    f"cannot write in the session: {last_line(pipe.complaint)}",
                    ("" if merges else "no file is incomplete; ")
                    + "check free space and permissions",
                )

    def send_tar(self, source: BinaryIO, target: str) -> None:
        """Unpack a tar stream into a folder of the session.

        Args:
            source: the file to read from.
            target: an existing folder in the session.

        Raises:
            CopyError: the folder does not exist, the image has no tar, or tar failed.
        """
        path = SessionPath.of(target, self._home)
        if self._look(path.text).target != "folder":
            raise CopyError(f"{shown(target)} is not a folder in the session", "create it first")
        with (
            as_copy_error("standard input", "pipe a tar stream in"),
            self._run("take", path.text) as pipe,
        ):
            while (data := source.read(CHUNK)) and pipe.write(data):
                self._progress(len(data))
            if pipe.finish():
                raise CopyError(f"cannot write in the session: {last_line(pipe.complaint)}")

    def _run(self, *words: str) -> Pipe:
        """Run guest/copy.sh in the session with these arguments."""
        for word in words:
            if not is_text(word):
                raise CopyError(
                    f"{shown(word)} is not UTF-8, which the engine requires",
                    "copy the folder that contains it",
                )
        argv = ["/bin/sh", "-c", self._script, "copy", *words]
        return Pipe(exec_in(self._ctx, self._session, argv, stdin=True))

    def _look(self, path: str) -> PathInfo:
        with self._run("look", path) as pipe:
            words = pipe.exactly(CHUNK).decode(errors="replace").split()
            if pipe.finish() or len(words) != 4:
                raise CopyError(f"cannot inspect the session's files: {last_line(pipe.complaint)}")
        kind, target, parent, tar = words
        if tar != "tar":
            raise CopyError(
                f"the image of session {self._session.name} has no tar, which cp requires",
                "install tar or busybox in the image",
            )
        return PathInfo(kind, target, parent == "folder")
