"""Where all who share an engine agree on who is next: one lock, and a ticket for each who waits.

The folder lies where every user of the engine can reach it and nobody else: it has the group of
the engine's socket. A ticket is a file that its holder keeps locked. The operating system lets
go of locks however a process ends, so a ticket counts exactly as long as somebody answers for it,
and nothing has to be cleaned up before the next one's turn.

What a session that runs has claimed is written on its container, not here. A ticket tells what
was granted only until the container runs. One whose holder died in between counts for a minute
longer: an engine that was asked to start a container starts it, whoever still waits for that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mooring.engines.base import Engine
from mooring.errors import EngineError, EngineUnavailable
from mooring.gpus.claims import Claim, Request, from_label, to_label
from mooring.host import paths

log = logging.getLogger(__name__)

LOCK_PATIENCE_S = 60.0
#: An enqueued ticket counts so long although nobody holds it: its dispatcher is about to start.
GRACE_S = 15.0
#: A granted one that nobody holds counts so long: its container may be about to run.
START_S = 60.0
#: One whose holder has not looked for so long is passed over: it is suspended, and keeps its place.
ASLEEP_S = 30.0
#: So often a dispatcher tries to be the one: whoever asks whether there is one locks for a moment.
TRIES, TRY_S = 20, 0.01
SHARED_PLACES = ("/run/lock", "/var/lock", "/var/tmp")
_MODE = 0o3770  # the group's; new files are too; nobody deletes another's
_MAX_TICKET = 10_000


@dataclass(frozen=True)
class Ticket:
    """A place in the queue.

    Attributes:
        id: the session's.
        installation, user, session: whose; ``session`` is its name.
        since: the order among equal priorities: nanoseconds, no two alike.
        granted: what it may take; empty while it waits.
        enqueued: its installation's dispatcher answers for it, not the process that drew it.
        orphaned: when it was granted, of one that nobody answers for any more, seconds since the
            epoch; else 0.
        seen: when its holder last looked, by the machine's monotonic clock.
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
        return (-self.priority, self.since)


class Drawn:
    """A ticket of this process's, with its lock."""

    def __init__(self, path: Path, ticket: Ticket, descriptor: int) -> None:
        self.path, self.ticket = path, ticket
        self._descriptor = descriptor

    @property
    def held(self) -> bool:
        """Whether it still has its lock."""
        return self._descriptor >= 0

    def grant(self, claims: tuple[Claim, ...]) -> None:
        """Write down what it may take; within ``Gate.locked``."""
        self._write(replace(self.ticket, granted=claims))

    def look(self) -> None:
        """Show that somebody waits with it; within ``Gate.locked``."""
        self._write(replace(self.ticket, seen=time.monotonic()))

    def leave(self) -> None:
        """Leave the queue. Idempotent."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.let_go()

    def let_go(self) -> None:
        """Give up the lock and leave the ticket: its dispatcher is going to hold it, or what was
        granted may be about to be used."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, ticket: Ticket) -> None:
        _fill(self._descriptor, ticket)
        self.ticket = ticket


class Gate:
    """The lock and the tickets of one engine.

    Args:
        folder: made by ``open_gate``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else decides meanwhile. Held for the time of a few small requests.

        Raises:
            EngineUnavailable: somebody holds it for a minute; the folder is gone, cannot be
                written to, or its disk is full.
        """
        descriptor = -1
        try:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            deadline = time.monotonic() + LOCK_PATIENCE_S
            pause_s = 0.001
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"{self.folder} has been locked for {LOCK_PATIENCE_S:g} s",
                        f"see who holds it: fuser -v {self.folder}",
                    )
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.05)
            yield
        except OSError as error:
            raise EngineUnavailable(
                f"the queue for GPUs at {self.folder} cannot be used: {error.strerror or error}",
                "try again; without that folder it is made anew",
            ) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def tickets(self) -> list[Ticket]:
        """Those that somebody answers for, and who is awake, the first to be served first."""
        found, dispatchers = [], {}
        for path in self.folder.glob("t-*"):
            ticket = _read(path)
            if ticket is None:
                continue
            live = _is_held(path)
            if live and not ticket.granted and time.monotonic() - ticket.seen > ASLEEP_S:
                continue
            if not live and ticket.enqueued:
                if ticket.installation not in dispatchers:
                    dispatchers[ticket.installation] = self.dispatched(ticket.installation)
                live = dispatchers[ticket.installation] or _age_s(path) < GRACE_S
            if live:
                found.append(ticket)
            elif ticket.granted and _age_s(path) < START_S:
                found.append(replace(ticket, orphaned=time.time() - _age_s(path)))
        return sorted(found, key=lambda ticket: ticket.order)

    def forsaken(self, installation: str) -> bool:
        """Whether somebody of that installation died between being granted GPUs and using them."""
        for path in self._files():
            if _is_held(path) or _age_s(path) >= START_S:
                continue
            ticket = _read(path)
            own = ticket is not None and ticket.installation == installation
            if ticket and own and ticket.granted and not ticket.enqueued:
                return True
        return False

    def changed(self) -> int:
        """Another number whenever a ticket was drawn or has left."""
        try:
            return self.folder.stat().st_mtime_ns
        except OSError:
            return 0

    def draw(self, ticket: Ticket) -> Drawn:
        """Take a place; within ``locked``. A ticket without ``since`` becomes the last one.

        One that this session has drawn before, and nobody holds any more, is replaced.
        """
        self.sweep(ticket.installation)
        if not ticket.since:
            newest = max((one.since for one in map(_read, self._files()) if one), default=0)
            ticket = replace(ticket, since=max(time.time_ns(), newest + 1))
        ticket = replace(ticket, seen=time.monotonic())
        path = self.folder / f"t-{ticket.id}"
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        os.fchmod(descriptor, 0o640)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _fill(descriptor, ticket)
        return Drawn(path, ticket, descriptor)

    def knows(self, session_id: str) -> bool:
        """Whether a session has a ticket, whoever answers for it."""
        return _read(self.folder / f"t-{session_id}") is not None

    def forget(self, session_id: str) -> None:
        """Take a session's ticket away, whoever drew it."""
        with contextlib.suppress(OSError):
            (self.folder / f"t-{session_id}").unlink()

    def sweep(self, installation: str) -> None:
        """Delete this user's tickets that nobody answers for; within ``locked``."""
        live = {ticket.id for ticket in self.tickets()}
        for path in self._files():
            with contextlib.suppress(OSError):
                mine = path.lstat().st_uid == os.getuid()
                if mine and path.name[2:] not in live and not _is_held(path):
                    ticket = _read(path)
                    if ticket is None or ticket.installation == installation:
                        path.unlink()

    # who starts what was left to wait

    def dispatched(self, installation: str) -> bool:
        """Whether a dispatcher of that installation lives."""
        return _is_held(self.folder / f"d-{installation}")

    def become_dispatcher(self, installation: str) -> int | None:
        """The descriptor that makes this process the dispatcher; None if there is one."""
        path = self.folder / f"d-{installation}"
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        for _ in range(TRIES):
            descriptor = os.open(path, flags, 0o640)
            if _try_lock(descriptor) and os.fstat(descriptor).st_nlink:  # or its last has retired
                os.fchmod(descriptor, 0o640)  # whatever the umask is: others must see that it lives
                return descriptor
            os.close(descriptor)
            time.sleep(TRY_S)
        return None

    def retire(self, installation: str, descriptor: int) -> None:
        """Be the dispatcher no longer; within ``locked``."""
        with contextlib.suppress(OSError):
            (self.folder / f"d-{installation}").unlink()
        os.close(descriptor)

    def _files(self) -> list[Path]:
        return list(self.folder.glob("t-*"))


