"""Cells of sessions stay untrusted until the user trusts their notebook, where a server asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from mooring.client import Mooring
from tests.browser.conftest import LAB, install
from tests.browser.lab import Lab, Notebook, write_notebook
from tests.support.kernel_clients import Server
from tests.support.waiting import eventually

# Each leaves a mark on the page if it runs there
HOSTILE = (
    "from IPython.display import *\n"
    "display(HTML('<img src=x onerror=\"window.__pwned=1\"><script>window.__pwned=2</script>'))\n"
    "display(Javascript('window.__pwned=3'))\n"
    'display(SVG(\'<svg xmlns="http://www.w3.org/2000/svg" onload="window.__pwned=4"/>\'))\n'
    "print('shown')"
)


@pytest.fixture
def kernelspec(settings: Path, mooring: Mooring) -> str:
    return install("mk", "Session")


@pytest.fixture
def closed(kernelspec: str, project: Path, mooring: Mooring) -> Iterator[Server]:
    """A server that asks for it."""
    server = Server(*LAB, "--MooringExtension.untrusted_outputs=True", module="jupyterlab")
    yield server
    server.stop()


def opened(page: Page, server: Server, notebook: str) -> Notebook:
    lab = Lab(page, server)
    lab.open()
    lab.command("docmanager:open", {"path": notebook, "factory": "Notebook"})
    found = Notebook(page)
    found.wait_until_idle()
    return found


def saved(project: Path) -> list[Any]:
    """The cells of the notebook's file."""
    text = (project / "n.ipynb").read_text() or '{"cells": [{"outputs": []}]}'  # being written
    cells: list[Any] = json.loads(text)["cells"]
    return cells


def mark(page: Page) -> object:
    return page.evaluate("window.__pwned")


def test_output_runs_nothing_until_it_is_trusted(closed: Server, project: Path, page: Page) -> None:
    """HTML, JavaScript and SVG of a cell that was run leave no mark, neither at once nor after the
    notebook was saved and opened anew; when the user trusts the notebook, they do, and what runs
    then does too."""
    name = write_notebook(project / "n.ipynb", HOSTILE, HOSTILE)
    notebook = opened(page, closed, name)
    for number in (0, 1, 0):
        expect(notebook.run(number)).to_contain_text("shown")
    assert mark(page) is None

    Lab(page, closed).command("docmanager:save")
    eventually(lambda: all(cell["outputs"] for cell in saved(project)))
    cells = saved(project)
    assert not any(cell["metadata"].get("trusted") for cell in cells)
    page.reload()
    notebook = opened(page, closed, name)
    expect(notebook.cell(0)).to_contain_text("shown")
    assert mark(page) is None

    Lab(page, closed).command("notebook:trust")
    page.locator(".jp-Dialog .jp-mod-warn").click()
    page.wait_for_function("window.__pwned !== undefined")
    page.evaluate("delete window.__pwned")
    notebook.run(1)
    page.wait_for_function("window.__pwned !== undefined")


@pytest.mark.parametrize("command", ["notebook:run-all-cells", "notebook:run-cell"])
def test_new_cells_and_copies_run_nothing(
    closed: Server, project: Path, page: Page, command: str
) -> None:
    """A cell that the user adds, which JupyterLab trusts from the start, and a copy of one that was
    run are no way around it, whatever command runs them."""
    notebook = opened(page, closed, write_notebook(project / "n.ipynb", "1"))
    lab = Lab(page, closed)
    lab.command("notebook:insert-cell-below")
    expect(notebook.panel.locator(".jp-Notebook .jp-Cell")).to_have_count(2)
    notebook.write(1, HOSTILE)
    lab.command(command)
    expect(notebook.cell(1)).to_contain_text("Javascript object")
    lab.command("notebook:duplicate-below")
    expect(notebook.cell(2)).to_contain_text("Javascript object")
    assert mark(page) is None


def test_a_server_that_does_not_ask_for_it(lab_server: Server, project: Path, page: Page) -> None:
    """By default JupyterLab trusts what it runs, as ever."""
    notebook = opened(page, lab_server, write_notebook(project / "n.ipynb", HOSTILE))
    notebook.run(0)
    page.wait_for_function("window.__pwned !== undefined")
