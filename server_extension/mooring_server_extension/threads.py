"""Where the event loop sends calls of the core, which block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, TypeVar

T = TypeVar("T")
Pool = Literal["look", "act", "create"]

# Each kind of call has threads of its own: a creation may pull an image for minutes, and what
# cancels it must not stand in its queue, nor may a look at the sessions
SIZES: dict[Pool, int] = {"look": 2, "act": 8, "create": 8}


class Threads:
    """Bounded pools of threads; ``close`` ends them."""

    def __init__(self) -> None:
        self._pools = {
            pool: ThreadPoolExecutor(size, thread_name_prefix=f"mooring-{pool}")
            for pool, size in SIZES.items()
        }

    def submit(self, pool: Pool, call: Callable[[], T]) -> Future[T]:
        return self._pools[pool].submit(call)

    async def run(self, pool: Pool, call: Callable[[], T]) -> T:
        """Run a blocking call beside the event loop."""
        return await asyncio.wrap_future(self.submit(pool, call))

    def close(self) -> None:
        """Take no more calls; those that have not begun never do."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
