"""Restrict the paths that clients send to the server's root folder."""

from __future__ import annotations

from pathlib import Path

from mooring_server_extension.responses import BadRequest, Forbidden


def below_root(root: Path, path: str) -> Path:
    """Return the host path for a client's path, with symbolic links resolved.

    Args:
        root: the server's root, with symbolic links resolved.
        path: relative to the root, separated by ``/``.

    Raises:
        BadRequest: it is not a valid path.
        Forbidden: it is outside the root.
    """
    try:
        target = (root / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a symlink loop
        raise BadRequest(f"{path[:200]!r} is not a path") from error
    if target != root and root not in target.parents:
        raise Forbidden(
            f"{path[:200]} lies outside the server's root folder",
            "give a path relative to that folder",
        )
    return target
