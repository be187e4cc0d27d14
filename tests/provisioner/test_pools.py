"""Blocking calls of the core, beside a client's event loop."""

from __future__ import annotations

import asyncio
import multiprocessing

from mooring_provisioner.pools import CALLS, Pool, in_thread


async def ask(pool: Pool) -> int:
    return await in_thread(lambda: 7, pool)


def test_a_client_that_cleans_up_at_exit_is_served() -> None:
    """Threads end before exit handlers run: the call is then made in the calling thread."""
    pool = Pool(1, "test")
    pool.executor.shutdown()
    assert asyncio.run(ask(pool)) == 7


def test_a_forked_process_has_threads_of_its_own() -> None:
    """Those of its parent do not run in it, and would be waited for without end (papermill#511)."""
    assert asyncio.run(ask(CALLS)) == 7
    with multiprocessing.get_context("fork").Pool(1) as forked:
        assert forked.apply_async(asked).get(timeout=30) == 7


def asked() -> int:
    return asyncio.run(ask(CALLS))
