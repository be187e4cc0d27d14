"""A relay that runs in a thread of the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mooring_provisioner.relay import Relay, listen


@contextlib.contextmanager
def relay_to(path: Path) -> Iterator[tuple[Any, socket.socket]]:
    """Relays to a Unix socket, which it makes; the address to connect to, and that socket."""
    behind = socket.socket(socket.AF_UNIX)
    behind.bind(str(path))
    behind.listen()
    behind.settimeout(10)
    port = listen("127.0.0.1", 0)
    address = port.getsockname()
    loop = asyncio.new_event_loop()

    async def begin() -> Relay:
        relay = Relay([port], [str(path)])
        await relay.start()
        return relay

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    relay = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)

    async def end() -> None:
        relay.close()
        await others_end()

    try:
        yield address, behind
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        behind.close()


async def others_end() -> None:
    """Wait until the event loop has nothing else to do."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)
