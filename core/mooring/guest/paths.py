"""Where a session's container finds what mooring gives it."""

from __future__ import annotations

GUEST_RUN = "/run/mooring"
