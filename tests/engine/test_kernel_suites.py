"""Other people's clients and suites, unchanged, against a kernelspec of mooring's."""

from __future__ import annotations

import asyncio
import sys
import unittest
from collections.abc import Collection
from pathlib import Path

import jupyter_kernel_test
import nbformat
import papermill
import pexpect
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.multikernelmanager import AsyncMultiKernelManager, MultiKernelManager
from nbclient import NotebookClient

from mooring.client import Mooring
from tests.support.kernel_clients import install, jupyter, only_session

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

SAMPLES = {
    "language_name": "python",
    "file_extension": ".py",
    "code_hello_world": "print('hello, world')",
    "code_stderr": "import sys; print('test', file=sys.stderr)",
    "completion_samples": [{"text": "zi", "matches": {"zip"}}],
    "complete_code_samples": ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"],
    "incomplete_code_samples": ["print('''hello", "def f(x):\n  x*2"],
    "invalid_code_samples": ["import = 7q"],
    "code_page_something": "zip?",
    "code_generate_error": "raise ValueError('x')",
    "code_execute_result": [{"code": "1+2+3", "result": "6"}],
    "code_display_data": [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        }
    ],
    "code_history_pattern": "1?2*",
    "supported_history_operations": ("tail", "range", "search"),
    "code_inspect_sample": "zip",
    "code_clear_output": "from IPython.display import clear_output; clear_output()",
}


def outcomes(kernel_name: str, names: Collection[str] = ()) -> dict[str, str]:
    """What becomes of each test of the suite against a kernel: passed, skipped, failed, error.

    Args:
        names: of those to run; empty for all.
    """
    made = type(
        "Suite", (jupyter_kernel_test.KernelTests,), {**SAMPLES, "kernel_name": kernel_name}
    )
    names = sorted(names) or unittest.defaultTestLoader.getTestCaseNames(made)
    suite = unittest.TestSuite(map(made, names))
    result = unittest.TestResult()
    suite.run(result)
    found = dict.fromkeys(names, "passed")
    for kind, rows in (
        ("skipped", result.skipped),
        ("failed", result.failures),
        ("error", result.errors),
    ):
        for test, _ in rows:
            found[getattr(test, "test_case", test).id().rpartition(".")[2]] = kind
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_kernel_suite_finds_no_difference(mooring: Mooring, jupyter: Path) -> None:
    """jupyter_kernel_test's tests come out as they do for a plain python3."""
    ours, plain = outcomes(install("mk")), outcomes("python3")
    different = {name for name in ours if ours[name] != plain[name]}
    if different:  # its patience is short, also with a plain one: what differs is looked at twice
        ours, plain = ours | outcomes("mk", different), plain | outcomes("python3", different)
    assert ours == plain
    assert sum(outcome == "passed" for outcome in ours.values()) >= 10


def notebook(*cells: str, kernel_name: str = "mk") -> nbformat.NotebookNode:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = {"name": kernel_name, "display_name": "x", "language": "python"}
    return made


def test_nbclient_executes_a_notebook(mooring: Mooring, jupyter: Path, project: Path) -> None:
    """A notebook is executed in a session of its own, which is gone afterwards."""
    install()
    executed = NotebookClient(
        notebook("x = 6", "import socket; print(x * 7, socket.gethostname())"), timeout=60
    ).execute()
    printed = executed.cells[1].outputs[0]["text"].split()
    assert printed[0] == "42"
    assert printed[1].startswith("kernel-")  # the session's name, not this machine's
    assert mooring.sessions.list() == []


@pytest.mark.filterwarnings("default")
def test_papermill_works_unchanged(mooring: Mooring, jupyter: Path, project: Path) -> None:
    """papermill puts parameters in, executes in a session, and writes what came of it."""
    install()
    source = notebook("x = 1", "print(x * 2)")
    source.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(source, project / "in.ipynb")
    papermill.execute_notebook(
        "in.ipynb", "out.ipynb", parameters={"x": 21}, progress_bar=False, kernel_name="mk"
    )
    written = nbformat.read(project / "out.ipynb", as_version=4)
    assert written.cells[-1].outputs[0]["text"] == "42\n"
    assert mooring.sessions.list() == []


def test_jupyter_console_works_unchanged(mooring: Mooring, jupyter: Path, project: Path) -> None:
    """jupyter console talks to a kernel in a session, and takes the session along when it exits."""
    install()
    console = pexpect.spawn(
        sys.executable,
        ["-m", "jupyter_console", "--kernel", "mk", "--simple-prompt"],
        timeout=60,
        encoding="utf-8",
        dimensions=(24, 200),
    )
    console.expect(r"In \[1\]: ")
    assert only_session(mooring).live_kernels
    console.sendline("import socket; print('host', socket.gethostname())")
    console.expect(r"host kernel-[0-9a-f]{6}")
    console.expect(r"In \[2\]: ")
    console.sendline("exit")
    console.expect(pexpect.EOF)
    console.close()
    assert console.exitstatus == 0
    assert mooring.sessions.list() == []


def test_managers_of_many_kernels_work(mooring: Mooring, jupyter: Path) -> None:
    """AsyncKernelManager, MultiKernelManager and AsyncMultiKernelManager start, restart, stop."""
    install()

    async def asynchronous() -> None:
        manager = AsyncKernelManager(kernel_name="mk")
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=60)
        container = only_session(mooring).container
        await manager.restart_kernel()
        await client.wait_for_ready(timeout=60)
        reply = await client.execute("1", reply=True, timeout=30)
        assert reply["content"]["execution_count"] == 1
        assert only_session(mooring).container == container
        await manager.interrupt_kernel()
        client.stop_channels()
        await manager.shutdown_kernel()
        assert mooring.sessions.list() == []

        many = AsyncMultiKernelManager()
        ids = await asyncio.gather(*(many.start_kernel(kernel_name="mk") for _ in range(3)))
        assert len(mooring.sessions.list()) == 3
        await many.restart_kernel(ids[0])
        assert await many.is_alive(ids[0])
        await many.shutdown_all(now=True)

    asyncio.run(asynchronous())
    assert mooring.sessions.list() == []
    many = MultiKernelManager()
    kernel_id = many.start_kernel(kernel_name="mk")
    assert many.is_alive(kernel_id)
    many.restart_kernel(kernel_id, now=True)
    many.shutdown_all()
    assert mooring.sessions.list() == []


def test_what_an_installed_kernelspec_promises(mooring: Mooring, jupyter: Path) -> None:
    """It is one that VS Code and Jupyter take: its own program, message mode, encryption."""
    spec = KernelSpecManager().get_kernel_spec(install())
    assert Path(spec.argv[0]).name not in ("python", "python3")
    assert "{connection_file}" in spec.argv
    assert spec.language == "python"
    assert spec.interrupt_mode == "message"
    assert spec.metadata["supported_encryption"] == ["curve"]
    assert "interpreter" not in spec.metadata
