"""The private parts of jupyter_client and jupyter_server that the provisioner uses.

Only this module uses private names; ``tests/provisioner/test_upstream.py`` has one test for each,
which fails when a new version changes it. Checked with jupyter_client 8.9.0 and 8.10.0 and with
jupyter_server 2.14.0 and 2.21.1.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

# The method of a websocket connection that notifies its client that the kernel is dead
WEBSOCKET_CALLBACK = "on_restart_failed"


def polling_restarter(manager: Any) -> Any | None:
    """Return the kernel manager's restarter if it polls the kernel, else None.

    ``IOLoopKernelManager._restarter`` is the restarter, whose ``_pcallback`` is set while it polls.
    Its ``stop`` is public.
    """
    restarter = getattr(manager, "_restarter", None)
    return restarter if getattr(restarter, "_pcallback", None) is not None else None


def announce_death(manager: Any, *, forget: bool) -> None:
    """Notify a restarter's clients that the kernel is dead, when the restarter itself does not.

    Args:
        manager: the kernel manager.
        forget: notify all clients with ``KernelRestarter._fire_callbacks``, after which a Jupyter
            server forgets the kernel. If False, notify only the server's websockets, whose callback
            is found by its name, so that the server keeps the kernel and can restart it.
    """
    restarter = getattr(manager, "_restarter", None)
    if restarter is None:
        return
    if forget:
        restarter._fire_callbacks("dead")
        return
    for callback in list(restarter.callbacks["dead"]):
        if getattr(callback, "__name__", "") == WEBSOCKET_CALLBACK:
            callback()


def withdraw_shutdown_request(manager: Any) -> None:
    """Discard the shutdown request that a manager has sent to a dead kernel.

    The request would stay in ``KernelManager._control_socket`` for 0.1 s, and would end a kernel
    that starts at the same address meanwhile.
    """
    socket = getattr(manager, "_control_socket", None)
    if socket is not None:
        socket.close(linger=0)
        manager._control_socket = None


def remove_connection_file(manager: Any) -> None:
    """Remove a manager's connection file, which would keep it from loading new connection info."""
    with contextlib.suppress(FileNotFoundError, TypeError):
        os.unlink(manager.connection_file)
