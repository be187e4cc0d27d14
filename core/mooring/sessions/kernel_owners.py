"""Which client owns a kernel: what the next Jupyter server needs to adopt it.

A record is stored in its session's folder, out of the container's reach, and deleted with it::

    sessions/ID/kernels/SHORT.json   see ``KernelRecord``
    sessions/ID/kernels/SHORT.lock   held by the process that owns the kernel

The lock tells a kernel whose server has died from one that is in use: the operating system
releases it when the owner exits, for whatever reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mooring.host import atomic, forks, locks
from mooring.host.paths import Installation
from mooring.host.untrusted import parse_json
from mooring.sessions.folder import SessionFolder

# Timeout for acquiring a lock: ``locks.is_held`` in another process acquires it briefly
LOOK_S = 0.2


def short_id(kernel_id: str) -> str:
    """Return the name of a kernel's folder in its session, from the kernel id Jupyter gave it."""
    return kernel_id.replace("-", "")[:12]


@dataclass(frozen=True)
class KernelRecord:
    """A kernel started by a client.

    Attributes:
        session: id of the session that it runs in.
        kernel_id: id that its client gave it.
        kernel_name: name of its kernelspec.
        root: folder that the client's paths are relative to; empty for a client that is not a
            server, whose kernels end with it.
        cwd: the kernel's working directory.
        rows: the Jupyter sessions that use the kernel, each with ``session_id``,
            ``path``, ``name`` and ``type``.
    """

    session: str
    kernel_id: str
    kernel_name: str
    root: str
    cwd: str
    rows: tuple[dict[str, str], ...] = ()

    def seen_from(self, root: str) -> KernelRecord | None:
        """Return the record as of a server with another root folder.

        Its kernel belongs to the notebooks that use it, and without any to its client's root.

        Args:
            root: the root folder.

        Returns:
            The record with the notebooks below ``root``, whose paths are relative to it; None if
            there are none.
        """
        if root == self.root:
            return self
        theirs, here = Path(os.path.realpath(self.root)), Path(os.path.realpath(root))
        if not self.rows:
            return replace(self, root=root) if theirs.is_relative_to(here) else None
        rows = []
        for row in self.rows:
            path = Path(os.path.normpath(theirs / row["path"].lstrip("/")))
            if path.is_relative_to(here):
                rows.append(row | {"path": path.relative_to(here).as_posix()})
        return replace(self, root=root, rows=tuple(rows)) if rows else None


