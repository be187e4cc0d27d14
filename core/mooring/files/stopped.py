"""``mooring cp`` with a session that does not run: between two folders of this machine.

By the same rules, through the same tar stream, and with the same distrust of what lies in the
session's folders as when it runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from mooring.files import pack as packing
from mooring.files.merge import place
from mooring.files.paths import (
    END,
    CopyError,
    Inside,
    drafted,
    exists,
    landing,
    local,
    must_be_there,
    must_fit,
    told_plainly,
)
from mooring.files.tree import Entry, Names, Tree, below
from mooring.files.unpack import FOLDER, Unpacker, shown
from mooring.host.users import caller
from mooring.sessions.model import State
from mooring.sessions.record import Folder

if TYPE_CHECKING:
    from mooring.files.copier import Progress, Told
    from mooring.sessions.model import Session

LAYOUT = "layout"


class StoppedCopier:
    """Copies between this machine and one session that does not run: ``Copier``'s methods.

    Args:
        told, progress: as ``Copier`` has them.
    """

    def __init__(
        self,
        session: Session,
        *,
        told: Told = lambda line: None,
        progress: Progress = lambda count: None,
    ) -> None:
        folder = Folder.open(session.id)
        self._name, self._home = session.name, caller().home
        self._tree = Tree(session.name, folder, folder.record()[LAYOUT])
        self._told, self._progress = told, progress
        self._clean = True

    @staticmethod
    def takes(session: Session) -> bool:
        """Whether it has ended, is this installation's, and tells where its files are."""
        if session.foreign or session.state not in (State.STOPPED, State.LOST):
            return False
        folder = Folder.open(session.id)
        return LAYOUT in folder.record() and not folder.being_created()

    def fetch(self, source: str, target: str, *, follow: bool = False) -> bool:
        """As ``Copier.fetch``."""
        with self._source(source, follow) as (inside, there, entry):
            is_folder = entry.kind == "folder"
            with (
                landing(source, target, inside, is_folder) as (above, name),
                drafted(above) as draft,
            ):
                self._unpack(draft, entry.above, entry.name, self._tree.left_out(there))
                if not exists(draft, "x"):
                    raise CopyError(f"{shown(source)}: nothing came that may be copied")
                place(draft, "x", above, name)
        return self._clean

    def fetch_tar(self, source: str, out: BinaryIO, *, follow: bool = False) -> bool:
        """As ``Copier.fetch_tar``."""
        with self._source(source, follow) as (inside, there, entry):
            root = "." if inside.contents else f"./{inside.name}"
            for chunk in self._packed(entry.above, entry.name, root, self._tree.left_out(there)):
                out.write(chunk)
            out.write(END)
            out.flush()
        return self._clean

    def send(self, source: str, target: str, *, follow: bool = False) -> bool:
        """As ``Copier.send``."""
        inside = Inside.of(target, self._home)
        with (
            told_plainly(source, "may you read it, and is there space where it goes?"),
            local(source, follow) as (above, name, is_folder, base, contents),
        ):
            there = self._tree.find(inside.path, follow=True)
            with self._tree.opened(there) as entry:
                kind = entry.kind
            if kind == "folder":
                final = "." if contents else base
            else:
                there = self._tree.find(inside.path, follow=False)
                with self._tree.opened(there) as entry:
                    must_fit(
                        *(source, is_folder, target, inside),
                        exists=entry.kind != "missing",
                        has_parent=True,
                        how="make it here, and copy it there, with what is in it",
                    )
                *_, final = there
                there = there[:-1]
            with self._tree.opened(there) as entry:
                if entry.read_only:
                    raise CopyError(
                        f"{shown(target)} is mounted read-only in session {self._name}",
                        "it is an input: change it where it comes from",
                    )
                into = os.open(entry.name, FOLDER, dir_fd=entry.above)
            try:
                with drafted(into) as draft:
                    self._unpack(draft, above, name, {})
                    if exists(draft, "x"):
                        self._keep_off_mounts(draft, there, final)
                        place(draft, "x", into, final)
            finally:
                os.close(into)
        return self._clean

    def send_tar(self, source: BinaryIO, target: str) -> None:
        """Raises CopyError: whose tar stream it is, nobody knows."""
        raise CopyError(
            f"session {self._name} does not run, and takes no tar stream",
            f"copy from a path, or start it: mooring start {self._name}",
        )

    @contextlib.contextmanager
    def _source(self, source: str, follow: bool) -> Iterator[tuple[Inside, Names, Entry]]:
        inside = Inside.of(source, self._home)
        with told_plainly(source, "is it still there, and may you read it?"):
            there = self._tree.find(inside.path, follow=follow or inside.slash)
            with self._tree.opened(there) as entry:
                must_be_there(self._name, source, entry.kind, inside, entry.kind == "folder")
                yield inside, there, entry

    def _packed(
        self, above: int, name: str, root: str, left_out: dict[tuple[int, int], str]
    ) -> Iterator[bytes]:
        def told(line: str) -> None:
            self._clean = False
            self._told(line)

        return packing.pack(
            above, name, root, told=told, progress=self._progress, left_out=left_out
        )

    def _unpack(
        self, draft: int, above: int, name: str, left_out: dict[tuple[int, int], str]
    ) -> None:
        """Copy an entry into a draft, as ``x``."""
        chunks, held = self._packed(above, name, "x", left_out), bytearray()

        def read(size: int) -> bytes:
            nonlocal held
            while len(held) < size:
                held += next(chunks, END)
            data = bytes(held[:size])
            del held[:size]
            return data

        unpacker = Unpacker(
            draft, place=lambda path: path, told=self._told, progress=lambda count: None
        )
        unpacker.unpack(read)

    def _keep_off_mounts(self, draft: int, there: Names, final: str) -> None:
        """Raise CopyError if what came would lie under a mount, where no session sees it."""
        path = there if final == "." else (*there, final)
        for way in self._tree.mounts_below(path):
            if below(draft, ("x", *way)) if way else final != ".":
                raise CopyError(
                    f"{shown('/' + '/'.join((*path, *way)))} is a mount of session {self._name}",
                    "copy what goes there by that path",
                )
