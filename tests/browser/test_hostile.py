"""Text that others chose is shown as text: nothing of it becomes a part of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mooring.client import Mooring
from mooring.spec.resolve import resolve
from tests.browser.conftest import install
from tests.browser.lab import Lab, Notebook, hook, write_notebook
from tests.support.kernel_clients import Server

HOSTILE = '<img src=x alt={} onerror="window.__pwned=1">'


def text(place: str) -> str:
    """Markup that leaves a mark in the page if it is taken for markup there."""
    return HOSTILE.format(place)


def unharmed(page: Page) -> None:
    assert page.evaluate("window.__pwned") is None
    assert page.locator('img[src="x"]').count() == 0


@pytest.fixture
def kernelspec(settings: Path, mooring: Mooring) -> str:
    """A kernelspec with a hostile title."""
    return install("mk", text("title"))


def test_what_others_wrote_is_shown_as_text(
    mooring: Mooring, project: Path, lab_server: Server, page: Page
) -> None:
    """Titles, file names, logs, mistakes and reasons with markup in them run nothing."""
    notebook = write_notebook(project / f"{text('notebook')}.ipynb", "1")
    (project / f"{text('spec')}.yml").write_text("kernel: python3\nname: fine\n")
    (project / "session.yml").write_text(f"image: '{text('mistake')}'\n")
    command = ["sh", "-c", f"echo '{text('log')}'; exec sleep 1000"]
    named = {"name": "loud", "command": command, "env": {"SAID": text("env")}}
    mooring.sessions.create(resolve(flags=named), cwd=project)

    lab = Lab(page, lab_server)
    lab.open()
    sessions = lab.sessions()
    expect(page.locator(".jp-LauncherCard", has_text="onerror").first).to_contain_text("<img src=x")

    sessions.do("logs", "loud")
    expect(page.locator(hook("logs"))).to_contain_text(text("log"))

    lab.command("docmanager:open", {"path": notebook, "factory": "Notebook"})
    opened = Notebook(page)
    opened.wait_until_idle()
    expect(sessions.node.get_by_text(notebook)).to_be_visible()
    assert opened.run(0)
    unharmed(page)

    sessions.node.locator(hook("new-session")).click()
    form = page.locator(hook("new-session-form"))
    form.get_by_label("Preset").select_option(f"{text('spec')}.yml")
    form.get_by_label("GPUs").fill(text("gpus"))
    form.locator(hook("create")).click()
    expect(form.locator(hook("form-problem"))).to_contain_text(text("gpus"))
    form.locator(hook("close-form")).click()

    sessions.node.get_by_text(notebook).hover()
    Mooring(mooring.engine, actor=text("actor")).sessions.stop(mooring.sessions.get("loud"))
    expect(sessions.session("loud", "stopped")).to_contain_text(text("actor"))
    sessions.do("remove", "loud")
    lab.accept("Remove")
    expect(sessions.session("loud")).to_have_count(0)
    unharmed(page)
