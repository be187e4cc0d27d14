"""The SDK's client, with a negotiated API version and streams that lose no bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mooring.errors import EngineError
from mooring.host.text import one_line

if TYPE_CHECKING:
    from docker.api.client import APIClient

API_VERSION = "1.41"  # of Docker 20.10, and sufficient
# Set in a thread while the response to its request is a stream
_expecting = threading.local()


def open_client(address: str, timeout_s: float) -> APIClient:
    """Create a client that keeps streams whole, without sending a request.

    Args:
        address: the engine's, ``unix:///path``.
        timeout_s: the timeout of requests in seconds.
    """
    from docker.api.client import APIClient

    client = APIClient(base_url=address, version=API_VERSION, timeout=timeout_s, num_pools=16)
    keep_streams_whole(client)
    keep_paths(client)
    return client


def negotiate(client: APIClient, version: Mapping[str, Any]) -> None:
    """Use the engine's minimum API version if it is newer than ours, as in Docker 29.

    Args:
        client: modified in place.
        version: the engine's response to ``GET /version``.
    """
    oldest = version.get("MinAPIVersion") or API_VERSION
    if _numbers(oldest) > _numbers(API_VERSION):
        client._version = oldest


def keep_paths(client: APIClient) -> None:
    """Make the client refuse names that would lead to another request.

    The SDK quotes the names in a URL, but neither a slash nor a dot; then ``a/../b`` is ``b``.
    """
    url_of = client._url

    def checked(path: str, *names: Any, **options: Any) -> str:
        for name in names:
            if isinstance(name, str) and {"", ".", ".."} & set(name.split("/")):
                raise EngineError(
                    f"{one_line(name, 100)!r} is not the name of an image or a container",
                    "check the name",
                )
        return str(url_of(path, *names, **options))

    client._url = checked


@contextlib.contextmanager
def expecting_stream() -> Iterator[None]:
    """Context manager that marks this thread's requests as answered with a stream."""
    _expecting.stream = True
    try:
        yield
    finally:
        _expecting.stream = False


def keep_streams_whole(client: APIClient) -> None:
    """Make the client read the headers of a response byte by byte if a stream follows.

    http.client buffers everything that has arrived. Stream bytes that arrive together with the
    headers, as they do on a busy machine, would be lost.
    """
    from http.client import HTTPResponse

    class StreamResponse(HTTPResponse):
        def __init__(self, connected: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(connected, *arguments, **options)
            if getattr(_expecting, "stream", False):
                self.fp.close()
                self.fp = connected.makefile("rb", 1)

    adapter = client.get_adapter(client.base_url)
    # The SDK has a pool of connections for each URL, and closes the oldest of them even if a thread
    # is using it. One that is dropped closes its connections itself.
    adapter.pools.dispose_func = None
    pool_of = adapter.get_connection

    def get_connection(*arguments: Any, **options: Any) -> Any:
        pool = pool_of(*arguments, **options)
        if "_new_conn" not in vars(pool):
            connect = pool._new_conn

            def new_connection() -> Any:
                connection = connect()
                connection.response_class = StreamResponse
                return connection

            pool._new_conn = new_connection
        return pool

    adapter.get_connection = get_connection


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
