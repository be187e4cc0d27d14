"""The extension application: its settings, its parts, and its startup and shutdown."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Enum, Float

from mooring import Mooring
from mooring_server_extension import audit, metrics, routes, upstream
from mooring_server_extension.context import SETTING, ServerContext
from mooring_server_extension.engine_probe import EngineProbe
from mooring_server_extension.gpu_usage import GpuUsage
from mooring_server_extension.kernelspecs import SessionKernelspecs
from mooring_server_extension.metrics import Metrics
from mooring_server_extension.pools import Pools
from mooring_server_extension.responses import JupyterView, jupyter_view
from mooring_server_extension.survival import Survival
from mooring_server_extension.watcher import Watcher


class MooringExtension(ExtensionApp):
    """Sessions over HTTP, and kernels that survive the server."""

    name = "mooring_server_extension"

    on_shutdown = Enum(
        ("detach", "stop"),
        default_value="detach",
        help="What happens to running kernels when the server shuts down: detach leaves them"
        " for the next server to adopt, stop ends them.",
    ).tag(config=True)
    adopt = Bool(
        True, help="Whether to adopt, at startup, the kernels that an earlier server has detached."
    ).tag(config=True)
    refresh_s = Float(
        2.0,
        min=0.1,
        help="Interval between queries of the sessions, in seconds; there are none while no client"
        " listens to the stream.",
    ).tag(config=True)

    restrict_paths = Bool(
        False,
        help="Whether to confine sessions that are created over the REST API to the server's root"
        " folder: no home, no path outside it, and no secret from a variable of the server. By"
        " default a client may name any path that the server's user can read, as on the command"
        " line.",
    ).tag(config=True)

    untrusted_outputs = Bool(
        False,
        help="Whether JupyterLab and Notebook keep cells that run in sessions untrusted until the"
        " user chooses Trust Notebook: their output is sanitized and runs no JavaScript, so that"
        " widgets and interactive plots show as text.",
    ).tag(config=True)

    context: ServerContext
    survival: Survival

    def initialize_settings(self) -> None:
        """Create the parts of the extension; called once, after the server's managers exist."""
        server = self._server
        root = Path(server.root_dir).resolve()
        mooring, pools = Mooring(), Pools()
        gpus = GpuUsage(mooring, lambda query: pools.submit("look", query))
        figures = Metrics(mooring, gpus, lambda query: pools.submit("look", query))

        def jupyter() -> JupyterView:
            return jupyter_view(root, server.kernel_manager, server.session_manager)

        self.context = self.settings[SETTING] = ServerContext(
            root=root,
            mooring=mooring,
            pools=pools,
            stopping=threading.Event(),
            engine=EngineProbe(mooring, pools),
            gpus=gpus,
            watcher=Watcher(mooring, pools, jupyter, figures, self.refresh_s),
            jupyter=jupyter,
            restrict_paths=self.restrict_paths,
        )
        SessionKernelspecs(server.kernel_spec_manager, mooring).offer()
        self.survival = Survival(server, mooring, pools)
        metrics.publish(figures)
        if self.untrusted_outputs:
            page = self.settings.setdefault("page_config_data", {})
            page["mooringUntrustedOutputs"] = "true"
        upstream.on_logout(server.identity_provider, self.context.watcher.sign_out)

    def initialize_handlers(self) -> None:
        """Register the routes and the audit schema; called once, after ``initialize_settings``."""
        audit.register(self._server.event_logger)
        self.handlers.extend([*routes.ROUTES, routes.FALLBACK])

    def initialize(self) -> None:  # type: ignore[override]  # as ExtensionApp's own
        """Adopt kernels; called when the server is initialized but does not listen yet.

        Adopting before the server listens prevents answers to clients that a kernel to be adopted
        does not exist.
        """
        super().initialize()  # type: ignore[no-untyped-call]
        self.survival.watch()
        loop = self._server.io_loop
        if self.adopt and not loop.asyncio_loop.is_running():
            loop.run_sync(self.survival.adopt)

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Adopt kernels in a server within a running event loop; called once the loop runs."""
        if self.adopt:
            await self.survival.adopt()

    async def stop_extension(self) -> None:
        """Detach kernels and close all parts; called before the server shuts down its kernels."""
        self.context.stopping.set()
        self.context.watcher.close()
        self.survival.cancel_launches()
        if self.on_shutdown == "detach":
            await self.survival.detach()
        metrics.publish(None)
        self.context.pools.close()

    @property
    def _server(self) -> Any:
        return self.serverapp
