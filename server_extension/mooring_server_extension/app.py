"""Mooring in Jupyter Server: its settings, and what it sets up and takes down."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Enum, Float

from mooring.engines.base import EngineInfo
from mooring.errors import EngineUnavailable, MooringError
from mooring.service import Mooring
from mooring_server_extension import audit, handlers, metrics
from mooring_server_extension.answers import JupyterSide, jupyter_side
from mooring_server_extension.gpus import Gpus
from mooring_server_extension.metrics import Metrics
from mooring_server_extension.survival import Survival
from mooring_server_extension.threads import Threads
from mooring_server_extension.watcher import PATIENCE_S, Watcher


class MooringExtension(ExtensionApp):
    """Sessions over HTTP, and kernels that survive the server."""

    name = "mooring_server_extension"

    on_shutdown = Enum(
        ("detach", "stop"),
        default_value="detach",
        help="What becomes of running kernels when the server is shut down: detach leaves them"
        " for the next server to adopt, stop ends them.",
    ).tag(config=True)
    adopt = Bool(
        True, help="Take up the kernels that an earlier server has left, when this one starts."
    ).tag(config=True)
    refresh_s = Float(
        2.0,
        min=0.1,
        help="Seconds between two looks at the sessions while a client listens; none listens,"
        " none looks.",
    ).tag(config=True)

    root: Path
    mooring: Mooring
    threads: Threads
    stopping: threading.Event  # creations that run are then given up
    survival: Survival
    gpus: Gpus
    metrics: Metrics
    watcher: Watcher
    _asked: Future[EngineInfo] | None = None  # one question to the engine at a time

    def initialize_settings(self) -> None:
        """Called once, when the server has its managers."""
        self.root = Path(self._server.root_dir).resolve()
        self.mooring = Mooring()
        self.threads = Threads()
        self.stopping = threading.Event()
        self.survival = Survival(self._server, self.mooring, self.threads)
        self.gpus = Gpus(self.mooring, lambda look: self.threads.submit("look", look))
        self.metrics = Metrics(
            self.mooring, self.gpus, lambda look: self.threads.submit("look", look)
        )
        metrics.publish(self.metrics)
        self.watcher = Watcher(
            self.mooring, self.threads, self._jupyter, self.metrics, self.refresh_s
        )

    def initialize_handlers(self) -> None:
        """Called once, after the settings."""
        audit.register(self._server.event_logger)
        self.handlers.extend([*handlers.ROUTES, handlers.NOWHERE])

    def initialize(self) -> None:  # type: ignore[override]  # as ExtensionApp's own
        """Called when the server is complete, and does not listen yet.

        So nobody is told that a kernel is gone which is only about to be taken up.
        """
        super().initialize()  # type: ignore[no-untyped-call]
        self.survival.watch()
        loop = self._server.io_loop
        if self.adopt and not loop.asyncio_loop.is_running():
            loop.run_sync(self.survival.adopt)

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Called once the event loop runs; a server inside a running loop adopts only now."""
        if self.adopt:
            await self.survival.adopt()

    async def stop_extension(self) -> None:
        """Called first when the server shuts down, before it ends its kernels."""
        self.stopping.set()
        self.watcher.close()
        self.survival.give_up_launches()
        if self.on_shutdown == "detach":
            await self.survival.detach()
        metrics.publish(None)
        self.threads.close()

    async def engine_status(self) -> dict[str, Any]:
        """Which engine answers, or why none does."""
        try:
            if self._asked is None or self._asked.done():
                self._asked = self.threads.submit("look", lambda: self.mooring.engine.info())
            asked = asyncio.wrap_future(self._asked)
            info = await asyncio.wait_for(asyncio.shield(asked), PATIENCE_S)
        except asyncio.TimeoutError:
            asked.add_done_callback(lambda late: late.cancelled() or late.exception())
            return _down(EngineUnavailable(f"the engine has not answered for {PATIENCE_S:g} s"))
        except MooringError as error:
            return _down(error)
        return {
            "ok": True,
            "kind": info.kind,
            "version": info.version,
            "message": "",
            "hint": "",
        }

    def _jupyter(self) -> JupyterSide:
        server = self._server
        return jupyter_side(self.root, server.kernel_manager, server.session_manager)

    @property
    def _server(self) -> Any:
        return self.serverapp


def _down(error: MooringError) -> dict[str, Any]:
    return {
        "ok": False,
        "kind": "",
        "version": "",
        "message": error.message,
        "hint": error.hint,
    }
