"""The process that starts what was left to wait, with every terminal closed.

One for each installation, and only while something waits: it is started by whatever mooring
command finds that there is none, and ends with the queue. Nothing is lost with it: all that it
knows is in the sessions' folders.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time

from mooring.errors import EngineError, EngineUnavailable, MooringError, PolicyError, SpecError
from mooring.gpus.tickets import Gate
from mooring.host import paths
from mooring.launch.create import Creation, Steps, is_full, left_to_wait, remove_container
from mooring.policy import limits
from mooring.service import Mooring
from mooring.sessions.record import Folder

log = logging.getLogger(__name__)

LOOK_S = 0.5
RETRY_S = 1.0
FULL_S = 30.0


def ensure(gate: Gate, installation: str) -> None:
    """Have a dispatcher run. Returns at once; two that are started at a time become one."""
    if gate.dispatched(installation):
        return
    # A shell in between: it ends at once, and nobody has to wait for what it leaves behind
    command = '"$0" -m mooring.launch.dispatcher </dev/null >>"$1" 2>&1 &'
    subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(paths.state_dir() / "dispatcher.log")],
        cwd="/",
        start_new_session=True,
        check=False,
    )


def main() -> None:
    """Start what waits, in its order, until nothing does."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    mooring = Mooring()
    installation, gate = paths.installation_id(), mooring.queue.gate
    descriptor = gate.become_dispatcher(installation)
    if descriptor is None:
        return
    at_work: dict[str, threading.Thread] = {}
    refused: set[str] = set()
    while True:
        new = [folder for folder in _waiting(refused) if folder.id not in at_work]
        _keep_places(mooring, new, refused)
        for folder in new:
            if folder.id not in refused:
                thread = threading.Thread(target=_start, args=(mooring, folder), daemon=True)
                at_work[folder.id] = thread
                thread.start()
        at_work = {one: thread for one, thread in at_work.items() if thread.is_alive()}
        if not at_work:
            with gate.locked():  # nobody is left to wait meanwhile without seeing us go
                if not _waiting(refused):
                    gate.sweep(installation)
                    gate.retire(installation, descriptor)
                    return
        time.sleep(LOOK_S)


def _waiting(refused: set[str]) -> list[Folder]:
    """What was left to wait, but what nobody can start."""
    waiting = [folder for folder in Folder.all() if folder.to_be_made]
    return [folder for folder in waiting if folder.id not in refused]


def _keep_places(mooring: Mooring, folders: list[Folder], refused: set[str]) -> None:
    """Have each in the queue at its old place, before one of them can be served.

    Nobody answers for the tickets of a dispatcher that was killed, and none outlives a restart of
    the machine. What cannot be read joins ``refused``, and says so where it is listed.
    """
    for folder in folders:
        try:
            creation = _creation(mooring, folder)
            if not mooring.gate.knows(folder.id):
                creation.keep_place()
            if not folder.exists:  # it was cancelled meanwhile
                mooring.gate.forget(folder.id)
        except SpecError as error:
            refused.add(folder.id)  # also where the disk is too full to write it down
            log.warning("session %s: %s", folder.id, error)
            with contextlib.suppress(OSError):
                folder.refuse(error.message)
            mooring.gate.forget(folder.id)  # it would stand in everybody's way
        except MooringError as error:  # of the engine, or of the queue: it is drawn later then
            log.info("session %s: %s", folder.id, error)


def _creation(mooring: Mooring, folder: Folder) -> Creation:
    resolved, manner, actor = left_to_wait(folder)
    steps = Steps(folder, lambda text: None, lambda: False)
    return Creation(
        mooring.engine,
        mooring.history,
        actor,
        lambda: mooring.queue,
        folder,
        resolved,
        manner,
        steps,
    )


def _start(mooring: Mooring, folder: Folder) -> None:
    """Make one session; again when the engine was away, or its last dispatcher was killed.

    It waits while the administrator's policy cannot be read.
    """
    while folder.exists and not folder.ready:
        try:
            limits.load()
        except PolicyError as error:
            with contextlib.suppress(OSError):
                folder.tell_waiting(error.message)
            time.sleep(RETRY_S)
            continue
        if not folder.take():
            time.sleep(RETRY_S)
            continue
        try:
            if not folder.ready and not _finish(mooring, folder):
                _creation(mooring, folder).run()
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
            if is_full(error):  # the engine's: each try may fetch an image
                with contextlib.suppress(OSError):
                    folder.tell_waiting(error.message)
                _pause(folder, FULL_S)
            time.sleep(RETRY_S)  # if something of it is left, it is tried again
            return
        finally:
            folder.release()


def _pause(folder: Folder, seconds: float) -> None:
    """Let time pass, while the session is there."""
    until = time.monotonic() + seconds
    while folder.exists and time.monotonic() < until:
        time.sleep(RETRY_S)


def _finish(mooring: Mooring, folder: Folder) -> bool:
    """Write down the end of a creation whose dispatcher was killed; True if it had come so far.

    What had not begun to run is removed, and made anew.
    """
    found = mooring.made(folder.id)
    if found is None:
        return False
    if found.state == "created":
        remove_container(mooring.engine, folder.id, found.id)
        return False
    try:
        mooring.engine.attach_network(found.id)
    except EngineUnavailable:
        raise
    except EngineError as error:  # it has got it
        log.debug("session %s: %s", folder.id, error)
    folder.update_record(container=found.id, changed_at=time.time())
    folder.unmark_queued()
    mooring.history.add(folder.id, "started", "dispatcher", "taken up after a dispatcher's death")
    folder.mark_ready()
    mooring.gate.forget(folder.id)
    return True


if __name__ == "__main__":
    main()
