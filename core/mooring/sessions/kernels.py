"""Starting, adopting and ending kernels in a session."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mooring.engines.capabilities import SupportsDetachedExec, require
from mooring.errors import EngineError, ImageError, KernelError
from mooring.guest.paths import GUEST_RUN
from mooring.host.detached import start_detached
from mooring.host.processes import process_mark
from mooring.host.text import one_line
from mooring.kernels.connection import Connection
from mooring.kernels.kernel import KernelHandle
from mooring.kernels.kernelhost import host_lives
from mooring.kernels.killing import kill_kernel
from mooring.kernels.listing import others_live
from mooring.sessions import client_watch
from mooring.sessions.context import Context
from mooring.sessions.kernel_owners import KernelOwners, KernelRecord, Ownership, short_id
from mooring.sessions.lifecycle import remove
from mooring.sessions.model import Session, State, from_record
from mooring.sessions.replaced import refuse_replaced
from mooring.sessions.waiting import why_ended

START_TIMEOUT_S = 60.0
# Characters of what a session says about a kernel: two paths, and why
MOST_OF_A_NOTE = 1500
# Lines of what could not be preloaded
MOST_PROBLEMS = 20
# Signals of the session's clock that a kernel without a process does not give
_OTHER_USE = {"exec", "terminal", "hold"}


@dataclass(frozen=True)
class AdoptedKernel:
    """A kernel of an earlier client that this process now owns.

    Attributes:
        session: its session, in state ``running``, which is not checked.
        handle: the kernel; closed by the caller.
        connection: the content of its connection file.
        ownership: held until it is released.
    """

    session: Session
    handle: KernelHandle
    connection: Connection
    ownership: Ownership


def no_kernel(image: str, problem: str) -> ImageError:
    """Return the error for an image without a Python kernel; its hint tells how to fix that."""
    return ImageError(
        f"image {image} cannot run a Jupyter kernel: {problem}",
        "add ipykernel to it (RUN pip install ipykernel), or leave kernel out for a shell session",
    )


def ensure_host(ctx: Context, session: Session) -> None:
    """Start a kernel host in a session unless one runs; see ``Kernels.ensure_host``."""
    folder = ctx.folder(session.id)
    first = not folder.guest.exists("kernelhost.lock")
    if host_lives(folder.guest) or (first and folder.programs.exists("kernelhost")):
        return  # init.sh starts the first host of a session that was created for kernels
    python = folder.record().plan.python
    if not python:
        raise no_kernel(session.image, "no Python with ipykernel was found in it")
    command = 'exec "$0" "$1" >"$2" 2>&1 </dev/null'
    folder.refuse_unverified()
    program, log = f"{folder.programs_target}/kernelhost.py", f"{GUEST_RUN}/kernelhost.log"
    argv = ["/bin/sh", "-c", command, python, program, log]
    require(ctx.engine, SupportsDetachedExec).exec_detached(session.container, argv)


def preload_problems(ctx: Context, session_id: str) -> list[str]:
    """Return what could not be preloaded; see ``Kernels.preload_problems``."""
    lines = ctx.folder(session_id).guest.text("preload").splitlines()
    return [one_line(line, MOST_OF_A_NOTE) for line in lines[:MOST_PROBLEMS]]


def start_kernel(
    ctx: Context,
    session: Session,
    handle: KernelHandle,
    connection: Connection,
    *,
    cwd: str,
    cwd_optional: bool = False,
    env: Mapping[str, str],
    given: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    timeout_s: float = START_TIMEOUT_S,
) -> str:
    """Start a kernel's process and record it in the history; see ``Kernels.start``."""
    refuse_replaced(ctx.folder(session.id), cwd)
    ensure_host(ctx, session)
    handle.start(
        cwd=cwd,
        cwd_optional=cwd_optional,
        env=dict(env),
        given=given,
        arguments=arguments,
        timeout_s=timeout_s,
    )
    text = ctx.folder(session.id).guest.text(f"k/{handle.id}/elsewhere")
    elsewhere = one_line(text, MOST_OF_A_NOTE)
    detail = f"{connection.kernel_name} {handle.id} started{elsewhere and f'; {elsewhere}'}"
    ctx.add_event(session.id, "kernel", detail)
    return elsewhere


def own(ctx: Context, record: KernelRecord) -> Ownership | None:
    """Record that this process owns a kernel; see ``Kernels.own``."""
    ownership = KernelOwners(ctx.installation).own(record)
    if ownership is None or record.root:
        return ownership
    try:
        start_detached([sys.executable, "-I", "-S", client_watch.__file__, str(ownership.lock)])
    except OSError:
        ownership.forget()
        raise
    return ownership


