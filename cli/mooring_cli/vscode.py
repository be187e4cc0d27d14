"""The addresses with which VS Code's Dev Containers extension opens a session."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING

from mooring import container_name

if TYPE_CHECKING:
    from mooring import Session

# The extension's default engine, used if the address does not specify one
DEFAULT_ENGINE = "unix:///var/run/docker.sock"


def attach_address(session: Session, path: str, *, engine: str) -> str:
    """Return the address of a folder in a running container.

    Args:
        session: the container's session.
        path: absolute path in the container.
        engine: the engine's address, as in ``DOCKER_HOST``.

    Returns:
        A ``vscode-remote:`` URI in the extension's format:
        https://github.com/microsoft/vscode-remote-release/issues/8764
    """
    container: dict[str, object] = {"containerName": f"/{container_name(session.name, session.id)}"}
    if engine != DEFAULT_ENGINE:
        container["settings"] = {"host": engine}
    authority = json.dumps(container, separators=(",", ":")).encode().hex()
    return f"vscode-remote://attached-container+{authority}{urllib.parse.quote(path)}"
