"""GPUs in the panel: the queue as a user sees it, what a session holds, and what it has lost."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.browser.conftest import install
from tests.browser.lab import Lab, Notebook, hook, write_notebook
from tests.fakes.gpus import FakeGpus
from tests.gpus.conftest import nvml, real_engine, refusal_of_requests, taken
from tests.support.waiting import eventually

__all__ = ["nvml", "real_engine", "refusal_of_requests", "taken"]

WAITS = re.compile(r"1st in the queue for 1 GPU; held by big")


def names(mooring: Mooring) -> list[str]:
    return sorted(session.name for session in mooring.sessions.list())


def test_a_session_waits_in_the_panel_until_its_turn_comes(
    mooring: Mooring, nvml: FakeGpus, taken: str, lab: Lab
) -> None:
    """The form makes it pending; it says why, is cancelled, and runs once its GPUs are free."""
    sessions = lab.sessions()
    form = lab.page.locator(hook("new-session-form"))

    def open_form(free: str) -> None:
        sessions.node.locator(hook("new-session")).click()
        expect(form.get_by_label("GPUs")).to_have_attribute("placeholder", re.compile(free))

    def create(name: str, gpus: str = "1", free: str = "0 of 8 GPUs free") -> None:
        open_form(free)
        form.get_by_label("Name").fill(name)
        form.get_by_label("GPUs").fill(gpus)
        form.get_by_label("Open").select_option("a terminal")
        form.locator(hook("create")).click()

    expect(sessions.session(taken, "running")).to_contain_text("8 GPUs")
    create("one")
    expect(sessions.session("one", "pending")).to_contain_text(WAITS)
    expect(form).to_have_count(0)
    sessions.do("remove", "one")
    expect(sessions.session("one")).to_have_count(0)
    eventually(lambda: names(mooring) == [taken])

    create("two")
    expect(sessions.session("two", "pending")).to_contain_text(WAITS)
    mooring.sessions.stop(mooring.sessions.get(taken))
    expect(sessions.session("two", "running")).to_contain_text("1 GPU")
    expect(lab.tab("two")).to_be_visible()  # its terminal
    expect(sessions.session("two").locator(hook("degraded"))).to_have_count(0)
    create("all", "8", "7 of 8 GPUs free$")
    expect(sessions.session("all", "pending")).to_contain_text("held by two")
    open_form("7 of 8 GPUs free, reserved for a queued session")
    nvml.lose(mooring.sessions.get("two").claims[0].gpu)
    expect(sessions.session("two").locator(hook("degraded"))).to_have_text("gpu lost")


def test_a_notebook_waits_for_its_gpu(
    mooring: Mooring, project: Path, settings: Path, taken: str, lab: Lab
) -> None:
    """It says what it waits for; closing it, or Cancel, leaves the queue and nothing else."""
    install("gpu", "Python with a GPU", gpus=1)
    name = write_notebook(project / "train.ipynb", "import torch", kernel="gpu")
    lab.open()  # it learns of kernelspecs as it loads
    lab.sessions()

    def pending() -> bool:
        return State.PENDING in [session.state for session in mooring.sessions.list()]

    lab.command("docmanager:open", {"path": name, "factory": "Notebook"})
    banner = Notebook(lab.page).banner("pending")
    expect(banner).to_contain_text(WAITS)
    assert pending()
    lab.tab(name).locator(".lm-TabBar-tabCloseIcon").click()
    discard = lab.page.locator(".jp-Dialog").get_by_role("button", name="Discard")
    eventually(lambda: discard.is_visible() or names(mooring) == [taken])
    if discard.is_visible():  # the kernel's name may be news to the notebook, or not
        discard.click()
    eventually(lambda: names(mooring) == [taken])

    lab.open(name)
    expect(banner).to_contain_text(WAITS)
    banner.locator(hook("banner-action")).click()
    expect(banner).to_have_count(0)
    eventually(lambda: names(mooring) == [taken])
    expect(lab.page.locator(".jp-Dialog")).to_contain_text("was cancelled")
