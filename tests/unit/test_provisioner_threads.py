"""The provisioner's blocking calls, beside the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from mooring_provisioner import provisioner


def test_a_client_that_cleans_up_at_exit_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads end before exit handlers run: the call is then made where it stands."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    monkeypatch.setattr(provisioner, "_threads", pool)

    async def ask() -> int:
        return await provisioner.in_thread(lambda: 7)

    assert asyncio.run(ask()) == 7
