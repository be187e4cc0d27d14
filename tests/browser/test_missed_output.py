"""Output that a page missed is offered, and never in place of a newer one."""

from __future__ import annotations

import time
from pathlib import Path

from playwright.sync_api import expect

from mooring.client import Mooring
from tests.browser.lab import Lab, write_notebook

RANDOM = "import random, time\n\ntime.sleep(1)\nprint(random.random())"
REPEATS = 2
# Longer than the panel waits before it compares, and than a kernel takes to start
WATCHED_S = 3.0


def test_a_restart_offers_nothing_old(mooring: Mooring, project: Path, lab: Lab) -> None:
    """After *Restart Kernel and Run All Cells* the banner never offers the run before it."""
    page = lab.page
    notebook = lab.notebook(write_notebook(project / "random.ipynb", RANDOM))
    last = notebook.run(0).inner_text()
    for _ in range(REPEATS):
        lab.command("notebook:restart-run-all")
        lab.accept("Confirm Kernel Restart")
        until = time.monotonic() + WATCHED_S
        while time.monotonic() < until:
            assert notebook.banner("missed").count() == 0
            page.wait_for_timeout(50)
        notebook.wait_for_end(0)
        shown = notebook.cell(0).locator(".jp-Cell-outputArea")
        expect(shown).not_to_have_text(last)
        last = shown.inner_text()
        expect(notebook.banner("missed")).to_have_count(0)
