"""What there is: sessions, alive and ended, GPUs, and history."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mooring.engines import open_engine
from mooring.engines.base import Container, Engine
from mooring.errors import MooringError, SessionNotFound, SessionStateError
from mooring.host import paths
from mooring.host.users import caller
from mooring.labels import LABEL_ID, LABEL_INSTALLATION, LABEL_NAME
from mooring.sessions.history import Event, History, PastSession
from mooring.sessions.model import (
    REBOOTED,
    Session,
    State,
    from_container,
    from_foreign,
    from_history,
    is_own,
)
from mooring.sessions.reconcile import Repairs, reconcile, unknown_sessions
from mooring.sessions.record import Folder, boot_id

if TYPE_CHECKING:
    from mooring.gpus.queue import GpuQueue, Waiting
    from mooring.gpus.tickets import Gate
    from mooring.gpus.usage import GpuUse

GPU_LOST = "gpu lost"


class Sessions:
    """The sessions of one installation on one engine, to be looked at.

    Args:
        engine: default is this machine's.
        actor: who asks, for the history; default is the user's name.
    """

    def __init__(self, engine: Engine | None = None, actor: str = "") -> None:
        self._engine = engine
        self.actor = actor or caller().name
        self.history = History(paths.state_dir() / "history.db")

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine()
        return self._engine

    @property
    def gate(self) -> Gate:
        """Where all who share the engine queue: to leave it nobody needs the policy.

        Raises:
            EngineError: its folder is not what it should be.
        """
        from mooring.gpus.tickets import gate_of

        return gate_of(self.engine)

    @property
    def queue(self) -> GpuQueue:
        """The GPUs of the engine's machine, and who waits for them.

        Raises:
            PolicyError, EngineError: the policy, or the queue's folder, is not what it should be.
        """
        from mooring.gpus.queue import GpuQueue
        from mooring.policy import limits

        return GpuQueue(
            self.engine,
            self.gate,
            paths.installation_id(),
            most_per_user=limits.load().max_gpus_per_user,
            policy=str(limits.POLICY_FILE),
            repair=self.reconcile,
        )

    def sessions(self, *, all_users: bool = False) -> list[Session]:
        """All sessions of this installation, the newest first; repairs what needs it.

        Args:
            all_users: those of other installations on the engine too. Of these only the
                container tells: they have no clock and no kernels here.

        Raises:
            EngineUnavailable: ``unknown()`` then tells what is known all the same.
        """
        found = self.reconcile()[0]
        if not all_users:
            return found
        mine = paths.installation_id()
        foreign = [
            from_foreign(row)
            for row in self.engine.list({LABEL_INSTALLATION: "", LABEL_ID: ""})
            if row.labels[LABEL_INSTALLATION] != mine
        ]
        return sorted([*found, *foreign], key=lambda s: s.created_at, reverse=True)

    def reconcile(self) -> tuple[list[Session], Repairs]:
        """``sessions``, with what was repaired."""
        sessions, repairs = reconcile(self.engine, self.history)
        gone = [one for one in repairs.half_created if not Folder.open(one).exists]
        with contextlib.suppress(MooringError):  # what is wrong with the queue is told elsewhere
            for session_id in gone:
                self.gate.forget(session_id)
        if any(session.state is State.PENDING for session in sessions):
            with contextlib.suppress(MooringError):  # and that the policy cannot be read, too
                self._dispatch()
        return sorted(self._with_gpus(sessions), key=lambda s: s.created_at, reverse=True), repairs

    def gpus(self) -> list[GpuUse]:
        """Every GPU of the machine, and who holds it; empty where there is none.

        Raises:
            EngineUnavailable
        """
        return self.queue.uses()

    def gpus_and_waiting(self) -> tuple[list[GpuUse], list[Waiting]]:
        """As ``gpus``, and who waits for some, the first to be served first.

        Raises:
            EngineUnavailable
        """
        return self.queue.uses_and_waiting()

    def made(self, session_id: str) -> Container | None:
        """The container of a session of this installation, whatever its state; None without."""
        mine = {LABEL_INSTALLATION: paths.installation_id(), LABEL_ID: session_id}
        return next(filter(is_own, self.engine.list(mine)), None)

    def unknown(self) -> list[Session]:
        """The sessions that there should be, while the engine does not answer."""
        return unknown_sessions()

    def get(self, name: str) -> Session:
        """The session with that name, or whose id begins with it (four characters at least).

        Raises:
            SessionNotFound: none, or several; the hint tells what there is.
        """
        found = self.find([name])
        if len(found) > 1:
            names = ", ".join(session.name for session in found)
            raise SessionNotFound(f"{name} stands for several sessions: {names}", "name one")
        return found[0]

    def find(self, patterns: Sequence[str]) -> list[Session]:
        """The sessions that names, ids or shell patterns stand for, each once, in that order.

        Raises:
            SessionNotFound: a pattern stands for nothing.
        """
        everything = self.sessions()
        found: dict[str, Session] = {}
        for pattern in patterns:
            matching = _matching(everything, pattern)
            if not matching:
                raise self._not_found(pattern, everything)
            found.update({session.id: session for session in matching})
        return list(found.values())

    def running(self, name: str) -> Session:
        """One running session, with one small request to the engine and no repairs.

        Raises:
            SessionNotFound: there is none of that name.
            SessionStateError: it does not run; the hint says how to go on.
        """
        mine = {LABEL_INSTALLATION: paths.installation_id()}
        rows = self.engine.list(mine | {LABEL_NAME: name})
        sessions = [from_container(row, boot_id()) for row in rows if is_own(row)]
        named = [session for session in sessions if session.name == name]
        session = named[0] if named else self.get(name)
        if session.state is not State.RUNNING:
            why = f" ({session.reason})" if session.reason else ""
            hint = {
                State.STOPPED: f"start it again: mooring start {session.name}",
                State.LOST: f"remove what is left: mooring rm {session.name}",
                State.STARTING: "wait until it runs: mooring ps",
                State.PENDING: f"see what it waits for: mooring why {session.name}",
            }.get(session.state, "mooring ps shows its state")
            if session.reason == REBOOTED:
                hint = f"start it again: mooring start {session.name}"
            raise SessionStateError(f"session {session.name} is {session.state}{why}", hint)
        return session

    def events(self, session_id: str, after: int = 0) -> list[Event]:
        return self.history.events(session_id, after)

    def ended(self, sessions: Sequence[Session]) -> list[Session]:
        """Those of ``sessions`` that have ended, then those that only history remembers.

        Each tells when it ended, also one whose clock did not end it.
        """
        past = {one.id: from_history(one) for one in self.history.ended()}
        known = {session.id for session in sessions}
        here = [
            dataclasses.replace(session, end=past[session.id].end)
            if session.end is None and session.id in past
            else session
            for session in sessions
            if session.state in (State.STOPPED, State.LOST)
        ]
        return here + [one for one in past.values() if one.id not in known]

    def deadlines(self, session: Session) -> dict[str, float]:
        """``idle_timeout`` and ``max_duration`` as they stand now, in seconds, 0 for never."""
        folder = Folder.open(session.id)
        found = {key: folder.setting_s(f"{key}_s") for key in ("idle_timeout", "max_duration")}
        return {key: seconds for key, seconds in found.items() if seconds is not None}

    def past(self, name: str) -> PastSession | None:
        """A session that history remembers, gone or not."""
        return self.history.find(name)

    # helpers

    def _main_kind(self, session: Session) -> str:
        """What the main process reads and prints on: a ``terminal``, ``streams`` or ``none``."""
        if session.spec.get("kernel") and not session.spec.get("command"):
            return "none"
        tty = Folder.open(session.id).record().get("tty", True)
        return "terminal" if tty else "streams"

    def _dispatch(self) -> None:
        """Have somebody start what was left to wait.

        Raises:
            PolicyError, EngineError: nobody could; as ``queue``.
        """
        from mooring.launch.dispatcher import ensure

        if any(folder.to_be_made for folder in Folder.all()):
            ensure(self.queue.gate, paths.installation_id())

    def _with_gpus(self, sessions: list[Session]) -> list[Session]:
        """The same, and of each that runs whether its GPUs are still there."""
        if not any(session.claims for session in sessions if session.state is State.RUNNING):
            return sessions
        from mooring.gpus.inventory import inventory
        from mooring.gpus.usage import lost

        gpus = inventory()

        def degraded(session: Session) -> bool:
            if session.state is not State.RUNNING or not session.claims:
                return False
            by_clock = session.clock is not None and session.clock.gpu_lost
            return by_clock or lost(session.claims, gpus)

        return [
            dataclasses.replace(session, degraded=GPU_LOST) if degraded(session) else session
            for session in sessions
        ]

    def _named(self, session_id: str, name: str) -> Session:
        mine = {LABEL_INSTALLATION: paths.installation_id(), LABEL_ID: session_id}
        rows = [row for row in self.engine.list(mine) if is_own(row)]
        if not rows:
            raise SessionNotFound(
                f"session {name} ended and was removed at once", f"mooring events {name} tells more"
            )
        return from_container(rows[0], boot_id())

    def _fresh(self, session: Session) -> Session:
        """The session as it is now, when its creation ended a moment ago."""
        try:
            return self._named(session.id, session.name)
        except SessionNotFound:
            return session

    def _not_found(self, pattern: str, everything: list[Session]) -> SessionNotFound:
        names = ", ".join(session.name for session in everything[:10])
        past = self.past(pattern)
        if past is not None:
            why = past.reason or "removed"
            return SessionNotFound(
                f"session {pattern} is gone ({why})", f"mooring events {pattern} tells its history"
            )
        return SessionNotFound(
            f"no session named {pattern}", f"there is: {names}" if names else "there is none now"
        )


def _matching(sessions: list[Session], pattern: str) -> list[Session]:
    named = [session for session in sessions if session.name == pattern]
    if named:
        return named
    if any(mark in pattern for mark in "*?["):
        return [s for s in sessions if fnmatch.fnmatchcase(s.name, pattern)]
    return [s for s in sessions if len(pattern) >= 4 and s.id.startswith(pattern)]
