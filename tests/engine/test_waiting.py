"""A session that is being created says what it waits for, and can be cancelled by anyone."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.conftest import Cli
from tests.support.kernel_clients import Server, install, jupyter, only_session
from tests.support.registry import SlowRegistry, slow_registry
from tests.support.registry import slow_image as image
from tests.support.waiting import eventually

__all__ = ["image", "jupyter", "slow_registry"]
pytestmark = pytest.mark.engine


def is_pulling(mooring: Mooring) -> bool:
    return any("% of" in session.waiting for session in mooring.sessions.list())


def test_a_pull_is_seen_from_elsewhere_and_cancelled_there(
    cli: Cli, mooring: Mooring, image: str
) -> None:
    """``ps`` tells how far it is; ``stop`` ends it, the creator says so, and nothing is left."""
    with subprocess.Popen(
        [sys.executable, "-m", "mooring_cli", "create", "--name", "big", "--image", image, "-d"],
        stderr=subprocess.PIPE,
        text=True,
    ) as creating:
        eventually(lambda: is_pulling(mooring))
        listed = cli("ps", check=0).stdout
        assert "starting" in listed
        assert f"pulling {image}: " in listed
        assert cli("rm", "big", check=1).stderr.startswith("error: session big is starting")
        assert cli("stop", "big", check=0).stdout == "big\n"
        assert creating.wait(10) == 1
        assert creating.stderr
        assert "error: the creation of session big was cancelled" in creating.stderr.read()
    assert mooring.sessions.list() == []


def test_a_pull_that_comes_through_ends_in_a_session(
    cli: Cli, mooring: Mooring, slow_registry: SlowRegistry, image: str
) -> None:
    """However long it takes, the command runs in the image that came."""
    slow_registry.seconds = 2
    done = cli("create", "--rm", "--image", image, "--", "/bin/busybox", "echo", "here", check=0)
    assert done.stdout == "here\n"


def test_a_notebooks_kernel_waits_without_a_limit_and_can_be_cancelled(
    mooring: Mooring, jupyter: Path, image: str, project: Path
) -> None:
    """The session says which notebook it is for; cancelled, the client is told, and nothing is
    left; meanwhile the server answers."""
    install(flags={"image": image, "kernel": "python3"})
    server = Server()
    body = {"path": "a.ipynb", "name": "a.ipynb", "type": "notebook", "kernel": {"name": "mk"}}
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(server.ask, "POST", "sessions", body)
            eventually(lambda: is_pulling(mooring))
            session = only_session(mooring)
            assert session.state is State.STARTING
            assert session.notebook == str(project / "a.ipynb")
            assert server.ask("GET", "status", timeout=10)[0] == 200
            mooring.sessions.remove(session, force=True)
            status, said = asked.result(timeout=20)
        assert status == 500
        assert "was cancelled" in said["message"]
        assert mooring.sessions.list() == []
        assert server.ask("GET", "kernels")[1] == []
    finally:
        server.stop()


def test_a_creator_that_is_killed_while_it_pulls_leaves_nothing(
    cli: Cli, mooring: Mooring, image: str
) -> None:
    """After ``kill -9`` the next look finds no session and no name taken."""
    with subprocess.Popen(
        [sys.executable, "-m", "mooring_cli", "create", "--name", "big", "--image", image, "-d"],
        stderr=subprocess.DEVNULL,
    ) as creating:
        eventually(lambda: is_pulling(mooring))
        creating.kill()
    assert cli("ps", "-q", check=0).stdout == ""
    cli("create", "-d", "--name", "big", check=0)
