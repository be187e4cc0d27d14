"""Starting a stopped session, also for a kernel, and finding or creating a shared one."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.engines.capabilities import SupportsBinds, require
from mooring.errors import (
    Cancelled,
    CommandError,
    NotSupported,
    PolicyError,
    SessionNotFound,
    SessionStateError,
    SessionTimeout,
)
from mooring.gpus.claims import Claim, Request, in_words
from mooring.gpus.tickets import Ticket
from mooring.host import locks
from mooring.host.boot import boot_id, uptime
from mooring.host.users import caller
from mooring.images.image_links import refuse_led_away
from mooring.images.images import HOST
from mooring.kernels.kernelhost import host_lives
from mooring.launch import remounted
from mooring.launch.create import create
from mooring.launch.options import LaunchOptions
from mooring.launch.plan import plan_launch
from mooring.launch.verified import start_verified
from mooring.launch.wait import Wait
from mooring.sessions import recreate
from mooring.sessions.context import Context
from mooring.sessions.find import (
    get,
    get_created,
    get_listed,
    list_sessions,
    main_process,
    queue_of,
)
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import Session, State
from mooring.sessions.queue import tickets
from mooring.terminals.terminal import MainTerminal, command_of

if TYPE_CHECKING:
    from mooring.spec.resolve import ResolvedSpec

LOCK_POLL_S = 0.05
# Longer than a container takes to come up at most, see ``verified.START_TIMEOUT_S``
LOCK_PATIENCE_S = 90.0
_HINTS = {
    State.LOST: "remove what is left: mooring rm {0.name}",
    State.PENDING: "see what it waits for: mooring why {0.name}",
    State.PAUSED: "resume its container first: docker unpause {0.container:.12}",
}
# Files in the run folder that belong to the previous run
_STALE = ("end", "status", "hold", "exec", "gpu", "checked", "kernelhost.log", "preload")


def start(ctx: Context, session: Session, wait: Wait) -> Session:
    """Start a stopped session again; see ``Sessions.start``."""
    with contextlib.suppress(SessionNotFound):
        running = get_created(ctx, session.id, session.name)
        if running.state is State.RUNNING:
            return running
    folder = ctx.folder(session.id)
    with _start_lock(folder, session.name, wait) as held:
        current = get_listed(ctx, session)
        if current.state is State.RUNNING:
            return current
        if not current.container or current.state not in (State.STOPPED, State.LOST):
            raise SessionStateError(
                f"session {current.name} is {current.state} and cannot be started",
                _HINTS.get(current.state, "mooring ps shows its state").format(current),
            )
        if not folder.exists:
            raise SessionStateError(
                f"session {current.name} has lost its folder and cannot be started",
                f"remove what is left: mooring rm {current.name}",
            )
        if not held:
            raise SessionStateError(
                f"session {current.name} is being created", "mooring ps shows its state"
            )
        if not folder.has_gate:
            raise SessionStateError(
                f"session {current.name} was created by an earlier version, which did not check "
                "mounts as this one does",
                f"copy what you need (mooring cp {current.name}:…), then create it again",
            )
        return _start(ctx, current, folder, wait)


def start_for_kernel(ctx: Context, session: Session, wait: Wait | None) -> Session:
    """Return the running session that a kernel is restarted in, starting it if it is stopped.

    Args:
        ctx: the client's context.
        session: the kernel's session.
        wait: how to wait; None to refuse a stopped session.
    """
    folder = ctx.folder(session.id)
    if not folder.has_ended and host_lives(folder.guest):
        return session  # the engine is not needed
    if wait is not None:
        return start(ctx, session, wait)
    current = get(ctx, session.id)
    if current.state is State.RUNNING:
        return current
    raise SessionStateError(
        f"session {current.name} is {current.state} ({current.reason})",
        f"restart the kernel, or run: mooring start {current.name}",
    )


@contextlib.contextmanager
def _start_lock(folder: SessionFolder, name: str, wait: Wait) -> Iterator[bool]:
    """Acquire the lock of a session's folder, which the processes that start it hold in turn.

    Waits while another process brings its container up, which takes a minute at most, and not
    while that process waits for GPUs.

    Yields:
        Whether the lock was acquired; False while the session is being created.

    Raises:
        Cancelled: by ``wait``, or by ``stop`` or ``remove``.
        SessionStateError: another process is starting it, and cannot be waited for.
    """
    began, at = time.monotonic(), time.time()
    asked, held = False, folder.acquire()
    while not held and folder.ready:
        if wait.cancelled() or folder.cancel_requested(since=at):
            raise Cancelled(f"the start of session {name} was cancelled")
        patience_s = LOCK_PATIENCE_S if wait.max_wait_s is None else wait.max_wait_s
        if folder.queued or time.monotonic() - began >= min(patience_s, LOCK_PATIENCE_S):
            raise SessionStateError(
                f"session {name} is being started by another process already",
                f"see what it waits for: mooring why {name}"
                if folder.queued
                else "mooring ps shows its state",
            )
        if not asked:
            asked = True
            wait.progress("another process is starting it")
        time.sleep(LOCK_POLL_S)
        held = folder.acquire()
    try:
        if held and folder.cancel_requested(since=at):  # it meant every start
            raise Cancelled(f"the start of session {name} was cancelled")
        if held and folder.ready:
            folder.clear_cancel()
            folder.unmark_queued()  # by a process that was killed
        yield held
    finally:
        if held:
            folder.release()


def _start(ctx: Context, session: Session, folder: SessionFolder, wait: Wait) -> Session:
    """Start a stopped session whose folder is locked by this process."""
    from mooring.policy import limits

    def refuse_cancelled() -> None:
        if wait.cancelled() or folder.cancel_requested():
            raise Cancelled(f"the start of session {session.name} was cancelled")

    # check the paths as they are now; ``start_verified`` refuses one that leads through a new link
    limits.check_again(
        session.declared,
        remounted.sources(folder.record().plan),
        folder.clock.deadlines().get("max_duration"),
    )
    refuse_cancelled()
    with _claimed_again(ctx, session, folder, wait, refuse_cancelled) as claims:
        container = session.container
        others = set(claims) != set(session.claims)
        if others or recreate.limits_changed(ctx, session, claims):
            wait.progress(f"going on with other {'GPUs' if others else 'limits of its GPUs'}")
            container = recreate.recreate(ctx, session, claims)
        remounted.prepare(folder, claims)
        for stale in _STALE:
            folder.guest.remove(stale)
        folder.update_state(boot_id=boot_id(), started=0.0)
        folder.forget_overdue()
        if main_process(ctx, session) == "terminal":
            command = command_of(session.declared)
            MainTerminal(ctx.engine, folder.path, command).keep(container, None)
        try:
            binds = require(ctx.engine, SupportsBinds).binds(container)
            if session.image != HOST or caller().uid == 0:  # who could write to its image
                refuse_led_away(ctx.engine, container, binds)
            start_verified(ctx, folder, container, binds, refuse_cancelled)
        except (Cancelled, PolicyError, CommandError, NotSupported, SessionTimeout) as error:
            ctx.engine.stop(container, grace_s=1.0)
            if claims:
                tickets(ctx).discard(session.id)
            folder.update_state(changed_at=time.time())
            if isinstance(error, Cancelled):
                folder.clock.write_end("stopped", f"by {ctx.actor}")
                ctx.add_event(session.id, "cancelled")
            else:
                if isinstance(error, (PolicyError, NotSupported)):
                    folder.clock.write_end("refused", error.message)
                ctx.add_event(session.id, "failed", error.message)
            raise
        # only once it runs: until then, a listing would record its end a second time
        folder.update_state(
            started=uptime(), end_recorded=False, out_of_memory=None, changed_at=time.time()
        )
    ctx.history.session_resumed(session.id)
    ctx.add_event(session.id, "started", "again")
    return get_created(ctx, session.id, session.name)


def find_or_create(
    ctx: Context, resolved: ResolvedSpec, cwd: Path | None, options: LaunchOptions, wait: Wait
) -> Session:
    """Return the running session named ``options.name``; see ``Sessions.find_or_create``."""
    name = options.name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    lock = ctx.installation.path / f"shared-{digest}.lock"
    began = time.monotonic()
    with _locked_by_name(lock, name, wait):
        matches = [session for session in list_sessions(ctx) if session.name == name]
        wait = wait.after(time.monotonic() - began)
        if not matches:
            return create(ctx, plan_launch(resolved, cwd), options, wait).session
        if matches[0].state is State.RUNNING:
            return matches[0]
        return start(ctx, matches[0], wait)


@contextlib.contextmanager
def _locked_by_name(lock: Path, name: str, wait: Wait) -> Iterator[None]:
    """Acquire the lock of a session's name; it may be held during a pull or a wait for GPUs.

    Args:
        lock: the lock's file.
        name: the session's name, for messages.
        wait: how to wait.

    Raises:
        Cancelled: the caller cancelled.
        SessionTimeout: the lock was not acquired within ``wait.max_wait_s``.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                locks.temporarily_locked(lock, cancelled=wait.cancelled, timeout_s=wait.max_wait_s)
            )
        except SessionTimeout:
            if wait.cancelled():
                raise Cancelled(f"the wait for session {name} was cancelled") from None
            raise SessionTimeout(
                f"nobody has made or started session {name} within {wait.max_wait_s:g} s",
                f"somebody is about to; see what it waits for: mooring why {name}",
            ) from None
        yield


