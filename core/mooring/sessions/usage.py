"""Whether a session created for one kernel of a client is used for anything else.

Such a session is removed with its kernel. If it is also used otherwise, it is kept like any other
session, and its clock ends it.

What runs in the session may write to its run folder, trace other processes, and as root replace the
shell. So it is asked nothing: a use counts if the engine, or what mooring has recorded on this
machine, confirms it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from mooring.engines.base import Engine
from mooring.engines.capabilities import SupportsBinds
from mooring.errors import EngineError, EngineUnavailable, NotSupported
from mooring.host import locks
from mooring.kernels.kernelhost import HostState, host_state
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.kernel_owners import KernelOwners, short_id
from mooring.sessions.lease import Lease
from mooring.sessions.model import Session, State

# Of the engine; each of its answers takes a millisecond or two
ENGINE_TIMEOUT_S = 10.0
# Of a kernel host, for the connection and the answer each: silence counts as life
HOST_TIMEOUT_S = 0.1


def used_for(ctx: Context, session: Session, own_kernels: Collection[str]) -> str:
    """Return why a session is kept without the kernel it was created for; empty if it is not.

    Args:
        ctx: the client's context.
        session: the session.
        own_kernels: ids of the kernels to ignore.

    Raises:
        EngineUnavailable
    """
    folder = ctx.folder(session.id)
    if session.state is State.PAUSED:
        return "it is paused"
    if session.state is not State.RUNNING:
        return ""
    if _held(ctx, folder):
        return "it is held"
    if _has_other_kernels(ctx, folder, own_kernels):
        return "another kernel lives in it"
    if folder.record().identity.tty:
        return "a terminal is open in it"
    try:
        return _exec_in(ctx, session, folder)
    except EngineUnavailable:
        raise
    except (EngineError, NotSupported):
        return "what runs in it cannot be seen"


def remove_unless_used(
    ctx: Context,
    session: Session,
    lease: Lease,
    remove: Callable[[], None],
    *,
    actor: str,
    keep: str = "",
) -> bool:
    """Remove a session whose launcher has exited, or dissolve its lease if it is used otherwise.

    Called by the launcher's watchdog, and by the reconciler if that has exited too.

    Args:
        ctx: the client's context.
        session: the session.
        lease: the session's lease; the caller holds it, and releases it afterwards.
        remove: removes the session.
        actor: the actor recorded in the history.
        keep: a reason to keep the session in any case; empty for none.

    Returns:
        Whether the session was removed.

    Raises:
        EngineUnavailable: whether it is used cannot be determined; nothing was changed.
    """
    reason = keep or used_for(ctx, session, lease.kernels)
    if reason:
        lease.dissolve()
        ctx.history.add(session.id, "kept", actor, reason)
        return False
    remove()
    return True


def _held(ctx: Context, folder: SessionFolder) -> bool:
    """Return whether a session is held, and a client has asked for that.

    The session can write the file of its hold; of a hold that a client asks for, there is an event.
    """
    try:
        if folder.clock.held_for_s() <= 0:
            return False
        asked = [event for event in ctx.history.events(folder.id) if event.kind == "held"][-1:]
        # the event rounds down, by less than half
        return any(time.time() < event.time + 2 * _duration_of(event.detail) for event in asked)
    except ValueError:  # of the file, or "given up"
        return False


def _duration_of(detail: str) -> float:
    from mooring.spec.units import parse_duration

    return parse_duration(detail.removeprefix("for ").replace(" ", ""))


def _has_other_kernels(ctx: Context, folder: SessionFolder, own_kernels: Collection[str]) -> bool:
    """Return whether a kernel lives that a client has started, and that is not about to end.

    Clients pin the sockets of their kernels, and most record the kernel, out of the session's
    reach; its run folder may contain any number of invented ones.
    """
    others = {path.name for path in folder.path.glob("k/*")}
    for record in KernelOwners(ctx.installation).of(folder.id):
        name = short_id(record.kernel_id)
        # without a client that is alive or to come, it is the reconciler's to end
        if record.root or locks.is_held(folder.path / "kernels" / f"{name}.lock"):
            others.add(name)
        else:
            others.discard(name)
    living = [one for one in others - set(own_kernels) if not folder.guest.text(f"k/{one}/exit")]
    return bool(living) and host_state(folder.guest, HOST_TIMEOUT_S) is not HostState.GONE


def _exec_in(ctx: Context, session: Session, folder: SessionFolder) -> str:
    """Return what a client runs in a session, in words; empty for nothing.

    Mooring's own programs do not count, except the one that starts a user's command.
    """
    reason = ""
    for process in running_execs(ctx.engine, session.container):
        if process.get("tty"):
            return "a terminal is open in it"
        argv = [process.get("entrypoint"), *(process.get("arguments") or ())]
        if f"{folder.programs_target}/exec.sh" in argv:
            reason = "a command runs in it"
    return reason


def running_execs(engine: Engine, container: str) -> Iterator[dict[str, Any]]:
    """Yield the processes that clients have started in a container and that run.

    The engine knows their parents and what it was asked to run; neither can be forged from inside.

    Args:
        engine: the engine, with Docker's API.
        container: its id.

    Returns:
        Docker's ``ProcessConfig`` of each: ``tty``, ``entrypoint``, ``arguments``.

    Raises:
        NotSupported: the engine has no socket.
        EngineError
    """
    from mooring.engines.docker.client import Client, NotFound
    from mooring.engines.docker.errors import mapped

    address = engine.address if isinstance(engine, SupportsBinds) else ""
    if not address:
        raise NotSupported("the engine cannot list what clients run in a container")
    client = Client(address, ENGINE_TIMEOUT_S)
    with mapped("looking at what runs in a session", address, ENGINE_TIMEOUT_S):
        for exec_id in client.get("containers", container, "json").get("ExecIDs") or ():
            with contextlib.suppress(NotFound):  # it has ended
                state = client.get("exec", exec_id, "json")
                if state["Running"]:
                    yield state["ProcessConfig"]
