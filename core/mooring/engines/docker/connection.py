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
DOCKER_SOCKET = "/var/run/docker.sock"


class DockerConnection:
    """Sends requests to an engine in the version of its API, which the first one asks for.

    Args:
        address: ``unix:///path``.
        timeout_s: the timeout of ordinary requests in seconds, after which the engine counts as
            unavailable.
        version: the engine's response to ``GET /version``; requested if None or empty.
        client: sends the requests; a ``Client`` if None.
    """

    kind = "docker"

    def __init__(
        self,
        address: str,
        timeout_s: float = REQUEST_TIMEOUT_S,
        *,
        version: Mapping[str, Any] | None = None,
        client: Client | None = None,
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._client = client
        self._version: Mapping[str, Any] = version or {}
        self._info: EngineInfo | None = None
        self._daemon_info: Mapping[str, Any] = {}

    @property
    def _api(self) -> Client:
        client = self._client
        if client is None:
            client = Client(self.address, self._timeout_s)
            if not self._version:
                self._version = client.get("version")
            self._refuse_stranger()
            client.version = self._api_version()
            self._client = client
        return client

    def _api_version(self) -> str:
        """Ours, or the engine's oldest if that is newer, as with Docker 29."""
        oldest = str(self._version.get("MinAPIVersion") or API_VERSION)
        return max(API_VERSION, oldest, key=_numbers)

    def _refuse_stranger(self) -> None:
        """Raise EngineError if Podman answers instead of Docker, or vice versa."""
        kind = "podman" if values.is_podman(self._version) else "docker"
        if kind != self.kind:
            self._version = {}
            path = self.address.removeprefix("unix://")
            raise EngineError(
                f"the engine at {path} is now {kind}, not {self.kind}",
                "restart this program",
            )

    def close(self) -> None:
        if self._client is not None:
            self._client, self._version, self._daemon_info = None, {}, {}

    def _mapped(
        self, doing: str, timeout_s: float | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return mapped(doing, self.address, timeout_s or self._timeout_s)

    def info(self) -> EngineInfo:
        if self._info is None:
            with self._mapped("asking the engine for its version"):
                client = self._api
                version = self._version or client.get("version")
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
