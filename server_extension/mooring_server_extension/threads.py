"""Where the event loop sends calls of the core, which block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, TypeVar

T = TypeVar("T")
Pool = Literal["look", "act", "create"]

# Each kind of call has threads of its own: a creation may pull an image for minutes, and what
# cancels it must not stand in its queue
SIZES: dict[Pool, int] = {"act": 8, "create": 8}


class Threads:
    """Bounded pools of threads; ``close`` ends them.

    Looks get a thread each, and whoever looks makes sure that there are few: one that a frozen
    engine holds stands in nobody's way, and does not hold up the end of the process.
    """

    def __init__(self) -> None:
        self._pools = {
            pool: ThreadPoolExecutor(size, thread_name_prefix=f"mooring-{pool}")
            for pool, size in SIZES.items()
        }
        self._closed = False

    def submit(self, pool: Pool, call: Callable[[], T]) -> Future[T]:
        """Run a call in a thread.

        Raises:
            RuntimeError: they are closed.
        """
        if pool != "look":
            return self._pools[pool].submit(call)
        if self._closed:
            raise RuntimeError("the server is shutting down")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        threading.Thread(
            target=_fulfil, args=(future, call), name="mooring-look", daemon=True
        ).start()
        return future

    async def run(self, pool: Pool, call: Callable[[], T]) -> T:
        """Run a blocking call beside the event loop."""
        return await asyncio.wrap_future(self.submit(pool, call))

    def close(self) -> None:
        """Take no more calls; those that have not begun never do."""
        self._closed = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
