"""The panel in JupyterLab: sessions as a user sees them, and all that can be done with one."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from mooring.client import Mooring
from tests.browser.conftest import LAB, Picture, install
from tests.browser.lab import Lab, Notebook, hook, write_notebook
from tests.conftest import Cli
from tests.support.kernel_clients import Server, only_session
from tests.support.registry import SlowRegistry
from tests.support.waiting import eventually


def test_a_session_from_the_launcher_to_its_end(
    mooring: Mooring, cli: Cli, lab: Lab, picture: Picture
) -> None:
    """Launcher, cells, terminal, extend, stop, start again, remove: each seen in the panel."""
    page = lab.page
    sessions = lab.sessions()
    expect(sessions.node).to_contain_text("No sessions yet")
    tile = page.locator(".jp-LauncherCard", has_text="Python in a container").first
    expect(tile).to_be_visible()
    picture("launcher", 800)

    tile.click()
    notebook = Notebook(page)
    notebook.wait_until_idle()
    name = only_session(mooring).name
    expect(sessions.session(name, "running")).to_contain_text("Untitled.ipynb")
    notebook.write(0, "answer = 42\nprint('in', __import__('socket').gethostname())")
    expect(notebook.run(0)).to_contain_text(f"in {name}")
    expect(page.locator(hook("status-item"))).to_contain_text(name)
    picture("sessions")

    sessions.do("terminal")
    terminal = page.locator(".jp-Terminal:not(.lm-mod-hidden)")
    terminal.locator(".xterm-helper-textarea").focus()
    page.keyboard.type("touch /tmp/ready\n")
    eventually(lambda: cli("exec", name, "test", "-e", "/tmp/ready").returncode == 0)
    page.keyboard.press("Control+l")
    page.keyboard.type("echo $((6 * 7)) | tee /tmp/typed; hostname\n")
    eventually(lambda: cli("exec", name, "cat", "/tmp/typed").stdout.strip() == "42")
    picture("terminal")

    sessions.do("hold")
    expect(sessions.session(name)).to_contain_text(re.compile("Held for (2 h|1 h 59 min)"))
    picture("extend")

    expect(lab.tab(name)).to_be_visible()  # the terminal's

    kernels = lab.server.ask("GET", "kernels")[1]
    sessions.do("stop")
    lab.accept("Stop")
    expect(sessions.session(name, "stopped")).to_contain_text("Stopped by")
    lab.tab("Untitled.ipynb").click()
    expect(notebook.banner("stopped")).to_contain_text(name)
    expect(page.locator(hook("status-item"))).to_contain_text(f"{name}: stopped")
    wait_until_dead(page)
    expect(page.locator(".jp-Dialog")).to_have_count(0)  # nobody promises a restart
    picture("stopped")

    notebook.banner("stopped").locator(hook("banner-action")).click()
    expect(sessions.session(name, "running")).to_be_visible()
    expect(notebook.banner("stopped")).to_have_count(0)
    notebook.wait_until_idle()
    expect(notebook.run(0)).to_contain_text(f"in {name}")
    assert same_kernels(lab.server.ask("GET", "kernels")[1], kernels)

    sessions.do("stop")
    lab.accept("Stop")
    expect(sessions.session(name, "stopped")).to_be_visible()
    wait_until_dead(page)
    sessions.do("start")
    expect(sessions.session(name, "running")).to_be_visible()
    expect(notebook.banner("idle")).to_contain_text(f"{name} is running again")
    picture("started")
    notebook.banner("idle").locator(hook("banner-action")).click()
    expect(notebook.banner("idle")).to_have_count(0)
    notebook.wait_until_idle()
    expect(notebook.run(0)).to_contain_text(f"in {name}")
    assert same_kernels(lab.server.ask("GET", "kernels")[1], kernels)

    sessions.do("remove")
    lab.accept("Remove")
    expect(sessions.session()).to_have_count(0)
    assert mooring.sessions.list() == []
    expect(notebook.banner("stopped")).to_contain_text(f"{name} was removed")
    picture("removed")
    notebook.banner("stopped").locator(hook("banner-action")).click()
    lab.accept("Select Kernel")
    expect(notebook.banner("stopped")).to_have_count(0)
    notebook.wait_until_idle()
    expect(notebook.run(0)).to_contain_text(f"in {only_session(mooring).name}")


def wait_until_dead(page: Page) -> None:
    """Wait until JupyterLab knows that the notebook's kernel has ended."""
    page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'dead'"
    )


