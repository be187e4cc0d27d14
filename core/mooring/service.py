"""What all doors call: create, list, start, stop, remove, exec, attach, hold, update, why.

Synchronous and thread-safe. A door that lives in an event loop calls it in a thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mooring import blueprint, consent, guestfiles, mounts, moving, paths, ports
from mooring.creation import Creation, Manner, Steps, remove_container
from mooring.engines import open_engine
from mooring.engines.base import Bind, Container, Engine, Stream
from mooring.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    KernelError,
    MooringError,
    PolicyError,
    SessionNotFound,
    SessionStateError,
    SessionTimeout,
    SpecError,
)
from mooring.folder import GUEST_RUN, Folder, boot_id
from mooring.gpus.claims import Claim, Request, in_words
from mooring.gpus.gate import Ticket
from mooring.history import Event, History, PastSession
from mooring.kernels import KernelHandle, host_lives, others_live
from mooring.labels import LABEL_ID, LABEL_INSTALLATION, LABEL_NAME
from mooring.processes import process_mark
from mooring.reconcile import Repairs, reconcile, unknown_sessions
from mooring.session import (
    REBOOTED,
    Session,
    State,
    from_container,
    from_foreign,
    from_history,
    from_record,
    is_own,
    out_of_memory,
)
from mooring.terminals.keeper import (
    UNTYPED_KEYS,
    Keeping,
    Kept,
    MainTerminal,
    TerminalEntry,
    exec_id_of,
    terminals,
)
from mooring.terminals.wire import MAIN
from mooring.users import caller

if TYPE_CHECKING:
    from mooring.config import ResolvedSpec
    from mooring.gpus.holders import GpuUse
    from mooring.gpus.queue import GpuQueue
    from mooring.mounts import Grant

CANCEL_PATIENCE_S = 30.0
GPU_LOST = "gpu lost"

log = logging.getLogger(__name__)

# $0 the signal, $1 where an exec writes its number: not yet, if it was started a moment ago.
# Each exec is the leader of its group.
_SIGNAL_EXEC = """
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if read -r pid _ <"$1"; then kill "-$0" "-$pid"; exit; fi
    sleep 0.2
done 2>/dev/null
"""


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MooringError(
            f"cannot write a file of mooring's: {error}", "is the disk full?"
        ) from error


@dataclass(frozen=True)
class Created:
    """A session that runs, and the stream to its main process if one was asked for."""

    session: Session
    stream: Stream | None


@contextlib.contextmanager
def _patiently_locked(lock: Path, name: str, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock that others may hold for as long as a pull takes.

    Raises:
        Cancelled: ``cancelled`` said so meanwhile.
    """
    import filelock

    held = filelock.FileLock(lock)
    while True:
        try:
            held.acquire(timeout=0.2)
            break
        except filelock.Timeout:
            if cancelled():
                raise Cancelled(f"the wait for session {name} was cancelled") from None
    try:
        yield
    finally:
        held.release()


