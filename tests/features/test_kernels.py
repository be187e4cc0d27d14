"""Kernelspecs: in VS Code and in JupyterLab, in private, and of many shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from mooring.client import Mooring
from tests.conftest import Cli
from tests.support import vscode
from tests.support.docker import inspect
from tests.support.kernel_clients import install, jupyter, kernel, only_session, run
from tests.support.registry import SlowRegistry, slow_registry
from tests.support.waiting import eventually

__all__ = ["jupyter", "slow_registry"]
pytestmark = pytest.mark.engine


def test_kernelspec_in_vs_code_and_jupyterlab(
    cli: Cli, project: Path, mooring: Mooring, jupyter: Path
) -> None:
    """One that is installed from a spec is found, and both ways to start it come to a session."""
    (project / "session.yml").write_text("name: mine\nkernel: python3\nmax_duration: 1h\n")
    assert cli("kernel", "install", "-f", "session.yml", check=0).stdout == "mine\n"
    assert "mine" in cli("kernel", "list", check=0).stdout
    folder = Path(KernelSpecManager().get_kernel_spec("mine").resource_dir)
    with kernel("mine") as (_, client):  # as Jupyter does, by the provisioner
        assert run(client, "import os; os.environ['MOORING_SESSION']").text.startswith("'mine")
    book = vscode.Notebook(folder, project)  # by its argv
    try:
        book.start()
        assert book.run("import os; os.environ['MOORING_SESSION']").text.startswith("'mine")
        book.dispose()
        book.process.end()
    finally:
        book.close()
    eventually(lambda: not mooring.sessions.list(), 30, "a session is left")
    assert cli("kernel", "remove", "mine", check=0).stdout == "mine\n"
    assert "no kernelspec" in cli("kernel", "remove", "mine", check=1).stderr


def test_private_kernels_and_their_last_words(
    cli: Cli,
    mooring: Mooring,
    jupyter: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the client's environment nothing is inside, no port is open, and what a kernel printed
    before it crashed is there to be read."""
    monkeypatch.setenv("CLOUD_PASSWORD", "hunter2")
    cli("create", "-d", "--name", "one", "--kernel", "python3", check=0)
    with kernel(install(session="one")) as (_, client):
        said = run(client, "import os; print(*os.environ, *os.environ.values())").text
        assert "CLOUD" not in said
        assert "hunter" not in said
        ports = inspect(only_session(mooring).container)
        assert not ports["NetworkSettings"]["Ports"]
        run(client, "print('my last words')")
        client.execute("import ctypes; ctypes.string_at(0)")
        eventually(lambda: "killed by SIGSEGV" in cli("describe", "one", check=0).stdout)
        assert "my last words" in cli("logs", "one", "--kernel", check=0).stdout
    assert "killed by SIGSEGV" in cli("events", "one", check=0).stdout


def test_kernel_waits_for_no_pull_in_vs_code(
    mooring: Mooring, jupyter: Path, project: Path, slow_registry: SlowRegistry
) -> None:
    """VS Code gives a kernel a minute and shows nothing: an image that is not there is told at
    once, and how to fetch it."""
    folder = jupyter / "data" / "kernels" / install(flags={"image": slow_registry.image})
    book = vscode.Notebook(folder, project)
    try:
        code, errors = book.launch().end(30)
        assert code != 0
        assert f"docker pull {slow_registry.image}" in errors
    finally:
        book.close()
    assert mooring.sessions.list() == []


def test_kernel_shapes_are_chosen_at_launch(
    cli: Cli, mooring: Mooring, jupyter: Path, image: str, project: Path
) -> None:
    """One kernelspec: its kernels run in sessions of other sizes, made for them or named."""
    name = install(flags={"memory": "512MiB"})
    cli("create", "-d", "--name", "large", "--kernel", "python3", "--memory", "1GiB", check=0)
    sizes = {}
    for session in (None, "large"):
        manager = KernelManager(kernel_name=name)
        chosen = {"mooring_session": mooring.sessions.get(session).id} if session else {}
        manager.start_kernel(**chosen)
        try:
            client = manager.client()
            client.start_channels()
            client.wait_for_ready(timeout=60)
            inside = run(client, "import os; print(os.environ['MOORING_SESSION'])").text
            sizes[session] = mooring.sessions.get(inside).spec.memory
            client.stop_channels()
        finally:
            manager.shutdown_kernel(now=True)
            manager.context.destroy(linger=0)
    assert [json.dumps(size) for size in sizes.values()] == [str(512 << 20), str(1 << 30)]
