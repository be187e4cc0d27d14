"""create, run, start and stop where GPUs have to be waited for: what is told, and what is left."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.conftest import Background, Cli
from tests.fakes.gpus import FakeGpus
from tests.support.pace import in_time
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

SHOW = ["--", "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"]


@pytest.fixture
def full(cli: Cli, nvml: FakeGpus, project: Path) -> None:
    """A machine of eight GPUs, all of them held by `first`."""
    cli("create", "-d", "--name", "first", "--gpus", "8", "--max-duration", "8h", check=0)


def is_pending(mooring: Mooring, name: str) -> Callable[[], bool]:
    def ask() -> bool:
        found = {session.name: session for session in mooring.sessions.list()}
        return name in found and found[name].state is State.PENDING

    return ask


def test_create_waits_its_turn_and_tells_for_what(
    cli: Cli, mooring: Mooring, full: None, nvml: FakeGpus, background: Background
) -> None:
    """Its place, who holds the GPUs and until when: a line when that changes; then it runs."""
    with background("create", "--rm", "--gpus", "2", "--name", "second", *SHOW) as waiting:
        eventually(is_pending(mooring, "second"))
        time.sleep(1)
        cli("stop", "first", check=0)
        said, told = waiting.communicate(timeout=30)
        assert waiting.returncode == 0, told
    assert len(said.split(",")) == 2
    assert set(said.strip().split(",")) <= set(nvml.uuids)
    (line,) = [line for line in told.splitlines() if "in the queue" in line]
    assert "1st in the queue for 2 GPUs; held by first (" in line
    assert "by " in line


def test_a_place_in_the_queue_is_told_again_when_it_changes(
    cli: Cli, mooring: Mooring, full: None, background: Background
) -> None:
    """Who was second is told when they become first."""
    with background("create", "--gpus", "1", "--name", "second") as second:
        eventually(is_pending(mooring, "second"))
        with background("create", "--rm", "--gpus", "1", "--name", "third", *SHOW) as third:
            eventually(is_pending(mooring, "third"))
            time.sleep(1.5)
            second.send_signal(signal.SIGINT)
            assert second.wait(20) == 130
            time.sleep(3)
            cli("stop", "first", check=0)
            told = third.communicate(timeout=30)[1]
    lines = [line for line in told.splitlines() if "in the queue" in line]
    assert [line.split()[0] for line in lines] == ["2nd", "1st"]


def test_max_wait_exits_with_3_and_leaves_nothing(cli: Cli, mooring: Mooring, full: None) -> None:
    """A wait that runs out is exit code 3 for create and run, and nothing is left of it."""
    for command in (["create", "--gpus", "1"], ["run", "-r", "cuda.device=1", "host"]):
        began = time.monotonic()
        done = cli(*command, "--max-wait", "1s", check=3)
        assert 1 <= time.monotonic() - began < 20
        assert "error: " in done.stderr
        assert "in the queue for 1 GPU" in done.stderr
        assert [session.name for session in mooring.sessions.list()] == ["first"]
    cli("create", "--gpus", "1", "--max-wait", "0", check=3)


def test_one_that_was_left_to_wait_and_cannot_be_started_says_why(
    cli: Cli, mooring: Mooring, nvml: FakeGpus, project: Path
) -> None:
    """Who waits for it is told by name; its GPUs are free again, and its events have an end."""
    words = ["--enqueue-only", "--max-wait", "30s", "--gpus", "1", "--name", "wrong"]
    done = cli("create", *words, "--", "nosuchcommand", check=1)
    assert "session wrong did not start: command nosuchcommand: not found" in done.stderr
    assert mooring.sessions.list() == []
    assert {use.state for use in mooring.gpus.list()} == {"free"}
    assert "failed" in cli("events", "wrong", check=0).stdout


def test_free_gpus_that_are_kept_for_others_are_told(
    cli: Cli, nvml: FakeGpus, project: Path
) -> None:
    """Who could have free ones is told who is in front; gpus tells for whom they are kept."""
    cli("create", "-d", "--name", "g3", "--gpus", "3", check=0)
    cli("create", "--enqueue-only", "--name", "g8", "--gpus", "8", check=0)
    done = cli("create", "--gpus", "1", "--max-wait", "1s", check=3)
    assert "2nd in the queue for 1 GPU; behind g8 (8 GPUs)\n" in done.stderr
    assert "request fewer GPUs" not in done.stderr
    said = cli("gpus", check=0).stdout
    assert "free: 5, reserved for a queued session" in said
    assert "waiting: g8 (" in said
    assert said.count("reserved for g8") == 5
    assert sum(use["kept_for"] == "g8" for use in json.loads(cli("gpus", "--json").stdout)) == 5


def test_ctrl_c_in_the_queue_leaves_nothing(
    cli: Cli, mooring: Mooring, full: None, background: Background
) -> None:
    """An interrupt is exit code 130; the place in the queue is given up with the session."""
    with background("run", "--gpus", "1", "--name", "second", "host") as waiting:
        eventually(is_pending(mooring, "second"))
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
    assert [session.name for session in mooring.sessions.list()] == ["first"]
    cli("stop", "first", check=0)
    cli("create", "-d", "--gpus", "8", "--max-wait", "5s", check=0)


def test_stop_cancels_one_that_waits(
    cli: Cli, mooring: Mooring, full: None, background: Background
) -> None:
    """stop from elsewhere ends the wait of a create, and of one that was left to wait."""
    with background("create", "--gpus", "1", "--name", "second") as waiting:
        eventually(is_pending(mooring, "second"))
        done = cli("create", "--enqueue-only", "--gpus", "1", "--name", "third", check=0)
        assert done.stdout == "third\n"
        assert "cancel it: mooring stop third" in done.stderr
        assert sorted(cli("stop", "second", "third", check=0).stdout.split()) == [
            "second",
            "third",
        ]
        assert waiting.wait(20) == 1
        assert waiting.stderr
        assert "was cancelled" in waiting.stderr.read()
    assert [session.name for session in mooring.sessions.list()] == ["first"]


def test_enqueue_only_returns_at_once_and_runs_by_itself(
    cli: Cli, mooring: Mooring, full: None, project: Path
) -> None:
    """run --enqueue-only takes the files along, returns, and the code runs when the turn comes."""
    (project / "s.py").write_text("print('ran')\n")
    began = time.monotonic()
    flags = ["--enqueue-only", "--gpus", "1", "--name", "later", "-T"]
    done = cli("run", *flags, "--exec", "python3 s.py", "host", "s.py", check=0)
    assert in_time(time.monotonic() - began, 5)
    assert done.stdout == "later\n"
    assert "in the queue for 1 GPU; it starts by itself when its turn comes" in done.stderr
    assert mooring.sessions.get("later").state is State.PENDING
    (project / "s.py").unlink()
    cli("stop", "first", check=0)
    eventually(lambda: mooring.sessions.get("later").state is State.STOPPED, 30)
    assert cli("logs", "later", check=0).stdout == "ran\n"


def test_max_wait_with_enqueue_only_leaves_it_in_the_queue(
    cli: Cli, mooring: Mooring, full: None, background: Background
) -> None:
    """Both together wait so long; then it is exit code 3, and the session keeps its place."""
    flags = ["--enqueue-only", "--max-wait", "1s", "--gpus", "1", "--name", "later"]
    done = cli("create", *flags, *SHOW, check=3)
    assert "session later did not start within 1 s; it stays in the queue" in done.stderr
    assert mooring.sessions.get("later").state is State.PENDING
    cli("stop", "later", check=0)
    with background(
        "create", "--enqueue-only", "--max-wait", "60s", "--gpus", "1", "--name", "soon",
        "--", "sh", "-c", "echo ran; exit 7",
    ) as waiting:  # fmt: skip
        eventually(is_pending(mooring, "soon"))
        cli("stop", "first", check=0)
        said, told = waiting.communicate(timeout=40)
        assert (waiting.returncode, said) == (7, "ran\n"), told


def test_start_waits_for_its_gpus_again(
    cli: Cli, mooring: Mooring, nvml: FakeGpus, project: Path, background: Background
) -> None:
    """A stopped session has given its GPUs back; start gets in line, and may give up."""

    def told(waiting: subprocess.Popen[str]) -> str:
        assert waiting.stderr is not None
        return waiting.stderr.readline()

    cli("create", "-d", "--name", "old", "--gpus", "8", check=0)
    cli("stop", "old", check=0)
    cli("create", "-d", "--name", "new", "--gpus", "8", check=0)
    done = cli("start", "old", "--max-wait", "1s", check=3)
    assert "still queued after 1 s: 1st in the queue" in done.stderr
    assert mooring.sessions.get("old").state is State.STOPPED
    with background("start", "old") as waiting:
        assert "1st in the queue for " in told(waiting)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
    assert mooring.sessions.get("old").state is State.STOPPED
    with background("start", "old") as waiting:
        eventually(is_pending(mooring, "old"))
        assert cli("stop", "old", check=0).stdout == "old\n"
        assert waiting.wait(20) == 1
    assert mooring.sessions.get("old").state is State.STOPPED
    with background("start", "old") as waiting:
        assert "1st in the queue for " in told(waiting)
        cli("stop", "new", check=0)
        assert waiting.wait(30) == 0
    assert mooring.sessions.get("old").state is State.RUNNING


def test_priority_goes_first(cli: Cli, mooring: Mooring, full: None) -> None:
    """--priority is before who came earlier; out of range it is refused."""
    flags = ["--enqueue-only", "--gpus", "8"]
    cli("create", *flags, "--name", "low", *SHOW, check=0)
    cli("create", *flags, "--name", "high", "--priority", "5", *SHOW, check=0)
    assert "2nd" in mooring.sessions.get("low").waiting or mooring.sessions.get("low").priority == 0
    cli("stop", "first", check=0)
    eventually(lambda: mooring.sessions.get("low").state is State.STOPPED, 40)

    def started(name: str) -> float:
        events = mooring.sessions.events(mooring.sessions.get(name).id)
        return next(event.time for event in events if event.kind == "started")

    assert started("high") < started("low")
    assert "priority" in cli("create", "--priority", "1000", check=2).stderr


def test_what_can_never_fit_is_refused_at_once(
    cli: Cli, mooring: Mooring, nvml: FakeGpus, project: Path
) -> None:
    """More than there is, or of a model that is not there: at once, with what there is."""
    for flags in (["--gpus", "9"], ["--gpus", "count=1,model=H100"], ["-r", "cuda.shares=16"]):
        done = cli("create", *flags, check=1)
        assert "this machine has 8 x NVIDIA A100" in done.stderr
        cli("run", *flags, "host", check=125)
    assert mooring.sessions.list() == []


def test_gpus_are_seen_inside(cli: Cli, mooring: Mooring, nvml: FakeGpus, project: Path) -> None:
    """--gpus 2, a share, a kind, Backend.ai's names; --gpus 0 and nothing at all see none."""

    def seen(*flags: str) -> list[str]:
        said = cli("create", "--rm", *flags, *SHOW, check=0).stdout.strip()
        return [] if said in ("", "void") else said.split(",")

    assert [len(seen("--gpus", text)) for text in ("2", "0.5", "count=3,model=A100")] == [2, 1, 3]
    assert [len(seen("-r", text)) for text in ("cuda.shares=2", "cuda.device=1")] == [2, 1]
    assert seen("--gpus", "0") == seen() == []
    cli("create", "-d", "--name", "half", "--gpus", "0.5", check=0)
    (row,) = json.loads(cli("ps", "--json", check=0).stdout)
    assert [claim["share"] for claim in row["claims"]] == [0.5]


def test_the_spinner_tells_the_place(mooring: Mooring, full: None) -> None:
    """At a terminal the place in the queue is shown until its turn comes or Ctrl-C."""
    arguments = ["-m", "mooring_cli", "create", "--gpus", "1"]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=20)
    child.expect("1st in the queue for 1 GPU; held by first")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert [session.name for session in mooring.sessions.list()] == ["first"]