@contextlib.contextmanager
def _claimed_again(
    ctx: Context,
    session: Session,
    folder: SessionFolder,
    wait: Wait,
    refuse_cancelled: Callable[[], None],
) -> Iterator[tuple[Claim, ...]]:
    """Acquire GPUs for a stopped session that had some, while the block starts its container.

    Args:
        ctx, session, folder, wait: as for ``_start``.
        refuse_cancelled: called several times a second; raises Cancelled.

    Raises:
        Cancelled, NoCapacity, SessionTimeout, EngineUnavailable: as ``GpuQueue.claim``.
    """
    wanted = Request.of(*session.spec.gpu_request) if session.claims else None
    if not wanted:
        yield ()
        return
    last = ""

    def show(reason: str) -> None:
        nonlocal last
        refuse_cancelled()
        if reason and reason != last and wait.max_wait_s != 0:
            if not last:
                ctx.add_event(session.id, "queued", reason)
            last = reason
            folder.write_waiting(reason)
            folder.mark_queued()
            wait.progress(reason)

    ticket = Ticket(
        id=session.id,
        installation=ctx.installation.id,
        user=caller().name,
        session=session.name,
        request=wanted.preferring(session.claims),
        priority=session.priority,
        since=0,
    )
    try:
        with queue_of(ctx).claim(ticket, tell=show, max_wait_s=wait.max_wait_s) as claims:
            folder.unmark_queued()
            ctx.add_event(session.id, "granted", in_words(claims))
            yield claims
    finally:
        folder.unmark_queued()
