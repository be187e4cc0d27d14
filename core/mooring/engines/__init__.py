"""What runs containers. ``open_engine`` is the only place that knows which ones there are."""

from __future__ import annotations

import os

from mooring.engines.base import Engine
from mooring.errors import NotSupported


def open_engine(target: str = "local") -> Engine:
    """The engine that a target names.

    Args:
        target: ``local`` is the engine that ``DOCKER_HOST`` names, else Docker's own socket,
            else rootless Podman's.

    Returns:
        An engine; nothing is sent to it yet.

    Raises:
        NotSupported: for every other target.
    """
    if target != "local":
        raise NotSupported(
            f"target: {target!r} is not supported by this version",
            "leave target out, or set it to local",
        )
    from mooring.engines.docker import DockerEngine, local_address

    return DockerEngine(local_address(os.environ))
