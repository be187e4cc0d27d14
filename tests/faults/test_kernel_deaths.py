"""A notebook's kernel that dies leaves its reason wherever a person may look for it."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError

from mooring.client import Mooring
from tests.support.kernel_clients import install, jupyter, kernel

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

FULL = """
import mmap
file = open('/dev/shm/x', 'wb+')
file.truncate(64 << 20)
shared = mmap.mmap(file.fileno(), 64 << 20)
for at in range(0, 64 << 20, 4096):
    shared[at] = 1
"""


def die(code: str, kernel_name: str, project: Path) -> str:
    """Execute a notebook whose second cell ends the kernel; return that cell's output."""
    cells = [nbformat.v4.new_code_cell(text) for text in ("print('begun')", code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), project / "in.ipynb")
    with pytest.raises(DeadKernelError):
        papermill.execute_notebook(
            project / "in.ipynb",
            project / "out.ipynb",
            kernel_name=kernel_name,
            progress_bar=False,
            cwd=project,
        )
    done = nbformat.read(project / "out.ipynb", 4)
    assert done.cells[0].outputs[0].text == "begun\n"
    return "".join(output.get("text", "") for output in done.cells[-1].outputs)


def test_out_of_memory_in_a_batch_notebook(  # nbclient#88
    cli, mooring: Mooring, jupyter: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """papermill says "Kernel died"; mooring says beside it why, and so does the history, although
    the session is gone with its kernel."""
    name = install(flags={"memory": "128MiB", "encrypt": "always"})
    shown = die("x = bytearray(1 << 30)", name, project)
    said = capfd.readouterr().err
    assert shown == said
    assert "ended: out of memory (limit 128 MiB)" in said
    assert "\nhint: give the session more memory: --memory SIZE" in said
    assert mooring.sessions.list() == []
    (past,) = mooring.history.ended()
    assert f"the kernel of session {past.name} ended" in said
    why = "out of memory (limit 128 MiB)"
    assert (
        cli("why", past.name, check=0).stdout == f"{past.name} is gone: its kernel ended: {why}\n"
    )
    assert f"ended: {why}" in cli("events", past.name, check=0).stdout


def test_other_deaths(
    cli, mooring: Mooring, jupyter: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A crash is told by its signal or its exit code, in a shared session too."""
    name = install(session="lab", flags={"shm": "16MiB"})
    for code, why in (
        ("import os; os._exit(3)", "exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        (FULL, "killed by SIGBUS: /dev/shm is full (limit 16 MiB)"),  # pytorch#5040
    ):
        shown = die(code, name, project)
        assert shown.startswith(f"mooring: the kernel of session lab ended: {why}\n")
        assert f"mooring: the kernel of session lab ended: {why}\n" in capfd.readouterr().err
        assert f"ended: {why}\n" in cli("events", "lab", check=0).stdout
        assert f"ended: {why}, " in cli("why", "lab", check=0).stdout.splitlines()[-1]


def test_an_end_that_was_asked_for_is_no_death(
    mooring: Mooring, jupyter: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a restart nor a shutdown says anything, gently or not."""
    with kernel(install()) as (manager, client):
        for now in (False, True):
            manager.restart_kernel(now=now)
            client.wait_for_ready(timeout=60)
            assert manager.is_alive()
        manager.shutdown_kernel(now=False)
    assert "mooring:" not in capfd.readouterr().err
    (past,) = mooring.history.ended()
    assert past.reason.startswith("removed by ")
