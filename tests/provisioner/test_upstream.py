"""What the provisioner relies on in Jupyter's packages: each test names what has changed."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import pytest
from jupyter_client.ioloop import AsyncIOLoopKernelManager, IOLoopKernelManager
from jupyter_client.manager import KernelManager
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

from mooring_provisioner import upstream


def changed(package: str, what: str) -> str:
    """What a failing test says."""
    return f"{package} {version(package)} has changed {what}: see mooring_provisioner.upstream"


def with_restarter(manager: Any) -> Any:
    """A kernel manager whose restarter polls, without a kernel."""
    type(manager).has_kernel = property(lambda self: True)
    manager.start_restarter()
    return manager


@pytest.fixture(params=[IOLoopKernelManager, AsyncIOLoopKernelManager])
def managers(request: pytest.FixtureRequest) -> type[Any]:
    """Each kind of manager that has a restarter; a class of the test's own."""
    return type("Manager", (request.param,), {})


def test_a_restarter_that_polls_is_found(managers: type[Any]) -> None:
    """A manager's restarter is its ``_restarter``, whose ``_pcallback`` is set while it polls."""

    async def look() -> list[bool]:
        manager = managers()
        seen = [upstream.polling_restarter(manager) is not None]
        with_restarter(manager)
        restarter = upstream.polling_restarter(manager)
        seen.append(restarter is not None)
        if restarter is not None:
            restarter.stop()
        return [*seen, upstream.polling_restarter(manager) is not None]

    what = "KernelManager._restarter or IOLoopKernelRestarter._pcallback"
    assert asyncio.run(look()) == [False, True, False], changed("jupyter_client", what)


@pytest.mark.parametrize("forget", [True, False])
def test_a_death_is_announced_to_those_who_are_to_know(managers: type[Any], forget: bool) -> None:
    """All callbacks for ``dead`` hear of a kernel to be forgotten, of another the websockets."""
    called: list[str] = []

    async def announce() -> None:
        manager = with_restarter(managers())
        manager.stop_restarter()

        def on_restart_failed() -> None:
            called.append("websocket")

        manager.add_restart_callback(on_restart_failed, "dead")
        manager.add_restart_callback(lambda: called.append("manager"), "dead")
        upstream.announce_death(manager, forget=forget)

    try:
        asyncio.run(announce())
    except Exception as error:
        pytest.fail(f"{changed('jupyter_client', 'KernelRestarter._fire_callbacks')} ({error!r})")
    expected = ["websocket", "manager"] if forget else ["websocket"]
    assert called == expected, changed("jupyter_client", "KernelRestarter.callbacks")


def test_a_websocket_is_known_by_the_name_of_its_callback() -> None:
    """A websocket connection has the method, and registers it for dead kernels."""
    method = getattr(ZMQChannelsWebsocketConnection, upstream.WEBSOCKET_CALLBACK, None)
    what = f"ZMQChannelsWebsocketConnection.{upstream.WEBSOCKET_CALLBACK}"
    assert callable(method), changed("jupyter_server", what)
    names = ZMQChannelsWebsocketConnection.connect.__code__.co_names
    assert upstream.WEBSOCKET_CALLBACK in names, changed("jupyter_server", what)


def test_a_shutdown_request_is_withdrawn_with_its_socket() -> None:
    """A manager sends it through ``_control_socket``, and opens another for the next."""

    class Socket:
        linger: int | None = None

        def close(self, linger: int | None = None) -> None:
            self.linger = linger

    sent: list[Socket] = []

    class Manager(KernelManager):
        def _create_connected_socket(self, *_: Any, **__: Any) -> Any:
            sent.append(Socket())
            return sent[-1]

    manager = Manager()
    manager._connect_control_socket()
    upstream.withdraw_shutdown_request(manager)
    manager._connect_control_socket()
    upstream.withdraw_shutdown_request(manager)
    upstream.withdraw_shutdown_request(manager)
    what = "KernelManager._control_socket"
    assert [socket.linger for socket in sent] == [0, 0], changed("jupyter_client", what)
