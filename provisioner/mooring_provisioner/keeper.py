"""The process that outlives a launcher: it ends what the launcher cannot end any more.

It learns of the launcher's death by the end of a pipe, whatever killed it. Then the kernel is
killed at once. A session that was made for that kernel waits for the launcher of a restart. When
none comes it is removed, or left to its clock if somebody uses it otherwise. The client cannot
reach it: it is nobody's child, in a session and a process group of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from mooring.host.processes import alive

if TYPE_CHECKING:
    from mooring.service import Mooring
    from mooring.sessions.record import Folder

# VS Code starts the next process within a second of ending the last
RESTART_S = 10.0
# A person has to see that the kernel has died; of use where it is known whose kernel it was
CRASH_S = 120.0
LOOK_S = 0.2


class Keeper:
    """The launcher's end of the pipe: what it tells is what is put in order after it."""

    def __init__(self) -> None:
        reading, self._pipe = os.pipe()
        # what a signal's handler raises is lost in the hooks that Python calls around a fork
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            child = os.fork()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if child:
            os.close(reading)
            os.wait()
            return
        os.close(self._pipe)
        _stay_alone(reading)

    def tell(self, **what: Any) -> None:
        """Add to what the keeper knows; the last word on each thing counts.

        Args:
            what: ``holder``, this process's mark; ``client``, its parent's; ``name`` of a session
                that is about to be made; ``session`` and ``kernel``, ids; ``own``, whether the
                session goes with the kernel; ``patience_s``, how long it waits for a restart.
        """
        with contextlib.suppress(OSError):  # it was killed: the reconciler is left
            os.write(self._pipe, json.dumps(what).encode() + b"\n")


def _stay_alone(pipe: int) -> None:
    """The rest of the child's life. Never returns."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # a client reads these until their last holder is gone
            os.dup2(nothing, standard)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        sys.dont_write_bytecode = True
        _watch(pipe)
    finally:
        os._exit(0)


def _watch(pipe: int) -> None:
    known: dict[str, Any] = {}
    keeping = False
    with os.fdopen(pipe, "rb") as lines:
        for line in lines:
            known |= json.loads(line)
            if known.get("own") and not keeping:
                from mooring.sessions import lease
                from mooring.sessions.record import Folder

                with contextlib.suppress(OSError):
                    lease.keep(Folder.open(known["session"]))
                keeping = True
    if known.get("session") or known.get("name"):
        from mooring.errors import MooringError
        from mooring.service import Mooring

        with contextlib.suppress(MooringError, OSError):
            _put_in_order(Mooring(), known)


def _put_in_order(mooring: Mooring, known: dict[str, Any]) -> None:
    from mooring.sessions import lease
    from mooring.sessions.model import State
    from mooring.sessions.record import Folder
    from mooring.sessions.usage import used_for

    if not known.get("session"):
        # it died between the end of the creation and the next word
        for session in mooring.sessions():
            if session.name == known["name"]:
                mooring.remove(session, force=True)
        return
    folder = Folder.open(known["session"])
    if known.get("own"):
        _announce(folder, known["holder"])
    if known.get("kernel"):
        end_kernel(mooring, known["session"], known["kernel"])
    if not known.get("own"):
        return
    until = time.monotonic() + known.get("patience_s", RESTART_S)
    # one that its clock has ended costs nothing, and its files may be wanted
    had_ended = ended = False
    while time.monotonic() < until or ended:
        ended = folder.exists and folder.end() is not None
        had_ended = had_ended or ended
        if lease.holder_of(folder) != known["holder"]:
            return  # removed by somebody, or the launcher of a restart has come
        if not alive(known["client"]):
            break  # nobody is left who could ask for a restart
        time.sleep(LOOK_S)
    held = lease.Lease.take(folder)
    if held is None:
        return
    try:
        if lease.holder_of(folder) == known["holder"]:
            session = mooring.get(folder.id)
            why = used_for(mooring.engine, session, held.kernels)
            if had_ended and session.state is State.RUNNING:
                why = "it was started again"
            if why:
                held.dissolve()
                mooring.history.add(folder.id, "kept", mooring.actor, why)
            else:
                mooring.remove(session, force=True)
    finally:
        held.release()


def _announce(folder: Folder, holder: str) -> None:
    """What a launcher that was killed could not say."""
    from mooring.sessions import lease

    held = lease.Lease.take(folder)
    if held is None:
        return
    if lease.holder_of(folder) == holder and lease.left_at(folder) is None:
        held.announce()
    held.release()


def end_kernel(mooring: Mooring, session_id: str, kernel_id: str) -> None:
    """Kill a kernel, with its children, and forget it. Idempotent."""
    handle = mooring.kernel(session_id, kernel_id)
    handle.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 2.0
    while handle.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    handle.tell_end(mooring.history)
    handle.forget()
