"""Thread pools for blocking calls of the core from a client's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Bounded, so that many notebooks starting at once do not create hundreds of threads. Launches have
# their own pool: one may take minutes, for example for a pull, and must not delay an interrupt or a
# shutdown.
LAUNCHES = ThreadPoolExecutor(max_workers=32, thread_name_prefix="mooring-launch")
CALLS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="mooring")


async def in_thread(call: Callable[[], T], pool: ThreadPoolExecutor = CALLS) -> T:
    """Run a blocking call in a thread and await its result.

    In exit handlers, in which some clients clean up, the pools are already shut down; the call then
    runs in the calling thread.

    Args:
        call: the blocking call.
        pool: ``CALLS``, or ``LAUNCHES`` for a call that may take minutes.

    Returns:
        The result of ``call``.
    """
    try:
        pending = asyncio.get_running_loop().run_in_executor(pool, call)
    except RuntimeError:
        return call()
    return await pending
