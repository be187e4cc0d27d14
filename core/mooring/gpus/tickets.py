"""The GPU queue shared by all users of one engine: a lock, and a ticket file per waiting session.

The folder's group is that of the engine's socket, so that all users of the engine can write to it,
and no one else. A ticket file is locked by its holder. The operating system releases a lock when
its process exits, for whatever reason, so a ticket is valid while its holder lives, and nothing has
to be cleaned up before the next ticket is served.

What a running session has claimed is recorded on its container, not here: a ticket records a grant
only until the container runs. A grant whose holder died before that stays valid for another minute,
because an engine starts a container that it was asked to start even if its client has exited.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mooring.engines.base import Engine
from mooring.engines.capabilities import SupportsBinds
from mooring.errors import EngineUnavailable, SessionTimeout
from mooring.gpus import place
from mooring.gpus.claims import Claim, Request, from_label, to_label
from mooring.host import locks
from mooring.host.text import one_line, quoted
from mooring.host.untrusted import parse_json

LOCK_TIMEOUT_S = 60.0
#: How long an enqueued ticket is valid without a holder, until its dispatcher starts.
ENQUEUED_GRACE_S = 15.0
#: How long a grant is valid without a holder, because its container may be about to run.
GRANTED_GRACE_S = 60.0
#: A waiting ticket not refreshed for this long is skipped: its holder is suspended.
STALE_S = 30.0
# has_dispatcher in another process locks the file briefly, so become_dispatcher retries
_DISPATCHER_TRIES, _DISPATCHER_PAUSE_S = 20, 0.01
_TICKET_BYTES_MAX = 10_000


@dataclass(frozen=True)
class Ticket:
    """A place in the queue.

    Attributes:
        id: the session's id.
        installation, user, session: the installation's id, the owner's and the session's name.
        request: the requested GPUs.
        priority: higher ones are served first.
        since: the order among equal priorities, in unique nanoseconds since the epoch; 0 until the
            ticket is enqueued.
        granted: the claims that were granted; empty while it waits.
        enqueued: whether its installation's dispatcher holds it instead of the process that
            enqueued it.
        orphaned: if its holder has died since, the time of the grant in seconds since the epoch;
            else 0.
        seen: when its holder last refreshed it, in seconds of the machine's monotonic clock.
    """

    id: str
    installation: str
    user: str
    session: str
    request: Request
    priority: int
    since: int
    granted: tuple[Claim, ...] = ()
    enqueued: bool = False
    orphaned: float = 0.0
    seen: float = 0.0

    @property
    def order(self) -> tuple[int, int]:
        """The sort key of tickets, in the order in which they are served."""
        return (-self.priority, self.since)


class HeldTicket:
    """A ticket locked by this process; created by ``TicketQueue.enqueue``."""

    def __init__(self, path: Path, ticket: Ticket, descriptor: int) -> None:
        self.path, self.ticket = path, ticket
        self._descriptor = descriptor

    @property
    def is_held(self) -> bool:
        """Whether the ticket is still locked by this process."""
        return self._descriptor >= 0

    def grant(self, claims: tuple[Claim, ...]) -> None:
        """Record the granted claims. Call it within ``TicketQueue.locked``."""
        self._write(replace(self.ticket, granted=claims))

    def refresh(self) -> None:
        """Record that the holder still waits. Call it within ``TicketQueue.locked``."""
        self._write(replace(self.ticket, seen=time.monotonic()))

    def remove(self) -> None:
        """Remove the ticket from the queue. Idempotent."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.release()

    def release(self) -> None:
        """Unlock the ticket and leave it in the queue. Idempotent.

        A dispatcher will hold it, or its container may be about to use its grant.
        """
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, ticket: Ticket) -> None:
        _write(self._descriptor, ticket)
        self.ticket = ticket


