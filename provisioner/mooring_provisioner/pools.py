"""Thread pools for blocking calls of the core from a client's event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Pool:
    """A thread pool; a forked process, in which the parent's threads do not run, has its own.

    Args:
        threads: maximum number of threads.
        name: the beginning of their names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads, self._name = threads, name
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.executor = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)


# Bounded, so that many notebooks starting at once do not create hundreds of threads. Launches have
# their own pool: one may take minutes, for example for a pull, and must not delay an interrupt or a
# shutdown.
LAUNCHES = Pool(32, "mooring-launch")
CALLS = Pool(8, "mooring")


async def in_thread(call: Callable[[], T], pool: Pool = CALLS) -> T:
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
        pending = asyncio.get_running_loop().run_in_executor(pool.executor, call)
    except RuntimeError:
        return call()
    return await pending
