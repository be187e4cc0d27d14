"""Looks at the sessions, for whoever wants to know: one look at a time, shared by all who wait."""

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

from mooring.errors import EngineUnavailable, MooringError
from mooring.service import Mooring
from mooring_server_extension.answers import JupyterSide, session_body
from mooring_server_extension.metrics import Metrics
from mooring_server_extension.threads import Threads

# An engine that has not answered by then is down, as far as those who wait are concerned
PATIENCE_S = 5.0
STUCK_PATIENCE_S = 0.2
# Countdowns change all the time, and a client counts by itself
COUNTDOWN_S = 5.0
BACKLOG = 1000
COUNTDOWNS = ("idle_in_s", "max_in_s", "held_for_s", "cpu_percent", "memory_bytes", "gpu_unused_s")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """The sessions at one moment.

    Attributes:
        sessions: as the API tells them.
        engine: ``{ok, message, hint}``.
        events: what was written into the history since the view before.
        newest: the number of the history's last event; None for not known.
        began: when the look began, on the event loop's clock.
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
    """What listeners were told last: the message, what of it stands still, and when."""

    told: str
    still: str
    at: float


class Listener:
    """One client of the stream: what it has yet to be told. A slow one misses no last word."""

    def __init__(self) -> None:
        self._closed = False
        self._latest = ""
        self._events: deque[str] = deque(maxlen=BACKLOG)
        self._news = asyncio.Event()

    def tell(self, latest: str, events: list[str]) -> None:
        self._latest = latest or self._latest
        self._events.extend(events)
        self._news.set()

    def close(self) -> None:
        """There is nothing more to be told."""
        self._closed = True
        self._news.set()

    async def next(self, timeout_s: float) -> str | None:
        """What is to be sent now; empty when nothing has happened for so long, None at the end."""
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
    """Looks every ``refresh_s`` seconds while somebody listens, and at a request.

    Args:
        jupyter: what the server knows of kernels; called on the event loop.
    """

    def __init__(
        self,
        mooring: Mooring,
        threads: Threads,
        jupyter: Callable[[], JupyterSide],
        metrics: Metrics,
        refresh_s: float,
    ) -> None:
        self._mooring, self._threads, self._jupyter = mooring, threads, jupyter
        self._metrics, self._refresh_s = metrics, refresh_s
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Lock | None = None
        self._stuck: asyncio.Future[View] | None = None
        self._view: View | None = None
        self._sent: _Sent | None = None
        self._number: int | None = None
        self._closed = False

    async def look(self) -> View:
        """The sessions now: never older than the question, never later than the patience.

        While the engine does not answer they are those that there should be, as ``unknown``.
        """
        loop = asyncio.get_running_loop()
        asked = loop.time()
        if self._looking is None:
            self._looking = asyncio.Lock()
        async with self._looking:
            if self._view is None or self._view.began < asked:
                self._view = await self._look_once(loop.time())
                self._broadcast(self._view)
            return self._view

    @contextlib.contextmanager
    def listen(self) -> Iterator[Listener]:
        """Be told of everything that happens from now on, the sessions as they are first."""
        listener = Listener()
        self._listeners.add(listener)
        if self._closed:
            listener.close()
        elif self._task is None or self._task.done():
            self._sent = self._number = None
            self._task = asyncio.get_running_loop().create_task(self._watch())
        elif self._sent is not None:
            listener.tell(self._sent.told, [])
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def close(self) -> None:
        """End every stream, at once."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        for listener in self._listeners:
            listener.close()

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("the sessions could not be looked at")
            await asyncio.sleep(self._refresh_s)

    async def _look_once(self, began: float) -> View:
        jupyter, number = self._jupyter(), self._number
        patience = STUCK_PATIENCE_S
        if self._stuck is None or self._stuck.done():
            patience = PATIENCE_S
            self._stuck = asyncio.wrap_future(
                self._threads.submit("look", lambda: self._blocking_look(jupyter, number, began))
            )
        try:
            view = await asyncio.wait_for(asyncio.shield(self._stuck), patience)
        except asyncio.TimeoutError:
            self._stuck.add_done_callback(_forget)
            error = EngineUnavailable(
                f"the engine has not answered for {PATIENCE_S:g} s", "is it busy, or stopped?"
            )
            view = await self._threads.run("look", lambda: self._unknown(jupyter, began, error))
        if number == self._number and view.newest is not None:
            self._number = view.newest
        return view

    def _blocking_look(self, jupyter: JupyterSide, number: int | None, began: float) -> View:
        history = self._mooring.history
        try:
            sessions = self._mooring.sessions()
        except MooringError as error:
            return self._unknown(jupyter, began, error)
        self._metrics.observe(sessions)
        events = [] if number is None else history.after(number)
        newest = history.newest() if number is None else number
        names = {session.id: session.name for session in sessions}
        return View(
            [session_body(session, self._mooring, jupyter) for session in sessions],
            {"ok": True, "message": "", "hint": ""},
            [asdict(event) | {"name": self._name(names, event.session)} for event in events],
            events[-1].number if events else newest,
            began,
        )

    def _unknown(self, jupyter: JupyterSide, began: float, error: MooringError) -> View:
        sessions = self._mooring.unknown()
        self._metrics.observe_unknown(sessions)
        return View(
            [session_body(session, self._mooring, jupyter) for session in sessions],
            {"ok": False, "message": error.message, "hint": error.hint},
            [],
            None,
            began,
        )

    def _name(self, names: dict[str, str], session_id: str) -> str:
        if session_id not in names:
            past = self._mooring.past(session_id)
            names[session_id] = past.name if past else ""
        return names[session_id]

    def _broadcast(self, view: View) -> None:
        if not self._listeners:
            return
        now = time.monotonic()
        still = json.dumps([_without_countdowns(view.sessions), view.engine], sort_keys=True)
        told = message("sessions", view.body())
        latest, sent = "", self._sent
        if (
            sent is None
            or sent.still != still
            or (sent.told != told and now - sent.at >= COUNTDOWN_S)
        ):
            latest = told
        if latest:
            self._sent = _Sent(latest, still, now)
        events = [message("history", event) for event in view.events]
        if latest or events:
            for listener in self._listeners:
                listener.tell(latest, events)


def message(kind: str, data: dict[str, Any]) -> str:
    """One message of an event stream (WHATWG HTML, section 9.2); JSON holds no line break."""
    return f"event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


def _without_countdowns(sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in one.items() if k not in COUNTDOWNS} for one in sessions]


def _forget(future: asyncio.Future[View]) -> None:
    """A look that nobody waits for any more may fail as it likes."""
    if not future.cancelled():
        future.exception()
