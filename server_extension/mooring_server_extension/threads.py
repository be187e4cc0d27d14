"""Where the event loop sends calls of the core, which block."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Pool = Literal["look", "quick", "act", "create", "queue", "recording"]

# Each kind of call has threads of its own: a creation may pull an image for minutes, a stop takes
# half a minute, and neither what cancels them nor a glance at a session stands in their queue. Who
# waits for GPUs may do so for hours. A recording may be large: one is read at a time.
SIZES: dict[Pool, int] = {"quick": 8, "act": 16, "create": 8, "queue": 64, "recording": 1}
# What changes sessions may finish so long after the server's end: it takes back what it has begun
LAST_WORDS_S = 5.0
CHANGES: tuple[Pool, ...] = ("act", "create", "queue")


class Threads:
    """Bounded pools of threads; ``close`` ends them.

    Looks get a thread each, and whoever looks makes sure that there are few: one that a frozen
    engine holds stands in nobody's way. No call holds up the end of the process, or not for long.
    """

    def __init__(self) -> None:
        self._pools = {pool: _Threads(f"mooring-{pool}", size) for pool, size in SIZES.items()}
        self._pools["look"] = _Threads("mooring-look", None)

    def submit(self, pool: Pool, call: Callable[[], T]) -> Future[T]:
        """Run a call in a thread.

        Raises:
            RuntimeError: they are closed.
        """
        return self._pools[pool].submit(call)

    async def run(self, pool: Pool, call: Callable[[], T]) -> T:
        """Run a blocking call beside the event loop."""
        return await asyncio.wrap_future(self.submit(pool, call))

    def close(self) -> None:
        """Take no more calls; those that have not begun never do."""
        for pool in self._pools.values():
            pool.close()
        if self._changing():
            atexit.register(self._last_words)

    def _changing(self) -> int:
        return sum(self._pools[pool].running for pool in CHANGES)

    def _last_words(self) -> None:
        deadline = time.monotonic() + LAST_WORDS_S
        while self._changing() and time.monotonic() < deadline:
            time.sleep(0.02)


class _Threads:
    """At most so many threads, each there while there are calls.

    Not those of ``concurrent.futures``: the interpreter waits for them at its end, for ever.
    """

    def __init__(self, name: str, size: int | None) -> None:
        self._name, self._size = name, size
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._closed = False
        self.running = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the server is shutting down")
            if self._size is None or self.running < self._size:
                threading.Thread(
                    target=self._work, args=(future, call), name=self._name, daemon=True
                ).start()
                self.running += 1
            else:
                self._waiting.append((future, call))
        return future

    def close(self) -> None:
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            future.cancel()

    def _work(self, future: Future[Any], call: Callable[[], Any]) -> None:
        while True:
            _fulfil(future, call)
            with self._lock:
                if not self._waiting:
                    self.running -= 1
                    return
                future, call = self._waiting.popleft()


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
