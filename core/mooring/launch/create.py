"""Creating a session: from a launch plan to a running container.

The process that begins a launch completes it, or leaves it in the queue; then the dispatcher
completes it from what is stored in the session's folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mooring.engines.base import Stream
from mooring.engines.capabilities import (
    SupportsAttach,
    fitted,
    require,
)
from mooring.errors import (
    Cancelled,
    EngineError,
    EngineUnavailable,
    MooringError,
    SpecError,
)
from mooring.gpus.claims import Claim, Request, in_words
from mooring.gpus.tickets import HeldTicket, Ticket
from mooring.host import locks, trees
from mooring.host.boot import boot_id, uptime
from mooring.host.processes import process_mark
from mooring.host.text import one_line
from mooring.host.users import caller
from mooring.images import mounts
from mooring.images.facts import image_facts
from mooring.images.images import ImageFacts
from mooring.images.secrets import write_secrets
from mooring.launch.check import check, check_name
from mooring.launch.container import late_network, prepare_container
from mooring.launch.options import LaunchOptions
from mooring.launch.plan import LaunchPlan, planned_again
from mooring.launch.verified import start_verified
from mooring.launch.wait import Wait
from mooring.sessions.containers import remove_container
from mooring.sessions.context import Context
from mooring.sessions.find import get_created, queue_of
from mooring.sessions.folder import SessionFolder
from mooring.sessions.kernels import no_kernel
from mooring.sessions.model import Session, State, from_record
from mooring.sessions.queue import ensure_dispatcher, tickets
from mooring.sessions.record import Identity, RecordState
from mooring.terminals.terminal import MainTerminal, command_of


@dataclass(frozen=True)
class Created:
    """A created session, and the stream to its main process if ``attach`` was set."""

    session: Session
    stream: Stream | None


def create(ctx: Context, plan: LaunchPlan, options: LaunchOptions, wait: Wait) -> Created:
    """Create a session and start it; see ``Sessions.create``."""
    values = check(ctx, plan)
    folder = reserve(ctx, plan, options)
    launch = Launch(ctx, folder, plan, options, Progress(folder, wait), wait.max_wait_s)
    try:
        launch.prepare(values)
    except BaseException:
        folder.remove()
        folder.release()
        raise
    if options.enqueue:
        launch.enqueue()
        ensure_dispatcher(ctx)
        return Created(from_record(folder, State.PENDING), None)
    name = folder.record().identity.name
    stream = launch.run()
    return Created(get_created(ctx, folder.id, name), stream)


def reserve(ctx: Context, plan: LaunchPlan, options: LaunchOptions) -> SessionFolder:
    """Reserve a name and create the session's folder, atomically among all processes.

    Args:
        ctx: the client's context.
        plan: the launch plan.
        options: the launch options.

    Returns:
        The folder, locked by this process until ``release``.

    Raises:
        SessionExists: the name is taken.
    """
    with locks.locked(ctx.installation.path / "names.lock"):
        session_id = secrets.token_hex(6)
        name = options.name or plan.spec.name or f"session-{session_id[:5]}"
        check_name(ctx, name)
        identity = Identity(
            id=session_id,
            name=name,
            owner=caller().name,
            created_at=time.time(),
            spec=plan.spec.public_dict(),
            project=str(plan.resolved.project),
            tty=options.tty,
            notebook=options.notebook,
            ends_with_kernels=options.ends_with_kernels,
        )
        mark = process_mark(os.getpid()) if options.remove else ""
        state = RecordState(boot_id=boot_id(), remove_with=mark)
        return SessionFolder.create(ctx.installation, identity, state)


class Progress:
    """Reports each step to the caller; raises Cancelled if cancellation was requested."""

    def __init__(self, folder: SessionFolder, wait: Wait) -> None:
        self._folder, self._wait = folder, wait
        self._last = ""

    def __call__(self, text: str) -> None:
        folder = self._folder
        if self._wait.cancelled() or folder.cancel_requested() or not folder.exists:
            name = folder.record().identity.name or folder.id
            raise Cancelled(f"the creation of session {name} was cancelled")
        if text != self._last:
            self._last = text
            folder.write_waiting(text)
            self._wait.progress(text)

    def show(self, text: str) -> None:
        """Report a step after the launch was interrupted; exceptions are suppressed."""
        with contextlib.suppress(BaseException):
            self._wait.progress(text)


class Launch:
    """The launch of one session.

    Args:
        ctx: the client's context.
        folder: the session's folder, locked by this process.
        plan: the launch plan.
        options: the launch options.
        progress: called with a line at each step.
        max_wait_s: timeout for GPUs, in seconds; None for no limit.
        since: place of an enqueued launch in the queue, see ``Ticket.since``; 0 for the last.
    """

    def __init__(
        self,
        ctx: Context,
        folder: SessionFolder,
        plan: LaunchPlan,
        options: LaunchOptions,
        progress: Progress,
        max_wait_s: float | None = None,
        since: int = 0,
    ) -> None:
        self._ctx, self._folder, self._plan, self._options = ctx, folder, plan, options
        self._progress, self._max_wait_s, self._since = progress, max_wait_s, since
        self._request_recorded = False
        self._container, self._asked = "", False
        self._stream: Stream | None = None

    def prepare(self, values: dict[str, str]) -> None:
        """Write the caller's secrets and files to the session's folder.

        Args:
            values: the secrets, by name.

        Raises:
            SpecError: a file cannot be copied, or two have the same name.
        """
        write_secrets(self._folder.secrets, values)
        for file in self._options.files:
            copy_into_home(file, self._folder.home)

    def run(self) -> Stream | None:
        """Create and start the container, and release the folder; on failure, remove the session.

        An enqueued launch is kept if the engine cannot be reached or the disk is full: it can be
        retried.

        Returns:
            The stream to the main process, if the options ask for it.
        """
        folder, ctx = self._folder, self._ctx
        try:
            spec = self._plan.spec
            facts = image_facts(
                ctx.engine,
                ctx.installation,
                spec.image,
                spec.pull,
                caller(),
                self._progress,
                host=self._plan.mounts.host,
            )
            if spec.kernel and not facts.python:
                raise no_kernel(spec.image, facts.kernel_problem)
            if spec.outputs:
                mounts.create_outputs(planned_again(self._plan))
            with self._claimed() as claims:
                self._start_container(facts, claims)
        except BaseException as error:
            if self._stream is not None:
                self._stream.close()
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._progress.show("taking back what was begun")
            unanswered = self._asked and not self._container and not isinstance(error, EngineError)
            kept = folder.enqueued and (isinstance(error, EngineUnavailable) or is_full(error))
            with contextlib.suppress(MooringError):  # the reconciler removes the rest
                remove_container(ctx, folder.id, self._container, 1.0 if unanswered else 0.0)
                if not kept:
                    self._record_failure(error)
                    if self._plan.gpus is not None:
                        with contextlib.suppress(MooringError):
                            tickets(ctx).discard(folder.id)
                    folder.remove()
            raise
        finally:
            folder.release()
        return self._stream

    def _start_container(self, facts: ImageFacts, claims: tuple[Claim, ...]) -> None:
        ctx, folder, options = self._ctx, self._folder, self._options
        config = fitted(
            ctx.engine,
            prepare_container(
                ctx, self._plan, facts, folder, tty=options.tty, size=options.size, claims=claims
            ),
        )
        self._progress("starting the container")
        self._asked = True
        main = None
        if self._main_has_terminal:
            command = command_of(self._plan.spec.public_dict())
            main = MainTerminal(ctx.engine, folder.path, command)
        container = self._container = ctx.engine.create(config)
        if main is not None:
            terminal = main.keep(container, options.detach_keys if options.attach else None)
            self._stream = terminal if options.attach else None
        elif options.attach:
            self._stream = require(ctx.engine, SupportsAttach).attach(
                container, tty=options.tty, detach_keys=options.detach_keys
            )
        if folder.enqueued:  # the machine may have been restarted since the folder was created
            folder.update_state(boot_id=boot_id())
        network = late_network(ctx.engine, config, container)
        start_verified(
            ctx,
            folder,
            container,
            config.binds,
            lambda: self._progress("starting the container"),
            beside=network,
        )
        folder.update_state(container=container, started=uptime(), changed_at=time.time())
        self._progress("starting the container")  # the last chance to cancel
        self.record_request()
        ctx.add_event(folder.id, "started", f"image {self._plan.spec.image}")
        folder.mark_ready()

    @property
    def _main_has_terminal(self) -> bool:
        """Whether the main process has a terminal; a session's clock alone needs none."""
        spec = self._plan.spec
        return self._options.tty and bool(spec.argv or not spec.kernel)

    def enqueue(self) -> None:
        """Leave the launch to the dispatcher; put it into the queue if it requests GPUs."""
        from mooring.launch.enqueued import dump

        folder, request = self._folder, self._plan.gpus
        place: HeldTicket | None = None
        since = 0
        try:
            queue = queue_of(self._ctx)
            if request is not None:
                place = queue.enqueue(self._ticket(request, enqueued=True))
                since = place.ticket.since
            launch = dump(self._plan, self._options, since, self._ctx.actor)
            # under the lock under which a dispatcher checks for launches before it retires
            with queue.ticket_queue.locked():
                folder.mark_enqueued(launch)
            folder.write_waiting(f"in the queue for {request}" if request else "about to start")
            if place is not None:
                place.release()
            self.record_request()
            self._ctx.add_event(folder.id, "queued", str(request or ""))
        except BaseException:
            if place is not None:
                place.remove()
            if request is not None:  # also if it was interrupted before ``place`` was set
                tickets(self._ctx).discard(folder.id)
            folder.remove()
            raise
        finally:
            folder.release()

    def keep_place(self) -> None:
        """Put an enqueued launch back into the queue, at its previous place."""
        if self._plan.gpus is not None:
            queue_of(self._ctx).enqueue(self._ticket(self._plan.gpus, enqueued=True)).release()

    def record_request(self) -> None:
        """Record the request in the history, once."""
        ctx, folder, spec = self._ctx, self._folder, self._plan.spec
        record = folder.record()
        if self._request_recorded or record.state.requested:
            return
        self._request_recorded = True
        folder.update_state(requested=True)
        at = record.identity.created_at
        ctx.history.session_created(
            folder.id,
            name=record.identity.name,
            owner=caller().name,
            image=spec.image,
            spec=spec.public_dict(),
            at=at,
        )
        ctx.add_event(folder.id, "requested", str(self._plan.gpus or ""), at=at)

    def _record_failure(self, error: BaseException) -> None:
        """Record the failure of a launch whose request is in the history."""
        if not self._folder.record().state.requested:
            return
        cancelled = isinstance(error, (Cancelled, KeyboardInterrupt, SystemExit))
        why = error.message if isinstance(error, MooringError) else type(error).__name__
        kind = "cancelled" if cancelled else "failed"
        self._ctx.add_event(self._folder.id, kind, "" if cancelled else why)
        reason = "cancelled before it ran" if cancelled else why
        self._ctx.history.session_ended(
            self._folder.id, at=time.time(), reason=reason, exit_code=None
        )

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[tuple[Claim, ...]]:
        """Wait for the session's GPUs and hold them while the block starts the container."""
        ctx, folder, request = self._ctx, self._folder, self._plan.gpus
        if request is None:
            yield ()
            return
        queued = False

        def show(reason: str) -> None:
            nonlocal queued
            if reason and not queued and self._max_wait_s != 0:  # 0: never waits
                queued = True
                folder.mark_queued()
                self.record_request()
                if not folder.enqueued:
                    ctx.add_event(folder.id, "queued", reason)
            self._progress(reason or "starting the container")

        ticket = self._ticket(request, enqueued=folder.enqueued)
        with queue_of(ctx).claim(ticket, tell=show, max_wait_s=self._max_wait_s) as claims:
            folder.unmark_queued()
            self.record_request()
            ctx.add_event(folder.id, "granted", in_words(claims))
            yield claims

    def _ticket(self, request: Request, *, enqueued: bool) -> Ticket:
        return Ticket(
            id=self._folder.id,
            installation=self._ctx.installation.id,
            user=caller().name,
            session=self._folder.record().identity.name,
            request=request,
            priority=self._plan.spec.priority,
            since=self._since,
            enqueued=enqueued,
        )


