"""Slow requests for images: pulls and snapshots."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING

from mooring.engines.base import PullProgress
from mooring.engines.docker.errors import collapsed
from mooring.errors import ImageError

if TYPE_CHECKING:
    from docker.api.client import APIClient

# Podman has the second one for a path that does not exist
_MISSING = (HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
_LINK = 1 << 27  # a bit of Go's FileMode
COMMIT_TIMEOUT_S = 3600.0
PULL_HINT = "check the name and the registry, or use an image that is here with pull: never"


def pull(api: APIClient, reference: str) -> Iterator[PullProgress]:
    """Pull an image, and yield the progress summed over its layers.

    Args:
        api: the SDK's client.
        reference: ``repository``, ``repository:tag`` or ``repository@digest``.

    Raises:
        ImageError: the image does not exist, or cannot be pulled.
    """
    from docker.errors import APIError, NotFound

    name, _, tag = reference.partition("@")
    if not tag and ":" in name.rsplit("/", 1)[-1]:
        name, _, tag = reference.rpartition(":")
    layers: dict[str, tuple[int, int]] = {}
    try:
        for line in api.pull(name, tag=tag or "latest", stream=True, decode=True):
            if "error" in line:
                raise ImageError(f"cannot pull {reference}: {collapsed(line['error'])}", PULL_HINT)
            detail = line.get("progressDetail") or {}
            if line.get("id") and detail.get("total"):
                layers[line["id"]] = (detail.get("current", 0), detail["total"])
            yield PullProgress(
                status=line.get("status", ""),
                done_bytes=sum(done for done, _ in layers.values()),
                total_bytes=sum(total for _, total in layers.values()),
            )
    except NotFound as error:
        raise ImageError(f"No such image: {reference}", PULL_HINT) from error
    except APIError as error:
        why = collapsed(str(error.explanation or error))
        raise ImageError(f"cannot pull {reference}: {why}", PULL_HINT) from error


def link_target(api: APIClient, container: str, path: str) -> str | None:
    """See ``SupportsLinks.link_target``.

    Args:
        api: the SDK's client.
        container, path: as there.
    """
    url = f"{api.base_url}/v{api.api_version}/containers/{container}/archive"
    with contextlib.closing(api.head(url, params={"path": path})) as reply:
        if reply.status_code in _MISSING:
            return None
        reply.raise_for_status()
        found = json.loads(base64.b64decode(reply.headers["X-Docker-Container-Path-Stat"]))
    return str(found["linkTarget"]) if found["mode"] & _LINK else ""


def snapshot(api: APIClient, address: str, container: str, image: str) -> None:
    """Commit a container's files as an image, with a timeout of ``COMMIT_TIMEOUT_S``.

    Args:
        api: the SDK's client, for its API version.
        address: the engine's, ``unix:///path``.
        container: the id of a stopped container.
        image: the reference of the snapshot, ``repository:tag``.
    """
    from docker.api.client import APIClient

    repository, _, tag = image.rpartition(":")
    patient = APIClient(base_url=address, version=api.api_version, timeout=COMMIT_TIMEOUT_S)
    with contextlib.closing(patient):
        patient.commit(container, repository=repository, tag=tag)
