"""Name and labels of a session's container; the labels record all that must be known about it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mooring.engines.base import Container
from mooring.host.text import one_line

LABEL_ID = "mooring.id"
LABEL_NAME = "mooring.name"
LABEL_OWNER = "mooring.owner"
LABEL_INSTALLATION = "mooring.installation"
LABEL_SPEC = "mooring.spec"
LABEL_GPUS = "mooring.gpus"
LABEL_VERSION = "mooring.version"
LABEL_PROBE = "mooring.probe"
#: Of the images that mooring imports, with the value ``IMPORTED``.
LABEL_IMAGE = "mooring.image"
IMPORTED = "host"
#: Every label that mooring reads.
LABELS = (
    LABEL_ID,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_INSTALLATION,
    LABEL_SPEC,
    LABEL_GPUS,
    LABEL_VERSION,
    LABEL_PROBE,
    LABEL_IMAGE,
)


def complete(labels: Mapping[str, str]) -> dict[str, str]:
    """Add every label that mooring reads and a container does not have, with an empty value.

    A container inherits the labels that it does not have from its image, whose author may have
    written anything there.
    """
    return dict.fromkeys(LABELS, "") | dict(labels)


def container_name(name: str, session_id: str) -> str:
    """The engine's name for a session's container."""
    return f"mooring-{name}-{session_id[:4]}"


def is_session(row: Container) -> bool:
    """Whether a container's name and labels are those of a session, of any installation.

    Labels alone are not enough, because the image of a commit of a session's container passes the
    session's labels on to every container of it.
    """
    labels = row.labels
    if not labels.get(LABEL_INSTALLATION) or not labels.get(LABEL_ID):
        return False
    name = container_name(labels.get(LABEL_NAME, ""), labels[LABEL_ID])
    return row.name == name or row.name.startswith(f"{name}-")  # -…: while it is recreated


# As the engine takes them in names of containers; a spec's are narrower
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


def name_of(labels: Mapping[str, str], container: str) -> str:
    """Return the name of a session from its container's labels, which any user can set.

    Args:
        labels: the container's labels.
        container: the container's name, which stands in for a label that is not a name.
    """
    name = labels.get(LABEL_NAME, "")
    return next((one for one in (name, container) if _NAME.fullmatch(one)), "unnamed")


def owner_of(labels: Mapping[str, str]) -> str:
    """Return a session's owner from its container's labels, in one printable line."""
    return one_line(labels.get(LABEL_OWNER, ""), 64)
