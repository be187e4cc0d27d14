"""Prometheus metrics of the sessions, on the Jupyter server's own ``/metrics``.

Starts and stops since the server's start are counted from the history, so those of all clients are
included.
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

from mooring import Event, History, Mooring, MooringError, Session, State
from mooring_server_extension.gpu_usage import STATES, GpuUsage

if TYPE_CHECKING:
    from mooring import GpuUse

# A scrape blocks the server's event loop: after this timeout it reports the last known values
SCRAPE_PATIENCE_S = 0.25
CACHE_S = 2.0

START_SECONDS = Histogram(
    "mooring_session_start_seconds",
    "Seconds from a session's creation until it runs, with pulls and waits for GPUs.",
    buckets=(0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600),
    registry=None,
)
STOPS = Counter(
    "mooring_session_stops", "Sessions that have ended, by reason.", ["reason"], registry=None
)

log = logging.getLogger(__name__)


class Metrics:
    """The metrics of one server's sessions.

    Args:
        mooring, gpus: queried by a scrape if the last values are too old.
        submit: runs such a query in a thread.
    """

    def __init__(
        self, mooring: Mooring, gpus: GpuUsage, submit: Callable[[Callable[[], None]], Future[None]]
    ) -> None:
        self._mooring, self._gpus, self._submit = mooring, gpus, submit
        self._lock = threading.Lock()
        self._number = mooring.history.newest()
        self._sessions: list[Session] = []
        self._seen = float("-inf")
        self._pending: Future[None] | None = None

    def observe(self, sessions: list[Session]) -> None:
        """Update the gauges from the sessions, and the counters from new events."""
        history = self._mooring.history
        with self._lock:
            self._sessions, self._seen = sessions, time.monotonic()
            while events := history.after(self._number):
                self._number = events[-1].number
                for event in events:
                    _count(history, event)

    def observe_unknown(self, sessions: list[Session]) -> None:
        """Update the gauges while the engine does not answer."""
        with self._lock:
            self._sessions, self._seen = sessions, time.monotonic()

    def query(self) -> None:
        """Query the sessions and update the metrics; blocks."""
        try:
            self.observe(self._mooring.sessions.list())
        except MooringError:
            self.observe_unknown(self._mooring.sessions.unknown())

    def families(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges, at most ``CACHE_S`` old if the engine answers in time."""
        idle = self._pending is None or self._pending.done()
        if idle and time.monotonic() - self._seen > CACHE_S:
            try:
                self._pending = self._submit(self.query)
                self._pending.result(SCRAPE_PATIENCE_S)
            except (NotYet, RuntimeError):
                pass  # the engine is frozen or the server is shutting down: use the last values
            except Exception:  # the server's other metrics must not fail
                log.exception("the sessions could not be queried")
        yield from _families(self._sessions, self._gpus.recent(SCRAPE_PATIENCE_S))


def _families(sessions: list[Session], gpus: list[GpuUse]) -> Iterator[GaugeMetricFamily]:
    states = GaugeMetricFamily("mooring_sessions", "Sessions, by state.", labels=["state"])
    by_state = Count(session.state for session in sessions)
    for state in State:
        if state is not State.GONE:
            states.add_metric([str(state)], by_state[state])
    yield states
    machine = GaugeMetricFamily("mooring_gpus", "GPUs of the machine, by state.", labels=["state"])
    gpus_by_state = Count(gpu.state for gpu in gpus)
    for gpu_state in STATES:
        machine.add_metric([gpu_state], gpus_by_state[gpu_state])
    yield machine
    held = sum(claim.share for session in sessions for claim in session.held_claims)
    yield GaugeMetricFamily("mooring_gpus_held", "GPUs that sessions hold.", value=held)
    kernels = sum(len(session.live_kernels) for session in sessions)
    yield GaugeMetricFamily("mooring_kernels", "Live kernels in sessions.", value=kernels)


def _count(history: History, event: Event) -> None:
    if event.kind == "started" and event.detail != "again":
        session = history.find(event.session)
        if session is not None:
            START_SECONDS.observe(max(0.0, event.time - session.created_at))
    elif reason := history.stop_reason(event):
        STOPS.labels(reason).inc()


class _Gauges(Collector):
    """The collector, registered once per process; it reports the metrics published last."""

    metrics: Metrics | None = None

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return _families([], [])

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return [] if self.metrics is None else self.metrics.families()


_gauges = _Gauges()
# Collected in this order: the gauges' query updates the counters
for _collector in (_gauges, START_SECONDS, STOPS):
    REGISTRY.register(_collector)


def publish(metrics: Metrics | None) -> None:
    """Report these metrics on the process's ``/metrics``; None to report no gauges."""
    _gauges.metrics = metrics
