"""`make demo` on a real engine: it works, it works again, and it cleans up when it does not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.kernels import kernelspecs

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
COMMAND = [sys.executable, str(DEMO / "demo.py")]


def nothing_left(mooring: Mooring) -> bool:
    specs = [
        spec
        for spec in kernelspecs.installed()
        if spec.config.get("spec") == str(DEMO / "session.yml")
    ]
    return not mooring.sessions.list() and not specs


def test_the_demonstration_works_and_fits_a_screen(mooring: Mooring) -> None:
    """It runs a notebook in a container in less than a minute, in 80 columns, without colours."""
    began = time.monotonic()
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    assert "\033" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for expected in (
        "$ mooring kernel install -f ",
        "$ jupyter execute ",
        "500 measurements, read in container demo\n",
        "$ mooring ps\n",
        "$ mooring exec demo -- head /tmp/best-run\nrun-4\n",
        "$ mooring stop demo\n",
        "make lab",
        f"$ source {os.path.relpath(Path(sys.executable).parent, ROOT)}/activate\n",
        "$ jupyter lab examples/demo/analysis.ipynb\n",
    ):
        assert expected in done.stdout
    results = DEMO / "results"
    assert (results / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((results / "summary.json").read_text())["best"]["run"] == "run-4"
    notebook = json.loads((results / "analysis.ipynb").read_text())
    assert any("image/png" in output.get("data", {})
               for cell in notebook["cells"] for output in cell.get("outputs", []))  # fmt: skip
    paths = re.findall(r"^(\S+/results/\S+) ", done.stdout, re.MULTILINE)
    assert len(paths) == 3
    for path in paths:
        assert (ROOT / path).exists()
    assert nothing_left(mooring)


def test_a_demonstration_that_is_ended_leaves_nothing(mooring: Mooring, tmp_path: Path) -> None:
    """SIGTERM while the notebook runs: not zero, and session and kernelspec are gone."""
    with open(tmp_path / "out", "wb") as out:
        running = subprocess.Popen(COMMAND, stdout=out, stderr=out)
        deadline = time.monotonic() + 60
        while not mooring.sessions.list() and time.monotonic() < deadline:
            assert running.poll() is None, (tmp_path / "out").read_text()
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 128 + signal.SIGTERM
    assert nothing_left(mooring)


def test_a_demonstration_that_was_killed_does_not_stop_the_next(mooring: Mooring) -> None:
    """What SIGKILL left behind is taken away by the next run, which works."""
    killed = subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not mooring.sessions.list() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not nothing_left(mooring)
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert nothing_left(mooring)


def test_a_demonstration_without_an_engine_says_so(tmp_path: Path) -> None:
    """One error and one hint, no traceback, and the exit code 1."""
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert re.search(r"^error: no container engine: .*\nhint: ", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_session_of_somebody_elses_is_not_taken(mooring: Mooring, project: Path) -> None:
    """A session named demo that the demonstration did not make is left alone."""
    from mooring.spec.resolve import resolve

    mine = mooring.sessions.create(
        resolve(flags={"command": "sleep 1000"}), LaunchOptions(name="demo")
    ).session
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "you have a session named demo" in done.stderr
    assert [session.id for session in mooring.sessions.list()] == [mine.id]
