"""Queries of the sessions, and those who listen to what comes of them."""

from __future__ import annotations

from mooring_server_extension import watcher
from tests.server.conftest import Serve


def test_a_client_that_does_not_read_costs_no_memory(serve: Serve) -> None:
    """What a slow client has yet to be told is the last word, and a bounded number of events."""
    server = serve()

    async def pending() -> tuple[int, int]:
        listener = watcher.Listener()
        for number in range(5000):
            listener.put("x" * 1000, [f"{number} "])
        text = await listener.next(1.0) or ""
        return text.count("x"), text.count(" ")

    assert server.on_loop(pending) == (1000, watcher.BACKLOG)
