"""Several sessions at once, questions, waiting and its limits, and what is refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from mooring.sessions.model import State
from mooring_cli.selection import apply, select
from tests.conftest import Cli
from tests.support.pace import in_time
from tests.support.registry import slow_image as image
from tests.support.registry import slow_registry
from tests.support.waiting import eventually

__all__ = ["image", "slow_registry"]
pytestmark = pytest.mark.engine

Create = Callable[..., None]


@pytest.fixture
def create(cli: Cli, project: Path) -> Create:
    """Makes sessions of these names, in the background."""

    def make(*names: str) -> None:
        for name in names:
            cli("create", "-d", "--name", name, check=0)

    return make


def states(mooring: Mooring) -> dict[str, str]:
    return {session.name: str(session.state) for session in mooring.sessions.list()}


def test_several_at_once(cli: Cli, create: Create, mooring: Mooring) -> None:
    """stop, start, hold, update and rm take names, patterns and starts of ids, each session once;
    what fails is told by name, costs only itself, and makes the exit code 1."""
    create("a-1", "a-2", "b-1")
    identity = mooring.sessions.get("b-1").id[:6]
    done = cli("hold", "a-*", "a-1", identity, "45m", check=0)
    assert sorted(done.stdout.splitlines()) == [f"{n} held for 45m" for n in ("a-1", "a-2", "b-1")]
    done = cli("update", "a-1", "nosuch", "b-1", "--max-duration", "3h", check=1)
    assert sorted(done.stdout.split()) == ["a-1", "b-1"]
    assert done.stderr.startswith("error: no session named nosuch\nhint: choose from: ")
    cli("stop", "a-2", check=0)
    done = cli("update", "a-*", "--max-duration", "4h", check=1)
    assert done.stdout == "a-1\n"
    assert "error: session a-2 is stopped and its deadlines cannot be updated" in done.stderr
    done = cli("update", "a-1", "b-1", "--max-duration", "0.1s", check=2)
    assert done.stderr.count("has run for") == done.stderr.count("to end it now: mooring stop") == 2
    done = cli("stop", "nosuch", "[ab]-1", check=1)
    assert sorted(done.stdout.split()) == ["a-1", "b-1"]
    assert set(states(mooring).values()) == {"stopped"}
    assert sorted(cli("start", "*-1", check=0).stdout.split()) == ["a-1", "b-1"]
    done = cli("rm", "*", check=1)
    assert done.stdout == "a-2\n"
    assert done.stderr.count("is running") == 2
    assert sorted(cli("rm", "-f", "*-1", check=0).stdout.split()) == ["a-1", "b-1"]
    assert mooring.sessions.list() == []


def test_what_mostly_waits_is_done_to_several_at_a_time(
    cli: Cli, create: Create, mooring: Mooring, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four that each take a second are done within two, and told in their order."""
    create("a", "b", "c", "d")
    selection = select(mooring, ["c", "a", "d", "b"], verb="stop")
    began = time.monotonic()
    apply(selection, lambda session: time.sleep(1), parallel=4)
    assert in_time(time.monotonic() - began, 2.5)
    assert capsys.readouterr().out.split() == ["c", "a", "d", "b"]


def test_a_pattern_for_nothing_is_an_error(cli: Cli, create: Create) -> None:
    """Nothing matched is one line and exit code 1, for every command."""
    create("there")
    for command in (["stop"], ["start"], ["rm"], ["hold"], ["update", "--max-duration", "1h"]):
        done = cli(*command, "zz-*", check=1)
        assert done.stderr == "error: no session named zz-*\nhint: choose from: there\n"
        assert done.stdout == ""


def test_all_asks_at_a_terminal(cli: Cli, create: Create, mooring: Mooring) -> None:
    """--all says how many and which, and does nothing unless the answer is yes."""
    create("one", "two")

    def answer(text: str) -> tuple[str, int | None]:
        arguments = ["-m", "mooring_cli", "stop", "--all"]
        child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=20)
        child.expect(r"stop 2 sessions: (two, one)\? \[y/N\]: ")
        child.sendline(text)
        child.expect(pexpect.EOF)
        said = child.before or ""
        child.close()
        return said, child.exitstatus

    assert answer("")[1] == 1
    assert answer("n")[1] == 1
    assert answer("\x03")[1] == 130
    assert states(mooring) == {"one": "running", "two": "running"}
    said, code = answer("y")
    assert (sorted(said.split())[-2:], code) == (["two", "y"], 0)
    assert states(mooring) == {"one": "stopped", "two": "stopped"}


