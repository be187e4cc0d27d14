"""What else a person does in a session that was made for one kernel of a client's.

Such a session goes with its kernel, unless something here speaks for it: then it goes on as every
other session does, and its clock ends it.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from mooring.engines.base import Engine
from mooring.errors import EngineError, EngineUnavailable
from mooring.guest import shared
from mooring.kernels.kernel import host_lives
from mooring.sessions.model import Session, State
from mooring.sessions.record import GUEST_RUN, Folder, uptime

POLL_S = 0.05
LOOK_TIMEOUT_S = 10.0
_TERMINAL, _EXEC = 10, 11
# Only inside can be seen which terminals there are, and which process a number stands for
_LOOK = f"""
for file in /dev/pts/[0-9]*; do
    [ ! -c "$file" ] || exit {_TERMINAL}
done
for file in {GUEST_RUN}/x/*; do
    read -r pid start <"$file" && read -r text <"/proc/$pid/stat" || continue
    set -- ${{text##*)}}
    [ "$1" = Z ] || [ "${{20}}" != "$start" ] || exit {_EXEC}
done 2>/dev/null
exit 0
"""


def used_for(engine: Engine, session: Session, own_kernels: Collection[str]) -> str:
    """Why a session is to go on without the kernel that it was made for; empty if it is not.

    Args:
        own_kernels: ids of the kernels that are no reason.

    Raises:
        EngineUnavailable
    """
    folder = Folder.open(session.id)
    if session.state is State.PAUSED:
        return "it is paused"
    if session.state is not State.RUNNING:
        return ""
    if _held(folder):
        return "it is held"
    others = [one for one in folder.kernels() if one.exit is None and one.id not in own_kernels]
    if others and host_lives(folder):
        return "another kernel lives in it"
    try:
        found = _look(engine, session.container)
    except EngineUnavailable:
        raise
    except EngineError:
        return "what runs in it cannot be seen"
    said = {0: "", _TERMINAL: "a terminal is open in it", _EXEC: "a command runs in it"}
    return said.get(found, "what runs in it cannot be seen")


def _held(folder: Folder) -> bool:
    try:
        return float(shared.text(folder.run, "hold") or 0) > uptime()
    except ValueError:
        return False


def _look(engine: Engine, container: str) -> int:
    """Exit code of the look inside; -1 when it does not end."""
    process = engine.exec_detached(container, ["/bin/sh", "-c", _LOOK])
    deadline = time.monotonic() + LOOK_TIMEOUT_S
    while time.monotonic() < deadline:
        code = engine.exec_exit_code(process)
        if code is not None:
            return code
        time.sleep(POLL_S)
    return -1
