"""Removing containers and images, whose files the engine deletes before it answers.

It goes on when its client is interrupted, so the next request for the same container finds it at
work, and waits for it.
"""

from __future__ import annotations

import contextlib
from http import HTTPStatus

from mooring.engines.docker import messages
from mooring.engines.docker.client import ApiError, Client, NotFound

TIMEOUT_S = 1800.0


def remove_container(api: Client, container: str) -> None:
    """Kill a container and remove it with its volumes; return once it is gone. Idempotent.

    Args:
        api: the engine's client.
        container: the container's id.

    Raises:
        ApiError: the engine refused it, or could not delete all files.
        OSError, ValueError: as for ``Client``; TimeoutError after ``TIMEOUT_S``.
    """
    path, query = ("containers", container), {"force": True, "v": True}
    with contextlib.suppress(NotFound):
        try:
            api.send("DELETE", *path, query=query, timeout_s=TIMEOUT_S)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT or not messages.REMOVAL_GOES_ON.search(
                error.why
            ):
                raise
            _await_removal(api, container)


def _await_removal(api: Client, container: str) -> None:
    """Wait until another request's removal is done. Raises ApiError if it has failed."""
    path, query = ("containers", container, "wait"), {"condition": "removed"}
    with api.open("POST", *path, query=query) as response:  # its head comes at once
        reply = response.document(TIMEOUT_S)
    failure = reply.get("Error") if isinstance(reply, dict) else None
    if failure:
        why = failure.get("Message") if isinstance(failure, dict) else failure
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, str(why))


def remove_image(api: Client, reference: str) -> None:
    """Remove an image; no error if there is none. Raises as ``remove_container``."""
    with contextlib.suppress(NotFound):
        api.send("DELETE", "images", reference, timeout_s=TIMEOUT_S)