class TicketQueue:
    """The lock and the tickets of one engine.

    Args:
        folder: the queue's folder, see ``place.open_folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the queue's lock during the block, which should take a few small requests at most.

        Raises:
            EngineUnavailable: the lock was not acquired within ``LOCK_TIMEOUT_S`` seconds; the
                folder does not exist or cannot be written to; its disk is full.
        """
        try:
            with contextlib.ExitStack() as stack:
                lock = locks.locked(self.folder, create=False, timeout_s=LOCK_TIMEOUT_S)
                try:
                    stack.enter_context(lock)
                except SessionTimeout as error:
                    raise EngineUnavailable(
                        f"{self.folder} has been locked for {LOCK_TIMEOUT_S:g} s",
                        f"see which process holds it: fuser -v {quoted(self.folder)}",
                    ) from error
                yield
        except OSError as error:
            raise EngineUnavailable(
                f"cannot use the GPU queue at {self.folder}: {error.strerror or error}",
                "try again; the folder is recreated if it does not exist",
            ) from error

    def tickets(self) -> list[Ticket]:
        """Return the valid tickets whose holders are not suspended, in the order of service."""
        valid, dispatchers = [], {}
        for path in self._paths():
            ticket = _read(path)
            if ticket is None:
                continue
            live = _is_locked(path)
            if live and not ticket.granted and time.monotonic() - ticket.seen > STALE_S:
                continue
            if not live and ticket.enqueued:
                if ticket.installation not in dispatchers:
                    dispatchers[ticket.installation] = self.has_dispatcher(ticket.installation)
                live = dispatchers[ticket.installation] or _age_s(path) < ENQUEUED_GRACE_S
            if live:
                valid.append(ticket)
            elif ticket.granted and _age_s(path) < GRANTED_GRACE_S:
                valid.append(replace(ticket, orphaned=time.time() - _age_s(path)))
        return sorted(valid, key=lambda ticket: ticket.order)

    def has_orphaned_grant(self, installation: str) -> bool:
        """Return whether a process of an installation died between a grant and its use."""
        for path in self._paths():
            if _is_locked(path) or _age_s(path) >= GRANTED_GRACE_S:
                continue
            ticket = _read(path)
            own = ticket is not None and ticket.installation == installation
            if ticket and own and ticket.granted and not ticket.enqueued:
                return True
        return False

    def version(self) -> int:
        """Return a number that changes whenever a ticket is enqueued or removed."""
        try:
            return self.folder.stat().st_mtime_ns
        except OSError:
            return 0

    def enqueue(self, ticket: Ticket) -> HeldTicket:
        """Put a ticket into the queue, locked by this process. Call it within ``locked``.

        It replaces an earlier ticket of the same session.

        Args:
            ticket: the ticket; if ``since`` is 0 it becomes the last of its priority.
        """
        self.sweep(ticket.installation)
        if not ticket.since:
            newest = max((other.since for other in map(_read, self._paths()) if other), default=0)
            ticket = replace(ticket, since=max(time.time_ns(), newest + 1))
        ticket = replace(ticket, seen=time.monotonic())
        path = self._path(ticket.id)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        os.fchmod(descriptor, 0o640)  # despite the umask: other users must be able to read it
        locks.lock(descriptor)
        _write(descriptor, ticket)
        return HeldTicket(path, ticket, descriptor)

    def has_ticket(self, session_id: str) -> bool:
        """Return whether a session has a ticket, valid or not."""
        return _read(self._path(session_id)) is not None

    def discard(self, session_id: str) -> None:
        """Remove a session's ticket, whichever process enqueued it. Idempotent."""
        with contextlib.suppress(OSError):
            self._path(session_id).unlink()

    def sweep(self, installation: str) -> None:
        """Delete this user's invalid tickets of an installation. Call it within ``locked``.

        Files of this user that are not valid tickets are deleted too.
        """
        valid = {ticket.id for ticket in self.tickets()}
        for path in self._paths():
            with contextlib.suppress(OSError):
                own = path.lstat().st_uid == os.getuid()
                if own and path.name[2:] not in valid and not _is_locked(path):
                    ticket = _read(path)
                    if ticket is None or ticket.installation == installation:
                        path.unlink()

    # the dispatcher, which launches enqueued sessions

    def has_dispatcher(self, installation: str) -> bool:
        """Return whether an installation's dispatcher is running."""
        return _is_locked(self._dispatcher_path(installation))

    def become_dispatcher(self, installation: str) -> int | None:
        """Make this process an installation's dispatcher.

        Returns:
            A file descriptor for ``retire_dispatcher``; None if a dispatcher is running already.
        """
        path = self._dispatcher_path(installation)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        for _ in range(_DISPATCHER_TRIES):
            descriptor = os.open(path, flags, 0o640)
            # a link count of 0: the file of a dispatcher that has just retired
            if locks.lock(descriptor, wait=False) and os.fstat(descriptor).st_nlink:
                os.fchmod(descriptor, 0o640)  # despite the umask: others must see the lock
                return descriptor
            os.close(descriptor)
            time.sleep(_DISPATCHER_PAUSE_S)
        return None

    def retire_dispatcher(self, installation: str, descriptor: int) -> None:
        """Stop being the dispatcher. Call it within ``locked``.

        Args:
            installation: the installation's id.
            descriptor: as ``become_dispatcher`` returned it; it is closed.
        """
        with contextlib.suppress(OSError):
            self._dispatcher_path(installation).unlink()
        os.close(descriptor)

    def _paths(self) -> list[Path]:
        return list(self.folder.glob("t-*"))

    def _path(self, session_id: str) -> Path:
        return self.folder / f"t-{session_id}"

    def _dispatcher_path(self, installation: str) -> Path:
        return self.folder / f"d-{installation}"


