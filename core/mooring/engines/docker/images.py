"""Requests for images: pulls, imports, snapshots, and a look into one."""

from __future__ import annotations

import base64
import json
import math
import warnings
from collections.abc import Iterator
from http import HTTPStatus

from mooring.engines.base import PullProgress
from mooring.engines.docker.client import ApiError, Client, NotFound, lines
from mooring.engines.docker.errors import collapsed
from mooring.errors import ImageError

# Podman has the second one for a path that does not exist
_MISSING = (HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
_LINK = 1 << 27  # a bit of Go's FileMode
COMMIT_TIMEOUT_S = 3600.0
PULL_HINT = "check the name and the registry, or use an image that is here with pull: never"


def pull(api: Client, reference: str) -> Iterator[PullProgress]:
    """Pull an image, and yield the progress summed over its layers.

    Args:
        api: the engine's client.
        reference: ``repository``, ``repository:tag`` or ``repository@digest``.

    Raises:
        ImageError: the image does not exist, or cannot be pulled.
    """
    name, _, tag = reference.partition("@")
    if not tag and ":" in name.rsplit("/", 1)[-1]:
        name, _, tag = reference.rpartition(":")
    query = {"fromImage": name, "tag": tag or "latest"}
    layers: dict[str, tuple[int, int]] = {}
    try:
        pulled = api.stream(
            "POST", "images", "create", query=query, headers=_credentials(name), timeout_s=math.inf
        )
        for line in lines(pulled):
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
    except ApiError as error:
        raise ImageError(f"cannot pull {reference}: {collapsed(error.why)}", PULL_HINT) from error


def _credentials(repository: str) -> dict[str, str]:
    """The header with the user's credentials for a repository's registry; empty without any.

    Docker's SDK reads them from the configuration of Docker's command line, or asks the program
    that is configured there.
    """
    import docker.auth
    from docker.errors import DockerException

    try:
        registry, _ = docker.auth.resolve_repository_name(repository)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a program that is missing: it raises as well
            found = docker.auth.resolve_authconfig(docker.auth.load_config(), registry)
    except (DockerException, OSError, ValueError) as error:
        why = collapsed(str(error))
        raise ImageError(f"cannot pull {repository}: {why}", "see: docker login --help") from error
    return {"X-Registry-Auth": docker.auth.encode_header(found).decode()} if found else {}


def import_tar(api: Client, tar: bytes, reference: str) -> str:
    """Import an archive of files as an image.

    Args:
        api: the engine's client.
        tar: the archive.
        reference: the image's, ``repository:tag``.

    Returns:
        The id that the engine reports; empty if it reports none.
    """
    repository, _, tag = reference.rpartition(":")
    query = {"fromSrc": "-", "repo": repository, "tag": tag}
    reply = api.stream("POST", "images", "create", query=query, body=tar, timeout_s=math.inf)
    made = ""
    for line in lines(reply):
        if "error" in line:
            raise ImageError(f"cannot import {reference}: {collapsed(line['error'])}")
        made = str(line.get("status") or made)
    return made


def link_target(api: Client, container: str, path: str) -> str | None:
    """See ``SupportsLinks.link_target``.

    Args:
        api: the engine's client.
        container, path: as there.
    """
    try:
        headers = api.head("containers", container, "archive", query={"path": path})
    except ApiError as error:
        if error.status in _MISSING:
            return None
        raise
    found = json.loads(base64.b64decode(headers["x-docker-container-path-stat"]))
    return str(found["linkTarget"]) if found["mode"] & _LINK else ""


def snapshot(api: Client, container: str, image: str) -> None:
    """Commit a container's files as an image, with a timeout of ``COMMIT_TIMEOUT_S``.

    Args:
        api: the engine's client.
        container: the id of a stopped container.
        image: the reference of the snapshot, ``repository:tag``.
    """
    repository, _, tag = image.rpartition(":")
    query = {"container": container, "repo": repository, "tag": tag}
    api.post("commit", query=query, body={}, timeout_s=COMMIT_TIMEOUT_S)
