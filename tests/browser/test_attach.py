"""Sessions as kernels: a notebook is attached to one, and comes back to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from playwright.sync_api import Locator, Page, expect

from mooring.client import Mooring
from tests.browser.conftest import LAB
from tests.browser.lab import Lab, Notebook, hook
from tests.conftest import Cli
from tests.support.kernel_clients import Server
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

NOTE = "your home, /home/ada, is mounted writable, with its keys and tokens"
NAME = "Session train (host image)"


def write(path: Path, kernel: str) -> str:
    """Write a notebook of Python for a kernelspec. Returns its name."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell("import socket\nsocket.gethostname()")])
    notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel}
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)
    return path.name


def names(mooring: Mooring) -> set[str]:
    return {session.name for session in mooring.sessions.list()}


def reopened(lab: Lab, name: str) -> None:
    """Shut the notebook's kernel down, close the notebook and open it again."""
    lab.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    lab.command("application:close")
    expect(lab.tab(name)).to_have_count(0)
    lab.command("docmanager:open", {"path": name, "factory": "Notebook"})
    expect(lab.tab(name)).to_be_visible()


def test_a_notebook_is_attached_to_a_session(
    mooring: Mooring, cli: Cli, project: Path, lab: Lab
) -> None:
    """The kernel menu has each session; the notebook shows it, what is to know of its mounts, and
    comes back to it alone."""
    page = lab.page
    name = write(project / "old.ipynb", "gone")
    cli("create", "-d", "--name", "train", check=0)
    folder = session_folder(mooring.sessions.get("train").id)
    folder.write_plan(folder.record().plan._replace(note=NOTE))
    sessions = lab.sessions()
    expect(sessions.session("train", "running")).to_be_visible()
    page.wait_for_function(
        f"{NAME!r} === window.jupyterapp.serviceManager.kernelspecs.specs"
        ".kernelspecs['mooring-session-train']?.display_name"
    )
    lab.command("docmanager:open", {"path": name, "factory": "Notebook"})
    page.locator(".jp-Dialog select").select_option(label=NAME)
    lab.accept("Select Kernel")
    notebook = Notebook(page)
    notebook.wait_until_idle()
    expect(notebook.run(0)).to_contain_text("train")
    expect(notebook.panel.locator(".jp-NotebookPanel-toolbar")).to_contain_text(NAME)
    lab.command("docmanager:save")
    expect(sessions.session("train").locator(hook("note"))).to_have_text(NOTE.capitalize())
    expect(notebook.banner("note")).to_contain_text(NOTE)
    notebook.banner("note").locator(hook("banner-action")).click()
    expect(notebook.banner("note")).to_have_count(0)
    eventually(lambda: '"name": "mooring-session-train"' in (project / name).read_text())

    reopened(lab, name)
    notebook.wait_until_idle()
    expect(notebook.run(0)).to_contain_text("train")
    assert names(mooring) == {"train"}
    expect(notebook.banner("note")).to_have_count(0)

    keyboard(page, sessions.node)

    expect(page.locator(".mooring-Status-item")).to_contain_text("train")
    # JupyterLab's poll of Jupyter sessions may see the end before the kernel's connection does
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.dispose()")
    sessions.do("remove", "train")
    lab.accept("Remove")
    expect(notebook.banner("stopped")).to_contain_text("train was removed")
    assert page.locator(".jp-Dialog").count() == 0
    assert names(mooring) == set()


def keyboard(page: Page, panel: Locator) -> None:
    """One tab stop for all buttons of the list, and the focus returns where it came from."""
    buttons = panel.locator(".mooring-Sessions button")
    assert buttons.count() > 5
    assert panel.locator('.mooring-Sessions button[tabindex="0"]').count() == 1
    more = panel.locator(hook("action-more"))
    panel.locator('.mooring-Sessions button[tabindex="0"]').focus()
    for _ in range(buttons.count()):
        page.keyboard.press("ArrowRight")
    expect(more).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".mooring-Menu")).to_be_visible()
    page.keyboard.press("Escape")
    expect(more).to_be_focused()
    panel.locator(hook("new-session")).get_by_text("New session").click()
    expect(panel.locator("form select").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel.locator("form")).to_have_count(0)
    assert page.evaluate("document.activeElement.textContent").startswith("New session")


@pytest.fixture
def closed(settings: Path, project: Path) -> Iterator[Server]:
    """JupyterLab with one kernel of Python; ended when the page is."""
    server = Server(
        *LAB, "--KernelSpecManager.allowed_kernelspecs={'mooring'}", module="jupyterlab"
    )
    yield server
    server.stop()


def test_a_notebook_of_a_session_that_is_gone_is_asked_about(
    mooring: Mooring, closed: Server, project: Path, page: Page
) -> None:
    """Also where its language has one kernel only, which JupyterLab would start silently."""
    name = write(project / "old.ipynb", "mooring-session-gone")
    lab = Lab(page, closed)
    lab.open()
    lab.command("docmanager:open", {"path": name, "factory": "Notebook"})
    expect(page.locator(".jp-Dialog")).to_contain_text("Select kernel for")
    assert mooring.sessions.list() == []
