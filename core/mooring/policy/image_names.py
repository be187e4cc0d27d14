"""The names of an image that a pattern of the policy may match."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: In image patterns: this machine's own software, and an image built from the spec.
HOST, BUILD = "host", "build"

_HEX = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
_DEFAULT_REGISTRY = ("docker.io", "index.docker.io")


def spellings(image: str, *, host: bool = False) -> Iterator[str]:
    """Yield all names of an image that a pattern may match.

    `python:3.12` is also `docker.io/library/python:3.12` and, without its tag, `python`. An image
    with a digest is identified by that, and its tag is ignored. An image's id has no other name.

    Args:
        image: the image, as in `SessionSpec.image`.
        host: the image is this machine's own software.
    """
    if host:
        yield HOST
        return
    if _HEX.fullmatch(image):
        yield image
        return
    repository, mark, suffix = image.partition("@")
    tail = repository.rpartition("/")[2]
    tag = tail.partition(":")[2]
    if tag:
        repository = repository[: -len(tag) - 1]
    if not mark:
        mark, suffix = ":", tag or "latest"
    for name in _repositories(repository):
        yield f"{name}{mark}{suffix}"
        if name not in (HOST, BUILD):  # as patterns these do not name images of a registry
            yield name


def _repositories(name: str) -> Iterator[str]:
    """Yield the names of a repository; one on Docker Hub has several."""
    first, slash, rest = name.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    if has_registry and first.lower() not in _DEFAULT_REGISTRY:
        yield f"{first.lower()}/{rest}"
        return
    path = rest if has_registry else name
    path = path.removeprefix("library/") if path.count("/") == 1 else path
    yield path
    yield f"docker.io/{path}"
    if "/" not in path:
        yield f"library/{path}"
        yield f"docker.io/library/{path}"


def plain_pattern(text: str) -> str:
    """Return a pattern without the scheme that a spec may write."""
    plain = text.removeprefix("docker://")
    return f"docker.io/library/{plain}" if plain == HOST and plain != text else plain
