"""The panel in JupyterLab: sessions as a user sees them, and all that can be done with one."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from mooring.service import Mooring
from tests.browser.conftest import Picture
from tests.browser.lab import Lab, Notebook, hook
from tests.conftest import Cli
from tests.kernel_clients import eventually, only_session


def test_a_session_from_the_launcher_to_its_end(
    mooring: Mooring, cli: Cli, lab: Lab, picture: Picture
) -> None:
    """Launcher, cells, terminal, extend, stop, start again, remove: each seen in the panel."""
    page = lab.page
    sessions = lab.sessions()
    expect(sessions.node).to_contain_text("No sessions yet")
    picture("launcher")

    page.locator(".jp-LauncherCard", has_text="Python in a container").first.click()
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
    page.keyboard.type("echo $((6 * 7)) | tee /tmp/typed; hostname\n")
    eventually(lambda: cli("exec", name, "cat", "/tmp/typed").stdout.strip() == "42")
    picture("terminal")

    sessions.do("hold")
    expect(sessions.session(name)).to_contain_text(re.compile("held for (2 h|1 h 59 min)"))
    picture("extend")

    # JupyterLab's own word on a kernel that ends with its session
    page.add_locator_handler(
        page.locator(".jp-Dialog", has_text="Kernel Restarting"), lambda: lab.accept("Ok")
    )
    sessions.do("stop")
    lab.accept("Stop")
    expect(sessions.session(name, "stopped")).to_be_visible()
    lab.tab("Untitled.ipynb").click()
    expect(notebook.banner("stopped")).to_contain_text(name)
    picture("stopped")

    notebook.banner("stopped").locator(hook("banner-action")).click()
    expect(sessions.session(name, "running")).to_be_visible()
    expect(notebook.banner("stopped")).to_have_count(0)
    notebook.wait_until_idle()
    expect(notebook.run(0)).to_contain_text(f"in {name}")

    sessions.do("stop")
    lab.accept("Stop")
    expect(sessions.session(name, "stopped")).to_be_visible()
    sessions.do("start")
    expect(sessions.session(name, "running")).to_be_visible()
    picture("started")

    sessions.do("remove")
    lab.accept("Remove")
    expect(sessions.session()).to_have_count(0)
    assert mooring.sessions() == []
    picture("removed")
