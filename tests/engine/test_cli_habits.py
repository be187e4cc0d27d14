"""What newcomers type and expect: it works, or they are told what does instead."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.host.users import caller
from tests.conftest import Cli

pytestmark = pytest.mark.engine


def test_a_folder_that_is_not_mounted_is_told_once(cli: Cli, state: Path, mooring: Mooring) -> None:
    """In a folder of the system `create` says on stderr what is not there and where one is."""
    home = caller().home
    said = f"/tmp is not mounted; the working directory is {home}, a private one\n"
    done = cli("create", "-d", "--name", "astray", cwd="/tmp", check=0)
    assert done.stdout == "astray\n"
    assert done.stderr.count("is not mounted") == 1
    assert said in done.stderr
    assert cli("exec", "astray", "--", "pwd", check=0).stdout == f"{home}\n"
    assert said in cli("describe", "astray", check=0).stdout
    for again in (["exec", "astray", "--", "true"], ["stop", "astray"], ["start", "astray"]):
        assert "is not mounted" not in cli(*again, cwd="/tmp", check=0).stderr


def test_a_folder_that_is_mounted_needs_no_word(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Where all is as one expects, nothing is said; nor by `run`, which mounts no folder ever."""
    assert cli("create", "--rm", "--", "pwd", check=0).stderr == ""
    assert cli("run", "--rm", "host", "--exec", "pwd", cwd="/tmp", check=0).stderr == ""


def test_interactive_is_taken_and_means_nothing_new(
    cli: Cli, project: Path, mooring: Mooring
) -> None:
    """-i of exec and run, as fingers type it: standard input is passed on as without it."""
    cli("create", "-d", "--name", "one", check=0)
    assert cli("exec", "-i", "one", "--", "cat", input="said", check=0).stdout == "said"
    done = cli("run", "--rm", "-i", "host", "--exec", "cat", input="said", check=0)
    assert done.stdout == "said"
    assert " -i" not in cli("exec", "--help").stdout


@pytest.mark.parametrize("command", [["exec", "-it", "one", "tty"], ["run", "--rm", "-it", "host"]])
def test_it_is_a_terminal(
    cli: Cli, project: Path, mooring: Mooring, terminal, command: list[str]
) -> None:
    """-it opens a terminal, as it does with docker."""
    cli("create", "-d", "--name", "one", check=0)
    seen = terminal(*command, *(["--exec", "tty"] if command[0] == "run" else []))
    seen.expect("/dev/pts/[0-9]+|/dev/console")
    seen.expect_exact("\n")
    seen.close(force=True)


REFLEXES = {
    "a volume": (["run", "-v", "/data:/data", "host"], "--input PATH"),
    "a volume of create": (["create", "--volume", "/data:/data"], "--output PATH"),
    "a mount": (["create", "--mount", "type=bind,src=/data,dst=/data"], "--input PATH"),
    "all GPUs": (["create", "--gpus", "all"], "this machine has"),
    "last lines": (["logs", "-n", "5", "x"], "--tail N"),
    "a terminal of create": (["create", "-it"], "omit it"),
    "a command after the image": (["run", "--rm", "host", "ls"], "mooring run host -- ls …"),
    "options of a command": (["run", "--rm", "host", "ls", "-la"], "mooring run IMAGE -- COMMAND"),
}


@pytest.mark.parametrize("case", REFLEXES)
def test_a_reflex_is_pointed_on(cli: Cli, project: Path, mooring: Mooring, case: str) -> None:
    """What docker takes and mooring does not is one error whose hint names what does it here."""
    arguments, hint = REFLEXES[case]
    done = cli(*arguments, check=2)
    error, _, hinted = done.stderr.partition("\nhint: ")
    assert error.startswith("error: ")
    assert "Possible options" not in error
    assert hint in hinted
    assert done.stdout == ""
    assert mooring.sessions.list() == []


def test_a_command_after_dashes(cli: Cli, project: Path, mooring: Mooring) -> None:
    """`run IMAGE [FILES] -- COMMAND` runs it word by word, and its exit code comes back."""
    (project / "train.py").write_text("import sys; print(sys.argv[1:]); sys.exit(4)")
    command = ["python3", "train.py", "-c", "a b", "--", "$HOME"]
    done = cli("run", "--rm", "host", "train.py", "--", *command, check=4)
    assert done.stdout == "['-c', 'a b', '--', '$HOME']\n"
    said = cli("run", "host", "-c", "1", "--", "true", check=2).stderr
    assert "error: -c and a command after -- cannot be combined\n" in said
    assert cli("run", "--rm", "host", "--", check=0, input="echo hi").stdout == "hi\n"


