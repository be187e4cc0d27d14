"""The client of JupyterLab and of VS Code itself, @jupyterlab/services, against a live server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mooring.client import Mooring
from tests.support.kernel_clients import (
    Server,
    install,
    jupyter,
    kernel_processes,
    only_session,
)
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = [pytest.mark.engine, pytest.mark.timed, pytest.mark.slow]

HERE = Path(__file__).parent
TIMES = 10
# The client's own patience with a server that is gone is 10 to 30 s: tried in these rounds, while
# in the others somebody presses Reconnect
PATIENT_ROUNDS = (0, 5)
STEP_S = 90


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with the packages of ``yarn.lock``. In CI it must be there."""
    found = shutil.which("node")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs node")
        pytest.skip("no node")
    said = b"".join((HERE / name).read_bytes() for name in ("package.json", "yarn.lock"))
    wanted = hashlib.sha256(said).hexdigest()
    stamp = HERE / "node_modules" / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("jlpm")), "install", "--immutable"],
            cwd=HERE,
            env=os.environ | _registry(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        stamp.write_text(wanted)
    return found


def _registry() -> dict[str, str]:
    """The registry that npm is configured for, in the words of the yarn that JupyterLab has."""
    if "YARN_NPM_REGISTRY_SERVER" in os.environ or shutil.which("npm") is None:
        return {}
    asked = ["npm", "config", "get", "registry"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60).stdout.strip()
    return {"YARN_NPM_REGISTRY_SERVER": said} if said.startswith("http") else {}


class Page:
    """``services.mjs``, and what it says."""

    def __init__(self, node: str, server: Server, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [node, str(HERE / "services.mjs"), *arguments],
            env=os.environ | {"JUPYTER_URL": server.url, "JUPYTER_TOKEN": server.token},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.steps: dict[str, dict[str, Any]] = {}
        self.wrong: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._errors)]
        for reader in self._readers:
            reader.start()

    def step(self, name: str) -> dict[str, Any]:
        """Wait until a step is done. Returns what was seen in it."""
        with self._changed:
            self._changed.wait_for(lambda: name in self.steps or self._over, timeout=STEP_S)
        assert name in self.steps, f"no step {name!r}: {self.wrong}, after {list(self.steps)}"
        return self.steps[name]

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """The exit code of a page that is at its end."""
        return self.process.wait(timeout=STEP_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                if stream:
                    stream.close()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            said = json.loads(line)
            with self._changed:
                if "failed" in said:
                    self.wrong.append(f"{said['failed']} after {said['s']} s: {said['why']}")
                else:
                    self.steps[said["step"]] = said
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _errors(self) -> None:
        assert self.process.stderr
        self.wrong.extend(self.process.stderr)


class Place:
    """A port and a token, and the server that has them at the moment."""

    def __init__(self) -> None:
        self.server = Server(*EXTENSION)

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server = Server(*EXTENSION, port=self.server.port, token=self.server.token)


EXTENSION = ("--ServerApp.jpserver_extensions=mooring_server_extension=True",)


@pytest.fixture
def place(mooring: Mooring, jupyter: Path) -> Iterator[Place]:
    """A server that a test may kill, and have another in its place."""
    found = Place()
    yield found
    found.server.stop()


@pytest.mark.timeout(900)
def test_a_page_lives_through_all_that_befalls_its_kernel_ten_times_in_a_row(
    node: str, place: Place, mooring: Mooring, project: Path
) -> None:
    """Start, execute, comms, interrupt, restart in place, crash, a server killed with -9: x is 42.

    In every other round the cell that ran is over before the next server comes; in the others the
    kernel is still busy when a client opens it.
    """
    install()
    for number in range(TIMES):
        during = "busy" if number % 2 else "over"
        reconnect = "wait" if number in PATIENT_ROUNDS else "press"
        flag = project / f"flag-{number}"
        page = Page(node, place.server, "mk", f"{number}.ipynb", reconnect, str(flag), during)
        try:
            _one_life(page, place, mooring, flag, during)
        finally:
            page.close()
            for step in page.steps.values():
                print(number, json.dumps(step))
            print("".join(place.server.log))
        assert mooring.sessions.list() == []


def _one_life(page: Page, place: Place, mooring: Mooring, flag: Path, during: str) -> None:
    page.step("outage")
    kernel_id, container = page.step("start")["kernel_id"], only_session(mooring).container
    folder = session_folder(only_session(mooring).id)
    processes = kernel_processes(folder)

    place.kill()
    page.step("gone")
    if during == "over":
        flag.touch()
        eventually(Path(f"{flag}.done").exists, message="the cell did not go on by itself")
    page.tell("coming")
    place.start()
    page.tell("back")

    if during == "busy":
        page.step("busy")
    assert page.step("listed")["session_id"] == page.step("start")["session_id"]
    # A client that knows nothing of the page finds the same kernel
    eventually(lambda: kernel_id in [k["id"] for k in place.server.ask("GET", "kernels")[1]])
    with place.server.socket(kernel_id) as socket:
        said = socket.execute("import os; print(x, y, os.getpid())")
    assert said.text.split() == ["42", "43", page.step("crash")["pid"]]
    assert kernel_processes(folder) == processes
    page.tell("end")
    assert page.step("reconnect")["kernel_id"] == kernel_id
    assert page.step("restart again")
    assert only_session(mooring).container == container
    assert page.step("shut down")
    assert page.end() == 0, page.wrong
