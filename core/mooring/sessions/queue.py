"""The GPU queue of a client's engine, and the dispatcher that launches enqueued sessions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mooring.sessions.context import Context

if TYPE_CHECKING:
    from mooring.gpus.queue import GpuQueue
    from mooring.gpus.tickets import TicketQueue


def tickets(ctx: Context) -> TicketQueue:
    """Return the ticket queue of the engine, which all its users share.

    Raises:
        EngineError: the queue's folder cannot be used.
    """
    from mooring.gpus.tickets import ticket_queue_of

    return ticket_queue_of(ctx.engine)


def gpu_queue(ctx: Context, repair: Callable[[], object]) -> GpuQueue:
    """Return the GPU queue of the engine.

    Args:
        ctx: the client's context.
        repair: see ``GpuQueue``.

    Raises:
        PolicyError: the policy is not valid.
        EngineError: the queue's folder cannot be used.
    """
    from mooring.gpus.queue import GpuQueue
    from mooring.policy import limits

    return GpuQueue(
        ctx.engine,
        tickets(ctx),
        ctx.installation.id,
        most_per_user=limits.load().max_gpus_per_user,
        policy=str(limits.POLICY_FILE),
        repair=repair,
    )


def ensure_dispatcher(ctx: Context) -> None:
    """Start a dispatcher if there are enqueued launches and none is running; do not wait for it.

    Concurrent calls are safe: a second dispatcher exits at once.

    Raises:
        PolicyError, EngineError: as ``gpu_queue``; no dispatcher was started.
    """
    if not any(folder.launchable for folder in ctx.folders()):
        return
    from mooring.host.detached import start_detached
    from mooring.policy import limits

    limits.load()
    if tickets(ctx).has_dispatcher(ctx.installation.id):
        return
    log = str(ctx.installation.path / "dispatcher.log")
    start_detached([sys.executable, "-m", "mooring.launch.dispatcher"], log=log)
