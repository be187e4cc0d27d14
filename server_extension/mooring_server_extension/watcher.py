"""Query the sessions for requests and for stream listeners, one shared query at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mooring import EngineUnavailable, Mooring, MooringError, Session
from mooring_server_extension.metrics import Metrics
from mooring_server_extension.pools import Pools
from mooring_server_extension.responses import JupyterView, session_body

# Timeout after which the engine is reported as down, and the shorter timeout for callers while an
# earlier query is still blocked
PATIENCE_S = 5.0
STUCK_PATIENCE_S = 0.2
# Minimum interval between updates in which only COUNTDOWNS change; clients count down in between
COUNTDOWN_S = 5.0
BACKLOG = 1000
COUNTDOWNS = (
    "idle_stop_in_s",
    "max_stop_in_s",
    "held_for_s",
    "cpu_percent",
    "memory_bytes",
    "gpu_unused_s",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """A snapshot of the sessions.

    Attributes:
        sessions: in the format of ``responses.session_body``.
        engine: ``{ok, message, hint}``.
        events: the history's events since the previous view, each with its session's ``name``.
        newest: the number of the history's last event; None if unknown.
        began: when the query started, in seconds of the event loop's clock.
    """

    sessions: list[dict[str, Any]]
    engine: dict[str, Any]
    events: list[dict[str, Any]]
    newest: int | None
    began: float

    def body(self) -> dict[str, Any]:
        return {"sessions": self.sessions, "engine": self.engine}


@dataclass(frozen=True)
class _Sent:
    """The last message to the listeners.

    Attributes:
        text: the message.
        stable: its data without ``COUNTDOWNS``, as JSON.
        at: when it was sent, in monotonic seconds.
    """

    text: str
    stable: str
    at: float


class Listener:
    """One client of the stream, with its unsent messages.

    A slow client skips intermediate states of the sessions but receives the latest one, and at most
    ``BACKLOG`` events of the history are kept for it.

    Args:
        username: the user who listens.
    """

    def __init__(self, username: str = "") -> None:
        self.username = username
        self._closed = False
        self._latest = ""
        self._events: deque[str] = deque(maxlen=BACKLOG)
        self._news = asyncio.Event()

    def put(self, latest: str, events: list[str]) -> None:
        """Queue messages.

        Args:
            latest: the sessions, which replace an unsent message; empty for no change.
            events: new events of the history.
        """
        self._latest = latest or self._latest
        self._events.extend(events)
        self._news.set()

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        self._news.set()

    async def next(self, timeout_s: float) -> str | None:
        """Wait for messages and return them.

        Args:
            timeout_s: timeout in seconds.

        Returns:
            The messages; empty after the timeout, None if the stream is closed.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)
        if self._closed:
            return None
        self._news.clear()
        text = self._latest + "".join(self._events)
        self._latest = ""
        self._events.clear()
        return text


