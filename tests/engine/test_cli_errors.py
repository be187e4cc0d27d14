"""Bad input: one error, one hint, the right exit code, and nothing left behind."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from mooring.engines.base import Engine
from mooring.engines.labels import LABEL_INSTALLATION
from mooring.host.paths import Installation

pytestmark = pytest.mark.engine

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
ONE_ERROR = re.compile(r"error: [^\n]+\n(hint: [^\n]+\n)?")


@pytest.fixture
def nothing_left(real_engine: Engine, state: Path) -> Iterator[None]:
    """Fails a test that leaves a container or a folder of a session."""
    yield
    assert real_engine.list({LABEL_INSTALLATION: Installation.here().id}) == []
    sessions = state / "sessions"
    assert not sessions.exists() or os.listdir(sessions) == []


FILES = {
    "unknown key": (
        "image: host\nidle_timout: 5m\n",
        "session.yml:2:1: idle_timout is not a key",
        "did you mean idle_timeout?",
    ),
    "unknown key below": ("secrets:\n  A: {enw: B}\n", "session.yml:2:7: secrets.A.enw", "env?"),
    "a list for a text": ("image: [a, b]\n", "session.yml:1:1: image must be", ""),
    "text for a truth": ("home: perhaps\n", "session.yml:1:1: home must be true or false", ""),
    "a negative size": ("memory: -4GiB\n", "session.yml:1:1: memory", ""),
    "a negative count": ("gpus: -1\n", "session.yml:1:1: gpus", ""),
    "a negative duration": ("idle_timeout: -5m\n", "session.yml:1:1: idle_timeout", ""),
    "a size that is none": ("memory: much\n", "session.yml:1:1: memory", ""),
    "not YAML": ("image: [host\n", "session.yml:2:1: ", "check the YAML there"),
    "a tab": ("image:\n\thost\n", "session.yml:2:1: ", "check the YAML there"),
    "a tag": ("image: !!python/object:os.system x\n", "session.yml:1:8: the tag", "leave it out"),
    "a template": ("{{ a }}: b\n", "session.yml:1:", ""),
    "twice the same key": ("image: a\nimage: b\n", "session.yml:2:1: duplicate key image", "keep"),
    "NUL": ("image: \0\n", "session.yml:1:8: a NUL byte", ""),
    "nothing": ("", "session.yml: empty", "image: host"),
    "not a mapping": ("- a\n", "session.yml:1:1: not a mapping", ""),
    "a missing input": ("inputs: [./nosuch]\n", "nosuch", ""),
    "a secret that is not set": ("secrets: {T: {env: SURELY_NOT_SET}}\n", "SURELY_NOT_SET", ""),
    "gpus": ("gpus: 1\n", "gpus", ""),
    "a share of a gpu": ("gpus: 0.5\n", "gpus", ""),
    "build": ("build: {dockerfile: Dockerfile}\n", "build", ""),
    "another target": ("target: ssh://gpu-box\n", "target", ""),
    "distribution": ("distribution: {type: dask, nodes: 10}\n", "distribution", ""),
    "an input from the cloud": (
        "inputs: ['s3://bucket/data']\n",
        "s3 sources are not",
        "copy the data to a folder",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_one_error(cli: Cli, project: Path, nothing_left: None, case: str) -> None:
    """A bad spec file is one error with file, line and column, a hint, and exit code 1 or 2."""
    text, message, hint = FILES[case]
    (project / "session.yml").write_text(text)
    done = cli("create", "-d", "-f", "session.yml")
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert ONE_ERROR.fullmatch(done.stderr), done.stderr
    assert message in done.stderr
    assert hint in done.stderr


FLAGS = {
    "a missing file": (["-f", "nosuch.yml"], 2, "nosuch.yml: No such file"),
    "a folder as file": (["-f", "."], 2, "not a regular file"),
    "a negative size": (["--memory", "-1"], 2, "--memory"),
    "more CPUs than there are": (["--cpus", "4096"], 1, "the engine's machine has only"),
    "a count that is text": (["--gpus", "many"], 2, "--gpus: 'many' is not a number"),
    "gpus": (["--gpus", "1000"], 1, "1000 GPUs: this machine has "),
    "another target": (["--target", "k8s://x"], 2, "target"),
    "a policy that is none": (["--pull", "sometimes"], 2, "--pull"),
    "a missing variable": (["--env", "SURELY_NOT_SET"], 2, "SURELY_NOT_SET is not set"),
    "a bad name": (["--name", "../x"], 2, "--name"),
    "bad detach keys": (["--detach-keys", "ctrl-ä"], 2, "--detach-keys"),
    "two images": (["--image", "a", "--environment", "b"], 2, "mean the same"),
    "an image that is not here": (
        ["--image", "mooring-test/nosuch:1", "--pull", "never"],
        1,
        "No such image: mooring-test/nosuch:1",
    ),
    "an unknown option": (["--gpu", "1"], 2, "no such option"),
    "an option without its value": (["--name"], 2, "requires an argument"),
}


@pytest.mark.parametrize("case", FLAGS)
def test_a_bad_flag_is_one_error(cli: Cli, project: Path, nothing_left: None, case: str) -> None:
    """A bad flag is one error that names it, in mooring's own style, and exit code 2."""
    flags, code, message = FLAGS[case]
    done = cli("create", "-d", *flags, check=code)
    assert ONE_ERROR.fullmatch(done.stderr), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("detach", [("-d",), ()])