#: In the error messages of an engine whose disk is full.
_FULL = ("no space left on device", "disk quota exceeded")


def is_full(error: BaseException) -> bool:
    """Return whether an error means that a disk is full or a quota exceeded, also the engine's."""
    if isinstance(error, EngineError):
        return any(words in error.message.lower() for words in _FULL)
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def copy_into_home(file: Path, home: Path) -> None:
    """Copy one of the caller's files or folders to a session's home, keeping its name.

    Raises:
        SpecError: it does not exist, cannot be read, contains ``home``, or its name is taken.
    """
    if Path(os.path.realpath(file)) in Path(os.path.realpath(home)).parents:
        raise SpecError(
            f"{file} contains mooring's own folders and cannot be sent",
            "send the folders in it that you need",
        )
    name = file.absolute().name
    if os.path.lexists(home / name):
        raise SpecError(f"two files to send are named {name}", "rename one of them")
    source = Path(os.path.realpath(file))
    if not (source.is_dir() or source.is_file()):
        raise SpecError(f"{file} does not exist, or is not a file or folder", "correct the path")
    try:
        trees.copy_path(source, home / name)
    except OSError as error:
        where = source.parent / str(error.filename or source.name)
        raise SpecError(
            f"{one_line(where)} cannot be sent: {error.strerror}",
            "check that you can read it, or send the folder without it",
        ) from error
