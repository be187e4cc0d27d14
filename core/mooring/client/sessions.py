"""``Mooring.sessions``."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.engines.base import ResourceLimits, Stream
from mooring.launch.options import LaunchOptions
from mooring.launch.wait import Wait
from mooring.sessions import find, lifecycle, processes, update, waiting
from mooring.sessions.context import Context
from mooring.sessions.model import Session
from mooring.sessions.reconcile import Repairs, unknown_sessions
from mooring.sessions.waiting import Ending

if TYPE_CHECKING:
    from mooring.launch.create import Created
    from mooring.launch.plan import LaunchPlan
    from mooring.sessions.history import Event, PastSession
    from mooring.spec.resolve import ResolvedSpec

_AS_LONG_AS_IT_TAKES = Wait()
_DEFAULTS = LaunchOptions()
_NO_LIMITS = ResourceLimits()


class Sessions:
    """The sessions of one installation on one engine."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    # listing

    def list(self, *, all_users: bool = False) -> builtins.list[Session]:
        """Run the reconciler and return all sessions of this installation, newest first.

        Args:
            all_users: also return sessions of other installations on the engine; they have no
                clock and no kernels here.

        Raises:
            EngineUnavailable: ``unknown`` returns the sessions without the engine.
        """
        return find.list_sessions(self._ctx, all_users=all_users)

    def reconcile(self) -> tuple[builtins.list[Session], Repairs]:
        """Return as ``list``, and what was repaired. Raises EngineUnavailable."""
        return find.list_and_repair(self._ctx)

    def unknown(self) -> builtins.list[Session]:
        """Return the completely created sessions, in state ``unknown``, without the engine."""
        return unknown_sessions(self._ctx)

    def get(self, name: str) -> Session:
        """Return the session with a name, or whose id begins with it (at least four characters).

        Raises:
            SessionNotFound: no session matches, or several do; the error lists them.
            EngineUnavailable
        """
        return find.get(self._ctx, name)

    def find(self, patterns: Sequence[str]) -> builtins.list[Session]:
        """Return the sessions that match names, ids or shell patterns, in that order, each once.

        Raises:
            SessionNotFound: a pattern matches no session.
            EngineUnavailable
        """
        return find.find(self._ctx, patterns)

    def find_foreign(self, name: str) -> builtins.list[Session]:
        """Return other installations' sessions by name or id prefix. Raises EngineUnavailable.

        Args:
            name: a name, or at least four characters of an id; patterns match nothing.
        """
        return find.find_foreign(self._ctx, name)

    def get_running(self, name: str) -> Session:
        """Return a running session, with one small request to the engine and no repairs.

        If the name is not found that way, this falls back to ``get``.

        Raises:
            SessionNotFound: no session has that name.
            SessionStateError: the session does not run; the hint tells how to proceed.
            EngineUnavailable
        """
        return find.get_running(self._ctx, name)

    def ended(self, sessions: Sequence[Session]) -> builtins.list[Session]:
        """Return those of ``sessions`` that have ended, then those that are only in the history."""
        return find.ended(self._ctx, sessions)

    def events(self, session_id: str, after: int = 0) -> builtins.list[Event]:
        """Return a session's events with numbers above ``after``, in order."""
        return self._ctx.history.events(session_id, after)

    def past(self, name: str) -> PastSession | None:
        """Return the newest session in the history with a name, or whose id begins with it."""
        return self._ctx.history.find(name)

    # creation

    def plan(
        self,
        resolved: ResolvedSpec,
        cwd: Path | None = None,
        *,
        check_policy: bool = True,
        within: Path | None = None,
    ) -> LaunchPlan:
        """Plan the launch of a spec on this machine, without side effects.

        Args:
            resolved: the spec and where each value came from.
            cwd: the working directory, if it is inside the spec's project; None for the project.
            check_policy: check the spec against the administrator's policy.
            within: a folder, resolved, that the session is confined to: nothing of the user's
                outside it is mounted or read, neither now nor at the launch. None for no limit.

        Raises:
            SpecError, PolicyError, NotSupported, NoCapacity: it cannot be created.
        """
        from mooring.launch.plan import plan_launch

        return plan_launch(resolved, cwd, check_policy=check_policy, within=within)

    def dry_run(self, plan: LaunchPlan) -> bool:
        """Check all that can be checked of a plan without creating anything.

        Returns:
            Whether the engine has its image; otherwise ``create`` pulls it.

        Raises:
            MooringError: as ``create``, with all mistakes that were found.
        """
        from mooring.launch.check import dry_run

        return dry_run(self._ctx, plan)

    def create(
        self,
        declared: ResolvedSpec | LaunchPlan,
        options: LaunchOptions = _DEFAULTS,
        *,
        cwd: Path | None = None,
        wait: Wait = _AS_LONG_AS_IT_TAKES,
    ) -> Created:
        """Create and start a session; if that fails, nothing of it is left.

        Until it runs it is listed as ``starting``, or as ``pending`` while it waits for GPUs, and
        ``stop`` cancels it.

        Args:
            declared: a spec, or the plan that ``plan`` returned for it.
            options: how it is launched.
            cwd: as in ``plan``, for a spec.
            wait: how to wait for a pull and for GPUs.

        Raises:
            SpecError, PolicyError, TrustRequired, NotSupported: the spec is invalid or not allowed.
            SessionExists: the name is taken.
            NoCapacity: the GPU request can never be served on this machine.
            SessionTimeout: no GPUs within ``wait.max_wait_s``, or the container did not start.
            Cancelled: by ``wait``, or by ``stop`` or ``remove`` in any process.
            CommandError: its command cannot be run.
            ImageError: the image cannot be pulled or used.
            EngineError, EngineUnavailable: the engine failed, or cannot be reached.
        """
        from mooring.launch.create import create
        from mooring.launch.plan import LaunchPlan, plan_launch

        with lifecycle.disk_errors():
            plan = declared if isinstance(declared, LaunchPlan) else plan_launch(declared, cwd)
            return create(self._ctx, plan, options, wait)

    def find_or_create(
        self,
        resolved: ResolvedSpec,
        options: LaunchOptions,
        *,
        cwd: Path | None = None,
        wait: Wait = _AS_LONG_AS_IT_TAKES,
    ) -> Session:
        """Return the running session with a name; start it if stopped, create it if missing.

        Concurrent calls, also in several processes, return the same session.

        Args:
            resolved: the spec for a creation.
            options: ``name`` is the session's; the others are for a creation.
            cwd: as in ``plan``, for a creation.
            wait: how to wait; ``max_wait_s`` includes the wait for another process that creates or
                starts the session.

        Raises:
            MooringError: as ``create`` and ``start``.
        """
        from mooring.launch.start import find_or_create

        with lifecycle.disk_errors():
            return find_or_create(self._ctx, resolved, cwd, options, wait)

    # lifecycle

    def start(self, session: Session, *, wait: Wait = _AS_LONG_AS_IT_TAKES) -> Session:
        """Start a stopped session again, with its files and a new clock. Idempotent.

        A session with GPUs waits for the same number and prefers its previous devices; with
        different ones its container is recreated from a snapshot.

        Args:
            session: the session; what it is now counts, not what it was when it was listed.
            wait: how to wait for GPUs, and for another process that is starting it.

        Raises:
            SessionNotFound, EngineError
            SessionStateError: it cannot be started.
            NoCapacity: the GPU request can no longer be served on this machine.
            SessionTimeout: no GPUs within ``wait.max_wait_s``, or the container did not start.
            Cancelled: by ``wait``, or by ``stop`` or ``remove`` in any process.
            PolicyError: the administrator's policy no longer allows it.
            CommandError: its command no longer exists; it stays stopped.
        """
        from mooring.launch.start import start

        with lifecycle.disk_errors():
            return start(self._ctx, session, wait)

    def stop(
        self, session: Session, *, grace_s: float = lifecycle.GRACE_S, force: bool = False
    ) -> None:
        """End all processes of a session and keep its files. Idempotent.

        Processes get SIGTERM, and SIGKILL after the grace period. A session that is being created,
        or is queued, is cancelled, and nothing of it is left.

        Args:
            grace_s: grace period in seconds.
            force: also stop a session of another installation; its history is not written.

        Raises:
            PolicyError: it belongs to another installation, and ``force`` is not set.
            SessionTimeout: the process that creates it did not cancel.
            EngineError
        """
        lifecycle.stop(self._ctx, session, grace_s=grace_s, force=force)

    def remove(self, session: Session, *, force: bool = False) -> None:
        """Remove a session: its container, private home and kernel keys. Idempotent.

        Output folders, other mounted folders and the history are kept.

        Args:
            force: also remove a running session; one that is being created or started is cancelled.

        Raises:
            SessionStateError: it is running or being started, and ``force`` is not set.
            PolicyError: it belongs to another installation.
            SessionTimeout: the process that creates it did not cancel.
            EngineError, MooringError
        """
        lifecycle.remove(self._ctx, session, force=force)

    def hold(self, session: Session, seconds: float) -> None:
        """Suspend a session's idle timeout.

        Args:
            seconds: for how long, from now; 0 cancels the hold.

        Raises:
            SessionStateError: it does not run.
            MooringError: the disk is full.
        """
        lifecycle.hold(self._ctx, session, seconds)

    def update(
        self,
        session: Session,
        *,
        idle_timeout_s: float | None = None,
        max_duration_s: float | None = None,
        limits: ResourceLimits = _NO_LIMITS,
    ) -> None:
        """Change the deadlines of a running session, and the limits of one that runs or is stopped.

        Args:
            idle_timeout_s: idle timeout in seconds; 0 for never, None to keep the current value.
            max_duration_s: maximum duration in seconds; likewise.
            limits: the new limits; they stay when the session is stopped and started again.

        Raises:
            SpecError: a new deadline has passed already, or more memory is in use than the limit.
            PolicyError: the maximum duration is longer than the policy allows.
            NoCapacity: this machine has less memory.
            SessionStateError: it does not run, or is still being started.
            NotSupported: the engine cannot change limits.
            EngineError: the engine refuses a limit.
            MooringError: the disk is full.
        """
        update.update(
            self._ctx,
            session,
            idle_timeout_s=idle_timeout_s,
            max_duration_s=max_duration_s,
            limits=limits,
        )

    def deadlines(self, session: Session) -> dict[str, float]:
        """Return the current ``idle_timeout`` and ``max_duration`` in seconds; 0 for never."""
        return self._ctx.folder(session.id).clock.deadlines()

    def ends_in_s(self, session: Session) -> float | None:
        """Return the seconds until a session reaches its maximum duration; None for never."""
        return lifecycle.ends_in_s(self._ctx, session)

    def wait_until_started(
        self,
        session: Session,
        *,
        max_wait_s: float,
        progress: Callable[[str], None] = lambda text: None,
        remove_on_interrupt: bool = False,
    ) -> Session:
        """Wait until an enqueued session has started.

        Args:
            session: as ``create`` returned it for ``enqueue``.
            max_wait_s: timeout in seconds, after which the session stays in the queue.
            progress: called several times a second with what the session waits for.
            remove_on_interrupt: remove the session at KeyboardInterrupt and SystemExit.

        Returns:
            The session's current state: it runs, or has already ended.

        Raises:
            SessionTimeout: it did not start within ``max_wait_s``.
            SessionStateError: it could not be started, or was cancelled.
            EngineError
        """
        wait = waiting.wait_or_remove if remove_on_interrupt else waiting.wait_until_started
        return wait(self._ctx, session, max_wait_s=max_wait_s, progress=progress)

    def wait_until_ended(self, session: Session) -> int | None:
        """Wait until a session's main process has exited, and record it. Raises EngineError.

        Returns:
            Its exit code; None if unknown.
        """
        return waiting.wait_until_ended(self._ctx, session)

    def record_end(self, session: Session, code: int) -> Ending:
        """Record the end of a session whose main process has exited. Raises EngineError.

        Args:
            session: the session; removed if it was created with ``remove``.
            code: the exit code that a client of the main process has received.

        Returns:
            What ended it, and the exit code: the recorded one if the session is gone, because
            ``code`` is unreliable if another process removed it.
        """
        return waiting.record_end(self._ctx, session, code)

    def why_ended(self, session: Session) -> str:
        """Return what ended a session whose processes have ended. Raises EngineError.

        Returns:
            Its state and the reason, as in ``stopped: by ada``; empty if it still runs, which takes
            half a second to find out.
        """
        return waiting.why_ended(self._ctx, session)

    # processes

    def exec(
        self,
        session: Session,
        argv: Sequence[str],
        *,
        stdin: bool,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        mark: str = "",
    ) -> Stream:
        """Start a process without a terminal in a running session; it is activity until it exits.

        ``Mooring.terminals.open`` starts one in a terminal.

        Args:
            session: the running session.
            argv: the command; empty for a shell.
            stdin: keep standard input open.
            env: additional environment variables.
            workdir: working directory in the session; if it does not exist, the process prints an
                error and exits with code 125. None for the session's default.
            mark: an alphanumeric name by which ``signal`` finds the process; generated if empty.

        Raises:
            SessionNotFound, SessionStateError: the session has ended meanwhile.
            EngineError
        """
        return processes.exec_in(
            self._ctx, session, argv, stdin=stdin, env=env, workdir=workdir, mark=mark
        )

    def has_program(self, session: Session, name: str) -> bool:
        """Whether a running session has a program on its PATH; no activity. Raises EngineError."""
        return processes.has_program(self._ctx, session, name)

    def signal(self, session: Session, name: str, mark: str = "") -> None:
        """Send a signal to a process of a session. Raises EngineError.

        Args:
            session: the running session.
            name: the signal's name without ``SIG``: INT, TERM, HUP, …
            mark: the mark of a process that ``exec`` started, whose process group gets the signal;
                empty to signal the main process, through the container's init.
        """
        processes.send_signal(self._ctx, session, name, mark)

    def why_killed(self, session: Session, since: float) -> str:
        """Return why a process was killed: out of memory, or empty if unknown. Raises EngineError.

        Args:
            since: start of the period to check, in seconds since the epoch.
        """
        return processes.why_killed(self._ctx, session, since)

    def logs(
        self, session: Session, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[bytes]:
        """Yield the output of the main process. Raises EngineError.

        Args:
            follow: wait for further output until the process exits.
            tail: number of last lines to start from; None for all.
        """
        return processes.logs(self._ctx, session, follow=follow, tail=tail)