def same_kernels(now: list[dict[str, Any]], before: list[dict[str, Any]]) -> bool:
    return {kernel["id"] for kernel in now} == {kernel["id"] for kernel in before}


@pytest.mark.alone
def test_a_page_outlives_its_server(mooring: Mooring, project: Path, lab: Lab, page: Page) -> None:
    """The server is killed and started again: page and kernel go on, and no output is lost."""
    name = write_notebook(
        project / "training.ipynb",
        "import os, time\n\nx = 42\nwhile not os.path.exists('go'):\n    time.sleep(0.05)\n"
        "print('epoch 2')",
        "x == 42",
    )
    sessions = lab.sessions()
    notebook = lab.notebook(name)
    notebook.start(0)
    eventually(lambda: any(kernel.busy for kernel in only_session(mooring).live_kernels))
    # JupyterLab's own, where the server is away for long
    gone = page.get_by_role("dialog", name="Server Connection Error")
    page.add_locator_handler(gone, lambda shown: shown.get_by_role("button").first.click())
    lab.server.kill()
    expect(sessions.node.locator(hook("notice"))).to_contain_text("unreachable")
    (project / "go").touch()
    eventually(lambda: not any(kernel.busy for kernel in only_session(mooring).live_kernels))
    server = Server(*LAB, module="jupyterlab", port=lab.server.port, token=lab.server.token)
    try:
        came = time.monotonic()
        page.wait_for_function(
            "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
            "?.connectionStatus === 'connected'"
        )
        assert time.monotonic() - came < 10  # what JupyterLab itself waits at least
        shown = notebook.cell(0).locator(".jp-Cell-outputArea")
        expect(notebook.banner("missed")).to_contain_text("1 cell")
        notebook.banner("missed").locator(hook("banner-action")).click()
        expect(shown).to_contain_text("epoch 2")
        expect(notebook.run(1)).to_contain_text("True")
    finally:
        page.goto("about:blank")
        server.stop()


def test_a_new_session_by_the_form(
    mooring: Mooring, project: Path, lab: Lab, picture: Picture
) -> None:
    """A preset, what is changed in it, a mistake that is told, and a notebook on the session."""
    (project / "session.yml").write_text(
        "name: train\nkernel: python3\nmemory: 1GiB\nports: [8080]\n"
        "command: for part in 1 2 3; do echo part $part is loaded; done; exec sleep 1000\n"
    )
    page = lab.page
    sessions = lab.sessions()
    sessions.node.locator(hook("new-session")).click()
    form = page.locator(hook("new-session-form"))
    form.get_by_label("Preset").select_option("session.yml")
    form.get_by_label("Name").fill("bert")
    form.get_by_label("CPUs").fill("1.5")
    form.get_by_label("Memory", exact=True).fill("512MiB")
    form.get_by_label("Open").select_option("a notebook")
    picture("new-session", 560)
    form.get_by_label("Name").fill("no name at all")
    form.locator(hook("create")).click()
    expect(form.locator(hook("form-problem"))).to_contain_text("must be at most 40 lowercase")
    assert mooring.sessions.list() == []

    form.get_by_label("Name").fill("bert")
    form.locator(hook("create")).click()
    expect(sessions.session("bert", "running")).to_contain_text("1.5 CPU")
    expect(sessions.session("bert")).to_contain_text("512 MiB")
    expect(sessions.session("bert")).to_contain_text("port 8080")
    expect(form).to_have_count(0)
    notebook = Notebook(page)
    notebook.wait_until_idle()
    notebook.write(0, "import socket\n\nsocket.gethostname()")
    expect(notebook.run(0)).to_contain_text("bert")
    expect(sessions.session("bert")).to_contain_text("Untitled.ipynb")

    sessions.do("logs", "bert")
    expect(page.locator(hook("logs"))).to_contain_text("part 3 is loaded")
    picture("logs")


