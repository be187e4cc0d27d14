"""List the kernels of a session from its run folder."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from mooring.guest.channel import Guest

_COUNT = re.compile(r"[0-9]{1,15}")
#: The name of a kernel's folder, which is a short id.
KERNEL_ID = re.compile(r"[A-Za-z0-9-]{1,40}")
# A kernel whose process has not started within this time counts as abandoned
PROCESS_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class KernelEntry:
    """A kernel that was started in a session.

    Attributes:
        requests: number of execution requests it has answered.
        exit: what its kernel host wrote when it exited; None while it runs.
        recorded: whether its exit is in the history.
    """

    id: str
    busy: bool
    requests: int
    exit: str | None
    recorded: bool = False


def kernels_of(guest: Guest) -> list[KernelEntry]:
    """Return all kernels that were started in a session, including ended ones."""
    entries = []
    for name in filter(KERNEL_ID.fullmatch, guest.names("k")):
        state = guest.text(f"k/{name}/busy").split()
        ending = guest.text(f"k/{name}/exit") or None
        entries.append(
            KernelEntry(
                id=name,
                busy=bool(state) and state[0] == "busy",
                requests=int(state[1]) if len(state) > 1 and _COUNT.fullmatch(state[1]) else 0,
                exit=ending,
                recorded=ending is not None and guest.exists(f"k/{name}/told"),
            )
        )
    return entries


def others_live(guest: Guest, kernel_id: str) -> bool:
    """Return whether a session has another kernel that runs or is starting.

    Args:
        guest: the session's run folder.
        kernel_id: the name of the folder of the kernel that does not count.
    """
    for other in filter(KERNEL_ID.fullmatch, guest.names("k")):
        if other == kernel_id or guest.text(f"k/{other}/exit"):
            continue
        age_s = time.time() - guest.modified_at(f"k/{other}/c.json")
        if guest.exists(f"k/{other}/pid") or age_s < PROCESS_TIMEOUT_S:
            return True
    return False
