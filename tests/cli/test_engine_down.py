"""The command line while no engine answers: what is known is shown, as unknown, and left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine, LaunchOptions, Mooring, resolve
from mooring.errors import EngineUnavailable
from mooring.sessions.model import FIELDS
from mooring_cli.attach import note_if_killed
from tests.support.fake import clock, declare, engine, service

__all__ = ["clock", "declare", "engine", "service"]  # fixtures

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ADDRESS = "/nonexistent/docker.sock"


@pytest.fixture
def run(state: Path, project: Path) -> Run:
    """The command line, with an engine's address where nobody listens."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mooring_cli", *arguments],
            env={**os.environ, "DOCKER_HOST": f"unix://{ADDRESS}", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


@pytest.fixture
def two(project: Path) -> None:
    """A session that runs, and one that was stopped, of an engine that is then not there."""
    service = Mooring(FakeEngine(), actor="tester")
    declared = resolve(flags={"command": "x"}, environ={}, user_config=project / "none.yml")
    service.sessions.create(declared, LaunchOptions(name="train"))
    service.sessions.stop(service.sessions.create(declared, LaunchOptions(name="eval")).session)


def refused(done: subprocess.CompletedProcess[str], code: int) -> None:
    """One error, one hint, no traceback."""
    error, hint = done.stderr.splitlines()
    assert error == f"error: no container engine: {ADDRESS} does not exist"
    assert hint.startswith("hint: install Docker")
    assert done.returncode == code


def snapshot(state: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in (state / "sessions").rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.usefixtures("two")
def test_ps_shows_what_is_known(run: Run, state: Path) -> None:
    """Every session is listed as unknown, with the error, its hint and exit code 1."""
    before = snapshot(state)
    done = run("ps")
    lines = done.stdout.splitlines()
    assert sorted(line.split()[:2] for line in lines[1:]) == [
        ["eval", "unknown"],
        ["train", "unknown"],
    ]
    refused(done, 1)
    assert snapshot(state) == before


@pytest.mark.usefixtures("two")
def test_ps_for_programs(run: Run) -> None:
    """As JSON the answer is whole, and the exit code says that it is not to be relied on."""
    done = run("ps", "--json")
    rows = json.loads(done.stdout)
    assert {(row["name"], row["state"], row["kernels"]) for row in rows} == {
        ("train", "unknown", 0),
        ("eval", "unknown", 0),
    }
    assert all(tuple(row) == FIELDS for row in rows)
    refused(done, 1)
    quiet = run("ps", "--quiet")
    assert sorted(quiet.stdout.split()) == ["eval", "train"]
    refused(quiet, 1)


@pytest.mark.usefixtures("two")
def test_unknown_is_not_running(run: Run) -> None:
    """Who asks for the running ones is not told that an unknown one runs."""
    done = run("ps", "--running", "--json")
    assert json.loads(done.stdout) == []
    refused(done, 1)


def test_ps_of_nothing(run: Run) -> None:
    """Without any session too, an engine that is down is an error."""
    refused(run("ps"), 1)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("stop train", 1),
        ("start eval", 1),
        ("rm -f train", 1),
        ("hold train", 1),
        ("update train --idle-timeout 1h", 1),
        ("logs train", 1),
        ("create -d --name more -- true", 1),
        ("exec train -- true", 125),
        ("attach train", 125),
    ],
)
def test_nothing_is_done(run: Run, state: Path, command: str, code: int) -> None:
    """Whatever is asked for is one error with its hint, and no file of any session is touched."""
    before = snapshot(state)
    refused(run(*command.split()), code)
    assert snapshot(state) == before


@pytest.mark.usefixtures("two")
def test_history_is_told_all_the_same(run: Run) -> None:
    """What happened is known without an engine."""
    done = run("events", "eval")
    assert done.returncode == 0, done.stderr
    kinds = [line.split()[2] for line in done.stdout.splitlines()]
    assert kinds == ["requested", "started", "stopped"]


def test_an_exit_code_is_not_explained_by_the_engine(
    service: Mooring, engine: FakeEngine, declare: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that exits with 200 was not killed because nobody answers who asks about it."""
    session = service.sessions.create(declare(command="x")).session
    for code in (200, 137):
        engine.fail("*", EngineUnavailable("no engine"))
        note_if_killed(service, session, code, time.time())
    assert capsys.readouterr().err == ""
