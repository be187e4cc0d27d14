"""A process that outlives the launcher and cleans up after it.

EOF on a pipe shows that the launcher has exited, for whatever reason. The watchdog then kills the
kernel. A session that was created for that kernel is kept for the launcher of a restart; if none
starts in time, the session is removed, or left to its own time limits if it is otherwise in use.
Clients do not kill the watchdog with the launcher, because it is not a child of the client and has
its own process group and process session (``setsid``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from mooring import Mooring

# VS Code starts the next process within a second of ending the previous one
RESTART_S = 10.0
# After a crash, for clients that name the notebook: the user first has to notice it
CRASH_S = 120.0


@dataclasses.dataclass(frozen=True)
class Facts:
    """The launcher's reports about itself.

    Attributes:
        holder: the launcher's process, in the format of ``process_mark``.
        client: the client's process, in the same format.
        name: the name of a session that is about to be created.
        session, kernel: ids; empty until they are known.
        own: whether the session was created for the kernel.
        patience_s: how long to wait for the launcher of a restart, in seconds.
    """

    holder: str = ""
    client: str = ""
    name: str = ""
    session: str = ""
    kernel: str = ""
    own: bool = False
    patience_s: float = RESTART_S


class Watchdog:
    """Starts the watchdog's process, and holds the launcher's end of the pipe to it."""

    def __init__(self) -> None:
        from mooring import minimal_environment

        reading, self._pipe = os.pipe()
        environment = minimal_environment()
        # An exception raised by a signal handler would be lost in Python's fork hooks, and printed
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            if os.fork() == 0:
                os.close(self._pipe)
                _detach(reading, before, environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(reading)
        os.wait()

    def report(self, **facts: Any) -> None:
        """Send facts to the watchdog; each replaces its earlier value.

        Args:
            facts: attributes of ``Facts``.
        """
        with contextlib.suppress(OSError):  # if it was killed, the reconciler cleans up instead
            os.write(self._pipe, json.dumps(facts).encode() + b"\n")


def _detach(pipe: int, mask: set[int | signal.Signals], environment: Mapping[str, str]) -> NoReturn:
    """Run the watchdog's process: a program of its own, which has none of the client's variables.

    Args:
        pipe: the reading end of the launcher's pipe.
        mask: the signals to block; all are blocked until this is a process of its own, because
            clients signal all children of the launcher.
        environment: the process's environment variables.
    """
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # clients read these until the last process has closed them
            os.dup2(nothing, standard)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.set_inheritable(pipe, True)
        program = [sys.executable, "-m", "mooring_provisioner.watchdog", str(pipe)]
        program += sys.argv[1:]  # so that a list of processes shows which launcher it belongs to
        os.execve(sys.executable, program, environment)  # noqa: S606 - no shell is wanted
    finally:
        os._exit(0)


def _watch(pipe: int) -> None:
    """Read the launcher's reports until it exits, then clean up."""
    facts = Facts()
    kept = False
    with os.fdopen(pipe, "rb") as lines:
        for line in lines:
            facts = dataclasses.replace(facts, **json.loads(line))
            if facts.own and not kept:
                from mooring import Mooring

                with contextlib.suppress(OSError):
                    Mooring().leases.keep(facts.session)
                kept = True
    if facts.session or facts.name:
        from mooring import Mooring, MooringError

        with contextlib.suppress(MooringError, OSError):
            _clean_up(Mooring(), facts)


def _clean_up(mooring: Mooring, facts: Facts) -> None:
    if not facts.session:
        # The launcher exited between the creation of the session and its next report
        mooring.sessions.remove(mooring.sessions.get(facts.name), force=True)
        return
    if facts.own:
        mooring.leases.announce_exit(facts.session, facts.holder)
    if facts.kernel:
        mooring.kernels.end(facts.session, facts.kernel)
    if facts.own:
        mooring.leases.remove_abandoned(
            facts.session, facts.holder, client=facts.client, patience_s=facts.patience_s
        )


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
