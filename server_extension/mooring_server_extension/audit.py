"""The audit log, through jupyter_events: which user performed which action on which session.

It includes only names from a request's body, so secrets cannot reach it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCHEMA_FILE = Path(__file__).with_name("session-event.yml")
SCHEMA_ID = "https://schema.mooring.dev/session/v1"


def register(event_logger: Any) -> None:
    """Register the schema of the events with a server's event logger. Idempotent."""
    if SCHEMA_ID not in event_logger.schemas:
        event_logger.register_event_schema(SCHEMA_FILE)


def emit(event_logger: Any, *, user: str, action: str, session: str, outcome: str) -> None:
    """Record an action, successful or not.

    Args:
        event_logger: the server's event logger.
        user: the user, named as in the session's history.
        action: create, start, stop, remove, hold, update, terminal or kernel.
        session: the session's name, truncated to 200 characters; empty if it is not known.
        outcome: ``done``, or the code of the error.
    """
    event_logger.emit(
        schema_id=SCHEMA_ID,
        data={"user": user, "action": action, "session": session[:200], "outcome": outcome},
    )
