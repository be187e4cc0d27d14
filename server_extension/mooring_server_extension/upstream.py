"""The private parts of jupyter_server and jupyter_client that the extension uses.

Only this module uses private names; ``tests/server/test_upstream.py`` has one test for each, which
fails when a new version changes it. Checked with jupyter_server 2.14.0 and 2.21.1 and with
jupyter_client 8.9.0 and 8.10.0.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from jupyter_core.utils import ensure_async


class UntrackedHandler:
    """Mix-in for an ``APIHandler`` whose requests do not count as user activity.

    ``APIHandler.update_api_activity`` reads ``_track_activity``.
    """

    _track_activity = False


def is_signed_in(handler: Any) -> bool:
    """Return whether the request is authenticated.

    ``JupyterHandler.prepare`` sets ``_jupyter_current_user``. The public ``current_user`` raises an
    exception before that, when error responses may already be written.
    """
    return bool(getattr(handler, "_jupyter_current_user", None))


async def is_still_signed_in(handler: Any) -> bool:
    """Return whether the server would accept the credentials of a request now.

    ``IdentityProvider.get_user`` returns what ``_jupyter_current_user`` holds, if anything.
    """
    known = handler._jupyter_current_user
    handler._jupyter_current_user = None
    try:
        return bool(await ensure_async(handler.identity_provider.get_user(handler)))
    finally:
        handler._jupyter_current_user = known


def on_logout(identity_provider: Any, call: Callable[[str], None]) -> None:
    """Call ``call`` with the name of each user who signs out.

    ``LogoutHandler`` calls ``IdentityProvider.clear_login_cookie``; there is no other hook. In
    Jupyter Server each sign-in with a token or a password is a user of its own.
    """
    clear = identity_provider.clear_login_cookie

    def clear_login_cookie(handler: Any) -> None:
        clear(handler)
        user = getattr(handler, "_jupyter_current_user", None)
        if user:
            call(str(user.username))

    identity_provider.clear_login_cookie = clear_login_cookie


def skip_kernel_info(manager: Any) -> None:
    """Let websockets of a busy kernel open immediately, with the current protocol version.

    A websocket waits for a reply on the shell channel, which a busy kernel sends only after its
    execution. An empty reply means the current protocol version.
    ``ZMQChannelsWebsocketConnection.request_kernel_info`` reads an earlier reply from the kernel
    manager's ``_kernel_info_future``.
    """
    reply: Future[dict[str, Any]] = Future()
    reply.set_result({})
    manager._kernel_info_future = reply


def notebook_paths(session_manager: Any) -> dict[str, str]:
    """Return the path of each kernel's notebook, by kernel id.

    This reads the table ``session`` through ``SessionManager.cursor``, because the public
    ``list_sessions`` deletes the rows of kernels that have not been adopted yet.
    """
    rows = session_manager.cursor.execute("SELECT kernel_id, path FROM session").fetchall()
    return {row[0]: row[1] for row in rows}


def cancel_pending_launches(kernel_manager: Any) -> None:
    """Cancel kernels that are being started.

    ``MultiKernelManager._pending_kernels`` maps kernel ids to the tasks that start them.
    """
    for kernel_id, task in list(getattr(kernel_manager, "_pending_kernels", {}).items()):
        if kernel_id not in kernel_manager:
            task.cancel()
