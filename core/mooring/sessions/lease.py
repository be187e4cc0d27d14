"""Leases: sessions that live as long as a kernel's launcher, and for a while longer.

The launcher holds a lock on the session's ``lease`` file, and its watchdog one on ``keeper``. The
operating system releases a lock when its process exits, for whatever reason, so any process can
check whether a process is still responsible for the session. If there is none, the session is to
be removed. A session that is also used otherwise has its lease dissolved, and becomes an ordinary
session.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from mooring.host.boot import uptime
from mooring.host.locks import lock, try_lock
from mooring.sessions.folder import SessionFolder

_LEASE, _WATCHDOG = "lease", "keeper"


class Lease:
    """The right to use and to remove a session, held until ``release`` or the process exits."""

    def __init__(self, folder: SessionFolder, descriptor: int) -> None:
        self.folder = folder
        self._descriptor = descriptor

    @property
    def session_id(self) -> str:
        """The id of the leased session."""
        return self.folder.id

    @classmethod
    def make(
        cls, folder: SessionFolder, *, key: dict[str, Any], holder: str, kernel: str = ""
    ) -> Lease:
        """Create a lease for a session, and hold it from its creation.

        Args:
            folder: the session's folder.
            key: JSON-serializable; ``take`` with a key requires an equal one.
            holder: the process that holds it, as ``processes.process_mark`` names it.
            kernel: the id of the kernel that it is held for; empty for none.

        Raises:
            OSError
        """
        draft = folder.path / f".{_LEASE}.new"
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            lock(descriptor)
            _fill(descriptor, key=key, holder=holder, kernels=[kernel] if kernel else [])
            draft.rename(folder.path / _LEASE)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(folder, descriptor)

    @classmethod
    def take(cls, folder: SessionFolder, *, key: dict[str, Any] | None = None) -> Lease | None:
        """Acquire a lease that no process holds.

        The recorded holder stays the previous one until ``hand_to``.

        Args:
            folder: the session's folder.
            key: the key that it must have been created with; None for any.

        Returns:
            The lease; None if it is held, has a different key, or does not exist.
        """
        descriptor = _locked(folder, _LEASE)
        if descriptor is None:
            return None
        lease = cls(folder, descriptor)
        if not folder.exists or (key is not None and _read(descriptor).get("key") != key):
            lease.release()
            return None
        return lease

    def hand_to(self, holder: str, kernel: str = "") -> None:
        """Record a new holder.

        Args:
            holder: the process, as ``processes.process_mark`` names it.
            kernel: the id of a kernel that it is held for; empty to add none.
        """
        kernels = [*self.kernels, kernel] if kernel else self.kernels
        _fill(self._descriptor, key=self._said("key"), holder=holder, kernels=kernels)

    def announce(self) -> None:
        """Record that it is released, or about to be, so that other processes wait for it."""
        said = _read(self._descriptor) | {"left": uptime()}
        _fill(self._descriptor, **said)

    @property
    def kernels(self) -> list[str]:
        """The ids of all kernels that it was held for, the latest last."""
        found = self._said("kernels")
        return [str(one) for one in found] if isinstance(found, list) else []

    def dissolve(self) -> None:
        """Delete and release the lease: the session becomes an ordinary one."""
        with contextlib.suppress(OSError):
            (self.folder.path / _LEASE).unlink()
        self.release()

    def release(self) -> None:
        """Release the lease; the session is left unchanged. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _said(self, name: str) -> Any:
        return _read(self._descriptor).get(name)


def key_of(folder: SessionFolder) -> dict[str, Any] | None:
    """Return the key that a session's lease was created with; None without a lease."""
    key = _said(folder).get("key")
    return key if isinstance(key, dict) else None


def holder_of(folder: SessionFolder) -> str:
    """Return the current or last holder of a session's lease; empty without a lease."""
    return str(_said(folder).get("holder", ""))


def left_at(folder: SessionFolder) -> float | None:
    """Return the system uptime, in seconds, when release was announced; None if it was not."""
    said = _said(folder).get("left")
    return float(said) if isinstance(said, (int, float)) else None


def keep(folder: SessionFolder) -> None:
    """Make this process, a launcher's watchdog, responsible for a session until it exits.

    Raises:
        OSError: the session is gone.
    """
    descriptor = os.open(folder.path / _WATCHDOG, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lock(descriptor, shared=True)  # a launcher that took over has its own watchdog


def abandoned(folder: SessionFolder) -> Lease | None:
    """Acquire the lease of a session that no process is responsible for; None for other sessions.

    The caller either removes the session and then releases the lease, or dissolves the lease.
    """
    lease = Lease.take(folder)
    if lease is None:
        return None
    watchdog = _locked(folder, _WATCHDOG)
    if watchdog is None and (folder.path / _WATCHDOG).exists():
        lease.release()
        return None
    if watchdog is not None:
        os.close(watchdog)
    return lease


def _said(folder: SessionFolder) -> dict[str, Any]:
    try:
        descriptor = os.open(folder.path / _LEASE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _locked(folder: SessionFolder, name: str) -> int | None:
    try:
        descriptor = os.open(folder.path / name, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    if try_lock(descriptor) and os.fstat(descriptor).st_nlink:
        return descriptor
    os.close(descriptor)
    return None


def _fill(descriptor: int, **said: Any) -> None:
    text = json.dumps(said).encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _read(descriptor: int) -> dict[str, Any]:
    try:  # trailing text is the rest of a longer value, about to be truncated by ``_fill``
        said, _ = json.JSONDecoder().raw_decode(os.pread(descriptor, 1 << 20, 0).decode())
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
