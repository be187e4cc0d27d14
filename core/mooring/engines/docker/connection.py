"""The connection to an engine with Docker's API, and what it says of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from mooring.engines.base import EngineInfo
from mooring.engines.docker import values
from mooring.engines.docker.client import Client
from mooring.engines.docker.errors import mapped
from mooring.errors import EngineError

REQUEST_TIMEOUT_S = 30.0
API_VERSION = "1.41"  # of Docker 20.10, and sufficient
WITHOUT_OLDER = "1.52"  # of Docker 29, the first that no longer accepts it
DOCKER_SOCKET = "/var/run/docker.sock"


class DockerConnection:
    """Sends requests to an engine in the version of its API, which the first one asks for.

    Args:
        address: ``unix:///path``.
        timeout_s: the timeout of ordinary requests in seconds, after which the engine counts as
            unavailable.
        pong: the headers of the engine's response to ``GET /_ping``, with names in lower case;
            requested if None or empty.
        client: sends the requests; a ``Client`` if None.
    """

    kind = "docker"

    def __init__(
        self,
        address: str,
        timeout_s: float = REQUEST_TIMEOUT_S,
        *,
        pong: Mapping[str, str] | None = None,
        client: Client | None = None,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._client = client
        self._pong: Mapping[str, str] = pong or {}
        self._info: EngineInfo | None = None
        self._daemon_info: Mapping[str, Any] = {}

    @property
    def _api(self) -> Client:
        client = self._client
        if client is None:
            client = Client(self.address, self._timeout_s)
            self._pong = self._pong or client.ping()
            self._refuse_stranger()
            client.version = self._api_version(client)
            self._client = client
        return client

    def _api_version(self, client: Client) -> str:
        """Ours, or the engine's oldest if that is newer."""
        if _numbers(self._pong.get("api-version", "")) < _numbers(WITHOUT_OLDER):
            return API_VERSION
        oldest = str(client.get("version").get("MinAPIVersion") or API_VERSION)
        return max(API_VERSION, oldest, key=_numbers)

    def _refuse_stranger(self) -> None:
        """Raise EngineError if Podman answers instead of Docker, or vice versa."""
        kind = "podman" if values.is_podman(self._pong) else "docker"
        if kind != self.kind:
            self._pong = {}
            path = self.address.removeprefix("unix://")
            raise EngineError(
                f"the engine at {path} is now {kind}, not {self.kind}",
                "restart this program",
            )

    def close(self) -> None:
        if self._client is not None:
            self._client, self._pong, self._daemon_info = None, {}, {}

    def _mapped(
        self, doing: str, timeout_s: float | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return mapped(doing, self.address, timeout_s or self._timeout_s)

    def ping(self) -> None:
        with self._mapped("asking whether the engine is there"):
            self._api.ping()

    def info(self) -> EngineInfo:
        if self._info is None:
            with self._mapped("asking the engine for its version"):
                version = self._api.get("version")
            self._info = EngineInfo(
                kind=self.kind,
                version=version.get("Version", ""),
                api_version=version.get("ApiVersion", ""),
                os=version.get("Os", ""),
                rootless=self._is_rootless(),
            )
        return self._info

    def _is_rootless(self) -> bool:
        if self.address == f"unix://{DOCKER_SOCKET}":
            return False
        options = self._daemon().get("SecurityOptions") or []
        return any("rootless" in str(option) for option in options)

    def _daemon(self) -> Mapping[str, Any]:
        """The response to ``GET /info``, cached: what is used of it needs a restart to change."""
        if not self._daemon_info:
            with self._mapped("asking the engine for its configuration"):
                self._daemon_info = self._api.get("info")
        return self._daemon_info


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
