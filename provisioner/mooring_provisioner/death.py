"""What a client's user reads when a kernel has died."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING

from mooring import KernelError, MooringError

if TYPE_CHECKING:
    from mooring import KernelHandle, Mooring, Session

log = logging.getLogger(__name__)
END_POLL_S = 0.05
# How long the removal of a session may take after its container has gone
END_PATIENCE_S = 5.0


def death_text(who: str, how: str, handle: KernelHandle) -> MooringError:
    """Return an error for a kernel that has died: how, its last output, and what can be done.

    Args:
        who: the kernel, as the user knows it.
        how: how it ended, see ``Kernels.describe_exit``.
        handle: the kernel.
    """
    output = "".join(f"\n    {line}" for line in handle.last_output())
    return KernelError(f"{who} ended: {how}{output}", handle.exit_hint())


def report_death(mooring: Mooring, session: Session, handle: KernelHandle) -> str:
    """Print how a kernel died on standard error, and show it in the cell that it was running.

    Args:
        mooring: the core.
        session: the kernel's session.
        handle: a kernel that died although its client did not ask it to end.

    Returns:
        How it died, in a few words.
    """
    how = mooring.kernels.describe_exit(session, handle)
    error = death_text(f"the kernel of session {session.name}", how, handle)
    print_error(error, "mooring")
    try:
        mooring.kernels.show_death(session, handle, _text(error, "mooring"))
    except OSError as problem:
        log.warning("the cell does not show why its kernel died: %s", problem)
    return how


def print_error(error: MooringError, start: str) -> None:
    """Print an error on standard error, which clients show or log; ignore a closed pipe.

    Args:
        error: its text is untrusted.
        start: what its first line begins with.
    """
    with contextlib.suppress(OSError, ValueError):
        print(_text(error, start), end="", file=sys.stderr, flush=True)


def _text(error: MooringError, start: str) -> str:
    lines = [f"{start}: {error.message}"] + ([f"hint: {error.hint}"] if error.hint else [])
    return "".join(c for c in "\n".join([*lines, ""]) if c.isprintable() or c == "\n")


async def wait_for_end(mooring: Mooring, handle: KernelHandle) -> None:
    """Wait until a session that is being removed has gone, which its container does first.

    Otherwise the restarter would announce that the kernel restarts.
    """
    deadline = time.monotonic() + END_PATIENCE_S
    while not handle.session_ended() and mooring.records.is_being_removed(handle.session_id):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(END_POLL_S)
