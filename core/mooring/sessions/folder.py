"""A session's folder on this machine, and the files that coordinate its creation.

::

    sessions/ID/            0700, the caller's
      record.json           see sessions/record.py: written before the container exists
      lock                  held by the process that creates or starts it; released at its exit
      ready                 the creation is complete; without it and the lock held, it is removed
      waiting               what the creation waits for now, in one line
      cancel                requests that the creation be cancelled; polled by the creator
      queued                the session waits for its GPUs
      enqueued              the launch that ``--enqueue-only`` left to the dispatcher; private
      refused               the version of mooring that cannot read ``enqueued``
      lease, keeper         locks of a session bound to a process's life, see sessions/lease.py
      k/                    hard links to the kernels' sockets: the paths that clients connect to
      kernels/              which client owns each kernel, see sessions/kernel_owners.py
      home/                 the private home (unless the spec mounts the real one)
      secrets/              one file (mode 0400) per secret, read-only in the container
      etc/                  passwd and group with the caller added; not always mounted for root
      empty/                always empty: mounted read-only over paths hidden from the container
      run/                  /run/mooring in the container; its files: see guest/*.sh and guest/*.py
      programs/             mooring's programs and settings, read-only in the container; the gate
      overdue               somebody who listed sessions has asked it to end
      unverified            its container has been started, and is not checked yet
      term/                 terminal keeper and recorded output, see terminals/keeper/server.py
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mooring._version import __version__
from mooring.errors import MooringError, SessionStateError
from mooring.guest.clock import Clock
from mooring.guest.paths import GUEST_RUN, programs_folder
from mooring.guest.shared import SharedGuest
from mooring.host import atomic, locks, trees
from mooring.host.paths import Installation
from mooring.host.processes import process_mark
from mooring.host.terminfo import description
from mooring.host.text import one_line, quoted
from mooring.host.untrusted import parse_json
from mooring.sessions import record
from mooring.sessions.home import HomeFiles, home_files
from mooring.sessions.record import Identity, Plan, RecordState, SessionRecord

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from mooring.sessions.record import StateChanges

_ID = re.compile("[0-9a-f]{12}")
#: The end of the name of a removed session's folder, until it is deleted.
GONE = ".gone"
_SUBFOLDERS = ("", "run", "run/k", "run/x", "programs", "home", "secrets", "etc", "empty")


def is_session_id(text: str) -> bool:
    """Return whether a text has the form of a session id; ids from labels are untrusted."""
    return _ID.fullmatch(text) is not None


class SessionFolder:
    """A session's folder, from ``create``, ``open`` or ``all``.

    Attributes:
        guest: its run folder, which the container can write to.
        programs: the folder of its programs and settings, which the container can only read.
        clock: its clock, which is read and controlled through these folders.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = path / "run"
        self.home = path / "home"
        self.secrets = path / "secrets"
        self.guest = SharedGuest(self.run)
        programs = path / "programs"
        # an earlier version wrote them to the run folder
        self.programs = SharedGuest(programs if programs.is_dir() else self.run)
        self.clock = Clock(self.guest, self.programs)
        self._lock: int | None = None

    @property
    def id(self) -> str:
        """The session's id."""
        return self.path.name

    @classmethod
    def create(
        cls, installation: Installation, identity: Identity, state: RecordState
    ) -> SessionFolder:
        """Create the folder with its record atomically, and hold its lock until ``release``.

        No other process ever sees the folder without a record, or unlocked while in creation.

        Args:
            installation: the installation that the session belongs to.
            identity: the first part of the record; its id names the folder.
            state: the initial state in the record.

        Raises:
            OSError: the folder cannot be written, for example because the disk is full.
        """
        final = installation.sessions / identity.id
        draft = final.with_name(f".{identity.id}.{process_mark(os.getpid())}.new")
        descriptor = None
        try:
            for name in _SUBFOLDERS:
                (draft / name).mkdir(mode=0o700, exist_ok=True)
            record.write(draft, identity, state)
            descriptor = os.open(draft / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            locks.lock(descriptor)  # the lock stays with the file when the folder is renamed
            draft.rename(final)
        except BaseException:
            if descriptor is not None:
                os.close(descriptor)
            with contextlib.suppress(OSError):  # a later sweep deletes it
                trees.remove_path(draft)
            raise
        folder = cls(final)
        folder._lock = descriptor
        return folder

    @classmethod
    def all(cls, installation: Installation) -> list[SessionFolder]:
        """Return the folders of all sessions of an installation."""
        return [
            cls(Path(entry.path))
            for entry in os.scandir(installation.sessions)
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        ]

    @classmethod
    def open(cls, installation: Installation, session_id: str) -> SessionFolder:
        """Return the folder of a session, which need not exist."""
        return cls(installation.sessions / session_id)

    @property
    def exists(self) -> bool:
        """Whether the session has a record."""
        return (self.path / record.RECORD).exists()

    @property
    def has_ended(self) -> bool:
        """Whether the session was ended by its clock, or removed."""
        return not self.exists or self.clock.end() is not None

    # the record

    def record(self) -> SessionRecord:
        """Read the session's record."""
        return record.read(self.path)

    def write_plan(self, plan: Plan) -> None:
        """See ``record.write_plan``."""
        record.write_plan(self.path, plan)

    def update_state(self, **changes: Unpack[StateChanges]) -> None:
        """See ``record.update_state``."""
        record.update_state(self.path, **changes)

    @property
    def has_owned_kernels(self) -> bool:
        """Whether there is a record of a kernel's owner."""
        return any(self.path.glob("kernels/*.json"))

    def home_files(self) -> HomeFiles:
        """Return what the session has written to its private home."""
        try:
            since = (self.path / "etc" / "passwd").stat().st_mtime  # after what was sent to it
        except OSError:
            return HomeFiles()
        return home_files(self.home, since)

    # creation

    @property
    def ready(self) -> bool:
        """Whether the creation is complete."""
        return (self.path / "ready").exists()

    def mark_ready(self) -> None:
        """Mark the creation as complete."""
        (self.path / "ready").touch()

    def write_waiting(self, text: str) -> None:
        """Set what the creation waits for, which listings show."""
        atomic.write_text(self.path / "waiting", text)

    def waiting(self) -> str:
        """Return what the creation waits for; empty for nothing."""
        try:
            return (self.path / "waiting").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def request_cancel(self) -> None:
        """Request that the creating process cancel; it checks at each step."""
        with contextlib.suppress(FileNotFoundError):  # already cancelled and removed
            (self.path / "cancel").touch()

    def cancel_requested(self, since: float = 0.0) -> bool:
        """Return whether cancellation is requested, and was at or after a time of the epoch."""
        try:
            # a file's time may be some milliseconds behind the clock
            return (self.path / "cancel").stat().st_mtime >= since - 0.05
        except OSError:
            return False

    def clear_cancel(self) -> None:
        """Withdraw an earlier ``request_cancel``."""
        (self.path / "cancel").unlink(missing_ok=True)

    @property
    def programs_target(self) -> str:
        """The folder of mooring's programs in the session's container."""
        return programs_folder(self.id) if self.has_gate else GUEST_RUN

    @property
    def terminfo_target(self) -> str:
        """The folder of its descriptions of terminals in the session's container."""
        return f"{self.programs_target}/terminfo"

    def describe_terminal(self, name: str) -> None:
        """Copy this machine's description of a terminal, which the image may lack.

        Args:
            name: as in ``TERM``; nothing happens if this machine has no such description.
        """
        data = description(name, os.environ)
        if data:
            with contextlib.suppress(OSError):
                self.programs.make_folder("terminfo")
                self.programs.make_folder(f"terminfo/{name[0]}")
                self.programs.write(f"terminfo/{name[0]}/{name}", data)

    @property
    def has_gate(self) -> bool:
        """Whether its container waits at its start until its mounts are checked."""
        return self.programs.root != self.run

    @property
    def unverified(self) -> bool:
        """Whether the container's mounts and command are not checked since its last start."""
        return (self.path / "unverified").exists()

    def refuse_unverified(self) -> None:
        """Refuse to run something in the container before it is checked.

        Raises:
            SessionStateError: its start is not complete.
        """
        if self.unverified:
            name = self.record().identity.name or self.id
            raise SessionStateError(
                f"session {name} is starting", f"see what it waits for: mooring why {name}"
            )

    def mark_unverified(self) -> None:
        """Mark the container as about to be started: nobody may use it before its check."""
        (self.path / "unverified").touch()

    def unmark_unverified(self) -> None:
        """Mark the container as checked, or as not running. Idempotent."""
        (self.path / "unverified").unlink(missing_ok=True)

    def overdue_since(self) -> float | None:
        """Return when the session was asked to end from here, in seconds since the epoch."""
        try:
            return (self.path / "overdue").stat().st_mtime
        except OSError:
            return None

    def mark_overdue(self) -> None:
        """Record that the session is asked to end from here, see ``sessions/overdue.py``."""
        (self.path / "overdue").touch()

    def forget_overdue(self) -> None:
        """Delete the mark of ``mark_overdue``. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "overdue").unlink()

    @property
    def queued(self) -> bool:
        """Whether the session waits for GPUs."""
        return (self.path / "queued").exists()

    def mark_queued(self) -> None:
        """Mark the session as waiting for GPUs."""
        (self.path / "queued").touch()

    def unmark_queued(self) -> None:
        """Mark the session as no longer waiting for GPUs. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "queued").unlink()

    @property
    def enqueued(self) -> bool:
        """Whether the launch was left to the dispatcher."""
        return (self.path / "enqueued").exists()

    def mark_enqueued(self, launch: dict[str, Any]) -> None:
        """Leave the launch to the dispatcher.

        Args:
            launch: JSON-serializable, see ``launch.enqueued.dump``.
        """
        self.mark_queued()
        atomic.write_text(self.path / "enqueued", json.dumps(launch))

    def read_enqueued(self) -> dict[str, Any]:
        """Return the launch that ``mark_enqueued`` wrote.

        Raises:
            OSError, ValueError: it cannot be read.
        """
        launch: dict[str, Any] = parse_json((self.path / "enqueued").read_text())
        return launch

    @property
    def launchable(self) -> bool:
        """Whether the dispatcher can launch it: enqueued, not ready, and not refused."""
        return self.enqueued and not self.ready and not self.refused

    @property
    def refused(self) -> bool:
        """Whether this version of mooring could not read the launch."""
        try:
            return (self.path / "refused").read_text(errors="replace") == __version__
        except OSError:
            return False

    def refuse(self, why: str) -> None:
        """Record that this version cannot read the launch; listings show ``why``."""
        atomic.write_text(self.path / "refused", __version__)
        self.write_waiting(why)

    # the lock of the process that creates or starts it

    def acquire(self) -> bool:
        """Acquire the lock of an existing folder; return False if another process holds it."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        if not locks.try_lock(descriptor):
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def in_creation(self) -> bool:
        """Return whether a live process is creating or starting the session."""
        return locks.is_held(self.path / "lock")

    def remove(self) -> None:
        """Delete the folder, and end the keeper of its terminals.

        Raises:
            MooringError: some of its content cannot be deleted; everything else is.
        """
        from mooring.terminals.keeper.client import end_keeper

        end_keeper(self.path)  # first: it writes to the folder
        gone = self.path.with_name(f".{self.id}{GONE}")
        with contextlib.suppress(OSError):
            self.path.rename(gone)
        try:
            trees.remove_path(gone)
        except OSError as error:
            raise undeletable(gone, error) from error


def undeletable(path: Path, error: OSError) -> MooringError:
    """The error for files of a removed session that cannot be deleted, with what deletes them.

    Args:
        path: the session's former folder.
        error: the first error of ``trees.remove_path``.
    """
    name = error.filename if isinstance(error.filename, str) else ""
    what = f": {one_line(name)}" if name else ""
    return MooringError(
        f"cannot delete {path}{what}: {error.strerror or error}",
        f"as root: rm -rf -- {quoted(path)}",
    )
