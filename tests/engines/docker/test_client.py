"""The SDK's client, as mooring sets it up; nothing is sent."""

from __future__ import annotations

import pytest
import requests

from mooring.engines.docker.client import open_client
from mooring.errors import EngineError


def test_a_pool_in_use_is_not_closed() -> None:
    """The SDK has a pool for each URL, and closes the oldest of sixteen under who is using it."""
    client = open_client("unix:///nowhere.sock", timeout_s=1)
    adapter = client.get_adapter(client.base_url)
    used = adapter.get_connection(f"{client.base_url}/exec/0/start")
    for number in range(1, 100):
        adapter.get_connection(f"{client.base_url}/exec/{number}/start")
    assert used.pool is not None
    client.close()


@pytest.mark.parametrize(
    "name", ["../x", "a/../../containers/json", "a/./b", "..", "a//b", "/a", "a/"]
)
def test_a_name_leads_to_no_other_request(name: str) -> None:
    """A name whose parts would be taken out of the URL's path is refused, and nothing is sent."""
    client = open_client("unix:///nowhere.sock", timeout_s=1)
    for call in (client.inspect_image, client.remove_image, client.inspect_container):
        with pytest.raises(EngineError, match="is not the name of an image or a container"):
            call(name)
    client.close()


@pytest.mark.parametrize("name", ["a/b:c", "sha256:abc", "a@sha256:abc", "a..b", "a b?#%2e%2e"])
def test_other_names_are_sent(name: str) -> None:
    """Every other name is sent, quoted."""
    client = open_client("unix:///nowhere.sock", timeout_s=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        client.inspect_image(name)
    client.close()
