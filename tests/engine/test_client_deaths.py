"""Clients that die without ending their kernels, and those that fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import nbformat
import papermill
import pexpect
import pytest

from mooring.client import Mooring
from mooring.host.paths import Installation
from mooring.sessions.model import State
from tests.support.kernel_clients import host_pids, install, jupyter, kernel, only_session, run
from tests.support.pace import in_time
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

GONE_S = 10.0
# Two kernels, each busy, and a child that holds what it inherits
LIBRARY = """
import os, sys, time
from jupyter_client.manager import KernelManager
managers = [KernelManager(kernel_name="mk") for _ in range(2)]
for number, manager in enumerate(managers):
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(60)
    client.execute(f"open('library{number}', 'w').close()\\nimport time; time.sleep(600)")
if os.fork() == 0:
    open("child", "w").write(str(os.getpid()))
    time.sleep(120)
time.sleep(120)
"""
# A kernel in a session that others share, and one that is to survive
KEPT = """
import sys, time
from jupyter_client.manager import KernelManager
for name, options in (("shared", {}), ("mk", {"independent": True})):
    manager = KernelManager(kernel_name=name)
    manager.start_kernel(**options)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(60)
    client.execute(f"open('{name}', 'w').close()\\nimport time; time.sleep(600)")
time.sleep(120)
"""


def busy_notebook(name: str) -> str:
    """A notebook whose only cell never ends, and says by a file that it has begun."""
    code = f"open('{name}', 'w').close()\nimport time; time.sleep(600)"
    cell = nbformat.v4.new_code_cell(code)
    spec = {"name": "mk", "display_name": "mk", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": spec})
    nbformat.write(notebook, f"{name}.ipynb")
    return f"{name}.ipynb"


def session_folders() -> list[Path]:
    """The folders of all sessions, half-removed ones too; nothing is repaired by asking."""
    return list(Installation.here().sessions.iterdir())


@pytest.fixture
def client(project: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a client in the background; those that are left are killed."""
    with ExitStack() as stack:

        def start(*argv: str) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def test_busy_kernels_end_with_their_clients(
    mooring: Mooring, jupyter: Path, client: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Kernel, container and files of a client that dies are gone ten seconds later.

    papermill#508, #601, jupyter_console#221: as a local kernel, which notices its parent's death.
    """
    install()
    convert = client("-m", "nbconvert", "--execute", "--to", "html", busy_notebook("convert"))
    mill = client("-m", "papermill", busy_notebook("mill"), "out.ipynb", "--no-progress-bar")
    library = client("-c", LIBRARY)
    console = pexpect.spawn(
        sys.executable, ["-m", "jupyter_console", "--kernel=mk", "--simple-prompt"], timeout=60
    )
    try:
        console.expect(r"In \[1\]")
        console.sendline("open('console', 'w').close(); import time; time.sleep(600)")
        begun = ("convert", "mill", "library0", "library1", "child", "console")
        eventually(lambda: all(Path(name).exists() for name in begun), timeout=90)
        convert.terminate()
        for process in (mill, library):
            process.kill()
        console.close(force=True)  # as a terminal's window: SIGHUP
        died = time.monotonic()
        eventually(lambda: not session_folders(), timeout=60)
        assert in_time(time.monotonic() - died, GONE_S)
        assert mooring.engine.list({"mooring.installation": mooring.installation.id}) == []
    finally:
        console.close(force=True)
        if Path("child").exists():
            os.kill(int(Path("child").read_text()), signal.SIGKILL)
    eventually(lambda: not host_pids(str(mooring.installation.path)))  # nor those who waited


def test_what_is_to_survive_a_client_does(
    mooring: Mooring, jupyter: Path, client: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Of a shared session only the kernel ends; an ``independent`` kernel is the user's to end."""
    install()
    install("shared", session="shared")
    process = client("-c", KEPT)
    eventually(lambda: Path("shared").exists() and Path("mk").exists(), timeout=90)
    process.kill()
    shared = mooring.sessions.get("shared")
    died = time.monotonic()
    eventually(lambda: not mooring.kernels.list(shared.id), timeout=60)
    assert in_time(time.monotonic() - died, GONE_S)
    sessions = {session.name: session for session in mooring.sessions.list()}
    assert sessions.pop("shared").state is State.RUNNING
    (own,) = sessions.values()
    assert [one.busy for one in own.live_kernels] == [True]


def execute(name: str) -> str:
    """What a notebook prints, executed with papermill."""
    made = papermill.execute_notebook("in.ipynb", f"{name}.ipynb", progress_bar=False)
    return str(made.cells[-1].outputs[0].text)


@pytest.mark.filterwarnings("default")
def test_a_forked_process_executes_a_notebook(
    mooring: Mooring, jupyter: Path, project: Path
) -> None:
    """After its parent has done so, and while a kernel of its parent's runs (papermill#511)."""
    cells = [nbformat.v4.new_code_cell("print(6 * 7)")]
    spec = {"name": install(), "display_name": "mk", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), "in.ipynb")
    assert execute("before") == "42\n"
    with kernel("mk") as (_, ours):
        session = only_session(mooring)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(execute, ["forked"]).get(timeout=120) == "42\n"
        assert run(ours, "print('goes on')").text == "goes on"
        assert only_session(mooring).id == session.id
    assert mooring.sessions.list() == []
