"""One notebook that uses all that a kernel can do beside running cells, in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import expect

from mooring.client import Mooring
from tests.browser.conftest import Picture
from tests.browser.lab import Lab
from tests.support.kernel_clients import host_pids
from tests.support.waiting import eventually

NOTEBOOK = Path(__file__).parent / "everything.ipynb"
ASK, SHOW, UPDATE, WIDGET, COMPLETE, CHILD, DEBUG = range(1, 8)
CHILDS_MARK = "sleep\x0086399"


def test_everything_works(mooring: Mooring, project: Path, lab: Lab, picture: Picture) -> None:
    """input(), updates of displays, widgets, completion, interrupt and the debugger work."""
    content = json.loads(NOTEBOOK.read_text())
    content["metadata"]["kernelspec"]["name"] = "mk"
    (project / NOTEBOOK.name).write_text(json.dumps(content))
    notebook = lab.notebook(NOTEBOOK.name)
    page = lab.page

    shown = notebook.start(ASK)
    asked = shown.locator("input.jp-Stdin-input")
    asked.fill("Ada")
    asked.press("Enter")
    expect(shown.locator(".jp-OutputArea-output").last).to_have_text(re.compile("^hello Ada"))

    shown = notebook.run(SHOW)
    expect(shown).to_have_text(re.compile("nothing yet"))
    notebook.run(UPDATE)
    expect(shown).to_have_text(re.compile("step 4 of 4"))

    shown = notebook.run(WIDGET)
    handle = shown.locator(".noUi-handle")
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(shown).to_contain_text("twice is 6")

    notebook.cell(COMPLETE).locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.press("Tab")
    page.locator(".jp-Completer-item", has_text="log1p").click()
    expect(notebook.run(COMPLETE)).to_contain_text("math.log1p")

    notebook.start(CHILD)
    eventually(lambda: host_pids(CHILDS_MARK))
    notebook.tool("Interrupt the kernel").click()
    notebook.wait_for_end(CHILD)
    eventually(lambda: not host_pids(CHILDS_MARK))

    notebook.tool("Enable Debugger").click()
    expect(notebook.tool("Disable Debugger")).to_have_attribute("aria-pressed", "true")
    debugged = notebook.cell(DEBUG)
    debugged.locator(".cm-breakpoint-gutter .cm-gutterElement").nth(2).click()
    expect(page.locator(".jp-DebuggerBreakpoint")).to_have_count(1)  # the kernel has it
    shown = notebook.start(DEBUG)
    expect(page.locator(".jp-DebuggerCallstack-body")).to_contain_text("triple")
    picture("debugger", 800)
    expect(page.locator(".jp-DebuggerVariables-body").first).to_contain_text("number")
    expect(debugged.locator(".jp-InputPrompt")).to_have_text("[*]:")
    page.get_by_role("button", name="Continue").first.click()
    expect(shown).to_contain_text("tripled: 42")
