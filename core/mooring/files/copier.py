"""Files and folders, copied between this machine and a session: ``docker cp``'s rules.

They go through processes that run in the session as its user, tar where the image has it, and
never through the engine's archives, which read and write as root and follow links.
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

from mooring.files import pack as packing
from mooring.files import plain
from mooring.files.merge import place
from mooring.files.paths import (
    DRAFT,
    END,
    CopyError,
    Inside,
    drafted,
    exists,
    is_text,
    landing,
    last_line,
    local,
    must_be_there,
    must_fit,
    told_plainly,
)
from mooring.files.pipe import CHUNK, Pipe
from mooring.files.unpack import HostileArchive, Path, Unpacker, shown
from mooring.host.users import caller

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.model import Session

Told = Callable[[str], None]
Progress = Callable[[int], None]


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
        self._home = caller().home
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
        inside = Inside.of(source, self._home)
        looked = self._look(inside.path)
        is_folder = looked.kind == "folder" or (
            looked.where == "folder" and (follow or inside.slash)
        )
        must_be_there(self._session.name, source, looked.kind, inside, is_folder)
        with landing(source, target, inside, is_folder) as (above, name):
            return self._fetch_to(above, name, inside, looked, is_folder, follow)

    def _fetch_to(
        self, above: int, name: str, inside: Inside, looked: Looked, is_folder: bool, follow: bool
    ) -> bool:
        clean = True

        def told(line: str) -> None:
            nonlocal clean
            clean = False
            self._told(line)

        with drafted(above) as draft:
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
            if not exists(draft, "x"):
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
        inside = Inside.of(source, self._home)
        looked = self._look(inside.path)
        must_be_there(self._session.name, source, looked.kind, inside, looked.where == "folder")
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
            told_plainly(source, "is it still there, and may you read it?"),
            local(source, follow) as (above, name, is_folder, base, contents),
        ):
            inside = Inside.of(target, self._home)
            looked = self._look(inside.path)
            if looked.where == "folder":
                folder, final = inside.path, "." if contents else base
            else:
                must_fit(
                    *(source, is_folder, target, inside),
                    exists=looked.kind != "missing",
                    has_parent=looked.parent,
                    how=f"mooring exec {self._session.name} -- mkdir -p …",
                )
                folder, final = inside.split
            draft = f"{DRAFT}{secrets.token_hex(4)}"
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
                pipe.write(done + END)
            if pipe.finish():
                merged = looked.where == "folder"  # perhaps: then some of it may be in place
                raise CopyError(
                    f"the session did not take it: {last_line(pipe.complaint)}",
                    ("" if merged else "nothing was left half; ")
                    + "is there space, and may you write there?",
                )

    def send_tar(self, source: BinaryIO, target: str) -> None:
        """Unpack a tar stream in a folder of the session.

        Raises:
            CopyError: there is no such folder, or no tar in the image, or it did not take it.
        """
        inside = Inside.of(target, self._home)
        looked = self._look(inside.path)
        if looked.where != "folder":
            raise CopyError(f"{shown(target)} is no folder of the session", "make it first")
        if not looked.tar:
            raise CopyError("the image has no tar, and so takes no stream", "copy from a path")
        with (
            told_plainly("standard input", "pipe a tar stream in"),
            self._run("take", inside.path) as pipe,
        ):
            while (data := source.read(CHUNK)) and pipe.write(data):
                self._progress(len(data))
            if pipe.finish():
                raise CopyError(f"the session did not take it: {last_line(pipe.complaint)}")

    # helpers

    def _run(self, *words: str) -> Pipe:
        for word in words:
            if not is_text(word):
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
                raise CopyError(f"cannot look into the session: {last_line(pipe.complaint)}")
        kind, where, parent, tar = words
        return Looked(kind, where, parent == "folder", tar == "tar")
