"""Paths that clients send: below the server's root, or nowhere."""

from __future__ import annotations

from pathlib import Path

from mooring_server_extension.answers import BadRequest, Forbidden


def inside(root: Path, path: str) -> Path:
    """The file or folder of this machine that a client's path leads to, links followed.

    Args:
        root: the server's root, without links.
        path: relative to it, with ``/``.

    Raises:
        BadRequest: it is no path.
        Forbidden: it leads out of the root.
    """
    try:
        found = (root / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links
        raise BadRequest(f"{path[:200]!r} is no path") from error
    if found != root and root not in found.parents:
        raise Forbidden(
            f"{path[:200]} lies outside the server's root folder",
            "give a path relative to that folder",
        )
    return found
