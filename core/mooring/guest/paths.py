"""The path of the run folder in a session's container."""

from __future__ import annotations

GUEST_RUN = "/run/mooring"