def gate_of(engine: Engine) -> Gate:
    """``open_gate`` of an engine's address, if it has one."""
    return open_gate(getattr(engine, "address", ""))


def open_gate(address: str) -> Gate:
    """The gate of an engine.

    Args:
        address: of its socket, ``unix:///path``; what has none is this installation's alone.

    Raises:
        EngineError: the folder is there and is not what it should be: somebody stands in the way;
            or it cannot be made.
    """
    try:
        return _open_gate(address)
    except OSError as error:
        raise EngineError(
            f"the queue for GPUs cannot be made: {error}",
            "you must be in the group of the engine's socket, and the disk must not be full",
        ) from error


def _open_gate(address: str) -> Gate:
    socket = address.removeprefix("unix://")
    try:
        found = os.stat(socket)
    except OSError:
        found = None
    if found is None or not found.st_mode & stat.S_IWGRP or found.st_uid == os.getuid() != 0:
        own = paths.state_dir() / "queue"
        own.mkdir(mode=0o700, exist_ok=True)
        return Gate(own)
    name = hashlib.sha256(os.path.realpath(socket).encode()).hexdigest()[:12]
    place = next((path for path in SHARED_PLACES if _is_common(path)), "/tmp")
    folder = Path(place) / f"mooring-{name}"
    if not folder.exists():
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=place))
        try:
            os.chown(draft, -1, found.st_gid)
            draft.chmod(_MODE)
            (draft / "made").touch()  # a folder takes an empty one's place, and locks go with that
            with contextlib.suppress(OSError):  # somebody else was quicker
                draft.rename(folder)
        finally:
            with contextlib.suppress(OSError):
                (draft / "made").unlink(missing_ok=True)
                draft.rmdir()
    made = folder.lstat()
    if not stat.S_ISDIR(made.st_mode) or made.st_gid != found.st_gid or made.st_mode & 0o007:
        raise EngineError(
            f"{folder} is not the queue of the engine at {socket}",
            "somebody else has made it: have it removed",
        )
    return Gate(folder)


def _is_common(path: str) -> bool:
    """A folder in which everybody may make files, and nobody delete another's."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISDIR(mode) and mode & 0o1777 == 0o1777


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_held(path: Path) -> bool:
    try:
        descriptor = _opened(path)
    except OSError:
        return False
    try:
        # shared: two that ask at once must not take each other for the holder
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _opened(path: Path) -> int:
    """A file to read.

    Raises:
        OSError: it is not there, or something else than a file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no file")
    return descriptor


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return GRACE_S


def _fill(descriptor: int, ticket: Ticket) -> None:
    said: dict[str, Any] = vars(ticket) | {
        "request": ticket.request.to_dict(),
        "granted": to_label(ticket.granted),
    }
    text = json.dumps(said).encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _read(path: Path) -> Ticket | None:
    """A ticket as it stands; None for what is none (any more)."""
    try:
        with open(_opened(path), "rb") as file:
            said = json.loads(file.read(_MAX_TICKET))
        return Ticket(
            id=str(said["id"]),
            installation=str(said["installation"]),
            user=str(said["user"]),
            session=str(said["session"]),
            request=Request.from_dict(said["request"]),
            priority=int(said["priority"]),
            since=int(said["since"]),
            granted=from_label(str(said["granted"])),
            enqueued=bool(said["enqueued"]),
            seen=float(said["seen"]),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
