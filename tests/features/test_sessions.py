"""Making sessions, going in and out, and ending them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.docker import DockerEngine
from mooring.sessions.model import State
from tests.conftest import Cli
from tests.features.conftest import Open

pytestmark = pytest.mark.engine

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed here")


def test_session_create_from_a_spec_attaches(
    terminal: Open, cli: Cli, project: Path, mooring: Mooring
) -> None:
    """A file, and a flag over it: a shell in the session that both describe; its exit code is
    ours, and its end the session's."""
    (project / "session.yml").write_text("name: from-a-file\nmax_duration: 8h\nenv: {A: b}\n")
    child = terminal("create", "-f", "session.yml", "--max-duration", "1h")
    child.expect("session from-a-file; detach with")
    assert child.ask("echo $MOORING_SESSION $A") == "from-a-file b"
    said = json.loads(cli("describe", "--json", "from-a-file", check=0).stdout)
    assert (said["state"], said["deadlines"]["max_duration"]) == ("running", 3600)
    child.sendline("exit 7")
    assert child.code() == 7
    assert mooring.sessions.get("from-a-file").state is State.STOPPED


def test_session_create_in_the_background(cli: Cli, project: Path, mooring: Mooring) -> None:
    """-d prints the name and nothing else on standard output, and the session goes on."""
    assert cli("create", "-d", "--name", "back", check=0).stdout == "back\n"
    assert mooring.sessions.get("back").state is State.RUNNING
    done = cli("create", "-d", "--name", "back", check=1)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\nhint: ") == 1


@needs_tmux
def test_session_create_in_tmux(terminal: Open, mooring: Mooring) -> None:
    """--tmux attaches to the image's own tmux; left, it is there as it was."""
    child = terminal("create", "--tmux", "--name", "muxed")
    assert "/tmux-" in child.ask("echo $TMUX")
    child.sendline("KEPT=yes")
    child.leave()
    again = terminal("attach", "muxed", "--tmux")
    assert again.ask("echo $KEPT") == "yes"
    assert mooring.sessions.get("muxed").state is State.RUNNING


