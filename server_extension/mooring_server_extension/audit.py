"""The audit trail: who did what to which session, through jupyter_events.

Nothing of a request's body is in it but names, so there is no secret to keep out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(__file__).with_name("session-event.yml")
SCHEMA_ID = "https://schema.mooring.dev/session/v1"


def register(event_logger: Any) -> None:
    """Make the events known, once for each server."""
    if SCHEMA_ID not in event_logger.schemas:
        event_logger.register_event_schema(SCHEMA_FILE)


def emit(event_logger: Any, *, user: str, action: str, session: str, outcome: str) -> None:
    """Tell that something was done, or tried.

    Args:
        user: as in the session's history.
        action: create, start, stop, remove, hold, update, terminal or kernel.
        session: its name, as far as it is known.
        outcome: ``done``, or the failure's code.
    """
    event_logger.emit(
        schema_id=SCHEMA_ID,
        data={"user": user, "action": action, "session": session[:200], "outcome": outcome},
    )
