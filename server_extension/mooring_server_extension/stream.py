"""Handler for the event stream: session changes and history events as server-sent events."""

from __future__ import annotations

import time

from jupyter_server.auth.decorator import authorized
from tornado import web
from tornado.iostream import StreamClosedError

from mooring_server_extension.base import MooringHandler
from mooring_server_extension.upstream import UntrackedHandler, is_still_signed_in
from mooring_server_extension.watcher import Listener

KEEPALIVE_S = 15.0


class StreamHandler(UntrackedHandler, MooringHandler):
    """Send the sessions at the start and after each change, and each new event of the history.

    An open stream does not count as user activity. It ends when its user signs out, and within
    ``KEEPALIVE_S`` when the server would no longer accept its request, as after a token was
    revoked.
    """

    auth_resource = "mooring:sessions"
    _listener: Listener | None = None

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache, no-transform")
        self.set_header("X-Accel-Buffering", "no")  # nginx would buffer the stream
        checked = time.monotonic()
        with self.context.watcher.listen(self.current_user.username) as listener:
            self._listener = listener
            try:
                self.write(": mooring\n\n")
                await self.flush()
                while (text := await listener.next(KEEPALIVE_S)) is not None:
                    if time.monotonic() - checked >= KEEPALIVE_S:
                        if not await is_still_signed_in(self):
                            return
                        checked = time.monotonic()
                    self.write(text or ": keepalive\n\n")
                    await self.flush()
            except StreamClosedError:
                pass

    def on_connection_close(self) -> None:
        """Close the listener; called by tornado when the client has disconnected."""
        if self._listener is not None:
            self._listener.close()
