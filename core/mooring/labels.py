"""What a session's container is called, and its labels: all that must be known of a session."""

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
    """What a session's container is called on the engine."""
    return f"mooring-{name}-{session_id[:4]}"
