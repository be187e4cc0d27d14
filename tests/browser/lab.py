"""JupyterLab as a user works in it: notebooks, cells, and what stands under them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat import v4
from playwright.sync_api import Locator, Page, expect

from tests.support.kernel_clients import Server

READY_MS = 60_000


def hook(name: str) -> str:
    """The selector of a part of the panel."""
    return f'[data-mooring="{name}"]'


def write_notebook(path: Path, *cells: str, kernel: str = "mk") -> str:
    """Write a notebook of code cells for a kernel. Returns its name."""
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel}
    nbformat.write(notebook, path)
    return path.name


class Lab:
    """JupyterLab in a tab of the browser."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server

    def open(self, path: str = "") -> None:
        """Load JupyterLab, and a file in it."""
        self.page.goto(
            f"{self.server.url}/lab{'/tree/' + path if path else ''}?token={self.server.token}"
        )
        self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=READY_MS)
        self.page.wait_for_function("window.jupyterapp?.restored.then(() => true)")
        expect(self.tab("").first).to_be_visible(timeout=READY_MS)  # a launcher, or what was open

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Run a command of the app, as its menus do."""
        self.page.evaluate(
            "([name, args]) => { window.jupyterapp.commands.execute(name, args); }",
            [name, arguments or {}],
        )

    def tab(self, title: str) -> Locator:
        """A tab of the main area."""
        return self.page.locator("#jp-main-dock-panel .lm-TabBar-tab", has_text=title)

    def accept(self, button: str) -> None:
        """Press a button of the dialog that asks."""
        self.page.locator(".jp-Dialog").get_by_role("button", name=button, exact=True).click()

    def sessions(self) -> Panel:
        """Show the sessions."""
        if not self.page.locator(hook("panel")).is_visible():
            self.page.get_by_role("tab", name="Sessions").click()
        return Panel(self.page)

    def notebook(self, path: str) -> Notebook:
        """Open a notebook; wait until its kernel is idle."""
        self.command("docmanager:open", {"path": path, "factory": "Notebook"})
        found = Notebook(self.page)
        found.wait_until_idle()
        return found


class Panel:
    """The sessions in the sidebar."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.node = page.locator(hook("panel"))

    def session(self, name: str = "", state: str = "") -> Locator:
        """A session of the list: that of a name, or in a state, or simply the one that there is."""
        wanted = f'[data-name="{name}"]' * bool(name) + f'[data-state="{state}"]' * bool(state)
        return self.node.locator(hook("session") + wanted)

    def do(self, action: str, name: str = "") -> None:
        """Press a button of a session."""
        self.session(name).locator(hook(f"action-{action}")).click()


class Notebook:
    """The notebook that is in front, in JupyterLab or in Notebook 7."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.panel = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def banner(self, kind: str) -> Locator:
        """What the notebook says at its top: starting, ending, stopped or missed."""
        return self.panel.locator(f'{hook("banner")}[data-kind="{kind}"]')

    def wait_until_idle(self) -> None:
        """Wait until the toolbar shows that the kernel has nothing to do."""
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.ready.then(() => true)"
        )
        circle = self.panel.locator(".jp-Notebook-ExecutionIndicator")
        expect(circle).to_have_attribute("data-status", "idle", timeout=READY_MS)

    def cell(self, number: int) -> Locator:
        """A cell, counted from 0."""
        return self.panel.locator(".jp-Notebook .jp-Cell").nth(number)

    def write(self, number: int, code: str) -> None:
        """Put code in place of what a cell has."""
        self.cell(number).locator(".cm-content").fill(code)

    def start(self, number: int) -> Locator:
        """Run a cell by the keyboard. Returns what stands under it, and does not wait."""
        cell = self.cell(number)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        return cell.locator(".jp-Cell-outputArea")

    def run(self, number: int) -> Locator:
        """Run a cell, and wait for its end. Returns what stands under it."""
        shown = self.start(number)
        self.wait_for_end(number)
        return shown

    def wait_for_end(self, number: int) -> None:
        """Wait until a cell that runs has its number."""
        prompt = self.cell(number).locator(".jp-InputPrompt")
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"))

    def tool(self, label: str) -> Locator:
        """A button of the notebook's toolbar, by what it says when one points at it."""
        return self.panel.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name=label)
