"""Sessions that live as long as a process outside: a kernel's launcher, and for a while longer.

The launcher holds a lock on the session's ``lease`` file, and its keeper one on ``keeper``. The
system lets go of a lock when its process dies, whatever it died of: so whoever looks, at any time,
sees whether anybody still answers for the session. Where nobody does, it is to be removed. A
session that is in use beyond that loses its lease, and is one like every other.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import Any

from mooring.sessions.record import Folder, uptime

_LEASE, _KEEPER = "lease", "keeper"


class Lease:
    """The right to use, and to remove, a session; held until ``release`` or until one dies."""

    def __init__(self, folder: Folder, descriptor: int) -> None:
        self.folder = folder
        self._descriptor = descriptor

    @classmethod
    def make(cls, folder: Folder, *, key: dict[str, Any], holder: str, kernel: str = "") -> Lease:
        """Put a session under a lease, held from its first moment.

        Args:
            key: who may take it over, told by equality; JSON.
            holder: the process that holds it, as ``processes.process_mark`` names it.
            kernel: the id of the kernel that it is held for.

        Raises:
            OSError
        """
        draft = folder.path / f".{_LEASE}.new"
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _fill(descriptor, key=key, holder=holder, kernels=[kernel] if kernel else [])
            draft.rename(folder.path / _LEASE)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(folder, descriptor)

    @classmethod
    def take(cls, folder: Folder, *, key: dict[str, Any] | None = None) -> Lease | None:
        """Take a lease that nobody holds; None when it is held, is another's, or is not there.

        Args:
            key: what it must have been made with; None for any. The last holder's name stays in
                it until ``hand_to``.
        """
        descriptor = _locked(folder, _LEASE, fcntl.LOCK_EX)
        if descriptor is None:
            return None
        lease = cls(folder, descriptor)
        if not folder.exists or (key is not None and _read(descriptor).get("key") != key):
            lease.release()
            return None
        return lease

    def hand_to(self, holder: str, kernel: str = "") -> None:
        """Write down who holds it from now on, and for which kernel."""
        kernels = [*self.kernels, kernel] if kernel else self.kernels
        _fill(self._descriptor, key=self._said("key"), holder=holder, kernels=kernels)

    def announce(self) -> None:
        """Say that it is about to be released, or that it was: who waits for it waits on."""
        said = _read(self._descriptor) | {"left": uptime()}
        _fill(self._descriptor, **said)

    @property
    def kernels(self) -> list[str]:
        """The ids of all kernels that it was held for, the last one at the end."""
        found = self._said("kernels")
        return [str(one) for one in found] if isinstance(found, list) else []

    def dissolve(self) -> None:
        """Release it for good: the session stays, and is nobody's in particular."""
        with contextlib.suppress(OSError):
            (self.folder.path / _LEASE).unlink()
        self.release()

    def release(self) -> None:
        """Let go of it; the session stays as it is. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _said(self, name: str) -> Any:
        return _read(self._descriptor).get(name)


def key_of(folder: Folder) -> dict[str, Any] | None:
    """What a session's lease was made with; None for a session without one."""
    key = _said(folder).get("key")
    return key if isinstance(key, dict) else None


def holder_of(folder: Folder) -> str:
    """Who holds a session's lease, or did last; empty for a session without one."""
    return str(_said(folder).get("holder", ""))


def left_at(folder: Folder) -> float | None:
    """When the holder of a session's lease said that it leaves (uptime); None if it did not."""
    said = _said(folder).get("left")
    return float(said) if isinstance(said, (int, float)) else None


def keep(folder: Folder) -> None:
    """Answer for a session whose launcher has died, for as long as this process lives.

    Raises:
        OSError: the session is gone.
    """
    descriptor = os.open(folder.path / _KEEPER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # a launcher that took over has a keeper of its own


def abandoned(folder: Folder) -> Lease | None:
    """The lease of a session that nobody answers for any more; None for every other session.

    Whoever is given it removes the session and then releases it, or dissolves it.
    """
    lease = Lease.take(folder)
    if lease is None:
        return None
    keeper = _locked(folder, _KEEPER, fcntl.LOCK_EX)
    if keeper is None and (folder.path / _KEEPER).exists():
        lease.release()
        return None
    if keeper is not None:
        os.close(keeper)
    return lease


def _said(folder: Folder) -> dict[str, Any]:
    try:
        descriptor = os.open(folder.path / _LEASE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _locked(folder: Folder, name: str, how: int) -> int | None:
    try:
        descriptor = os.open(folder.path / name, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _fill(descriptor: int, **said: Any) -> None:
    text = json.dumps(said).encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _read(descriptor: int) -> dict[str, Any]:
    try:  # what stands behind it is the end of a longer one, about to be cut off
        said, _ = json.JSONDecoder().raw_decode(os.pread(descriptor, 1 << 20, 0).decode())
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
