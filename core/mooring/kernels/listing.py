"""List the kernels of a session from its run folder."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mooring.guest.channel import Guest

_COUNT = re.compile(r"[0-9]{1,15}")
#: The name of a kernel's folder, which is a short id.
KERNEL_ID = re.compile(r"[A-Za-z0-9-]{1,40}")


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