class Watcher:
    """Queries the sessions for each request, and every ``refresh_s`` seconds for listeners.

    Args:
        mooring: the core.
        pools: thread pools for blocking calls.
        jupyter: returns the server's kernels and notebooks; called on the event loop.
        metrics: updated with the result of each query.
        refresh_s: interval between queries while there are listeners, in seconds.
    """

    def __init__(
        self,
        mooring: Mooring,
        pools: Pools,
        jupyter: Callable[[], JupyterView],
        metrics: Metrics,
        refresh_s: float,
    ) -> None:
        self._mooring, self._pools, self._jupyter = mooring, pools, jupyter
        self._metrics, self._refresh_s = metrics, refresh_s
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._querying: asyncio.Lock | None = None
        self._stuck: asyncio.Future[View] | None = None
        self._view: View | None = None
        self._sent: _Sent | None = None
        self._number: int | None = None
        self._closed = False
        self._unreadable: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether the sessions are queried periodically, that is, there are listeners."""
        return self._task is not None

    async def query(self) -> View:
        """Return the current sessions, from a query that started no earlier than this call.

        If the engine does not answer within ``PATIENCE_S``, the state of known sessions is
        ``unknown``.
        """
        loop = asyncio.get_running_loop()
        called = loop.time()
        if self._querying is None:
            self._querying = asyncio.Lock()
        async with self._querying:
            if self._view is None or self._view.began < called:
                self._view = await self._query_once(loop.time())
                self._broadcast(self._view)
            return self._view

    @contextlib.contextmanager
    def listen(self, username: str = "") -> Iterator[Listener]:
        """Yield a listener, which receives the current sessions and then every change.

        Args:
            username: the user who listens, for ``sign_out``.
        """
        listener = Listener(username)
        self._listeners.add(listener)
        if self._closed:
            listener.close()
        elif self._task is None or self._task.done():
            self._sent = self._number = None
            self._task = asyncio.get_running_loop().create_task(self._watch())
        elif self._sent is not None:
            listener.put(self._sent.text, [])
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def sign_out(self, username: str) -> None:
        """Close the streams of a user immediately; call this on the event loop."""
        for listener in self._listeners:
            if listener.username == username:
                listener.close()

    def close(self) -> None:
        """Close all streams immediately."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for listener in self._listeners:
            listener.close()

    async def _watch(self) -> None:
        while True:
            try:
                await self.query()
            except Exception:
                log.exception("the sessions could not be queried")
            await asyncio.sleep(self._refresh_s)

    async def _query_once(self, began: float) -> View:
        jupyter, number = self._jupyter(), self._number
        patience = STUCK_PATIENCE_S
        if self._stuck is None or self._stuck.done():
            patience = PATIENCE_S
            self._stuck = asyncio.wrap_future(
                self._pools.submit("look", lambda: self._query_blocking(jupyter, number, began))
            )
        try:
            view = await asyncio.wait_for(asyncio.shield(self._stuck), patience)
        except asyncio.TimeoutError:
            self._stuck.add_done_callback(_forget)
            error = EngineUnavailable(
                f"the engine has not answered for {PATIENCE_S:g} s",
                "check whether it is busy or stopped: mooring doctor",
            )
            view = await self._pools.run("look", lambda: self._unknown(jupyter, began, error))
        if number == self._number and view.newest is not None:
            self._number = view.newest
        return view

    def _query_blocking(self, jupyter: JupyterView, number: int | None, began: float) -> View:
        history = self._mooring.history
        try:
            sessions = self._mooring.sessions.list()
        except MooringError as error:
            return self._unknown(jupyter, began, error)
        self._metrics.observe(sessions)
        events = [] if number is None else history.after(number)
        newest = history.newest() if number is None else number
        names = {session.id: session.name for session in sessions}
        return View(
            self._bodies(sessions, jupyter),
            {"ok": True, "message": "", "hint": ""},
            [asdict(event) | {"name": self._name(names, event.session)} for event in events],
            events[-1].number if events else newest,
            began,
        )

    def _unknown(self, jupyter: JupyterView, began: float, error: MooringError) -> View:
        sessions = self._mooring.sessions.unknown()
        self._metrics.observe_unknown(sessions)
        return View(
            self._bodies(sessions, jupyter),
            {"ok": False, "message": error.message, "hint": error.hint},
            [],
            None,
            began,
        )

    def _bodies(self, sessions: list[Session], jupyter: JupyterView) -> list[dict[str, Any]]:
        """Return the sessions as JSON; one whose files cannot be read is logged, once."""
        bodies = []
        for session in sessions:
            try:
                bodies.append(session_body(session, self._mooring, jupyter))
            except Exception:
                if session.id not in self._unreadable:
                    log.exception("session %s is left out: it cannot be read", session.name)
                self._unreadable.add(session.id)
        return bodies

    def _name(self, names: dict[str, str], session_id: str) -> str:
        if session_id not in names:
            past = self._mooring.sessions.past(session_id)
            names[session_id] = past.name if past else ""
        return names[session_id]

    def _broadcast(self, view: View) -> None:
        if not self._listeners:
            return
        now = time.monotonic()
        stable = json.dumps([_without_countdowns(view.sessions), view.engine], sort_keys=True)
        text = message("sessions", view.body())
        latest, sent = "", self._sent
        if (
            sent is None
            or sent.stable != stable
            or (sent.text != text and now - sent.at >= COUNTDOWN_S)
        ):
            latest = text
        if latest:
            self._sent = _Sent(latest, stable, now)
        events = [message("history", event) for event in view.events]
        if latest or events:
            for listener in self._listeners:
                listener.put(latest, events)


def message(kind: str, data: dict[str, Any]) -> str:
    """Format a message of an event stream (WHATWG HTML, section 9.2).

    Args:
        kind: the event's type.
        data: sent as JSON, which has no line breaks here.
    """
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


def _without_countdowns(sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in session.items() if key not in COUNTDOWNS}
        for session in sessions
    ]


def _forget(future: asyncio.Future[View]) -> None:
    """Retrieve the exception of an abandoned query, which asyncio would otherwise log."""
    if not future.cancelled():
        future.exception()
