"""A kernel that cannot start says why, in the words that a client shows in its dialog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager
from tornado.web import HTTPError

from mooring.client import Mooring
from tests.support.kernel_clients import Server, install, jupyter, only_session, own_kernelspec

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


@pytest.fixture
def server(mooring: Mooring, jupyter: Path) -> Iterator[Server]:
    """A Jupyter server."""
    running = Server()
    yield running
    running.stop()


def refusals(server: Server, name: str) -> list[str]:
    """What both ways to start a kernel say; the texts must be the same."""
    notebook = {"path": "a.ipynb", "name": "", "type": "notebook", "kernel": {"name": name}}
    reply = []
    for path, body in (("kernels", {"name": name}), ("sessions", notebook)):
        status, answer = server.ask("POST", path, body)
        assert status == 500, answer
        assert "Traceback" not in answer["message"].partition("\n    ")[0]
        reply.append(answer["message"])
        assert server.ask("GET", "kernels")[1] == []
    return reply


def test_what_a_server_says_when_a_kernel_cannot_start(
    server: Server, mooring: Mooring, project: Path, bare_image: str
) -> None:
    """Reason and remedy reach POST /api/kernels and POST /api/sessions, and nothing stays."""
    (project / "bad.yml").write_text("imagee: host\n")
    (project / "input.yml").write_text("inputs: [./nowhere]\n")
    (project / "breaks").mkdir()
    (project / "breaks" / "sitecustomize.py").write_text("raise SystemExit('the plant is broken')")
    cases = {
        install("no-ipykernel", flags={"image": bare_image, "pull": "never"}): (
            f"image {bare_image} cannot run a Jupyter kernel",
            "pip install ipykernel",
        ),
        install("no-image", flags={"image": "mooring-test-none:1", "pull": "never"}): (
            "No such image: mooring-test-none:1",
            "pull: never",
        ),
        install("bad-spec", spec=str(project / "bad.yml")): ("bad.yml", "image"),
        install("no-spec", spec=str(project / "gone.yml")): ("gone.yml",),
        install("no-input", spec=str(project / "input.yml")): ("nowhere",),
        install("breaks", env={"PYTHONPATH": str(project / "breaks")}): (
            "ended while starting (exit code 1)",
            "the plant is broken",
        ),
        install("bad-name", session="../up"): ("../up", "lowercase letters"),
        install("no-kernel", kernel="cobol"): ("no kernel 'cobol' on this machine", "python3"),
    }
    for name, parts in cases.items():
        for message in refusals(server, name):
            assert all(part in message for part in parts), (name, message)
            assert mooring.sessions.list() == [], name


def test_a_shared_session_that_cannot_be_started_is_named(
    server: Server, mooring: Mooring, project: Path, bare_image: str, cli
) -> None:
    """A kernel for a session that has no ipykernel, or whose container is gone, is refused so."""
    cli("create", "--name", "plain", "--image", bare_image, "--pull", "never", "-d", check=0)
    install("into-plain", session="plain")
    for message in refusals(server, "into-plain"):
        assert "cannot run a Jupyter kernel" in message
    assert only_session(mooring).live_kernels == ()
    mooring.engine.remove(only_session(mooring).container)
    for message in refusals(server, "into-plain"):
        assert "session plain is lost" in message


def test_a_kernel_that_fails_at_a_restart_keeps_its_session(
    mooring: Mooring, jupyter: Path, project: Path
) -> None:
    """A failed restart says why and leaves the session, so that a later one finds all its files."""
    (project / "maybe").mkdir()
    name = install(env={"PYTHONPATH": str(project / "maybe")})
    manager = KernelManager(kernel_name=name)
    manager.start_kernel()
    container = only_session(mooring).container
    plant = project / "maybe" / "sitecustomize.py"
    plant.write_text("raise SystemExit('the plant is broken')")
    with pytest.raises(HTTPError, match="the plant is broken"):
        manager.restart_kernel()
    assert only_session(mooring).container == container
    plant.unlink()
    manager.restart_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    client.stop_channels()
    assert only_session(mooring).container == container
    manager.shutdown_kernel(now=True)
    assert mooring.sessions.list() == []


def test_a_kernel_that_is_no_program_says_so(
    mooring: Mooring, jupyter: Path, project: Path
) -> None:
    """A kernelspec in the image whose program does not exist is told by the program's name."""
    flags = own_kernelspec(project, "ghost", ["/no/such/program", "{connection_file}"])
    manager = KernelManager(kernel_name=install("g", kernel="ghost", flags=flags))
    with pytest.raises(HTTPError, match="/no/such/program: No such file or directory"):
        manager.start_kernel()
    assert mooring.sessions.list() == []