def adopt(ctx: Context, record: KernelRecord) -> AdoptedKernel:
    """Take ownership of a kernel that an earlier client has left; see ``Kernels.adopt``."""
    with contextlib.ExitStack() as undo:
        handle = ctx.kernel_handle(record.session, short_id(record.kernel_id))
        undo.callback(handle.close)
        handle.pin()
        connection = handle.connection()
        if connection is None:
            raise KernelError(f"kernel {handle.id} has ended", "start a new kernel")
        ownership = KernelOwners(ctx.installation).own(record)
        if ownership is None:
            raise KernelError(
                f"kernel {handle.id} belongs to another server", "use it in that server"
            )
        undo.callback(ownership.release)
        session = from_record(ctx.folder(record.session), State.RUNNING)
        detail = f"{connection.kernel_name} {handle.id} adopted by another server"
        ctx.add_event(record.session, "kernel", detail)
        undo.pop_all()
    return AdoptedKernel(session, handle, connection, ownership)


def discard_unstarted(ctx: Context, record: KernelRecord) -> bool:
    """Remove a kernel whose process was never started; see ``Kernels.discard_unstarted``."""
    owners = KernelOwners(ctx.installation)
    if owners.begun(record):
        return False
    folder = ctx.folder(record.session)
    status = folder.clock.status()
    if status is not None and _OTHER_USE & set(status.active_signals):
        return True
    session = from_record(folder, State.RUNNING)
    end_with_kernel(ctx, session, short_id(record.kernel_id))
    ownership = owners.own(record) if folder.exists else None
    if ownership is not None:
        ownership.forget()
    return True


def end_kernel(ctx: Context, session_id: str, kernel_id: str) -> None:
    """Kill a kernel, record its exit and remove its folder; see ``Kernels.end``."""
    with contextlib.closing(ctx.kernel_handle(session_id, kernel_id)) as handle:
        kill_kernel(handle)
        handle.record_exit(ctx.history)
        handle.forget()


def describe_exit(ctx: Context, session: Session, handle: KernelHandle) -> str:
    """Describe the exit of a kernel, also if it ended with its container.

    See ``Kernels.describe_exit``.
    """
    cause = ""
    if not handle.exit_recorded and not handle.session_ended():
        with contextlib.suppress(EngineError):  # what the session's files tell is less, but true
            cause = why_ended(ctx, session)
    elif handle.session_removed():
        past = ctx.history.find(session.id)
        cause = f"gone: {past.reason}" if past is not None and past.reason else ""
    return f"its session is {cause}" if cause else handle.describe_exit()


def show_death(ctx: Context, session: Session, handle: KernelHandle, text: str) -> None:
    """Show why a kernel died in the cell that it was running; see ``Kernels.show_death``."""
    from mooring.kernels import last_words

    guest, connection = ctx.folder(session.id).guest, handle.connection()
    request = last_words.running_request(guest, handle.id)
    if request and connection is not None:
        last_words.publish(connection, request, text)


def shut_down(
    ctx: Context,
    session: Session,
    handle: KernelHandle,
    ownership: Ownership | None,
    *,
    keep: str = "",
    died: str = "",
) -> None:
    """Kill a kernel and remove everything of it; see ``Kernels.shut_down``."""
    handle.record_exit(ctx.history)
    kill_kernel(handle)
    try:
        if not keep:
            end_with_kernel(ctx, session, handle.id, died)
        elif _ends_with(ctx, session, handle.id):
            ctx.add_event(session.id, "kept", keep)
    finally:
        handle.forget()
        if ownership is not None:
            ownership.forget()


def end_with_kernel(ctx: Context, session: Session, kernel_id: str, died: str = "") -> None:
    """Remove a session that was created for kernels; see ``Kernels.end_session_with``."""
    if not _ends_with(ctx, session, kernel_id):
        return
    folder = ctx.folder(session.id)
    try:
        remove(ctx, session, force=True, because=f"its kernel ended: {died}" if died else "")
    except EngineError:
        if folder.exists:
            folder.update_state(remove_with=process_mark(os.getpid()))
            with contextlib.suppress(OSError):
                settings = folder.clock.settings() | {"max_duration_s": "1"}
                folder.clock.write_settings(**settings)
        raise


def _ends_with(ctx: Context, session: Session, kernel_id: str) -> bool:
    """Return whether a session was created for kernels, of which this is the last."""
    folder = ctx.folder(session.id)
    ends = folder.record().identity.ends_with_kernels
    return ends and not others_live(folder.guest, kernel_id)
