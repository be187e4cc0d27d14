"""Which client a kernel belongs to: what the next Jupyter server needs to take it up again.

A record lies in its session's folder and goes with it, where the session itself cannot reach::

    sessions/ID/kernels/SHORT.json   see ``KernelRecord``
    sessions/ID/kernels/SHORT.lock   held by the process that answers for the kernel

The lock tells a kernel whose server is gone from one that is in use: the operating system frees
it however that process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mooring.guest import shared
from mooring.host import paths
from mooring.sessions.record import Folder, is_held

# Whoever asks whether a lock is held holds it for a moment
LOOK_S = 0.2


def short_id(kernel_id: str) -> str:
    """The name of a kernel's folder in its session, from the id that Jupyter gave it."""
    return kernel_id.replace("-", "")[:12]


@dataclass(frozen=True)
class KernelRecord:
    """A kernel that some client has started.

    Attributes:
        session: the id of the session that it runs in.
        kernel_id: the one that its client gave it.
        kernel_name: its kernelspec's.
        root: the folder that the client's paths start from; empty for a client without one.
        cwd: the kernel's working directory.
        rows: what the client shows the kernel in: Jupyter sessions, each with ``session_id``,
            ``path``, ``name`` and ``type``.
    """

    session: str
    kernel_id: str
    kernel_name: str
    root: str
    cwd: str
    rows: tuple[dict[str, str], ...] = ()

    @property
    def folder(self) -> Folder:
        return Folder.open(self.session)

    @property
    def begun(self) -> bool:
        """Whether it ever had a process; its server may have died before."""
        return shared.exists(self.folder.run, f"k/{short_id(self.kernel_id)}/pid")

    @property
    def busy(self) -> bool:
        """Whether the kernel works on something now."""
        text = shared.text(self.folder.run, f"k/{short_id(self.kernel_id)}/busy")
        return text.startswith("busy")


class Hold:
    """This process answers for a kernel, until ``release`` or its own end."""

    def __init__(self, record: KernelRecord, lock: int) -> None:
        self._path = _path(record.session, record.kernel_id)
        self._lock: int | None = lock

    def release(self) -> None:
        """Leave the kernel to the next server."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def forget(self) -> None:
        """The kernel is over: so is its record."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            self._path.with_suffix(".lock").unlink()
        self.release()


def hold(record: KernelRecord) -> Hold | None:
    """Write a kernel's record and answer for it; None where another process does.

    Raises:
        OSError: the session's folder is gone, or the disk is full.
    """
    path = _path(record.session, record.kernel_id)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _lock(lock):
            os.close(lock)
            return None
        _write(path, record)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(lock)
        raise
    return Hold(record, lock)


def find(kernel_id: str) -> KernelRecord | None:
    """The record of a kernel, by the id that its client gave it."""
    for path in paths.sessions_dir().glob(f"[!.]*/kernels/{short_id(kernel_id)}.json"):
        record = _read(path)
        if record is not None and record.kernel_id == kernel_id:
            return record
    return None


def show_in(kernel_id: str, rows: Sequence[dict[str, str]]) -> None:
    """Remember what a kernel is shown in; no effect on one that has no record."""
    record = find(kernel_id)
    if record is not None:
        changed = {**asdict(record), "rows": tuple(rows)}
        with contextlib.suppress(OSError):
            _write(_path(record.session, kernel_id), KernelRecord(**changed))


def survivors(root: str) -> Iterator[KernelRecord]:
    """The kernels that nobody answers for, of clients whose paths start there.

    Each in a session that runs; it may itself have died, or never have come to life
    (``KernelRecord.begun``).
    """
    from mooring.kernels.kernel import host_lives

    for path in sorted(paths.sessions_dir().glob("[!.]*/kernels/*.json")):
        record = _read(path)
        if record is None or record.root != root or is_held(path.with_suffix(".lock")):
            continue
        if record.folder.end() is None and host_lives(record.folder):
            yield record


def _lock(lock: int) -> bool:
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
        time.sleep(0.01)


def _path(session: str, kernel_id: str) -> Path:
    return Folder.open(session).path / "kernels" / f"{short_id(kernel_id)}.json"


def _read(path: Path) -> KernelRecord | None:
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        known = {field.name: said[field.name] for field in fields(KernelRecord)}
        return KernelRecord(**{**known, "rows": tuple(known["rows"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, record: KernelRecord) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(asdict(record)))
    draft.replace(path)