def ticket_queue_of(engine: Engine) -> TicketQueue:
    """Return the ticket queue of an engine; see ``open_ticket_queue``."""
    return open_ticket_queue(engine.address if isinstance(engine, SupportsBinds) else "")


def open_ticket_queue(address: str) -> TicketQueue:
    """Return the ticket queue of an engine, and create its folder if it does not exist.

    Args:
        address: the address of the engine's socket, ``unix:///path``; see ``place.shared_place``.

    Raises:
        EngineError: the folder cannot be created, or its path is taken by another user's file.
    """
    return TicketQueue(place.open_folder(address))


def _is_locked(path: Path) -> bool:
    """Return whether a live process holds a queue file, which another user may have created."""
    try:
        descriptor = _open(path)
    except OSError:
        return False
    try:
        return locks.is_locked(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open a regular file for reading, and return its file descriptor.

    Raises:
        OSError: it does not exist, or is not a regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return descriptor


def _age_s(path: Path) -> float:
    """Return the seconds since a ticket was written; ``ENQUEUED_GRACE_S`` if it is missing."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return ENQUEUED_GRACE_S


def _write(descriptor: int, ticket: Ticket) -> None:
    fields: dict[str, Any] = vars(ticket) | {
        "request": ticket.request.to_dict(),
        "granted": to_label(ticket.granted),
    }
    text = json.dumps(fields).encode()
    # in place: the lock belongs to this file and would not apply to a replacement
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _read(path: Path) -> Ticket | None:
    """Return the ticket in a file; None if the file does not exist or is not a valid ticket."""
    try:
        with open(_open(path), "rb") as file:
            fields = parse_json(file.read(_TICKET_BYTES_MAX))
        return Ticket(
            id=str(fields["id"]),
            installation=str(fields["installation"]),
            user=one_line(fields["user"]),
            session=one_line(fields["session"]),
            request=Request.from_dict(fields["request"]),
            priority=int(fields["priority"]),
            since=int(fields["since"]),
            granted=from_label(str(fields["granted"])),
            enqueued=bool(fields["enqueued"]),
            seen=float(fields["seen"]),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
