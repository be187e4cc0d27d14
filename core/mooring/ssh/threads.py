"""Blocking calls beside the event loop, in threads that nothing waits for at the process's end.

asyncio's own are few, and awaited: a call to an engine that hangs would keep the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in a thread of its own, and return what it returns or raises."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def call() -> None:
        try:
            result = function(*arguments)
        except BaseException as error:
            _deliver(loop, future, error=error)
        else:
            _deliver(loop, future, result)

    threading.Thread(target=call, daemon=True).start()
    return await future


def call_soon(
    loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object
) -> None:
    """Call a function in the event loop, from any thread; does nothing if the loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _deliver(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Result],
    result: Result | None = None,
    error: BaseException | None = None,
) -> None:
    def deliver() -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    call_soon(loop, deliver)
