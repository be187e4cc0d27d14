"""`mooring cp` with a stopped session, whose files are in folders of this machine.

The rules are the same as for a running session: files pass through a tar stream, and the session's
files are not trusted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from mooring.files import pack, paths
from mooring.files.merge import place
from mooring.files.tree import Entry, Names, Tree, below
from mooring.files.unpack import FOLDER, Unpacker, shown
from mooring.host.users import caller
from mooring.sessions.model import State

if TYPE_CHECKING:
    from mooring.files.copier import Progress, Warn
    from mooring.sessions.context import Context
    from mooring.sessions.model import Session


class StoppedCopier:
    """Copies between this machine and one stopped session; has the methods of `Copier`.

    Args:
        warn, progress: as for `Copier`.

    Raises:
        CopyError: the session's record has no mounts, because an earlier version wrote it.
    """

    def __init__(
        self,
        ctx: Context,
        session: Session,
        *,
        warn: Warn = lambda line: None,
        progress: Progress = lambda count: None,
    ) -> None:
        folder = ctx.folder(session.id)
        layout = folder.record().plan.layout
        if layout is None:
            raise paths.CopyError(
                f"session {session.name} was created by an earlier version, which did not "
                "record where its files are",
                f"start it first: mooring start {session.name}",
            )
        self._name, self._home = session.name, caller().home
        self._tree = Tree(session.name, folder.home, ctx.installation.path, layout)
        self._warn, self._progress = warn, progress
        self._clean = True

    @staticmethod
    def takes(ctx: Context, session: Session) -> bool:
        """Whether a session of this installation is stopped or lost, and its mounts are known."""
        if session.foreign or session.state not in (State.STOPPED, State.LOST):
            return False
        folder = ctx.folder(session.id)
        return folder.record().plan.layout is not None and not folder.in_creation()

    def fetch(self, source: str, target: str, *, follow: bool = False) -> bool:
        """As `Copier.fetch`."""
        with self._source(source, follow) as (path, there, entry):
            is_folder = entry.kind == "folder"
            with (
                paths.open_target(source, target, path, is_folder) as (above, name),
                paths.draft_folder(above) as draft,
            ):
                self._unpack(draft, entry.above, entry.name, self._tree.left_out(there))
                if not paths.exists(draft, "x"):
                    raise paths.CopyError(f"{shown(source)}: nothing to copy")
                place(draft, "x", above, name)
        return self._clean

    def fetch_tar(self, source: str, out: BinaryIO, *, follow: bool = False) -> bool:
        """As `Copier.fetch_tar`."""
        with self._source(source, follow) as (path, there, entry):
            root = "." if path.contents else f"./{path.name}"
            for chunk in self._packed(entry.above, entry.name, root, self._tree.left_out(there)):
                out.write(chunk)
            out.write(paths.END)
            out.flush()
        return self._clean

    def send(self, source: str, target: str, *, follow: bool = False) -> bool:
        """As `Copier.send`."""
        path = paths.SessionPath.of(target, self._home)
        with (
            paths.as_copy_error(
                source, "check that you may read it, and that the target has free space"
            ),
            paths.open_source(source, follow) as (above, name, is_folder, base, contents),
        ):
            there = self._tree.find(path.text, follow=True)
            with self._tree.opened(there) as entry:
                kind = entry.kind
            if kind == "folder":
                final = "." if contents else base
            else:
                there = self._tree.find(path.text, follow=False)
                with self._tree.opened(there) as entry:
                    paths.require_target(
                        *(source, is_folder, target, path),
                        exists=entry.kind != "missing",
                        has_parent=True,
                        how="copy a local folder that contains it",
                    )
                *_, final = there
                there = there[:-1]
            with self._tree.opened(there) as entry:
                if entry.read_only:
                    raise paths.CopyError(
                        f"{shown(target)} is mounted read-only in session {self._name}",
                        "an input cannot be changed in a session; change its source",
                    )
                into = os.open(entry.name, FOLDER, dir_fd=entry.above)
            try:
                with paths.draft_folder(into) as draft:
                    self._unpack(draft, above, name, {})
                    if paths.exists(draft, "x"):
                        self._keep_off_mounts(draft, there, final)
                        place(draft, "x", into, final)
            finally:
                os.close(into)
        return self._clean

    def send_tar(self, source: BinaryIO, target: str) -> None:
        """Raise CopyError, because only a running session can unpack a foreign tar stream."""
        raise paths.CopyError(
            f"session {self._name} is not running and cannot unpack a tar stream",
            f"copy from a path, or start it: mooring start {self._name}",
        )

    @contextlib.contextmanager
    def _source(
        self, source: str, follow: bool
    ) -> Iterator[tuple[paths.SessionPath, Names, Entry]]:
        path = paths.SessionPath.of(source, self._home)
        with paths.as_copy_error(source, "check that it still exists and that you may read it"):
            there = self._tree.find(path.text, follow=follow or path.slash)
            with self._tree.opened(there) as entry:
                paths.require_source(self._name, source, entry.kind, path, entry.kind == "folder")
                yield path, there, entry

    def _packed(
        self, above: int, name: str, root: str, left_out: dict[tuple[int, int], str]
    ) -> Iterator[bytes]:
        def warn(line: str) -> None:
            self._clean = False
            self._warn(line)

        return pack.pack(above, name, root, warn=warn, progress=self._progress, left_out=left_out)

    def _unpack(
        self, draft: int, above: int, name: str, left_out: dict[tuple[int, int], str]
    ) -> None:
        """Copy an entry into a draft folder, as `x`."""
        chunks, buffer = self._packed(above, name, "x", left_out), bytearray()

        def read(size: int) -> bytes:
            nonlocal buffer
            while len(buffer) < size:
                buffer += next(chunks, paths.END)
            data = bytes(buffer[:size])
            del buffer[:size]
            return data

        unpacker = Unpacker(
            draft, place=lambda path: path, warn=self._warn, progress=lambda count: None
        )
        unpacker.unpack(read)

    def _keep_off_mounts(self, draft: int, there: Names, final: str) -> None:
        """Raise CopyError if a mount of the session would hide a file of the draft folder."""
        path = there if final == "." else (*there, final)
        for way in self._tree.mounts_below(path):
            if below(draft, ("x", *way)) if way else final != ".":
                raise paths.CopyError(
                    f"{shown('/' + '/'.join((*path, *way)))} is a mount of session {self._name}",
                    "use that path as the target for the files in it",
                )
