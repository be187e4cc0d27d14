"""The dispatcher: a background process that launches enqueued sessions.

There is one per installation, and only while launches are enqueued: any mooring command that finds
none starts it (``sessions.queue.ensure_dispatcher``), and it exits when there are no more. It keeps
no state of its own: everything is in the sessions' folders.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from mooring.engines.capabilities import SupportsLateNetwork
from mooring.errors import EngineError, EngineUnavailable, MooringError, PolicyError, SpecError
from mooring.host.boot import uptime
from mooring.launch import enqueued
from mooring.launch.create import Launch, Progress, is_full
from mooring.launch.wait import Wait
from mooring.policy import limits
from mooring.sessions.containers import container_of, remove_container
from mooring.sessions.context import Context
from mooring.sessions.folder import SessionFolder
from mooring.sessions.queue import tickets

log = logging.getLogger(__name__)

LOOK_S = 0.5
# How long the first program of an image takes to check its command, at most
CHECKED_S = 2.0
RETRY_S = 1.0
FULL_S = 30.0


def main() -> None:
    """Launch enqueued sessions until there are no more, then exit."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    ctx = Context()
    installation, ticket_queue = ctx.installation.id, tickets(ctx)
    descriptor = ticket_queue.become_dispatcher(installation)
    if descriptor is None:
        return
    at_work: dict[str, threading.Thread] = {}
    refused: set[str] = set()
    while True:
        new = [folder for folder in waiting(ctx, refused) if folder.id not in at_work]
        restore_places(ctx, new, refused)
        for folder in new:
            if folder.id not in refused:
                thread = threading.Thread(target=start, args=(ctx, folder), daemon=True)
                at_work[folder.id] = thread
                thread.start()
        at_work = {one: thread for one, thread in at_work.items() if thread.is_alive()}
        if not at_work:
            with ticket_queue.locked():  # no launch can be enqueued between the check and exit
                if not waiting(ctx, refused):
                    ticket_queue.sweep(installation)
                    ticket_queue.retire_dispatcher(installation, descriptor)
                    return
        time.sleep(LOOK_S)


def waiting(ctx: Context, refused: set[str]) -> list[SessionFolder]:
    """Return the folders of launchable sessions, except those in ``refused``."""
    return [one for one in ctx.folders() if one.launchable and one.id not in refused]


def restore_places(ctx: Context, folders: list[SessionFolder], refused: set[str]) -> None:
    """Put launches without a ticket back into the queue, at their places, before any is served.

    The tickets of a killed dispatcher may be swept, and none survives a restart of the machine. A
    launch that cannot be read is added to ``refused``, and listings show why.

    Args:
        ctx: the client's context.
        folders: the folders of the launches.
        refused: ids of the sessions whose launch cannot be read; updated in place.
    """
    for folder in folders:
        try:
            launch = _launch(ctx, folder)
            if not tickets(ctx).has_ticket(folder.id):
                launch.keep_place()
            if not folder.exists:  # it was cancelled meanwhile
                tickets(ctx).discard(folder.id)
        except SpecError as error:
            refused.add(folder.id)  # in memory too: if the disk is full, ``refuse`` fails
            log.warning("session %s: %s", folder.id, error)
            with contextlib.suppress(OSError):
                folder.refuse(error.message)
            tickets(ctx).discard(folder.id)  # it would block the queue
        except MooringError as error:  # from the engine or the queue: retried later
            log.info("session %s: %s", folder.id, error)


def _launch(ctx: Context, folder: SessionFolder) -> Launch:
    plan, options, since, actor = enqueued.load(folder)
    own = Context(ctx.engine, actor, ctx.installation)
    return Launch(own, folder, plan, options, Progress(folder, Wait()), since=since)


def start(ctx: Context, folder: SessionFolder) -> None:
    """Launch one session; retry while the engine cannot be reached or the disk is full.

    A launch that a killed dispatcher began is completed. While the administrator's policy is not
    valid, this waits.
    """
    while folder.exists and not folder.ready:
        try:
            limits.load()
        except PolicyError as error:
            with contextlib.suppress(OSError):
                folder.write_waiting(error.message)
            time.sleep(RETRY_S)
            continue
        if not folder.acquire():
            time.sleep(RETRY_S)
            continue
        try:
            if not folder.ready and not _finish(ctx, folder):
                _launch(ctx, folder).run()
            return
        except EngineUnavailable as error:
            log.info("session %s waits for the engine: %s", folder.id, error)
            time.sleep(RETRY_S)
        except OSError as error:
            if not is_full(error):
                raise
            time.sleep(RETRY_S)
        except MooringError as error:
            log.warning("session %s: %s", folder.id, error)
            folder.release()
            if is_full(error):  # on the engine: each attempt may pull an image
                with contextlib.suppress(OSError):
                    folder.write_waiting(error.message)
                _pause(folder, FULL_S)
            time.sleep(RETRY_S)  # if the session still exists, ``main`` retries it
            return
        finally:
            folder.release()


def _pause(folder: SessionFolder, seconds: float) -> None:
    """Sleep for a number of seconds, or until the session is gone."""
    until = time.monotonic() + seconds
    while folder.exists and time.monotonic() < until:
        time.sleep(RETRY_S)


def _finish(ctx: Context, folder: SessionFolder) -> bool:
    """Complete a launch whose dispatcher was killed after it started the container.

    A container that was not checked after its start is removed, so that the launch is repeated.

    Returns:
        Whether the launch is complete.
    """
    container = container_of(ctx, folder.id)
    if container is None:
        return False
    if container.state == "created" or not _is_checked(folder):
        remove_container(ctx, folder.id, container.id)
        return False
    folder.unmark_unverified()
    try:
        if isinstance(ctx.engine, SupportsLateNetwork):
            ctx.engine.attach_network(container.id)
    except EngineUnavailable:
        raise
    except EngineError as error:  # already attached
        log.debug("session %s: %s", folder.id, error)
    folder.update_state(container=container.id, started=uptime(), changed_at=time.time())
    folder.unmark_queued()
    if not any(event.kind == "started" for event in ctx.history.events(folder.id)):
        ctx.history.add(folder.id, "started", "dispatcher", "taken up after a dispatcher's death")
    folder.mark_ready()
    tickets(ctx).discard(folder.id)
    return True


def _is_checked(folder: SessionFolder) -> bool:
    """Whether the gate of a started container was opened, soon after its dispatcher was killed.

    Nothing runs in it before that, so nothing but its check has left the mark.
    """
    until = time.monotonic() + CHECKED_S
    while not folder.guest.exists("checked"):
        if time.monotonic() > until:
            return False
        time.sleep(CHECKED_S / 100)
    return True


if __name__ == "__main__":
    main()
