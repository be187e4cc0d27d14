"""The life of a session that is made: start, stop, remove, hold, update."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mooring import ports
from mooring.engines.base import Bind
from mooring.errors import (
    Cancelled,
    CommandError,
    EngineError,
    MooringError,
    PolicyError,
    SessionStateError,
    SessionTimeout,
    SpecError,
)
from mooring.gpus.claims import Claim, Request, in_words
from mooring.gpus.tickets import Ticket
from mooring.guest import shared
from mooring.host import paths
from mooring.host.users import caller
from mooring.images import mounts
from mooring.launch import plan
from mooring.launch.create import remove_container
from mooring.service.sessions import Sessions
from mooring.sessions import recreate
from mooring.sessions.model import COMING, Session, State
from mooring.sessions.record import Folder, boot_id
from mooring.terminals.terminal import MainTerminal

CANCEL_PATIENCE_S = 30.0


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """What a full disk does to a file of mooring's becomes one of its own errors."""
    try:
        yield
    except OSError as error:
        raise MooringError(
            f"cannot write a file of mooring's: {error}", "is the disk full?"
        ) from error


class Lifecycle(Sessions):
    """What changes a session."""

    @disk_errors()
    def start(
        self,
        name: str,
        *,
        progress: plan.Progress = lambda text: None,
        cancelled: Callable[[], bool] = lambda: False,
        max_wait_s: float | None = None,
    ) -> Session:
        """Start a stopped session again: same files, same packages, a new clock. Idempotent.

        One with GPUs waits for as many as it had, and would rather have the same ones; with others
        its container is made anew, over the same files.

        Args:
            progress: called with a line whenever what is waited for changes.
            cancelled: asked several times a second; True gives it up.
            max_wait_s: how long to wait for GPUs; None for as long as it takes.

        Raises:
            SessionNotFound, SessionStateError, EngineError
            NoCapacity: there are no such GPUs any more.
            SessionTimeout: no turn within ``max_wait_s``.
            Cancelled
            PolicyError: the administrator's policy does not allow it any more.
            CommandError: its command is not there any more; it stays stopped.
        """
        from mooring.policy import limits

        session = self.get(name)
        if session.state is State.RUNNING:
            return session
        if not session.container or session.state in COMING:
            raise SessionStateError(
                f"session {session.name} is {session.state} and cannot be started",
                f"remove what is left: mooring rm {session.name}"
                if session.state is State.LOST
                else "mooring ps shows its state",
            )
        folder = Folder.open(session.id)
        if not folder.exists:
            raise SessionStateError(
                f"session {session.name} has lost its folder and cannot be started",
                f"remove what is left: mooring rm {session.name}",
            )
        # what is there now counts, if every path still leads to itself and not through a new link
        granted = [Bind(source, target) for source, target in folder.record().get("mounts", [])]
        limits.check_again(
            session.spec,
            [(f"mount at {bind.target}", Path(bind.source)) for bind in granted],
            self.deadlines(session).get("max_duration"),
        )
        with self._claimed_again(session, progress, cancelled, max_wait_s) as claims:
            container = session.container
            others = set(claims) != set(session.claims)
            if others or recreate.limits_changed(session, claims):
                progress(f"going on with other {'GPUs' if others else 'limits of its GPUs'}")
                container = recreate.move(self.engine, session, claims)
            shared.write(folder.run, "mounts", mounts.identities(folder, granted))
            for stale in ("end", "status", "hold", "checked", "kernelhost.log"):
                shared.remove(folder.run, stale)
            folder.update_record(boot_id=boot_id())
            if self._main_kind(session) == "terminal":
                MainTerminal(self.engine, folder).keep(container, None)
            ports.start(self.engine, container)
            try:
                plan.await_check(self.engine, folder, container)
            except (PolicyError, CommandError) as error:
                self.engine.stop(container, grace_s=1.0)
                if claims:
                    self.gate.forget(session.id)
                folder.update_record(changed_at=time.time())
                self.history.add(session.id, "failed", self.actor, error.message)
                raise
            # not before it runs: who looks meanwhile would take it to have ended once more
            folder.update_record(end_recorded=False, out_of_memory=None, changed_at=time.time())
        self.history.session_resumed(session.id)
        self.history.add(session.id, "started", self.actor, "again")
        return self._named(session.id, session.name)

    def stop(self, session: Session, *, grace_s: float = plan.GRACE_S, force: bool = False) -> None:
        """End everything in a session and keep its files. Idempotent.

        SIGTERM to every process, SIGKILL after ``grace_s`` seconds. One that is being created, or
        waits for its turn, is cancelled, and nothing of it is left.

        Args:
            force: one of another installation too. Its history is its owner's to write.

        Raises:
            PolicyError: it is another's.
            EngineError
        """
        if session.foreign:
            if not force:
                raise PolicyError(
                    f"session {session.name} belongs to {session.owner}",
                    "ask them; to stop it all the same: mooring stop --force",
                )
            self._end_inside(session, grace_s)
            self.engine.stop(session.container, grace_s=1.0)
            return
        coming = session.state in COMING or Folder.open(session.id).being_created()
        if coming:  # or being started: it has its GPUs
            if self._cancel(session):
                return
            session = self._fresh(session)
        if session.state in (State.STOPPED, State.LOST) or not session.container:
            return
        self._end_inside(session, grace_s)
        self.engine.stop(session.container, grace_s=1.0)
        detail = self.engine.inspect(session.container)
        folder = Folder.open(session.id)
        with contextlib.suppress(OSError):
            if folder.end() is None:
                text = f"reason stopped\ntime {time.time():.0f}\ndetail by {self.actor}\n"
                shared.write(folder.run, "end", text)
            folder.update_record(end_recorded=True, changed_at=time.time())
        self.history.add(session.id, "stopped", self.actor)
        self.history.session_ended(
            session.id,
            at=time.time(),
            reason=f"stopped by {self.actor}",
            exit_code=detail.exit_code if detail else None,
        )

    def remove(self, session: Session, *, force: bool = False) -> None:
        """Remove a session: its container, its private home, its kernels' keys. Idempotent.

        Outputs and all else that is mounted stay. History stays.

        Args:
            force: a running one too; one that is being created, or started, is cancelled.

        Raises:
            SessionStateError: it runs, or is about to.
            PolicyError: it is another's.
            EngineError, MooringError
        """
        if session.foreign:
            raise PolicyError(
                f"session {session.name} belongs to {session.owner}", "only they can remove it"
            )
        coming = session.state in COMING or Folder.open(session.id).being_created()
        if (coming or session.state in (State.RUNNING, State.PAUSED)) and not force:
            ended = session.state in (State.STOPPED, State.LOST)
            raise SessionStateError(
                f"session {session.name} is {'being started' if ended else session.state}",
                f"stop it first, or: mooring rm -f {session.name}",
            )
        if coming:
            if self._cancel(session):
                return
            session = self._fresh(session)
        ended = session.state in (State.STOPPED, State.LOST)
        remove_container(self.engine, session.id, session.container)
        folder = Folder.open(session.id)
        recreate.forget(self.engine, folder)
        if folder.exists:
            folder.remove()
        self.history.add(session.id, "removed", self.actor)
        if not ended:
            self.history.session_ended(
                session.id, at=time.time(), reason=f"removed by {self.actor}", exit_code=None
            )

    @disk_errors()
    def hold(self, session: Session, seconds: float) -> None:
        """Keep a session from idling out for so many seconds; 0 gives the hold up.

        Raises:
            SessionStateError: it does not run.
        """
        if session.state is not State.RUNNING:
            raise SessionStateError(
                f"session {session.name} is {session.state}: there is nothing to hold",
                f"start it first: mooring start {session.name}",
            )
        from mooring.spec.units import format_duration

        Folder.open(session.id).hold(seconds)
        detail = f"for {format_duration(seconds)}" if seconds else "given up"
        self.history.add(session.id, "held", self.actor, detail)

    def ends_in_s(self, session: Session) -> float | None:
        """When its maximum duration ends a session, in seconds from now; None for never."""
        longest = self.deadlines(session).get("max_duration")
        status = Folder.open(session.id).status()
        return max(0.0, longest - status.running_for_s) if longest and status else None

    @disk_errors()
    def update(
        self,
        session: Session,
        *,
        idle_timeout_s: float | None = None,
        max_duration_s: float | None = None,
    ) -> None:
        """Change the clock of a session, at once; None leaves a value, 0 means never.

        Raises:
            SpecError: the new maximum, or the new idle timeout, has passed already.
            PolicyError: it is longer than the administrator allows.
            SessionStateError: it does not run.
        """
        from mooring.policy import limits
        from mooring.spec.units import format_duration

        if session.state is not State.RUNNING:
            raise SessionStateError(
                f"session {session.name} is {session.state}: it has no clock to change",
                f"start it first: mooring start {session.name}",
            )
        if max_duration_s is not None:
            limits.load().check_duration(max_duration_s)
        folder = Folder.open(session.id)
        settings = folder.settings()
        status = folder.status()  # the clock's own time: the machine's may have been set
        if status is not None:
            resting = not (status.active or status.unknown or status.held_for_s)
            idle_s = status.last_signal_ago_s if resting else 0.0
            for new_s, passed_s, has in (
                (max_duration_s, status.running_for_s, "has run"),
                (idle_timeout_s, idle_s, "has been idle"),
            ):
                if new_s and new_s <= passed_s:
                    raise SpecError(
                        f"session {session.name} {has} for {format_duration(passed_s)} already",
                        f"to end it now: mooring stop {session.name}",
                    )
        changes = []
        for key, value in (("idle_timeout", idle_timeout_s), ("max_duration", max_duration_s)):
            if value is not None:
                settings[f"{key}_s"] = f"{value:g}"
                changes.append(f"{key} {format_duration(value) if value else 'never'}")
        folder.write_settings(**settings)
        self.history.add(session.id, "updated", self.actor, ", ".join(changes))

    # helpers

    @contextlib.contextmanager
    def _claimed_again(
        self,
        session: Session,
        progress: plan.Progress,
        cancelled: Callable[[], bool],
        max_wait_s: float | None,
    ) -> Iterator[tuple[Claim, ...]]:
        """GPUs for a stopped session that had some, while the block starts its container."""
        from mooring.spec.model import SessionSpec

        wanted = session.claims and Request.from_spec(
            SessionSpec.from_public_dict(session.spec).gpus
        )
        if not wanted:
            yield ()
            return
        folder, last = Folder.open(session.id), ""

        def tell(because: str) -> None:
            nonlocal last
            if cancelled() or folder.cancelled():
                raise Cancelled(f"the start of session {session.name} was cancelled")
            if because and because != last and max_wait_s != 0:
                if not last:
                    self.history.add(session.id, "queued", self.actor, because)
                last = because
                folder.tell_waiting(because)
                folder.mark_queued()
                progress(because)

        ticket = Ticket(
            id=session.id,
            installation=paths.installation_id(),
            user=caller().name,
            session=session.name,
            request=wanted.again(session.claims),
            priority=session.priority,
            since=0,
        )
        if not folder.take():
            raise SessionStateError(
                f"session {session.name} is being started already", "mooring ps shows its state"
            )
        try:
            now = self._named(session.id, session.name)
            if now.state is State.RUNNING or now.container != session.container:
                raise SessionStateError(
                    f"session {session.name} was started a moment ago", "mooring ps shows its state"
                )
            (folder.path / "cancel").unlink(missing_ok=True)
            with self.queue.claim(ticket, tell=tell, max_wait_s=max_wait_s) as claims:
                folder.unmark_queued()
                self.history.add(session.id, "granted", self.actor, in_words(claims))
                yield claims
        finally:
            folder.unmark_queued()
            (folder.path / "cancel").unlink(missing_ok=True)
            folder.release()

    def _end_inside(self, session: Session, grace_s: float) -> None:
        """Have a session's own clock end it, in order."""
        if session.state is not State.RUNNING:
            return
        with contextlib.suppress(EngineError):
            self.engine.exec_detached(
                session.container,
                ["/bin/sh", plan.CLOCK, "end", "stopped", f"by {self.actor}"],
            )
            with contextlib.suppress(MooringError):
                self.engine.wait(session.container, timeout_s=grace_s + 2.0)

    def _cancel(self, session: Session) -> bool:
        """Have who makes or starts it give up; False unless it is gone by that."""
        folder = Folder.open(session.id)
        deadline = time.monotonic() + CANCEL_PATIENCE_S
        while folder.exists and folder.being_created():
            if not folder.cancelled():
                folder.ask_cancel()
            if time.monotonic() > deadline:
                raise SessionTimeout(
                    f"the process that creates session {session.name} does not give up",
                    "end that process; what is left goes with the next mooring ps",
                )
            time.sleep(0.05)
        if folder.enqueued and not folder.ready and folder.take():  # nobody is at work on it
            try:
                if not folder.ready:  # its making has not ended a moment ago
                    remove_container(self.engine, session.id, "")
                    self.gate.forget(session.id)
                    self.history.add(session.id, "cancelled", self.actor)
                    self.history.session_ended(
                        session.id, at=time.time(), reason="cancelled before it ran", exit_code=None
                    )
                    folder.remove()
            finally:
                folder.release()
        return not folder.exists