def test_all_without_a_terminal(cli: Cli, create: Create, mooring: Mooring) -> None:
    """With nobody to ask --all needs --yes; it takes those that the command fits, and names as
    well are a contradiction."""
    assert "there is no session to stop" in cli("stop", "--all", "-y", check=1).stderr
    create("one", "two")
    done = cli("stop", "--all", check=2)
    assert done.stderr == (
        "error: stop --all asks for confirmation, and there is no terminal\nhint: use --all --yes\n"
    )
    assert "names and --all cannot be combined" in cli("stop", "--all", "one", "-y", check=2).stderr
    assert "needs the name of a session" in cli("stop", check=2).stderr
    assert cli("hold", "--all", "1h", "-y", check=0).stdout.count("held for 1h") == 2
    cli("stop", "one", check=0)
    assert cli("stop", "-ay", check=0).stdout == "two\n"
    cli("start", "two", check=0)
    assert cli("rm", "--all", "--yes", check=0).stdout == "one\n"
    assert cli("rm", "--all", "--yes", "--force", check=0).stdout == "two\n"
    assert mooring.sessions.list() == []


def test_hold_tells_names_from_a_duration(cli: Cli, create: Create, mooring: Mooring) -> None:
    """The last word is the duration if it reads as one; nothing is held by a slip of the pen."""
    create("keep", "30m")
    assert cli("hold", "keep", "30m", check=0).stdout == "keep held for 30m\n"
    assert cli("hold", "30m", check=0).stdout == "30m held for 2h\n"
    cli("hold", "*", "off", check=0)
    assert "no session is named, only a duration: 45m" in cli("hold", "45m", check=2).stderr
    done = cli("hold", "keep", "soon", check=2)
    assert done.stderr.startswith("error: duration: 'soon' must be a duration")
    assert [row["held_for_s"] for row in json.loads(cli("ps", "--json").stdout)] == [0, 0]


def test_hold_says_what_it_does_not_keep(cli: Cli, create: Create) -> None:
    """Where the maximum duration ends a session before its hold is over, a note says so."""
    create("demo")
    cli("update", "demo", "--max-duration", "1h", check=0)
    done = cli("hold", "demo", "2h", check=0)
    assert done.stdout == "demo held for 2h\n"
    assert done.stderr.startswith("demo: its maximum duration still ends it in 59m; ")
    assert cli("hold", "demo", "30m", check=0).stderr == ""
    assert cli("hold", "demo", "off", check=0).stderr == ""


def test_another_installations_session_is_stopped_by_force_alone(
    cli: Cli, create: Create, mooring: Mooring, installations: set[str]
) -> None:
    """Others' sessions are refused with a hint; stop --force warns and does it; rm never."""
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/var/tmp") as other:
        theirs = os.environ | {"MOORING_STATE_DIR": other}
        cli("create", "-d", "--name", "theirs", env=theirs, check=0)
        try:
            installations.add((Path(other) / "installation").read_text().strip())
            assert cli("ps", "-q", check=0).stdout == ""
            done = cli("stop", "theirs", check=1)
            assert "--force" in done.stderr
            assert "only" not in cli("stop", "th*", "--force", check=1).stdout
            for flags in ([], ["-f"]):
                done = cli("rm", *flags, "theirs", check=1)
                assert "only they can remove it" in done.stderr
                assert "hint: to end what runs in it: mooring stop --force theirs" in done.stderr
            assert cli("ps", "--format", "name,state", env=theirs).stdout.endswith("running\n")
            done = cli("stop", "--force", "theirs", check=0)
            assert done.stdout == "theirs\n"
            assert "theirs belongs to" in done.stderr
            said = cli("ps", "--format", "name,state", env=theirs, check=0).stdout
            assert "theirs  stopped" in said
        finally:
            cli("rm", "-f", "theirs", env=theirs, check=0)


def test_max_wait_leaves_nothing(cli: Cli, project: Path, mooring: Mooring, image: str) -> None:
    """A wait that runs out is exit code 3 and leaves nothing; what it waited for was told once."""
    began = time.monotonic()
    done = cli("create", "--max-wait", "2s", "--image", image, "--", "true", check=3)
    assert time.monotonic() - began < 20
    lines = done.stderr.splitlines()
    assert lines[0] == f"pulling {image}"
    assert lines[1].startswith("error: the session did not start within 2 s: pulling ")
    assert lines[2:] == ["hint: use a longer --max-wait"]
    assert mooring.sessions.list() == []
    assert cli("run", "--max-wait", "1s", image, check=3).stdout == ""
    assert mooring.sessions.list() == []


def test_max_wait_is_no_limit_for_what_runs(cli: Cli, project: Path) -> None:
    """What starts in time runs as long as it likes, also when nothing may be waited for."""
    assert cli("create", "--rm", "--max-wait", "0", "--", "echo", "ran", check=0).stdout == "ran\n"
    done = cli("run", "--rm", "--max-wait", "1s", "--exec", "sleep 2; echo ran", "host", check=0)
    assert done.stdout == "ran\n"


