"""Labels: all that must be known of a session, on its container."""

from __future__ import annotations

LABEL_ID = "mooring.id"
LABEL_NAME = "mooring.name"
LABEL_OWNER = "mooring.owner"
LABEL_INSTALLATION = "mooring.installation"
LABEL_SPEC = "mooring.spec"
LABEL_GPUS = "mooring.gpus"
LABEL_VERSION = "mooring.version"
LABEL_PROBE = "mooring.probe"
