"""Name and labels of a session's container; the labels record all that must be known about it."""

from __future__ import annotations

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
