"""What the browser tests share: Chromium, a JupyterLab of the test's own, and what failed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, Request, Route, expect, sync_playwright

from mooring.client import Mooring
from mooring.kernels import kernelspecs
from tests.browser.lab import Lab
from tests.support.kernel_clients import Server, jupyter

__all__ = ["jupyter"]

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
PANEL = ROOT / "server_extension" / "mooring_server_extension" / "labextension"
EVIDENCE = ROOT / "build" / "browser"
WANTED = bool(os.environ.get("MOORING_PICTURES"))
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
)
# The news and the search for updates ask the internet; a notebook's cells are all kept in the page;
# a busy machine may complete later than in a second
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
    "completer-extension/manager": {"providerTimeout": 20_000},
}
LAB = ("--LabApp.expose_app_in_browser=True",)
PARTS = re.compile(r"/(lab/api|lab/extensions|static)/")
WAIT_MS = 30_000
# picture("name", height=480): docs/pictures/name.png, its upper part
Picture = Callable[..., None]
expect.set_options(timeout=WAIT_MS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.slow)


def install(name: str, title: str, **flags: Any) -> str:
    """Install a kernelspec of mooring's. Returns its name."""
    content = kernelspecs.document(
        display_name=title, kernel="python3", config={"flags": {"kernel": "python3"} | flags}
    )
    kernelspecs.install(name, content, prefix=None, user=True)
    return name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes a failure where the page's fixture finds it."""
    report = yield
    if report.failed:
        item.user_properties.append(("failed", report.when))
    return report


def failed(item: pytest.Item) -> bool:
    """Whether the test has failed; then there is a folder for the evidence."""
    found = any(key == "failed" for key, _ in item.user_properties)
    if found:
        EVIDENCE.mkdir(parents=True, exist_ok=True)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium. Without it the tests fail in CI, and are skipped elsewhere.

    One a module: while Playwright runs, its thread has a running event loop, which other tests
    must not find there.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if not found:
        if os.environ.get("CI"):
            pytest.fail("CI needs Chromium: apt-get install chromium")
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(SWITCHES))
        yield browser
        browser.close()


@pytest.fixture
def console() -> list[str]:
    """What the page wrote to its console, and what nobody caught, a line each."""
    return []


def fetch(route: Route) -> None:
    """Ask for a part of JupyterLab in the browser's place.

    Chromium gives up its requests when a container's network comes or goes, and JupyterLab does
    not ask twice for what it is made of.
    """
    try:
        route.fulfill(response=route.fetch())
    except Error:  # no server, or no page any more
        with contextlib.suppress(Error):
            route.abort()


def follow_requests(page: Page) -> set[Request]:
    """The requests of a page that are not answered yet; the stream's has no end."""
    pending: set[Request] = set()

    def begun(request: Request) -> None:
        if "/mooring/api/stream" not in request.url:
            pending.add(request)

    def ended(request: Request) -> None:
        pending.discard(request)

    page.on("request", begun)
    page.on("requestfinished", ended)
    page.on("requestfailed", ended)
    return pending


def settle(page: Page, pending: set[Request]) -> None:
    """Wait until a page's requests are answered.

    A Jupyter server that is told to end while it answers one may hang for ever: its handler is
    dropped with the event loop, nothing ends the handler's thread any more (``AnyIO worker
    thread``), and the interpreter waits for that.
    """
    deadline = time.monotonic() + WAIT_MS / 1000
    while pending and time.monotonic() < deadline:
        page.wait_for_timeout(50)


@pytest.fixture
def page(browser: Browser, console: list[str], request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty tab, 1280 by 800. build/browser keeps what it showed and said in a failed test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    context.route(PARTS, fetch)
    page = context.new_page()
    page.on(
        "console",
        lambda said: console.append(f"{said.type}: {said.text} ({said.location['url']})"),
    )
    page.on("pageerror", lambda error: console.append(f"uncaught: {error.stack}"))
    pending = follow_requests(page)
    yield page
    if failed(request.node):
        kept = EVIDENCE / request.node.name
        page.screenshot(path=f"{kept}.png")
        Path(f"{kept}.log").write_text("\n".join(console) + "\n")
    settle(page, pending)
    context.unroute_all(behavior="ignoreErrors")
    context.close()


@pytest.fixture
def project() -> Iterator[Path]:
    """An empty folder, and the current one; its path is short, for it is seen in pictures."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="work-", dir="/var/tmp") as folder:
        os.chdir(folder)
        yield Path(folder)
        os.chdir(before)


@pytest.fixture
def settings(jupyter: Path) -> Path:
    """Jupyter's folders of this test alone, with mooring's extension; nothing asks the internet."""
    if not (PANEL / "package.json").exists():
        if os.environ.get("CI"):
            pytest.fail("CI needs the panel: make panel")
        pytest.skip("the panel is not built: make panel")
    (jupyter / "data" / "labextensions").mkdir()
    (jupyter / "data" / "labextensions" / "mooring").symlink_to(PANEL)
    enabled = jupyter / "config" / "jupyter_server_config.d" / "mooring.json"
    enabled.parent.mkdir(parents=True)
    enabled.write_text(
        json.dumps({"ServerApp": {"jpserver_extensions": {"mooring_server_extension": True}}})
    )
    for name, values in SETTINGS.items():
        folder, _, plugin = name.partition("/")
        file = jupyter / f"config/lab/user-settings/@jupyterlab/{folder}/{plugin}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{file}.jupyterlab-settings").write_text(json.dumps(values))
    return jupyter


@pytest.fixture
def kernelspec(settings: Path, mooring: Mooring) -> str:
    """A kernelspec of mooring's in the launcher: its name."""
    return install("mk", "Python in a container")


@pytest.fixture
def lab_server(kernelspec: str, project: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """JupyterLab, served from the test's project. build/browser keeps its log of a failed test."""
    server = Server(*LAB, module="jupyterlab")
    yield server
    server.stop()
    if failed(request.node):
        (EVIDENCE / f"{request.node.name}.server.log").write_text("".join(server.log))


@pytest.fixture
def lab(lab_server: Server, page: Page) -> Lab:
    """JupyterLab in a browser, once it is ready to work in."""
    lab = Lab(page, lab_server)
    lab.open()
    return lab


@pytest.fixture
def picture(page: Page) -> Picture:
    """Takes a picture for the docs; writes it only where MOORING_PICTURES is set."""

    def take(name: str, height: int = 480) -> None:
        if WANTED:
            PICTURES.mkdir(exist_ok=True)
            page.screenshot(
                path=PICTURES / f"{name}.png",
                clip={"x": 0, "y": 0, "width": 1280, "height": height},
                animations="disabled",
            )

    return take
