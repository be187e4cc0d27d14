"""What the extension relies on in Jupyter's packages: each test names what has changed."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager
from jupyter_server.base.handlers import APIHandler
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from mooring_server_extension import upstream
from mooring_server_extension.stream import StreamHandler
from tests.server.inprocess import InProcess

ANOTHER = "another"


def changed(package: str, what: str) -> str:
    """What a failing test says."""
    return f"{package} {version(package)} has changed {what}: see mooring_server_extension.upstream"


def test_kernel_info_of_a_busy_kernel_is_looked_up_in_its_manager() -> None:
    """A websocket takes the answer in ``_kernel_info_future`` and sends no request of its own."""

    async def open_websocket() -> Any:
        manager = SimpleNamespace()
        upstream.skip_kernel_info(manager)
        connection: Any = SimpleNamespace(
            kernel_manager=manager,
            _kernel_info_future=asyncio.get_running_loop().create_future(),
            log=SimpleNamespace(debug=lambda *_: None),
        )
        connection._finish_kernel_info = connection._kernel_info_future.set_result
        waiting = ZMQChannelsWebsocketConnection.request_kernel_info(connection)
        return await asyncio.wait_for(waiting, 5)

    try:
        reply = asyncio.run(open_websocket())
    except Exception as error:
        pytest.fail(f"{changed('jupyter_server', '_kernel_info_future')} ({error!r})")
    assert reply == {}, changed("jupyter_server", "_kernel_info_future")


def test_a_handler_knows_whether_its_request_is_signed_in(server: InProcess) -> None:
    """``_jupyter_current_user`` is set for a request with credentials, and for no other."""
    seen: list[bool] = []

    class Probe(APIHandler):
        def get(self) -> None:
            seen.append(upstream.is_signed_in(self))
            self.finish("{}")

    server.app.web_app.add_handlers(".*", [("/probe", Probe)])
    server.send("GET", "/probe", headers={"Authorization": f"token {server.token}"})
    server.send("GET", "/probe")
    assert seen[:1] == [True], changed("jupyter_server", "_jupyter_current_user")
    assert True not in seen[1:], changed("jupyter_server", "_jupyter_current_user")


def test_requests_of_an_untracked_handler_are_no_activity(server: InProcess) -> None:
    """``_track_activity = False`` keeps a request out of the server's ``api_last_activity``."""

    class Probe(APIHandler):
        def get(self) -> None:
            self.finish("{}")

    class Untracked(upstream.UntrackedHandler, Probe):
        pass

    settings = server.app.web_app.settings
    server.app.web_app.add_handlers(".*", [("/tracked", Probe), ("/untracked", Untracked)])
    headers = {"Authorization": f"token {server.token}"}
    server.send("GET", "/tracked", headers=headers)
    before = settings.get("api_last_activity")
    assert before is not None, changed("jupyter_server", "api_last_activity")
    server.send("GET", "/untracked", headers=headers)
    after = settings["api_last_activity"]
    assert after == before, changed("jupyter_server", "APIHandler._track_activity")
    assert issubclass(StreamHandler, upstream.UntrackedHandler)


def test_the_notebooks_of_kernels_are_in_the_session_managers_table(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``SessionManager.cursor`` has a table ``session`` with ``kernel_id`` and ``path``."""
    sessions, kernels = server.app.session_manager, server.app.kernel_manager
    monkeypatch.setattr(sessions, "kernel_culled", lambda kernel_id: False)
    monkeypatch.setattr(kernels, "kernel_model", lambda kernel_id: {"id": kernel_id})

    async def save_and_read() -> dict[str, str]:
        await sessions.save_session(
            "one", path="a/b.ipynb", name="b.ipynb", type="notebook", kernel_id="k1"
        )
        return upstream.notebook_paths(sessions)

    try:
        paths = server.on_loop(save_and_read)
    except Exception as error:
        pytest.fail(f"{changed('jupyter_server', 'SessionManager.cursor')} ({error!r})")
    assert paths == {"k1": "a/b.ipynb"}, changed("jupyter_server", "SessionManager.cursor")


class SlowKernelManager(AsyncKernelManager):
    """A kernel whose start does not end."""

    begun: asyncio.Event

    async def start_kernel(self, **_: Any) -> None:
        SlowKernelManager.begun.set()
        await asyncio.Event().wait()


def test_a_launch_in_progress_is_a_pending_kernel_of_its_manager() -> None:
    """``MultiKernelManager._pending_kernels`` holds the task that starts a kernel."""

    async def start_and_cancel() -> bool:
        SlowKernelManager.begun = asyncio.Event()
        manager = AsyncMultiKernelManager()
        manager.kernel_manager_factory = SlowKernelManager
        starting = asyncio.ensure_future(manager.start_kernel(kernel_name="python3"))
        await asyncio.wait_for(SlowKernelManager.begun.wait(), 20)
        upstream.cancel_pending_launches(manager)
        await asyncio.wait({starting}, timeout=5)
        return starting.cancelled()

    cancelled = asyncio.run(start_and_cancel())
    assert cancelled, changed("jupyter_client", "MultiKernelManager._pending_kernels")


def test_the_identity_of_a_request_is_asked_for_anew(server: InProcess) -> None:
    """``get_user`` returns what ``_jupyter_current_user`` holds, and else it asks."""
    seen: list[bool] = []

    class Probe(APIHandler):
        async def get(self) -> None:
            seen.append(await upstream.is_still_signed_in(self))
            server.app.identity_provider.token = ANOTHER
            seen.append(await upstream.is_still_signed_in(self))
            seen.append(upstream.is_signed_in(self))
            self.finish("{}")

    server.app.web_app.add_handlers(".*", [("/probe", Probe)])
    server.send("GET", "/probe", headers={"Authorization": f"token {server.token}"})
    assert seen == [True, False, True], changed("jupyter_server", "IdentityProvider.get_user")


def test_a_logout_is_told(server: InProcess) -> None:
    """``LogoutHandler`` calls ``clear_login_cookie`` of the identity provider."""
    told: list[str] = []
    upstream.on_logout(server.app.identity_provider, told.append)
    server.send("GET", "/logout")
    assert told == []
    server.send("GET", "/logout", headers={"Authorization": f"token {server.token}"})
    assert len(told) == 1, changed("jupyter_server", "LogoutHandler")
