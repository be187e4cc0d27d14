"""Blocking calls of the core, beside a client's event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from mooring_provisioner.pools import in_thread


def test_a_client_that_cleans_up_at_exit_is_served() -> None:
    """Threads end before exit handlers run: the call is then made in the calling thread."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()

    async def ask() -> int:
        return await in_thread(lambda: 7, pool)

    assert asyncio.run(ask()) == 7
