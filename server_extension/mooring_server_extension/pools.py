"""Thread pools for blocking calls of the core from the server's event loop."""

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
PoolName = Literal["look", "quick", "act", "create", "queue", "recording"]

# The number of threads for each kind of call. A creation may pull an image for minutes, a stop may
# take half a minute and a wait for GPUs hours; in separate pools they cannot delay a request that
# cancels them or only reads. A recording may be large, so one is read at a time.
SIZES: dict[PoolName, int] = {"quick": 8, "act": 16, "create": 8, "queue": 64, "recording": 1}
# How long the server's process waits at exit for calls that change sessions to finish or undo
EXIT_PATIENCE_S = 5.0
CHANGES: tuple[PoolName, ...] = ("act", "create", "queue")


class Pools:
    """Bounded thread pools, one for each kind of call.

    ``look``, for queries, is not bounded: its callers limit how many they submit, and a call that a
    frozen engine blocks does not delay the next. Calls delay the exit of the process by at most
    ``EXIT_PATIENCE_S``.
    """

    def __init__(self) -> None:
        self._pools = {name: _Pool(f"mooring-{name}", size) for name, size in SIZES.items()}
        self._pools["look"] = _Pool("mooring-look", None)

    def submit(self, pool: PoolName, call: Callable[[], T]) -> Future[T]:
        """Run a blocking call in a thread.

        Args:
            pool: the pool's name.
            call: the blocking call.

        Returns:
            A future for the result of ``call``.

        Raises:
            RuntimeError: the pools are closed.
        """
        return self._pools[pool].submit(call)

    async def run(self, pool: PoolName, call: Callable[[], T]) -> T:
        """Run a blocking call in a thread and await its result; as ``submit`` otherwise."""
        return await asyncio.wrap_future(self.submit(pool, call))

    def close(self) -> None:
        """Reject new calls and cancel those that have not started. Idempotent."""
        for pool in self._pools.values():
            pool.close()
        if self._changing():
            atexit.register(self._wait_for_changes)

    def _changing(self) -> int:
        return sum(self._pools[name].running for name in CHANGES)

    def _wait_for_changes(self) -> None:
        deadline = time.monotonic() + EXIT_PATIENCE_S
        while self._changing() and time.monotonic() < deadline:
            time.sleep(0.02)


class _Pool:
    """A pool of daemon threads, each of which exits when no more calls are queued.

    ``concurrent.futures.ThreadPoolExecutor`` is not used because the interpreter joins its threads
    at exit without a timeout.

    Args:
        name: the name of the threads.
        size: maximum number of threads; None for no limit.
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