@pytest.mark.parametrize(
    ("command", "code", "why"),
    [
        ("nosuchcommand", 127, "nosuchcommand: not found"),
        ("./nosuch.sh", 127, "./nosuch.sh: not found"),
        ("/etc", 126, "/etc: is a folder"),
        ("./notes.txt", 126, "./notes.txt: not executable"),
        ("./dos.sh", 126, "./dos.sh: its first line ends in a carriage return (Windows line end"),
    ],
)
def test_a_command_that_cannot_be_run(
    cli: Cli, project: Path, nothing_left: None, detach: tuple[str, ...], command: str,
    code: int, why: str,
) -> None:  # fmt: skip
    """It is an error at once, with a shell's exit code, whether somebody watches or not."""
    (project / "notes.txt").write_text("")
    (project / "dos.sh").write_text("#!/bin/sh\r\necho\r\n")
    (project / "dos.sh").chmod(0o755)
    done = cli("create", *detach, "--", command, "x", check=code)
    assert ONE_ERROR.fullmatch(done.stderr), done.stderr
    assert f"command {why}" in done.stderr


def test_a_command_that_cannot_be_run_at_a_terminal(terminal, nothing_left: None) -> None:
    """Behind the shell that sets a terminal's size, too; and the terminal ends."""
    child = terminal("create", "--", "nosuchcommand", "x")
    child.expect("command nosuchcommand: not found\r\n")
    child.expect("hint: ")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 127


def test_a_command_that_is_gone_at_the_next_start(cli: Cli, project: Path, mooring) -> None:
    """start says so and the session stays stopped; with the command back, it runs."""
    script = project / "run.sh"
    script.write_text("#!/bin/sh\nexec sleep 1000\n")
    script.chmod(0o755)
    cli("create", "-d", "--name", "it", "--", "./run.sh", check=0)
    cli("stop", "it", check=0)
    script.rename(project / "away.sh")
    assert "command ./run.sh: not found" in cli("start", "it", check=127).stderr
    (session,) = mooring.sessions.list()
    assert (str(session.state), session.reason) == ("stopped", "command ./run.sh: not found")
    event = mooring.sessions.events(session.id)[-1]
    assert (event.kind, event.detail) == ("failed", "command ./run.sh: not found")
    (project / "away.sh").rename(script)
    cli("start", "it", check=0)
    assert [str(session.state) for session in mooring.sessions.list()] == ["running"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuchcommand"],
        ["ps", "--nosuch"],
        ["ps", "--format", "nosuch"],
        ["ps", "--filter", "nosuch=1"],
        ["stop"],
        ["logs", "--tail", "0", "x"],
        ["logs", "--tail", "many", "x"],
        ["kernel", "nosuch"],
        ["kernel", "remove"],
    ],
)
def test_usage_errors_have_the_same_style(cli: Cli, arguments: list[str]) -> None:
    """What the parser refuses looks like every other error: no box, no trace, exit code 2."""
    done = cli(*arguments, check=2)
    assert ONE_ERROR.fullmatch(done.stderr), done.stderr
    assert "hint: " in done.stderr


def test_a_name_that_is_taken(cli: Cli, project: Path, mooring) -> None:
    """A second session of a name is refused, and the first goes on."""
    cli("create", "-d", "--name", "mine", check=0)
    done = cli("create", "-d", "--name", "mine", check=1)
    assert done.stderr == (
        "error: a session named mine exists already\n"
        "hint: use another --name, or see it: mooring describe mine; to remove it, "
        "running or not: mooring rm -f mine\n"
    )
    cli("describe", "mine", check=0)
    cli("exec", "mine", "--", "true", check=0)
    assert len(mooring.sessions.list()) == 1
    cli("rm", "-f", "mine", check=0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "-d"],
        ["ps"],
        ["stop", "x"],
        ["start", "x"],
        ["rm", "-f", "x"],
        ["logs", "x"],
        ["describe", "x"],
        ["why", "x"],
        ["hold", "x", "1h"],
        ["update", "x", "--idle-timeout", "1h"],
        ["exec", "x", "--", "true"],
        ["attach", "x"],
        ["attach"],
    ],
)
def test_an_engine_that_is_down(
    cli: Cli, project: Path, nothing_left: None, arguments: list[str]
) -> None:
    """Without an engine every command says which one is missing and what to do."""
    environ = os.environ | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    done = cli(*arguments, env=environ, check=125 if arguments[0] in ("exec", "attach") else 1)
    assert ONE_ERROR.fullmatch(done.stderr), done.stderr
    assert done.stderr.startswith("error: no container engine: /nonexistent/docker.sock")
    assert "hint: install Docker" in done.stderr


