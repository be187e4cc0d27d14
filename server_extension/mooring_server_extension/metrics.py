"""What Prometheus asks of the sessions, on the server's own ``/metrics``."""

from __future__ import annotations

import threading

from mooring.history import Event
from mooring.service import Mooring
from mooring.session import Session


class Metrics:
    """The figures of one server's sessions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number: int | None = None

    def observe(self, mooring: Mooring, sessions: list[Session]) -> list[Event]:
        """Take in a look at the sessions. Returns what was written into the history since."""
        with self._lock:
            if self._number is None:
                self._number = mooring.history.newest()
            events = mooring.history.after(self._number)
            if events:
                self._number = events[-1].number
        return events

    def observe_unknown(self, sessions: list[Session]) -> None:
        """Take in that the engine does not answer."""
