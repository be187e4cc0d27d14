"""The kernelspecs that a server has for its sessions."""

from __future__ import annotations

from typing import Any

import pytest
from jupyter_client.kernelspec import NoSuchKernel

from mooring import EngineUnavailable, FakeEngine, LaunchOptions, resolve
from mooring.kernels import kernelspecs
from mooring_server_extension.kernelspecs import kernelspec_of
from tests.server.conftest import Serve
from tests.server.inprocess import InProcess


def listed(server: InProcess) -> dict[str, str]:
    """The kernelspecs of sessions that a client is shown: their display names, by name."""
    answer = server.send(
        "GET", "/api/kernelspecs", headers={"Authorization": f"token {server.token}"}
    )
    specs: dict[str, Any] = answer.json()["kernelspecs"]
    return {
        name: one["spec"]["display_name"]
        for name, one in specs.items()
        if name.startswith("mooring-session-")
    }


def test_each_session_is_a_kernelspec(server: InProcess) -> None:
    """A client can attach a notebook to a session, which its kernelspec names and leads back to."""
    assert listed(server) == {}
    server.ask("POST", "/sessions", {"name": "train", "values": {"idle_timeout": "1h"}})
    assert listed(server) == {"mooring-session-train": "Session train (host image)"}
    session = server.context.mooring.sessions.get("train")
    spec = server.app.kernel_spec_manager.get_kernel_spec("mooring-session-train")
    provisioner = spec.metadata["kernel_provisioner"]
    assert provisioner["config"] == {"session_id": session.id}
    assert (spec.language, spec.interrupt_mode) == ("python", "message")
    server.ask("POST", "/sessions/train/stop")
    assert set(listed(server)) == {"mooring-session-train"}  # choosing it starts the session
    server.ask("DELETE", "/sessions/train?force=1")
    assert listed(server) == {}
    with pytest.raises(NoSuchKernel):
        server.app.kernel_spec_manager.get_kernel_spec("mooring-session-train")


def test_the_engine_is_not_asked(server: InProcess, fake: FakeEngine) -> None:
    """A kernel of a session is adopted by a server that has not listed the sessions yet."""
    server.ask("POST", "/sessions", {"name": "train"})
    fake.fail("list", EngineUnavailable("no engine"))
    assert server.app.kernel_spec_manager.get_kernel_spec("mooring-session-train")
    assert listed(server)
    with pytest.raises(EngineUnavailable):  # it was not called before
        fake.list({})
    assert server.app.kernel_spec_manager.get_kernel_spec("mooring-session-train")


def test_no_session_has_two_kernelspecs(server: InProcess) -> None:
    """One that an installed kernelspec shares, or that ends with its kernels, has that one's."""
    mooring = server.context.mooring
    shared = mooring.sessions.create(resolve(flags={}), LaunchOptions(name="shared")).session
    own = mooring.sessions.create(
        resolve(flags={}), LaunchOptions(name="own", ends_with_kernels=True)
    ).session
    assert kernelspec_of(mooring, own) == "mooring"
    assert kernelspec_of(mooring, shared) == "mooring-session-shared"
    content = kernelspecs.document(
        display_name="Shared", kernel="python3", config={"session": "shared"}
    )
    kernelspecs.install("both", content, prefix=None, user=True)
    assert kernelspec_of(mooring, shared) == "both"
    assert listed(server) == {}


def test_a_server_without_the_packaged_kernelspec(serve: Serve) -> None:
    """Where an administrator allows other kernelspecs only, sessions are not offered either."""
    server = serve(KernelSpecManager={"allowed_kernelspecs": {"python3"}})
    server.ask("POST", "/sessions", {"name": "train"})
    assert listed(server) == {}