def test_ps_tells_what_it_knows_while_the_engine_is_down(cli: Cli, project: Path) -> None:
    """With the engine gone `ps` still lists the sessions, as unknown, and fails."""
    cli("create", "-d", "--name", "there", check=0)
    environ = os.environ | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    done = cli("ps", "--format", "name,state", env=environ, check=1)
    assert done.stdout == "NAME   STATE\nthere  unknown\n"
    assert done.stderr.startswith("error: no container engine")
    assert cli("ps", "--format", "name,state").stdout == "NAME   STATE\nthere  running\n"


@pytest.mark.parametrize(
    "host", ["tcp://127.0.0.1:1", "ssh://gpu-box", "http://x", "npipe:////x", "nonsense"]
)
def test_an_engine_elsewhere_is_refused_by_name(cli: Cli, host: str) -> None:
    """DOCKER_HOST with an engine on another machine is refused, and says what would do."""
    done = cli("ps", env=os.environ | {"DOCKER_HOST": host}, check=2)
    assert ONE_ERROR.fullmatch(done.stderr), done.stderr
    assert f"DOCKER_HOST is {host}" in done.stderr


def test_no_permission_on_the_socket(installed_wheel) -> None:
    """A user outside the engine's group is told so, and how to join it."""
    socket = Path("/var/run/docker.sock")
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to become another user")
    found = socket.stat()
    if found.st_mode & stat.S_IRWXO or found.st_gid == pwd.getpwnam("nobody").pw_gid:
        pytest.skip(f"everybody may use {socket} here")
    folder = tempfile.mkdtemp(dir="/var/tmp")
    os.chown(folder, 65534, 65534)
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    environ = {"PATH": os.environ["PATH"], "HOME": folder, "MOORING_STATE_DIR": f"{folder}/s"}
    try:
        for arguments in (["ps"], ["create", "-d"], ["doctor"]):
            done = subprocess.run(
                [*become, installed_wheel.mooring, *arguments],
                cwd=folder, env=environ, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 1
            said = done.stdout if arguments == ["doctor"] else done.stderr
            assert "no permission to use the engine at" in said
            assert "sudo usermod -aG docker" in said
            assert "Traceback" not in done.stderr
    finally:
        shutil.rmtree(folder)


def test_an_azure_ml_job_is_read_as_it_stands(cli: Cli, project: Path, tmp_path: Path) -> None:
    """A job.yml with environment, inputs and outputs by name makes the session it describes."""
    for name in ("corpus", "models"):
        (project / name).mkdir()
    (project / "corpus" / "a.txt").write_text("text\n")
    (project / "job.yml").write_text(
        "name: job\nenvironment: host\ninputs:\n  - corpus\noutputs:\n  - models\n"
        "command: cp /mnt/inputs/corpus/a.txt /mnt/outputs/models/b.txt\n"
    )
    done = cli("create", "-f", "job.yml", check=0)
    assert (project / "models" / "b.txt").read_text() == "text\n", done.stderr
    cli(
        "create", "-d", "--environment", "host", "--inputs", "corpus,models", "--name", "f", check=0
    )
    assert cli("exec", "f", "--", "ls", "/mnt/inputs", check=0).stdout == "corpus\nmodels\n"


def test_an_internal_error_is_an_error_too(tmp_path: Path) -> None:
    """What nobody foresaw is one line and a hint as well; -v shows the trace."""
    script = (
        "import sys, mooring\n"
        "def broken(*a): raise RuntimeError('odd\\nthing')\n"
        "mooring.Sessions.list = broken\n"
        "from mooring_cli.main import run\nrun()"
    )
    command = [sys.executable, "-c", script, "ps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert ONE_ERROR.fullmatch(done.stderr), done.stderr
    assert "internal error: RuntimeError: odd thing" in done.stderr
    command[-1:] = ["-v", "ps"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [
        (">&-", 0, ""),
        (">/dev/full", 1, "error: cannot write the output: No space left on device\n"),
        ("| true", 141, ""),
        ("<&-", 0, ""),
    ],
)
def test_standard_streams_that_are_closed_full_or_gone(
    state: Path, project: Path, redirected: str, code: int, told: str
) -> None:
    """Nobody who reads is no error of the program's; a full disk is one line, and exit code 1."""
    ps = shlex.join([sys.executable, "-m", "mooring_cli", "ps", "--json"])
    command = f"set -o pipefail; {ps} {redirected}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (code, told)
