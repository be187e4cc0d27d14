"""The handlers' context: one per server, in the settings of its web application.

Handlers import this module; it imports neither handlers nor the extension application, to avoid
circular imports.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mooring import Mooring
from mooring_server_extension.engine_probe import EngineProbe
from mooring_server_extension.gpu_usage import GpuUsage
from mooring_server_extension.pools import Pools
from mooring_server_extension.responses import JupyterView
from mooring_server_extension.watcher import Watcher

# The key of the context in the settings of the web application
SETTING = "mooring_context"


@dataclass(frozen=True)
class ServerContext:
    """The parts of one server's extension that answer requests.

    Attributes:
        root: the folder that clients' paths are relative to, with symbolic links resolved.
        mooring: the core, with the server's user as the actor.
        pools: thread pools for blocking calls.
        stopping: set when the server shuts down; creations in progress are then cancelled.
        engine: queries whether the engine answers.
        gpus: queries the host's GPUs and their holders.
        watcher: queries the sessions for requests and for listeners of the stream.
        jupyter: returns the server's kernels and notebooks; call it on the event loop.
        restrict_paths: confine sessions that clients create to the root.
    """

    root: Path
    mooring: Mooring
    pools: Pools
    stopping: threading.Event
    engine: EngineProbe
    gpus: GpuUsage
    watcher: Watcher
    jupyter: Callable[[], JupyterView]
    restrict_paths: bool = False
