"""Name and labels of a session's container; the labels record all that must be known about it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mooring.host.text import one_line

LABEL_ID = "mooring.id"
LABEL_NAME = "mooring.name"
LABEL_OWNER = "mooring.owner"
LABEL_INSTALLATION = "mooring.installation"
LABEL_SPEC = "mooring.spec"
LABEL_GPUS = "mooring.gpus"
LABEL_VERSION = "mooring.version"
LABEL_PROBE = "mooring.probe"


def container_name(name: str, session_id: str) -> str:
    """The engine's name for a session's container."""
    return f"mooring-{name}-{session_id[:4]}"


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