def test_a_spec_that_asks_for_more_needs_consent(
    mooring: Mooring, project: Path, lab: Lab, picture: Picture
) -> None:
    """What a file asks for is told and asked about; without a yes there is no session."""
    (project / "greedy.yml").write_text("name: greedy\nhome: true\n")
    sessions = lab.sessions()
    sessions.node.locator(hook("new-session")).click()
    form = lab.page.locator(hook("new-session-form"))
    form.get_by_label("Preset").select_option("greedy.yml")
    form.locator(hook("create")).click()
    question = lab.page.locator(hook("consent"))
    expect(question).to_contain_text("home")
    picture("consent", 800)
    lab.accept("Cancel")
    expect(question).to_have_count(0)
    assert mooring.sessions.list() == []
    form.locator(hook("create")).click()
    lab.accept("Trust")
    expect(sessions.session("greedy", "running")).to_be_visible()


def test_output_that_nobody_saw_is_offered(
    mooring: Mooring, project: Path, lab: Lab, picture: Picture
) -> None:
    """A cell goes on while the page is closed; when it is opened again its output can be had."""
    page = lab.page
    name = write_notebook(
        project / "training.ipynb",
        "import os, time\n\nprint('epoch 1')\nwhile not os.path.exists('go'):\n"
        "    time.sleep(0.05)\nprint('epoch 2')\nprint('epoch 3')",
    )
    lab.sessions()
    notebook = lab.notebook(name)
    expect(notebook.start(0)).to_contain_text("epoch 1")
    lab.command("docmanager:save")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    page.goto("about:blank")
    (project / "go").touch()
    eventually(lambda: not any(kernel.busy for kernel in only_session(mooring).live_kernels))

    lab.open(name)
    shown = notebook.cell(0).locator(".jp-Cell-outputArea")
    expect(notebook.banner("missed")).to_contain_text("1 cell")
    expect(shown).not_to_contain_text("epoch 3")
    lab.sessions()
    picture("missed-output")
    notebook.banner("missed").locator(hook("banner-action")).click()
    expect(shown).to_contain_text("epoch 3")
    expect(shown.get_by_text("epoch 1")).to_have_count(1)
    expect(notebook.banner("missed")).to_have_count(0)


def test_a_notebook_says_what_it_waits_for(
    mooring: Mooring, project: Path, settings: Path, lab: Lab, picture: Picture
) -> None:
    """While an image is pulled the notebook tells how far it is; Cancel leaves nothing."""
    registry = SlowRegistry({"bin/sh": b""}, 8 << 20)
    registry.seconds = 120
    try:
        install("slow", "A large image", image=registry.image)
        name = write_notebook(project / "large.ipynb", "import torch", kernel="slow")
        lab.open()  # it learns of kernelspecs as it loads
        lab.sessions()
        lab.command("docmanager:open", {"path": name, "factory": "Notebook"})
        notebook = Notebook(lab.page)
        banner = notebook.banner("starting")
        expect(banner).to_contain_text(re.compile(r"pulling .*/slow:1.* \d+%"))
        picture("starting")
        banner.locator(hook("banner-action")).click()
        expect(banner).to_have_count(0)
        eventually(lambda: mooring.sessions.list() == [])
        expect(lab.page.locator(".jp-Dialog")).to_contain_text("was cancelled")
    finally:
        registry.close()


def test_a_notebook_says_that_its_session_ends(
    mooring: Mooring, project: Path, settings: Path, lab: Lab, picture: Picture
) -> None:
    """In the last third of its time the notebook warns, and one press gives it two hours more."""
    install("short", "Half a minute", max_duration="30s")
    name = write_notebook(project / "short.ipynb", "import torch", kernel="short")
    lab.open()
    lab.sessions()
    notebook = lab.notebook(name)
    banner = notebook.banner("ending")
    expect(banner).to_contain_text("stops in")
    picture("ending")
    banner.locator(hook("banner-action")).click()
    expect(banner).to_have_count(0)
    eventually(lambda: (mooring.sessions.ends_in_s(only_session(mooring)) or 0) > 2 * 3600 - 60)