def test_ctrl_c_while_waiting_takes_everything_back(
    project: Path, mooring: Mooring, image: str
) -> None:
    """An interrupted create or run leaves no session, and its exit code is 130."""
    for command in (["create", "--image", image], ["run", image]):
        with subprocess.Popen(
            [sys.executable, "-m", "mooring_cli", *command],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as waiting:  # fmt: skip
            eventually(lambda: any("% of" in one.waiting for one in mooring.sessions.list()))
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(20) == 130
        assert mooring.sessions.list() == []


def test_a_spinner_shows_the_steps_at_a_terminal(
    project: Path, mooring: Mooring, image: str
) -> None:
    """At a terminal the step that goes on is shown, with how far it is; Ctrl-C ends the wait."""
    arguments = ["-m", "mooring_cli", "create", "--image", image]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=20)
    child.expect(r"pulling [^ ]+: \d+% of")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert mooring.sessions.list() == []


GPUS = {
    "2": 2,
    "0.5": 0.5,
    "0": 0,
    "count=1,memory=40GiB,model=A100": {"count": 1, "memory": 40 << 30, "model": "A100"},
    "model=H100": {"count": 1, "memory": None, "model": "H100"},
}


@pytest.mark.parametrize("text", GPUS)
def test_forms_of_gpus(cli: Cli, project: Path, text: str) -> None:
    """--gpus takes a count, a share, or what a spec file says, in one line."""
    shown = json.loads(cli("config", "show", "--json", "--gpus", text, check=0).stdout)
    assert shown["gpus"]["value"] == GPUS[text]


@pytest.mark.parametrize("text", ["memory=", "count=1,count=2", "count=x", "colour=red", "=1"])
def test_bad_forms_of_gpus(cli: Cli, text: str) -> None:
    """A bad part of --gpus is named."""
    done = cli("config", "show", "--gpus", text, check=2)
    assert done.stderr.startswith("error: flag --gpus: ")


def test_a_bare_number_is_no_duration(
    cli: Cli, create: Create, project: Path, mooring: Mooring
) -> None:
    """It is hours to users of mcli and minutes to those of sbatch: whoever writes it says which."""
    create("one")
    (project / "session.yml").write_text("max_duration: 1\n")
    for command in (
        ["create", "-d", "--max-duration", "1"],
        ["create", "-d", "-f", "session.yml"],
        ["update", "one", "--max-duration", "1"],
        ["update", "one", "--idle-timeout", "1"],
        ["hold", "one", "1"],
        ["create", "-d", "--max-wait", "1"],
    ):
        done = cli(*command, check=2)
        assert "has no unit: 1h is hours, 1m minutes, 1s seconds\n" in done.stderr
    cli("update", "one", "--max-duration", "0", check=0)
    cli("update", "one", "--max-duration", "1.5h", check=0)
    assert mooring.sessions.deadlines(mooring.sessions.get("one"))["max_duration"] == 5400


LATER = {
    "mooring save": ["save", "one", "repository:tag"],
    "mooring save --push": ["save", "one", "repository:tag", "--push"],
    "mooring build": ["build", "."],
    "mooring push": ["push", "repository:tag"],
    "--save-image": ["create", "--save-image"],
    "target": ["create", "--target", "k8s://somewhere"],
    "--rank (attach)": ["attach", "one", "--rank", "2"],
    "--rank (exec)": ["exec", "--rank", "2", "one", "--", "true"],
}


@pytest.mark.parametrize("what", LATER)
def test_what_comes_later_is_refused_by_name(cli: Cli, project: Path, what: str) -> None:
    """Saving, building and pushing images, targets, ranks: named, with a hint, exit code 2."""
    done = cli(*LATER[what], check=2)
    name = what.partition(" (")[0]
    assert re.search(rf"{name}(: \S+)? is not supported by this version\nhint: ", done.stderr)
    (project / "many.yml").write_text("distribution: {type: dask, nodes: 10}\n")
    done = cli("create", "-f", "many.yml", check=2)
    assert done.stderr.startswith("error: many.yml:1: distribution is not supported by this")


def test_create_opens_the_images_tmux(project: Path, mooring: Mooring, cli: Cli) -> None:
    """create --tmux is in the image's tmux, which goes on without us; -d contradicts it."""
    assert "--tmux attaches" in cli("create", "--tmux", "-d", check=2).stderr
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed on this machine, and so not in its host image")
    arguments = ["-m", "mooring_cli", "create", "--tmux", "--name", "mux"]
    child = pexpect.spawn(
        sys.executable, arguments, encoding="utf-8", timeout=20, env=os.environ | {"TERM": "xterm"}
    )
    child.expect(r"\[mooring\] 0:")
    child.sendline("echo A''B $TMUX")
    child.expect("AB /")
    child.send("\x02d")
    child.expect("mux is running; to attach again: mooring attach --tmux mux")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert mooring.sessions.get("mux").state is State.RUNNING


def test_starting_what_runs_changes_nothing(cli: Cli, create: Create, mooring: Mooring) -> None:
    """start is idempotent, and --all starts only what is stopped."""
    create("one", "two")
    cli("stop", "two", check=0)
    assert cli("start", "one", check=0).stdout == "one\n"
    assert cli("start", "--all", "-y", check=0).stdout == "two\n"
    assert {session.state for session in mooring.sessions.list()} == {State.RUNNING}