def test_create_takes_a_spec_file(cli: Cli, project: Path, mooring: Mooring) -> None:
    """`create session.yml` is `create -f session.yml`, with a command as ever."""
    (project / "my spec.yml").write_text("env: {WHO: me}\ncommand: [sh, -c, echo $WHO]\n")
    assert cli("create", "--rm", "my spec.yml", check=0).stdout == "me\n"
    done = cli("create", "--rm", "my spec.yml", "--", "sh", "-c", "echo not $WHO", check=0)
    assert done.stdout == "not me\n"
    late = cli("create", "my spec.yml", "--gpus", "1", check=2).stderr
    assert late == (
        "error: option --gpus must come before my spec.yml\n"
        "hint: as in: mooring create --gpus … 'my spec.yml'\n"
    )
    none = cli("create", "nosuch.yml", check=2).stderr
    assert none == "error: there is no file nosuch.yml\nhint: to write one: mooring init\n"
    two = cli("create", "-f", "a.yml", "my spec.yml", check=2).stderr
    assert two.startswith("error: two spec files: a.yml and my spec.yml\n")
    assert mooring.sessions.list() == []


def test_a_dry_run_creates_nothing(cli: Cli, project: Path, mooring: Mooring) -> None:
    """The plan, with mounts, deadlines and what would be refused, which is also the exit code."""
    (project / "session.yml").write_text(
        "image: host\ncommand: [echo, a b]\nidle_timeout: 30m\nenv: {A: b}\n"
    )
    done = cli("create", "--dry-run", "session.yml", check=0)
    rows = dict(re.findall(r"^ *(\S[^\n]*?)  +(\S.*)$", done.stdout, flags=re.M))
    assert rows["command"] == "echo 'a b'"
    assert rows["idle timeout"] == "30m"
    assert rows["env"] == '{"A": "b"}'
    assert rows[str(project)] == f"writable  {project}"
    assert rows["~"] == "a private home, which is removed with the session"
    (project / "session.yml").write_text("gpus: 3\nsecrets: {T: {env: NOT_SET}}\n")
    done = cli("create", "--dry-run", "-f", "session.yml", "--name", "x", check=1)
    assert "\nneeds your trust\n  secrets.T  " in done.stdout
    for error in (
        "session.yml uses paths outside its folder: secrets.T",
        "3 GPUs: this machine has",
    ):
        assert f"error: {error}" in done.stderr.replace(f"{project}/", "")
    unset = cli("create", "--dry-run", "--secret", "T=NOT_SET", check=2).stderr
    assert unset.startswith("error: secrets: T: NOT_SET is not set")
    absent = ["--image", "no/such:1"]
    assert ", which is pulled first" in cli("create", "--dry-run", *absent, check=0).stdout
    never = cli("create", "--dry-run", *absent, "--pull", "never", check=1)
    assert never.stderr.startswith("error: No such image: no/such:1\n")
    cli("create", "-d", "--name", "x", check=0)
    taken = cli("create", "--dry-run", "--name", "x", check=1).stderr
    assert taken.startswith("error: a session named x exists already\n")
    assert [session.name for session in mooring.sessions.list()] == ["x"]


def test_other_names_of_commands(cli: Cli, project: Path, mooring: Mooring) -> None:
    """What users of other tools type runs what it means here, exit code and all."""
    cli("create", "-d", "--name", "one", check=0)
    for other in ("ls", "list", "status"):
        assert cli(other, "-q", check=0).stdout == "one\n"
    assert cli("inspect", "one", check=0).stdout.startswith("name")
    assert cli("shell", "one", "--", "sh", "-c", "exit 5", check=5).stderr == ""
    assert "no session named two" in cli("ssh", "two", check=125).stderr
    assert "no session named two" in cli("connect", "two", check=125).stderr
    assert cli("kernels", check=0).stderr == cli("kernel", "list", check=0).stderr
    assert "mooring list, mooring ls, mooring status" in cli("ps", "--help", check=0).stdout
    assert " ls " not in cli("--help", check=0).stdout


def test_config_show_prints_yaml(cli: Cli, project: Path) -> None:
    """A value with parts, or a truth, is printed as it may stand in a spec file."""
    (project / "data").mkdir()
    (project / "session.yml").write_text(
        "home: false\nsecrets: {T: {env: HF_TOKEN}}\ninputs: [./data]\ncommand: [echo, ä]\n"
    )
    rows = {
        line.split()[0]: line.split(maxsplit=1)[1]
        for line in cli("config", "show", "-f", "session.yml", check=0).stdout.splitlines()
    }
    assert rows["home"].startswith("false ")
    assert rows["secrets"].startswith('{"T": {"env": "HF_TOKEN"}} ')
    assert rows["command"].startswith('["echo", "ä"] ')
    source = rows["inputs"].rpartition(" file ")[0].strip()
    assert json.loads(source)[0]["name"]