class Ownership:
    """Ownership of a kernel by this process, until ``release`` or until the process exits.

    Attributes:
        lock: the file whose lock the process holds.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self.lock = path.with_suffix(".lock")
        self._descriptor: int | None = descriptor
        forks.watch(self)

    def after_fork(self) -> None:
        """Leave the kernel to the parent, which a descriptor here would outlive."""
        self.release()

    @property
    def held(self) -> bool:
        """Whether this process owns the kernel."""
        return self._descriptor is not None

    def release(self) -> None:
        """Release the kernel, so that another server can adopt it. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def forget(self) -> None:
        """Delete the record of a kernel that has ended, and release it."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            self.lock.unlink()
        self.release()


class KernelOwners:
    """The kernel records of an installation."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def folder(self, record: KernelRecord) -> SessionFolder:
        """Return the folder of the session that a kernel runs in."""
        return SessionFolder.open(self._installation, record.session)

    def begun(self, record: KernelRecord) -> bool:
        """Return whether the kernel's process was ever started; its server may have died before."""
        return self.folder(record).guest.exists(f"k/{short_id(record.kernel_id)}/pid")

    def busy(self, record: KernelRecord) -> bool:
        """Return whether the kernel is busy."""
        text = self.folder(record).guest.text(f"k/{short_id(record.kernel_id)}/busy")
        return text.startswith("busy")

    def own(self, record: KernelRecord) -> Ownership | None:
        """Write a kernel's record and acquire its lock; None if another process owns the kernel.

        Raises:
            OSError: the session's folder is gone, or the disk is full.
        """
        path = self._path(record.session, record.kernel_id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(
            path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            if not _lock(descriptor):
                os.close(descriptor)
                return None
            _write(path, record)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        return Ownership(path, descriptor)

    def take(self, record: KernelRecord) -> Ownership | None:
        """Acquire the lock of a kernel that no process owns; None if one does, or if it is gone."""
        path = self._path(record.session, record.kernel_id)
        try:
            descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        if locks.try_lock(descriptor) and os.fstat(descriptor).st_nlink:
            return Ownership(path, descriptor)
        os.close(descriptor)
        return None

    def find(self, kernel_id: str) -> KernelRecord | None:
        """Return the record of the kernel with an id given by its client; None if there is none."""
        pattern = f"[!.]*/kernels/{short_id(kernel_id)}.json"
        for path in self._installation.sessions.glob(pattern):
            record = _read(path)
            if record is not None and record.kernel_id == kernel_id:
                return record
        return None

    def of(self, session_id: str) -> list[KernelRecord]:
        """Return the records of the kernels of a session."""
        folder = SessionFolder.open(self._installation, session_id)
        records = map(_read, sorted(folder.path.glob("kernels/*.json")))
        return [record for record in records if record is not None]

    def show_in(self, kernel_id: str, rows: Sequence[dict[str, str]]) -> None:
        """Record the Jupyter sessions that use a kernel; no effect on a kernel without a record.

        Args:
            kernel_id: id that the client gave the kernel.
            rows: see ``KernelRecord.rows``.
        """
        record = self.find(kernel_id)
        if record is not None:
            with contextlib.suppress(OSError):
                path = self._path(record.session, kernel_id)
                _write(path, replace(record, rows=tuple(rows)))

    def orphaned(self) -> Iterator[KernelRecord]:
        """Yield the kernels of servers that no process owns.

        Each belongs to a running session; the kernel itself may have died, or never have started
        (``begun``).
        """
        from mooring.kernels.kernelhost import host_lives

        alive: dict[str, bool] = {}  # cached: the check of a paused session takes a moment
        for path in sorted(self._installation.sessions.glob("[!.]*/kernels/*.json")):
            record = _read(path)
            if record is None or not record.root or locks.is_held(path.with_suffix(".lock")):
                continue
            if record.session not in alive:
                folder = self.folder(record)
                ended = folder.clock.end() is not None
                alive[record.session] = not ended and host_lives(folder.guest)
            if alive[record.session]:
                yield record

    def belongs_to(self, kernel_id: str, session_id: str) -> bool:
        """Return whether the record of a kernel confirms that it runs in a session.

        Code in a session can create a folder for any kernel id that it knows, but not a record.

        Args:
            kernel_id: id that the client gave the kernel.
            session_id: the session's id.
        """
        record = self.find(kernel_id)
        return record is not None and record.session == session_id

    def session_of(self, kernel_id: str) -> str:
        """Return the id of the session that a kernel belongs to; empty for none, or for several.

        Code in a session can create a folder for any kernel id that it knows, but not a record, so
        the record decides. A kernel of another client, without a record, belongs to the only
        session that has a folder for it.

        Args:
            kernel_id: Jupyter's id of the kernel, or the short one.
        """
        short = short_id(kernel_id)
        record = self.find(kernel_id)
        if record is not None:
            return record.session if _has(self.folder(record), short) else ""
        folders = SessionFolder.all(self._installation)
        recorded = [
            folder for folder in folders if (folder.path / "kernels" / f"{short}.json").exists()
        ]
        if kernel_id != short:
            folders = [folder for folder in folders if folder not in recorded]
        elif recorded:
            folders = recorded
        matching = [folder for folder in folders if _has(folder, short)]
        return matching[0].id if len(matching) == 1 else ""

    def _path(self, session_id: str, kernel_id: str) -> Path:
        folder = SessionFolder.open(self._installation, session_id)
        return folder.path / "kernels" / f"{short_id(kernel_id)}.json"


def _has(folder: SessionFolder, short: str) -> bool:
    return folder.guest.exists(f"k/{short}")


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + LOOK_S
    while not locks.lock(descriptor, wait=False):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _read(path: Path) -> KernelRecord | None:
    try:
        stored: dict[str, Any] = parse_json(path.read_text())
        known = {field.name: stored[field.name] for field in fields(KernelRecord)}
        return KernelRecord(**{**known, "rows": tuple(known["rows"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, record: KernelRecord) -> None:
    atomic.write_text(path, json.dumps(asdict(record)))
