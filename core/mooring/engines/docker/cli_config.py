"""The user's configuration of Docker's command line, as far as it holds for mooring too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from mooring.host.untrusted import parse_json

_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
}


def proxies(address: str) -> dict[str, str]:
    """The proxies that the user has configured for containers, as environment variables.

    Args:
        address: the engine's, ``unix:///path``.

    Returns:
        The variables, each in upper and in lower case. See "Use a proxy server with the Docker
        CLI" in Docker's manual.
    """
    configured = _section(read(), "proxies")
    given = _section(configured, address if address in configured else "default")
    named = {name: str(given[key]) for key, name in _PROXIES.items() if given.get(key)}
    return named | {name.lower(): value for name, value in named.items()}


def detach_keys() -> str:
    """The keys with which the user detaches; empty for the engine's default."""
    return str(read().get("detachKeys") or "")


def read() -> Mapping[str, Any]:
    """The configuration, in the folder ``DOCKER_CONFIG``; empty if it cannot be read."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    with contextlib.suppress(OSError, ValueError), open(f"{folder}/config.json", "rb") as file:
        found = parse_json(file.read())
        if isinstance(found, dict):
            return found
    return {}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}
