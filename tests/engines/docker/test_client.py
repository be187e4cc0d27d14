"""The SDK's client, as mooring sets it up; nothing is sent."""

from __future__ import annotations

from mooring.engines.docker.client import open_client


def test_a_pool_in_use_is_not_closed() -> None:
    """The SDK has a pool for each URL, and closes the oldest of sixteen under who is using it."""
    client = open_client("unix:///nowhere.sock", timeout_s=1)
    adapter = client.get_adapter(client.base_url)
    used = adapter.get_connection(f"{client.base_url}/exec/0/start")
    for number in range(1, 100):
        adapter.get_connection(f"{client.base_url}/exec/{number}/start")
    assert used.pool is not None
    client.close()
