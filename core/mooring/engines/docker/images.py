"""Requests for images: pulls, imports, snapshots, and a look into one."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from mooring.engines.base import PullProgress
from mooring.engines.docker import cli_config
from mooring.engines.docker.client import ApiError, Client, NotFound, documents
from mooring.engines.docker.errors import collapsed
from mooring.engines.labels import IMPORTED, LABEL_IMAGE
from mooring.errors import ImageError
from mooring.host.untrusted import parse_json

# Podman has the second one for a path that does not exist
_MISSING = (HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR)
# What an engine puts before the name of an image that was not pulled
_OWN_REGISTRIES = ("", "docker.io/", "localhost/")
_LINK = 1 << 27  # a bit of Go's FileMode
COMMIT_TIMEOUT_S = 3600.0
_CONFIG_HINT = "correct ~/.docker/config.json, or log in again: docker login --help"
PULL_HINT = "check the name and the registry, or use an image that is here with pull: never"


def pull(api: Client, reference: str) -> Iterator[PullProgress]:
    """Pull an image, and yield the progress summed over its layers.

    Args:
        api: the engine's client.
        reference: ``repository``, ``repository:tag`` or ``repository@digest``; a digest
            takes precedence over a tag.

    Raises:
        ImageError: the image does not exist, or cannot be pulled.
    """
    name, _, digest = reference.partition("@")
    tag = ""
    if ":" in name.rsplit("/", 1)[-1]:
        name, _, tag = name.rpartition(":")
    query = {"fromImage": name, "tag": digest or tag or "latest"}
    layers: dict[str, tuple[int, int]] = {}
    try:
        with api.open(
            "POST", "images", "create", query=query, headers=_credentials(name), timeout_s=math.inf
        ) as response:
            for line in documents(response.chunks()):
                if "error" in line:
                    why = collapsed(line["error"])
                    raise ImageError(f"cannot pull {reference}: {why}", PULL_HINT)
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
    config = cli_config.read()
    if not config:
        return {}
    import docker.auth
    from docker.errors import DockerException

    # it raises as well
    warnings.filterwarnings("ignore", r"docker-credential-\S+ not installed")
    try:
        registry, _ = docker.auth.resolve_repository_name(repository)
        found = docker.auth.load_config(config_dict=config).resolve_authconfig(registry)
    except (DockerException, OSError, ValueError) as error:
        why = collapsed(str(error))
        raise ImageError(f"cannot pull {repository}: {why}", _CONFIG_HINT) from error
    except (AttributeError, KeyError, TypeError) as error:  # a value of another type
        why = "the credentials in Docker's configuration cannot be read"
        raise ImageError(f"cannot pull {repository}: {why}", _CONFIG_HINT) from error
    return {"X-Registry-Auth": docker.auth.encode_header(found).decode()} if found else {}


def import_tar(api: Client, tar: bytes, reference: str) -> str:
    """Import an archive of files as an image, with the label that says that mooring did.

    Args:
        api: the engine's client.
        tar: the archive.
        reference: the image's, ``repository:tag``.

    Returns:
        The id that the engine reports.
    """
    repository, _, tag = reference.rpartition(":")
    label = f"LABEL {LABEL_IMAGE}={IMPORTED}"
    query = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": label}
    made = ""
    with api.open(
        "POST", "images", "create", query=query, body=tar, timeout_s=math.inf
    ) as response:
        for line in documents(response.chunks()):
            if "error" in line:
                raise ImageError(f"cannot import {reference}: {collapsed(line['error'])}")
            made = str(line.get("status") or made)
    if not made:
        raise ImageError(f"cannot import {reference}: the engine reports no image")
    return made


def remove_older(api: Client, reference: str) -> None:
    """See ``SupportsImport.remove_older_images``.

    Args:
        api: the engine's client.
        reference: as there.
    """
    repository, _, tag = reference.rpartition(":")
    rows = api.get("images", "json", query={"filters": json.dumps({"reference": [repository]})})
    made = {
        name: row["Created"]
        for row in rows
        if (row.get("Labels") or {}).get(LABEL_IMAGE) == IMPORTED
        for name in row.get("RepoTags") or ()
        if name.rpartition(":")[0] in {f"{registry}{repository}" for registry in _OWN_REGISTRIES}
    }
    kept = [name for name in made if name.endswith(f"{repository}:{tag}")]
    for name, created in made.items():
        if kept and name not in kept and created <= made[kept[0]]:
            with contextlib.suppress(ApiError):  # a container uses it, or it is gone
                api.send("DELETE", "images", name)


def names_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names in a response to ``GET /images/json``, sorted; those without a tag have none."""
    names = {name for row in rows for name in row.get("RepoTags") or ()}
    return sorted(name for name in names if not name.endswith(":<none>"))


def link_target(api: Client, container: str, path: str) -> str | None:
    """See ``SupportsLinks.link_target``.

    Args:
        api: the engine's client.
        container, path: as there.
    """
    try:
        with api.open("HEAD", "containers", container, "archive", query={"path": path}) as response:
            stat = response.headers.get("x-docker-container-path-stat", "")
    except ApiError as error:
        if error.status in _MISSING:
            return None
        raise
    found = parse_json(base64.b64decode(stat))
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
    api.send("POST", "commit", query=query, body={}, timeout_s=COMMIT_TIMEOUT_S)
