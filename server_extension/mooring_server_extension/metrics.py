"""What Prometheus asks of the sessions, on the Jupyter server's own ``/metrics``.

Starts and stops are counted from the history, so those of every door count, from the server's
start on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mooring.errors import MooringError
from mooring.service import Mooring
from mooring.sessions.history import Event, History
from mooring.sessions.model import Session, State
from mooring_server_extension.gpus import STATES, Gpus

if TYPE_CHECKING:
    from mooring.gpus.usage import GpuUse

# A scrape stops the server's event loop: it waits so long for a look, or tells the last one
SCRAPE_PATIENCE_S = 0.25
CACHE_S = 2.0

START_SECONDS = Histogram(
    "mooring_session_start_seconds",
    "Seconds from a session's creation to its running, pulls and waits for GPUs included.",
    buckets=(0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
    registry=None,
)
STOPS = Counter(
    "mooring_session_stops", "Sessions that have ended, by reason.", ["reason"], registry=None
)

log = logging.getLogger(__name__)

_HOLDING = (State.RUNNING, State.PAUSED, State.UNKNOWN)


class Metrics:
    """The figures of one server's sessions.

    Args:
        mooring, gpus: asked when a scrape finds the last look too old.
        submit: runs that in a thread.
    """

    def __init__(
        self, mooring: Mooring, gpus: Gpus, submit: Callable[[Callable[[], None]], Future[None]]
    ) -> None:
        self._mooring, self._gpus, self._submit = mooring, gpus, submit
        self._lock = threading.Lock()
        self._number = mooring.history.newest()
        self._sessions: list[Session] = []
        self._seen = float("-inf")
        self._asked: Future[None] | None = None

    def observe(self, sessions: list[Session]) -> None:
        """Take in a look at the sessions, and what the history has had to tell since the last."""
        history = self._mooring.history
        with self._lock:
            self._sessions, self._seen = sessions, time.monotonic()
            while events := history.after(self._number):
                self._number = events[-1].number
                for event in events:
                    _count(history, event)

    def observe_unknown(self, sessions: list[Session]) -> None:
        """Take in that the engine does not answer."""
        with self._lock:
            self._sessions, self._seen = sessions, time.monotonic()

    def look(self) -> None:
        """Look at the sessions; blocks."""
        try:
            self.observe(self._mooring.sessions())
        except MooringError:
            self.observe_unknown(self._mooring.unknown())

    def families(self) -> Iterator[GaugeMetricFamily]:
        """The gauges, no older than the cache if the engine answers in time."""
        if time.monotonic() - self._seen > CACHE_S and (self._asked is None or self._asked.done()):
            try:
                self._asked = self._submit(self.look)
                self._asked.result(SCRAPE_PATIENCE_S)
            except (NotYet, RuntimeError):
                pass  # frozen, or on its way out: what was seen last must do
            except Exception:  # the server's other figures must not go with it
                log.exception("the sessions could not be looked at")
        yield from _families(self._sessions, self._gpus.lately(SCRAPE_PATIENCE_S))


def _families(sessions: list[Session], gpus: list[GpuUse]) -> Iterator[GaugeMetricFamily]:
    states = GaugeMetricFamily("mooring_sessions", "Sessions, by state.", labels=["state"])
    found = Count(session.state for session in sessions)
    for one in State:
        if one is not State.GONE:
            states.add_metric([str(one)], found[one])
    yield states
    machine = GaugeMetricFamily("mooring_gpus", "GPUs of the machine, by state.", labels=["state"])
    counted = Count(use.state for use in gpus)
    for state in STATES:
        machine.add_metric([state], counted[state])
    yield machine
    held = sum(claim.share for one in sessions if one.state in _HOLDING for claim in one.claims)
    yield GaugeMetricFamily("mooring_gpus_held", "GPUs that sessions hold.", value=held)
    kernels = sum(len(session.live_kernels) for session in sessions)
    yield GaugeMetricFamily("mooring_kernels", "Kernels that live in sessions.", value=kernels)


def _count(history: History, event: Event) -> None:
    if event.kind == "started" and event.detail != "again":
        session = history.find(event.session)
        if session is not None:
            START_SECONDS.observe(max(0.0, event.time - session.created_at))
    elif event.kind in ("stopped", "ended", "removed"):
        reason = _reason(history, event)
        if reason:
            STOPS.labels(reason).inc()


def _reason(history: History, event: Event) -> str:
    """One of a few words; empty for the removal of a session that had stopped before."""
    if event.kind == "stopped":
        return "stopped"
    if event.kind == "ended":
        words = {
            "idle timeout": "idle",
            "maximum duration": "max_duration",
            "out of memory": "out_of_memory",
            "ended by itself": "exited",
            "exit code": "exited",
            "stopped": "stopped",
            "on request": "stopped",
            "by ": "stopped",
        }
        found = (word for start, word in words.items() if event.detail.startswith(start))
        return next(found, "lost")
    earlier = [one.kind for one in history.events(event.session) if one.number < event.number]
    lives = [kind for kind in earlier if kind in ("started", "stopped", "ended")]
    return "removed" if lives and lives[-1] == "started" else ""


class _Gauges(Collector):
    """Registered once in a process, for the server that was set up last."""

    metrics: Metrics | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return _families([], [])

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return [] if self.metrics is None else self.metrics.families()


_gauges = _Gauges()
# In this order they are asked: the gauges look, and what they see is counted
for _collector in (_gauges, START_SECONDS, STOPS):
    REGISTRY.register(_collector)


def publish(metrics: Metrics | None) -> None:
    """Have the process's ``/metrics`` tell these; None for no more."""
    _gauges.metrics = metrics
