"""The supported engines, and how their addresses are determined."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from mooring.engines.base import Engine
from mooring.errors import NotSupported

_ASK_TIMEOUT_S = 2.0


def open_engine(target: str = "local") -> Engine:
    """Open the engine that a target names.

    Args:
        target: ``local`` for the engine at ``local_address``.

    Returns:
        The engine. The response to ``GET /_ping`` distinguishes Docker from Podman; an engine
        that is unavailable raises only on its first request.

    Raises:
        NotSupported: ``target`` is not ``local``, or ``DOCKER_HOST`` is not a Unix socket.
    """
    if target != "local":
        raise NotSupported(
            f"target: {target!r} is not supported by this version",
            "leave target out, or set it to local",
        )
    from mooring.engines.docker import ApiError, Client, DockerEngine, is_podman
    from mooring.engines.podman import PodmanEngine

    address = local_address(os.environ)
    path = address.removeprefix("unix://")
    pong = None
    # short, so that detecting the kind adds little to the wait for an engine that hangs
    with contextlib.suppress(OSError, ValueError, ApiError):
        pong = Client(address, _ASK_TIMEOUT_S).ping()
    if is_podman(pong) if pong else "podman" in os.path.realpath(path):
        return PodmanEngine(address, pong=pong)
    return DockerEngine(address, pong=pong)


def local_address(environ: Mapping[str, str]) -> str:
    """The address of this machine's engine, as ``unix:///path``.

    Args:
        environ: the environment variables. ``DOCKER_HOST`` takes precedence. Without it, the
            address is Docker's socket, or rootless Podman's if only that one exists.

    Raises:
        NotSupported: ``DOCKER_HOST`` is not a Unix socket.
    """
    from mooring.engines.docker import DOCKER_SOCKET

    host = environ.get("DOCKER_HOST", "")
    if host:
        if not host.startswith("unix://"):
            raise NotSupported(
                f"DOCKER_HOST is {host}: this version supports no engines on other machines",
                "unset DOCKER_HOST, or set it to unix:///path/to/docker.sock",
            )
        # a path without its first slash is taken as Docker's SDK takes it
        return "unix:///" + host.removeprefix("unix://").lstrip("/")
    if not os.path.exists(DOCKER_SOCKET):
        runtime = environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        podman = Path(runtime) / "podman" / "podman.sock"
        if podman.exists():
            return f"unix://{podman}"
    return f"unix://{DOCKER_SOCKET}"


def local_sockets(environ: Mapping[str, str]) -> list[Path]:
    """The sockets of this machine's engines, as resolved paths, sorted.

    Write access to one is equivalent to root on this machine, or to the user for a rootless
    engine, so no container may see them.

    Args:
        environ: as for ``local_address``.
    """
    return sorted({Path(os.path.realpath(name)) for name in local_socket_names(environ)})


def local_socket_names(environ: Mapping[str, str]) -> list[str]:
    """The same sockets, as absolute paths by which mooring opens them, links unresolved.

    Args:
        environ: as for ``local_address``.
    """
    from mooring.engines.docker import DOCKER_SOCKET

    names = [DOCKER_SOCKET]
    with contextlib.suppress(NotSupported):
        names.append(os.path.abspath(local_address(environ).removeprefix("unix://")))
    return names
