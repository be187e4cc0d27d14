"""What all tests share: a private installation, the real engine, and the check for leaks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from hypothesis import settings

from mooring.client import Mooring
from mooring.engines import open_engine
from mooring.engines.base import Engine
from mooring.errors import EngineUnavailable
from mooring.host.paths import Installation
from tests.support.docker import sweep
from tests.support.images import busybox_image
from tests.support.invariants import leaks, suite_leaks
from tests.support.sockets import remember_makers

remember_makers()

pytest_plugins = ["tests.support.wheel_env", "tests.support.launchers"]

# What is measured is what a person has, whose Python keeps what it has compiled
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# An example that takes long because the machine is busy is no fault
# where CI is set, the same examples in each run: a new one that fails is no news of a change
settings.register_profile("untimed", settings(deadline=None, derandomize="CI" in os.environ))
settings.load_profile("untimed")

# A shell has what it starts in the background ignore Ctrl-C, and so would all that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# These share what there is one of: the environment's kernelspecs, the wheel, the machine's users
MACHINE = ("docs", "packaging", "users")
PARTS = ("gpus", "timed", "alone")


@pytest.hookimpl(tryfirst=True)  # before the marks select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares the machine runs one by one; a part has the files that say its mark."""
    for item in items:
        named = "installed_wheel" in getattr(item, "fixturenames", ())
        if named or item.path.parent.name in MACHINE:
            item.add_marker(pytest.mark.machine)
        words = {f"mark.{mark}" for mark in PARTS if item.get_closest_marker(mark)}
        if named and item.path.parent.name not in MACHINE:
            words.add("installed_wheel")
        if words and not all(word in item.path.read_text() for word in words):
            raise pytest.UsageError(f"{item.nodeid}: its file has to say {' and '.join(words)}")


@pytest.fixture(scope="session", autouse=True)
def installations() -> Iterator[set[str]]:
    """Every installation of the suite; after its last test nothing of any may be left."""
    known: set[str] = set()
    yield known
    found = suite_leaks(known)
    assert not found, "\n".join(found)


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, installations: set[str]) -> Iterator[Path]:
    """Each test is an installation of its own; its path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    monkeypatch.setenv("MOORING_STATE_DIR", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    for name in list(os.environ):
        if name.startswith("MOORING_") and name != "MOORING_STATE_DIR":
            monkeypatch.delenv(name)
    yield folder
    with contextlib.suppress(FileNotFoundError):
        installations.add((folder / "installation").read_text().strip())
    monkeypatch.undo()  # a test may have broken the very calls that delete
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def real_engine() -> Engine:
    """This machine's engine. Without one the tests fail in CI, and are skipped loudly elsewhere."""
    engine = open_engine()
    try:
        engine.info()
    except EngineUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs an engine: {error}")
        pytest.skip(f"no engine: {error}")
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        sweep()
    return engine


@pytest.fixture
def mooring(real_engine: Engine, state: Path) -> Iterator[Mooring]:
    """Mooring on the real engine. What a test leaves is removed; what is left then fails it."""
    service = Mooring(real_engine, actor="tester")
    yield service
    for session in service.sessions.list():
        service.sessions.remove(session, force=True)
    found = leaks(real_engine, state, Installation.here().id)
    assert not found, "\n".join(found)


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def cli(mooring: Mooring) -> Cli:
    """Runs the command line as a user does, and returns what came of it.

    ``cli("ps", "--json", input="…", check=0)``: a ``check`` other than None is the exit code that
    the test expects.
    """

    def run(
        *arguments: str,
        input: str = "",  # noqa: A002 - as subprocess.run calls it
        check: int | None = None,
        timeout: float = 60,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "mooring_cli", *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            **options,
        )
        if check is not None:
            told = f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == check, told
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


Terminal = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def terminal(mooring: Mooring, project: Path) -> Iterator[Terminal]:
    """Starts the command line at a terminal of 31 rows and 97 columns."""
    opened: list[pexpect.spawn[str]] = []

    def open_terminal(*arguments: str, size: tuple[int, int] = (31, 97)) -> pexpect.spawn[str]:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "mooring_cli", *arguments],
            encoding="utf-8",
            timeout=20,
            dimensions=size,
            env=os.environ | {"TERM": "xterm"},
        )
        child.delaybeforesend = None
        opened.append(child)
        return child

    yield open_terminal
    for child in opened:
        child.close(force=True)


Background = Callable[..., "contextlib.AbstractContextManager[subprocess.Popen[str]]"]


@pytest.fixture
def background(mooring: Mooring, project: Path) -> Background:
    """Starts the command line without a terminal, and does not wait."""

    @contextlib.contextmanager
    def start(*arguments: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "mooring_cli", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    return start


@pytest.fixture(scope="session")  # it has to outlive the sessions that are made of it
def bare_image(real_engine: Engine) -> Iterator[str]:
    """An image with busybox's shell: no Python, no bash, no tmux."""
    with busybox_image() as reference:
        yield reference