def test_session_command_is_the_sessions(cli: Cli, project: Path, mooring: Mooring) -> None:
    """What stands after -- is the main process: its output, its exit code, and its end."""
    done = cli("create", "--rm", "--", "python3", "--version", check=0)
    assert done.stdout.startswith("Python 3.")
    done = cli("create", "--name", "brief", "--", "sh", "-c", "echo $0 $1; exit 9", "a b", "c")
    assert (done.returncode, done.stdout) == (9, "a b c\n")
    session = mooring.sessions.get("brief")
    assert (session.state, session.exit_code) == (State.STOPPED, 9)
    done = cli("create", "--rm", "--", "no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr + done.stdout


@pytest.fixture
def data(project: Path) -> Path:
    """Two folders to read and one to write, in the project."""
    for name in ("mydata", "otherdata", "writedata"):
        (project / name).mkdir()
        (project / name / name).touch()
    return project


SHOW = ["ls /mnt/inputs/* && touch /mnt/outputs/writedata/new && ! touch /mnt/inputs/mydata/new"]


def test_job_file_is_read_as_it_stands(cli: Cli, data: Path) -> None:
    """Azure's keys for the image and for folders by their names."""
    (data / "job.yml").write_text(
        "name: my-job\nenvironment: host\ncommand: ls /mnt/inputs\n"
        "inputs:\n  - mydata\n  - otherdata\noutputs:\n  - writedata\n"
    )
    done = cli("create", "-f", "job.yml", "--rm", check=0)
    assert done.stdout == "mydata\notherdata\n"


def test_job_file_flags(cli: Cli, data: Path) -> None:
    """--environment, --inputs a,b and --outputs c say the same on the command line."""
    flags = ["--environment", "host", "--inputs", "mydata,otherdata", "--outputs", "writedata"]
    done = cli("create", "--rm", *flags, "--", "sh", "-c", *SHOW, check=0)
    assert "/mnt/inputs/mydata:\nmydata\n" in done.stdout
    assert "/mnt/inputs/otherdata:\notherdata\n" in done.stdout
    assert (data / "writedata" / "new").exists()
    done = cli("create", "--rm", "--inputs", "mydata,nowhere", check=2)
    assert "nowhere" in done.stderr


def test_job_file_with_a_target_is_refused(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Another target than this machine comes later: by flag or file it is named."""
    (project / "job.yml").write_text("target: my-cluster\nenvironment: host\n")
    for given in (["--target", "my-cluster"], ["-f", "job.yml"]):
        done = cli("create", *given, check=2)
        assert "target: my-cluster is not supported by this version\nhint: " in done.stderr
    assert mooring.sessions.list() == []


def test_session_attach_without_a_name(terminal: Open, cli: Cli) -> None:
    """It is the only one that runs; none, or several, is an error that lists them."""
    assert cli("attach", check=125).stderr.startswith("error: no session is running\nhint: ")
    cli("create", "-d", "--name", "one", check=0)
    child = terminal("attach")
    pid = child.ask("echo $$")
    child.leave()
    child = terminal("attach", "one")
    assert child.ask("echo $$") == pid
    child.leave()
    cli("create", "-d", "--name", "two", check=0)
    done = cli("attach", check=125)
    assert "2 sessions are running: two, one" in done.stderr
    assert "no session named three" in cli("attach", "three", check=125).stderr


@needs_tmux
def test_session_attach_in_tmux(terminal: Open, cli: Cli) -> None:
    """--tmux joins the image's tmux, beside the main terminal."""
    cli("create", "-d", "--name", "one", check=0)
    child = terminal("attach", "--tmux", "one")
    assert "/tmux-" in child.ask("echo $TMUX")
    child.leave()


def test_session_attach_to_a_rank_is_refused(cli: Cli) -> None:
    """Several nodes come later."""
    done = cli("attach", "one", "--rank", "2", check=2)
    assert done.stderr.startswith("error: --rank is not supported by this version")


def test_session_exec_opens_a_terminal(terminal: Open, cli: Cli, mooring: Mooring) -> None:
    """A new shell beside the main one; its exit code is ours, and the session goes on."""
    cli("create", "-d", "--name", "one", check=0)
    child = terminal("exec", "one")
    assert child.ask("echo $MOORING_SESSION; test -t 0 && echo tty") == "one tty"
    child.sendline("exit 5")
    assert child.code() == 5
    assert mooring.sessions.get("one").state is State.RUNNING


def test_session_exec_runs_a_command(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Input, output, arguments and the exit code are the command's own."""
    cli("create", "-d", "--name", "one", check=0)
    done = cli("exec", "one", "--", "sh", "-c", "cat; echo err >&2; exit 9", input="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (9, "in\n", "err\n")
    assert cli("exec", "one", "--", "no-such-program").returncode == 127
    assert mooring.sessions.get("one").state is State.RUNNING
    assert "no session named two" in cli("exec", "two", "--", "true", check=125).stderr


@pytest.mark.skipif(shutil.which("top") is None, reason="top is not installed here")
def test_session_exec_top(terminal: Open, cli: Cli) -> None:
    """A program that draws on the whole terminal, and is left with a key."""
    cli("create", "-d", "--name", "one", check=0)
    child = terminal("exec", "one", "--", "top")
    child.expect("load average")
    child.send("q")
    assert child.code() == 0


def test_session_stop_keeps_the_container(
    cli: Cli, project: Path, mooring: Mooring, real_engine: DockerEngine
) -> None:
    """stop ends what runs; start takes the same container up, files and all."""
    for name in ("one", "two"):
        cli("create", "-d", "--name", name, check=0)
    container = mooring.sessions.get("one").container
    cli("exec", "one", "--", "sh", "-c", "echo kept >/tmp/file; sleep 100 &", check=0)
    assert sorted(cli("stop", "one", "two", check=0).stdout.split()) == ["one", "two"]
    assert {session.state for session in mooring.sessions.list()} == {State.STOPPED}
    assert "is stopped" in cli("exec", "one", "--", "true", check=125).stderr
    cli("start", "one", check=0)
    assert mooring.sessions.get("one").container == container
    assert cli("exec", "one", "--", "cat", "/tmp/file", check=0).stdout == "kept\n"
    done = cli("rm", "one", "two", check=1)
    assert done.stdout == "two\n"
    assert "one is running" in done.stderr
    assert cli("rm", "-f", "one", check=0).stdout == "one\n"
    assert mooring.sessions.list() == []
    gone = subprocess.run(["docker", "inspect", container], capture_output=True, check=False)
    assert gone.returncode != 0
