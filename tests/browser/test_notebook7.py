"""Notebook 7 takes the panel, and runs a container's kernel."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from mooring.client import Mooring
from tests.browser.conftest import Picture
from tests.browser.lab import Notebook, write_notebook
from tests.support.kernel_clients import Server, only_session


def test_notebook_7_runs_a_cell(
    mooring: Mooring,
    project: Path,
    kernelspec: str,
    page: Page,
    console: list[str],
    picture: Picture,
) -> None:
    """The extension loads without an error, and a cell runs in a container."""
    name = write_notebook(project / "seven.ipynb", "import socket\nsocket.gethostname()")
    server = Server("--JupyterNotebookApp.expose_app_in_browser=True", module="notebook")
    try:
        page.goto(f"{server.url}/notebooks/{name}?token={server.token}")
        notebook = Notebook(page)
        notebook.wait_until_idle()
        expect(notebook.run(0)).to_contain_text(only_session(mooring).name)
        assert page.evaluate("window.jupyterapp.isPluginActivated('mooring:banners')")
        picture("notebook-7")
    finally:
        page.goto("about:blank")
        server.stop()
    # Notebook 7.6 has an uncaught error of its own; ours have the extension's address in them
    errors = [s for s in console if s.startswith(("error", "uncaught")) and "mooring" in s]
    assert not errors, errors
