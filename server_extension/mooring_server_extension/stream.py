"""GET /stream: what happens, as it happens, as server-sent events."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado import web
from tornado.iostream import StreamClosedError

from mooring_server_extension.base import MooringHandler
from mooring_server_extension.watcher import Listener

KEEPALIVE_S = 15.0


class StreamHandler(MooringHandler):
    """The sessions at once and whenever they change, and each event of the history."""

    auth_resource = "mooring:sessions"
    _track_activity = False  # an open page is not somebody at work
    _listener: Listener | None = None

    @web.authenticated
    @authorized
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache, no-transform")
        self.set_header("X-Accel-Buffering", "no")  # nginx would wait for more
        with self.extension.watcher.listen() as listener:
            self._listener = listener
            try:
                self.write(": mooring\n\n")
                await self.flush()
                while (text := await listener.next(KEEPALIVE_S)) is not None:
                    self.write(text or ": still here\n\n")
                    await self.flush()
            except StreamClosedError:
                pass

    def on_connection_close(self) -> None:
        """The client has gone."""
        if self._listener is not None:
            self._listener.close()