class Mooring:
    """The sessions of one installation on one engine.

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
    def queue(self) -> GpuQueue:
        """The GPUs of the engine's machine, and who waits for them.

        Raises:
            PolicyError, EngineError: the policy, or the queue's folder, is not what it should be.
        """
        from mooring import policy
        from mooring.gpus.gate import open_gate
        from mooring.gpus.queue import GpuQueue

        return GpuQueue(
            self.engine,
            open_gate(getattr(self.engine, "address", "")),
            paths.installation_id(),
            most_per_user=policy.load().max_gpus_per_user,
            policy=str(policy.POLICY_FILE),
            repair=self.reconcile,
        )

    # looking

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
        with contextlib.suppress(MooringError):  # a policy that cannot be read is told elsewhere
            for session_id in gone:
                self.queue.gate.forget(session_id)
        if any(session.state is State.PENDING for session in sessions):
            self._dispatch()
        return sorted(self._with_gpus(sessions), key=lambda s: s.created_at, reverse=True), repairs

    def gpus(self) -> list[GpuUse]:
        """Every GPU of the machine, and who holds it; empty where there is none.

        Raises:
            EngineUnavailable
        """
        return self.queue.uses()

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

    # creating

    @_disk_errors()
    def create(
        self,
        resolved: ResolvedSpec,
        *,
        name: str | None = None,
        cwd: Path | None = None,
        attach: bool = False,
        tty: bool = False,
        size: tuple[int, int] = (24, 80),
        remove: bool = False,
        environ: Mapping[str, str] | None = None,
        progress: blueprint.Progress = lambda text: None,
        cancelled: Callable[[], bool] = lambda: False,
        opened_by: str = "",
        ends_with_kernels: bool = False,
        detach_keys: str = "",
        max_wait_s: float | None = None,
        enqueue: bool = False,
        files: Sequence[Path] = (),
    ) -> Created:
        """Make a session and start it. Whatever goes wrong, nothing of it is left.

        Meanwhile it is listed as ``starting``, or as ``pending`` while it waits for its GPUs, with
        what it waits for; whoever stops it then cancels it.

        Args:
            resolved: the spec and where each value came from.
            name: instead of the spec's; one is made up when there is neither.
            cwd: the working directory, if it lies in the spec's project; default the project.
            attach: connect to the main process before it starts, so that nothing is missed.
            tty: give the main process a terminal.
            size: rows and columns of that terminal.
            remove: have it removed when its main process ends.
            environ: where secrets are read from; default the process's environment.
            progress: called with a line at each step that takes time.
            cancelled: asked several times a second; True gives the creation up.
            opened_by: absolute path of the notebook that it is made for.
            ends_with_kernels: it is made for a kernel, and ``end_with_kernel`` may remove it.
            max_wait_s: how long to wait for GPUs; None for as long as it takes.
            enqueue: leave it to wait and return at once; it starts by itself when its turn comes.
            files: copied into its private home before it starts.

        Raises:
            SpecError, PolicyError, ConsentRequired, NotSupported: the spec.
            SessionExists: the name is taken.
            NoCapacity: there will never be such GPUs here.
            SessionTimeout: no turn within ``max_wait_s``.
            Cancelled: by ``cancelled``, or by a ``stop`` or ``remove`` from elsewhere.
            ImageError, EngineError, EngineUnavailable: the engine.
        """
        spec = resolved.spec
        here = cwd or resolved.project
        consent.require(resolved, self._grants(resolved, here))
        if spec.kernel:
            self.kernel("0" * 12, "0" * 12)  # a path too long for sockets is told beforehand
        self.engine.info()
        values = mounts.read_secrets(
            spec, resolved.project, os.environ if environ is None else environ
        )
        wanted = Request.from_spec(spec.gpus)
        if wanted is not None:
            self.queue.check(wanted)
        folder = blueprint.reserve(
            name or spec.name,
            resolved,
            tty=tty,
            remove=remove,
            opened_by=opened_by,
            ends_with_kernels=ends_with_kernels,
        )
        session_name = folder.record()["name"]
        creation = Creation(
            self.engine,
            self.history,
            self.actor,
            lambda: self.queue,
            folder,
            resolved,
            Manner(str(here), tty, size),
            Steps(folder, progress, cancelled),
        )
        try:
            creation.prepare(values, files)
        except BaseException:
            folder.remove()
            folder.release()
            raise
        if enqueue:
            creation.enqueue()
            self._dispatch()
            return Created(from_record(folder, State.PENDING, ""), None)
        stream = creation.run(attach=attach, detach_keys=detach_keys, max_wait_s=max_wait_s)
        return Created(self._named(folder.id, session_name), stream)

    def grants(self, resolved: ResolvedSpec, cwd: Path) -> list[Grant]:
        """What a spec's file reaches for beyond its folder, and nobody has allowed yet.

        Args:
            cwd: the working directory that ``create`` is going to be given.

        Raises:
            SpecError, PolicyError, NotSupported: it could not be created anyway.
        """
        return consent.needed(resolved, self._grants(resolved, cwd))

    def allow(self, resolved: ResolvedSpec, cwd: Path) -> list[Grant]:
        """Allow a spec's file, as it stands now, what it reaches for. Returns all of that.

        Raises:
            SpecError, PolicyError, NotSupported: it could not be created anyway.
        """
        wanted = self._grants(resolved, cwd, judged=False)  # flags may be missing as yet
        consent.give(resolved, wanted)
        return wanted

    def find_or_create(
        self,
        resolved: ResolvedSpec,
        name: str,
        *,
        cwd: Path,
        cancelled: Callable[[], bool] = lambda: False,
        opened_by: str = "",
        max_wait_s: float | None = None,
    ) -> Session:
        """The running session of that name; started if it is stopped, made if there is none.

        Several processes may ask at once: they get the same one.

        Raises:
            as ``create`` and ``start``.
        """
        lock = paths.state_dir() / f"shared-{hashlib.sha256(name.encode()).hexdigest()[:8]}.lock"
        with _patiently_locked(lock, name, cancelled):
            found = [session for session in self.sessions() if session.name == name]
            if not found:
                return self.create(
                    resolved,
                    name=name,
                    cwd=cwd,
                    cancelled=cancelled,
                    opened_by=opened_by,
                    max_wait_s=max_wait_s,
                ).session
            if found[0].state is State.RUNNING:
                return found[0]
            return self.start(name, cancelled=cancelled, max_wait_s=max_wait_s)

    # the life of one

    @_disk_errors()
    def start(
        self,
        name: str,
        *,
        progress: blueprint.Progress = lambda text: None,
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
        """
        from mooring import policy

        session = self.get(name)
        if session.state is State.RUNNING:
            return session
        if not session.container or session.state in (State.STARTING, State.PENDING):
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
        policy.check_again(
            session.spec,
            [(f"mount at {bind.target}", Path(bind.source)) for bind in granted],
            self.deadlines(session).get("max_duration"),
        )
        with self._claimed_again(session, progress, cancelled, max_wait_s) as claims:
            container = session.container
            if set(claims) != set(session.claims):
                progress("going on with other GPUs")
                container = moving.move(self.engine, session, claims)
            guestfiles.write(folder.run, "mounts", mounts.identities(folder, granted))
            for stale in ("end", "status", "hold", "checked", "kernelhost.log"):
                guestfiles.remove(folder.run, stale)
            folder.update_record(boot_id=boot_id())
            if self._main_kind(session) == "terminal":
                MainTerminal(self.engine, folder).keep(container, None)
            ports.start(self.engine, container)
            try:
                blueprint.await_check(self.engine, folder, container)
            except PolicyError:
                self.engine.stop(container, grace_s=1.0)
                if claims:
                    self.queue.gate.forget(session.id)
                raise
            # not before it runs: who looks meanwhile would take it to have ended once more
            folder.update_record(end_recorded=False, out_of_memory=None, changed_at=time.time())
        self.history.session_resumed(session.id)
        self.history.add(session.id, "started", self.actor, "again")
        return self._named(session.id, session.name)

    def stop(
        self, session: Session, *, grace_s: float = blueprint.GRACE_S, force: bool = False
    ) -> None:
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
        coming = session.state in (State.STARTING, State.PENDING)
        if coming or Folder.open(session.id).being_created():  # or started: it has its GPUs
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
                guestfiles.write(folder.run, "end", text)
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
            force: a running one too; one that is being created is cancelled.

        Raises:
            SessionStateError: it runs.
            PolicyError: it is another's.
            EngineError, MooringError
        """
        if session.foreign:
            raise PolicyError(
                f"session {session.name} belongs to {session.owner}", "only they can remove it"
            )
        live = (State.RUNNING, State.PAUSED, State.STARTING, State.PENDING)
        if session.state in live and not force:
            raise SessionStateError(
                f"session {session.name} is {session.state}",
                f"stop it first, or: mooring rm -f {session.name}",
            )
        if session.state in (State.STARTING, State.PENDING):
            if self._cancel(session):
                return
            session = self._fresh(session)
        ended = session.state in (State.STOPPED, State.LOST)
        remove_container(self.engine, session.id, session.container)
        folder = Folder.open(session.id)
        moving.forget(self.engine, folder)
        if folder.exists:
            folder.remove()
        self.history.add(session.id, "removed", self.actor)
        if not ended:
            self.history.session_ended(
                session.id, at=time.time(), reason=f"removed by {self.actor}", exit_code=None
            )

    @_disk_errors()
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
        from mooring.quantities import format_duration

        Folder.open(session.id).hold(seconds)
        detail = f"for {format_duration(seconds)}" if seconds else "given up"
        self.history.add(session.id, "held", self.actor, detail)

    @_disk_errors()
    def update(
        self,
        session: Session,
        *,
        idle_timeout_s: float | None = None,
        max_duration_s: float | None = None,
    ) -> None:
        """Change the clock of a session, at once; None leaves a value, 0 means never.

        Raises:
            SpecError: the new maximum has passed already.
            PolicyError: it is longer than the administrator allows.
            SessionStateError: it does not run.
        """
        from mooring import policy
        from mooring.quantities import format_duration

        if session.state is not State.RUNNING:
            raise SessionStateError(
                f"session {session.name} is {session.state}: it has no clock to change",
                f"start it first: mooring start {session.name}",
            )
        if max_duration_s is not None:
            policy.load().check_duration(max_duration_s)
        folder = Folder.open(session.id)
        settings = folder.settings()
        if max_duration_s and session.container:
            status = folder.status()  # the clock's own time: the machine's may have been set
            elapsed = status.running_for_s if status else 0.0
            if max_duration_s <= elapsed:
                raise SpecError(
                    f"session {session.name} has run for {format_duration(elapsed)} already",
                    f"to end it now: mooring stop {session.name}",
                )
        changes = []
        for key, value in (("idle_timeout", idle_timeout_s), ("max_duration", max_duration_s)):
            if value is not None:
                settings[f"{key}_s"] = f"{value:g}"
                changes.append(f"{key} {format_duration(value) if value else 'never'}")
        folder.write_settings(**settings)
        self.history.add(session.id, "updated", self.actor, ", ".join(changes))

    # in it

    def exec(
        self,
        session: Session,
        argv: Sequence[str],
        *,
        tty: bool,
        stdin: bool,
        size: tuple[int, int] | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        detach_keys: str = "",
        mark: str = "",
    ) -> Stream:
        """Start a process in a running session; without a terminal it counts as activity.

        Args:
            argv: the command; empty for a shell.
            size: rows and columns of the terminal, right from its first moment.
            mark: a plain word of the caller's, by which ``signal`` finds a process without a
                terminal; one is made up without.

        Raises:
            EngineError
        """
        if tty:
            command = _in_terminal(argv, size or (24, 80))
        else:
            mark = mark or secrets.token_hex(4)
            command = ["/bin/sh", blueprint.CLOCK, "exec", mark, "--", *(argv or ["/bin/sh"])]
        stream = self.engine.exec(
            session.container,
            command,
            tty=tty,
            stdin=stdin,
            env=env,
            workdir=workdir,
            detach_keys=detach_keys,
        )
        if size:
            stream.resize(*size)
        return stream

    def signal(self, session: Session, name: str, mark: str = "") -> None:
        """Send a signal into a session, as a terminal's Ctrl-C would.

        Args:
            name: INT, TERM, HUP, …
            mark: of a process that ``exec`` started, which gets it with all of its group;
                without, the main process does, through the container's init.

        Raises:
            EngineError
        """
        script = _SIGNAL_EXEC if mark else 'kill -s "$0" 1'
        argv = ["/bin/sh", "-c", script, name, f"{GUEST_RUN}/x/{mark}"]
        self.engine.exec_detached(session.container, argv)

    def why_killed(self, session: Session, since: float) -> str:
        """Why something in a session was killed since then (epoch): memory, or empty for unknown.

        Raises:
            EngineError
        """
        starved = self.engine.out_of_memory(session.container, since)
        return out_of_memory(session.spec) if starved else ""

    def open_terminal(
        self,
        session: Session,
        argv: Sequence[str],
        *,
        size: tuple[int, int],
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        label: str = "",
        detach_keys: str = "",
    ) -> Stream:
        """Start a process in a terminal that outlives whoever opened it.

        Args:
            argv: the command; empty for a shell.
            size: rows and columns, right from its first moment.
            label: by which a door finds its own terminals again.
            detach_keys: for a stream that nobody could be found to keep.

        Returns:
            A ``Kept``; where no keeper can be started (the disk is full) the stream itself.

        Raises:
            EngineError
        """
        folder = Folder.open(session.id)
        try:
            keeping = Keeping.begin(folder)
        except OSError as error:
            log.warning("nobody keeps this terminal: %s", error)
            return self.exec(
                session,
                argv,
                tty=True,
                stdin=True,
                size=size,
                env=env,
                workdir=workdir,
                detach_keys=detach_keys,
            )
        # whoever joins it resizes it, too: here that would wait until the process has begun
        stream = self.engine.exec(
            session.container,
            _in_terminal(argv, size),
            tty=True,
            stdin=True,
            env=env,
            workdir=workdir,
            detach_keys=UNTYPED_KEYS,
        )
        about = {"command": list(argv), "size": size, "label": label, "exec": stream.exec_id}
        try:
            name = keeping.hand_over(stream, "", about)
        except SessionStateError as error:
            log.warning("nobody keeps this terminal: %s", error)
            return stream
        stream.close()
        return Kept(self.engine, session.container, folder, name, stream.exec_id, new=True)

    def terminals(self, session: Session) -> list[TerminalEntry]:
        """The terminals of a session: the main one, then those that were opened, the oldest first.

        One that has ended is listed until somebody has seen the rest of what it printed.
        """
        found = terminals(Folder.open(session.id))
        if session.state is not State.STOPPED:
            return found
        return [  # its keeper may have gone with it before anybody asked how they ended
            dataclasses.replace(one, ended=True, code=session.exit_code)
            if one.id == MAIN
            else dataclasses.replace(one, ended=True)
            for one in found
        ]

    def attach(
        self, session: Session, terminal: str = "", *, detach_keys: str = ""
    ) -> Stream | None:
        """A terminal of a session, or its main process's streams.

        Args:
            terminal: its id; empty for the main one.

        Returns:
            A ``Kept`` for a terminal. None when the session has no main process but its clock.

        Raises:
            SessionStateError: it has no such terminal.
            EngineError
        """
        folder = Folder.open(session.id)
        main = self._main_kind(session)
        if terminal and (terminal != MAIN or main == "none"):
            known = [one.id for one in terminals(folder)]
            if terminal not in known:
                raise SessionStateError(
                    f"session {session.name} has no terminal {terminal}",
                    f"it has: {', '.join(known)}" if known else f"mooring exec {session.name}",
                )
            exec_id = exec_id_of(folder, terminal)
            return Kept(self.engine, session.container, folder, terminal, exec_id)
        if main == "none":
            return None
        if main == "streams":
            return self.engine.attach(session.container, tty=False, detach_keys=detach_keys)
        return MainTerminal(self.engine, folder).find(session.container, detach_keys)

    def last_words(self, session: Session) -> Kept | None:
        """The main terminal of a session that has ended, if nobody has seen its end yet."""
        folder = Folder.open(session.id)
        if session.state is not State.STOPPED or not (folder.path / "term" / MAIN).exists():
            return None
        return MainTerminal(self.engine, folder).over(session.container)

    def _main_kind(self, session: Session) -> str:
        """What the main process reads and prints on: a ``terminal``, ``streams`` or ``none``."""
        if session.spec.get("kernel") and not session.spec.get("command"):
            return "none"
        tty = Folder.open(session.id).record().get("tty", True)
        return "terminal" if tty else "streams"

    def logs(
        self, session: Session, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[bytes]:
        """What the main process printed."""
        tty = bool(Folder.open(session.id).record().get("tty", True))
        return self.engine.logs(session.container, tty=tty, follow=follow, tail=tail)

    # kernels

    def end_with_kernel(self, session: Session, kernel_id: str) -> None:
        """A kernel is over: remove the session if it was made for kernels and has no other.

        Args:
            kernel_id: mooring's own; its process has ended.

        Raises:
            EngineError: its clock ends it then, and the next look removes it.
        """
        folder = Folder.open(session.id)
        if not folder.record().get("ends_with_kernels") or others_live(folder, kernel_id):
            return
        try:
            self.remove(session, force=True)
        except EngineError:
            if folder.exists:
                folder.update_record(remove=process_mark(os.getpid()))
                with contextlib.suppress(OSError):
                    folder.write_settings(**folder.settings() | {"max_duration_s": "1"})
            raise

    def kernel(self, session_id: str, kernel_id: str) -> KernelHandle:
        """A handle for a kernel of a session, there or not yet.

        Raises:
            KernelError: the path of its sockets would be too long.
        """
        return KernelHandle(Folder.open(session_id), kernel_id)

    def ensure_kernel_host(self, session: Session) -> None:
        """Have the parent of kernels run in a session: where there was none, or where it died.

        Raises:
            ImageError: the image has no Python with ipykernel.
            EngineError
        """
        folder = Folder.open(session.id)
        first = not guestfiles.exists(folder.run, "kernelhost.lock")
        if host_lives(folder) or (first and guestfiles.exists(folder.run, "kernelhost")):
            return  # the clock starts the first one of a session that was made for kernels
        python = folder.record().get("python")
        if not python:
            raise blueprint.no_kernel(session.image, "no Python with ipykernel was found in it")
        command = 'exec "$0" "$1" >"$2" 2>&1 </dev/null'
        self.engine.exec_detached(
            session.container,
            [
                "/bin/sh",
                "-c",
                command,
                python,
                f"{GUEST_RUN}/kernelhost.py",
                f"{GUEST_RUN}/kernelhost.log",
            ],
        )

    # helpers

    @contextlib.contextmanager
    def _claimed_again(
        self,
        session: Session,
        progress: blueprint.Progress,
        cancelled: Callable[[], bool],
        max_wait_s: float | None,
    ) -> Iterator[tuple[Claim, ...]]:
        """GPUs for a stopped session that had some, while the block starts its container."""
        from mooring.spec import SessionSpec

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

    def _dispatch(self) -> None:
        """Have somebody start what was left to wait."""
        from mooring.gpus.dispatcher import ensure

        if any(folder.enqueued and not folder.ready for folder in Folder.all()):
            ensure(self.queue.gate, paths.installation_id())

    def _with_gpus(self, sessions: list[Session]) -> list[Session]:
        """The same, and of each that runs whether its GPUs are still there."""
        if not any(session.claims for session in sessions if session.state is State.RUNNING):
            return sessions
        from mooring.gpus.machine import inventory

        here = {gpu.uuid for gpu in inventory()}

        def lost(session: Session) -> bool:
            if session.state is not State.RUNNING or not session.claims:
                return False
            gone = here and any(claim.gpu not in here for claim in session.claims)
            return bool(gone or (session.clock is not None and session.clock.gpu_lost))

        return [
            dataclasses.replace(session, degraded=GPU_LOST) if lost(session) else session
            for session in sessions
        ]

    def _grants(self, resolved: ResolvedSpec, cwd: Path, *, judged: bool = True) -> list[Grant]:
        from mooring import policy
        from mooring.spec import EXTENDS, refuse_unsupported

        refuse_unsupported(resolved.spec)
        plan = mounts.plan(resolved.spec, project=resolved.project, cwd=cwd, user=caller())
        if judged:
            policy.load().check(resolved.spec, plan.sources, resolved.origins)
        read = [mounts.Grant(EXTENDS, what) for what in resolved.reaches]
        return [*read, *plan.grants]

    def _end_inside(self, session: Session, grace_s: float) -> None:
        """Have a session's own clock end it, in order."""
        if session.state is not State.RUNNING:
            return
        with contextlib.suppress(EngineError):
            self.engine.exec_detached(
                session.container,
                ["/bin/sh", blueprint.CLOCK, "end", "stopped", f"by {self.actor}"],
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
                    self.queue.gate.forget(session.id)
                    self.history.add(session.id, "cancelled", self.actor)
                    self.history.session_ended(
                        session.id, at=time.time(), reason="cancelled before it ran", exit_code=None
                    )
                    folder.remove()
            finally:
                folder.release()
        return not folder.exists

    def _fresh(self, session: Session) -> Session:
        """The session as it is now, when its creation ended a moment ago."""
        try:
            return self._named(session.id, session.name)
        except SessionNotFound:
            return session

    def _named(self, session_id: str, name: str) -> Session:
        mine = {LABEL_INSTALLATION: paths.installation_id(), LABEL_ID: session_id}
        rows = [row for row in self.engine.list(mine) if is_own(row)]
        if not rows:
            raise SessionNotFound(
                f"session {name} ended and was removed at once", f"mooring events {name} tells more"
            )
        return from_container(rows[0], boot_id())

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


def _in_terminal(argv: Sequence[str], size: tuple[int, int]) -> list[str]:
    """A command, or a shell, that finds its terminal at its size from the first moment."""
    return ["/bin/sh", blueprint.CLOCK, "shell", *map(str, size), "--", *argv]


def _matching(sessions: list[Session], pattern: str) -> list[Session]:
    named = [session for session in sessions if session.name == pattern]
    if named:
        return named
    if any(mark in pattern for mark in "*?["):
        return [s for s in sessions if fnmatch.fnmatchcase(s.name, pattern)]
    return [s for s in sessions if len(pattern) >= 4 and s.id.startswith(pattern)]


__all__ = ["Created", "EngineUnavailable", "KernelError", "Mooring"]
