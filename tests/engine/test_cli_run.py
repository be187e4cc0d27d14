"""mooring run: a session from an image, files sent along, one command, and its exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.conftest import Cli
from tests.support.sessions import home_of_a_run
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine


def test_run_code_in_a_session_and_remove_it(cli: Cli, project: Path, mooring: Mooring) -> None:
    """`run --rm -c 'print(1)' IMAGE` prints 1, and nothing of it is left."""
    done = cli("run", "--rm", "-c", "print(1)", "host", check=0)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert mooring.sessions.list() == []


def test_run_sends_files_and_does_not_mount_the_folder(
    cli: Cli, project: Path, mooring: Mooring
) -> None:
    """Files and folders are copied into its private home, where the command runs; the rest of the
    current folder is not there, and what is changed there is not changed here."""
    (project / "secret.txt").write_text("not sent")
    (project / "s.py").write_text("import sys, data.more as m; print(sys.argv[1:], m.X)\n")
    (project / "data").mkdir()
    (project / "data" / "more.py").write_text("X = 42\n")
    done = cli("run", "--rm", "--exec", "python3 s.py a b", "host", "./s.py", "data", check=0)
    assert done.stdout == "['a', 'b'] 42\n"
    line = "pwd; ls; echo changed >s.py; rm -r data; ls /mnt/inputs /mnt/outputs 2>/dev/null; true"
    said = cli("run", "--rm", "--exec", line, "host", "s.py", "data", check=0).stdout
    assert said.splitlines() == [os.path.expanduser("~"), *home_of_a_run("data", "s.py")]
    assert "changed" not in (project / "s.py").read_text()
    assert (project / "data" / "more.py").exists()
    line = f"cat {project}/secret.txt"
    assert "not sent" not in cli("run", "--rm", "--exec", line, "host", check=1).stdout


def test_run_sends_a_whole_folder(cli: Cli, project: Path) -> None:
    """`.` is all that lies in the current folder; what cannot be copied is named."""
    (project / "s.py").write_text("print('sent')\n")
    (project / "link.py").symlink_to("s.py")
    (project / "sub").mkdir()
    done = cli("run", "--rm", "--exec", "ls; python3 link.py", "host", ".", check=0)
    assert done.stdout.splitlines() == [*home_of_a_run("link.py", "s.py", "sub"), "sent"]
    os.mkfifo(project / "sub" / "pipe")
    done = cli("run", "--rm", "host", ".", check=2)
    assert re.fullmatch(r"error: .*/sub/pipe.* cannot be sent: [^\n]+\nhint: .*\n", done.stderr)
    done = cli("run", "--rm", "host", "/", check=2)
    assert "contains mooring's own folders" in done.stderr


def test_run_takes_inputs_from_where_it_was_called(cli: Cli, project: Path) -> None:
    """Paths of --input and --output mean what they mean in the current folder."""
    (project / "corpus").mkdir()
    (project / "corpus" / "a").write_text("text")
    line = "cp /mnt/inputs/corpus/a /mnt/outputs/b/copy; cp /mnt/inputs/again/a /mnt/outputs/b/2"
    flags = ["--input", "corpus", "--input", "again=./corpus", "--output", "b"]
    cli("run", "--rm", *flags, "--exec", line, "host", check=0)
    assert (project / "b" / "copy").read_text() == (project / "b" / "2").read_text() == "text"


def test_run_returns_the_commands_exit_code_and_keeps_the_session(
    cli: Cli, project: Path, mooring: Mooring
) -> None:
    """Without --rm it is there afterwards, stopped, with its output; start runs it again."""
    done = cli("run", "--name", "kept", "--exec", "echo once; echo $HOME >>f; exit 7", "host")
    assert (done.returncode, done.stdout) == (7, "once\n")
    session = mooring.sessions.get("kept")
    assert (session.state, session.exit_code) == (State.STOPPED, 7)
    assert cli("logs", "kept", check=0).stdout == "once\n"
    cli("start", "kept", check=0)
    eventually(lambda: mooring.sessions.get("kept").state is State.STOPPED)
    assert cli("logs", "kept", check=0).stdout == "once\nonce\n"
    cli("run", "--rm", "-c", "import sys; sys.exit(3)", "host", check=3)
    cli("run", "--rm", "--exec", "kill -KILL $$", "host", check=137)


def test_run_a_shell_when_nothing_is_said(cli: Cli, project: Path) -> None:
    """Without -c and --exec it is a shell, which reads standard input to its end."""
    done = cli("run", "--rm", "host", input="echo in $PWD\nexit 5\n", check=5)
    assert done.stdout == f"in {os.path.expanduser('~')}\n"
    assert done.stderr == ""
    (project / "script.py").write_text("print('never run')\n")
    done = cli("run", "--rm", "host", "script.py", check=0)
    assert done.stdout == ""
    assert "to run one of the files: --exec" in done.stderr


def test_run_in_any_image(cli: Cli, project: Path, bare_image: str) -> None:
    """An image needs a shell and nothing else; docker:// before its name is understood."""
    (project / "f").write_text("sent\n")
    image = f"docker://{bare_image}"
    done = cli("run", "--rm", "--pull", "never", "--exec", "cat f", image, "f", check=0)
    assert done.stdout == "sent\n"


def test_run_code_in_an_image_without_python(cli: Cli, project: Path, bare_image: str) -> None:
    """-c in an image without Python says so, and that is mooring's own failure."""
    done = cli("run", "--rm", "-c", "print(1)", bare_image, check=125)
    assert done.stdout == ""
    assert done.stderr == (
        "error: the image has no python3 on its PATH, which -c needs\n"
        "hint: use an image with Python, or a shell's command: --exec 'COMMAND'\n"
    )


def test_run_takes_backend_ais_resources(cli: Cli, project: Path, mooring: Mooring) -> None:
    """-r cpu=2 -r mem=64m limit the session as --cpus and --memory do."""
    resources = ["-r", "cpu=2", "-r", "mem=64m"]
    cli("run", "-d", "--name", "small", *resources, "--exec", "sleep 50", "host", check=0)
    (row,) = json.loads(cli("ps", "--json", check=0).stdout)
    assert (row["cpus"], row["memory_limit_bytes"], row["gpus"]) == (2, 64 << 20, None)


RESOURCES = {
    "cuda.shares=2": ("gpus", 2),
    "cuda.shares=0.5": ("gpus", 0.5),
    "cuda.device=1": ("gpus", 1),
    "mem=8g": ("memory", 8 << 30),
    "cpu=0.5": ("cpus", 0.5),
}


@pytest.mark.parametrize("given", RESOURCES)
def test_what_resources_mean(cli: Cli, project: Path, given: str) -> None:
    """Backend.ai's names of resources are keys of our spec, for every command that takes one."""
    key, value = RESOURCES[given]
    shown = json.loads(cli("config", "show", "--json", "-r", given, check=0).stdout)
    assert shown[key]["value"] == value


BAD = {
    "an unknown resource": (
        ["-r", "tpu=1"],
        2,
        "flag -r: no resource 'tpu'",
        "choose from: cpu",
    ),
    "a resource without a value": (["-r", "cpu"], 2, "flag -r: 'cpu' is not NAME=VALUE", ""),
    "a bad resource": (["-r", "mem=much"], 2, "flag -r mem: ", ""),
    "two words for one thing": (["-r", "cpu=1", "--cpus", "2"], 2, "mean the same", ""),
    "code and command": (["-c", "1", "--exec", "true"], 2, "-c and --exec cannot be combined", ""),
    "a missing image": (["--pull", "never", "mooring-test/nosuch:1"], 125, "No such image", ""),
    "a file that is not there": (["host", "./nosuch"], 2, "nosuch", ""),
    "two files of one name": (["host", "a/f", "b/f"], 2, "f", ""),
    "a file for an image": (["a/f"], 2, "a/f is a file, and the first", "mooring run host a/f"),
    "a wait that is none": (["--max-wait", "soon"], 2, "flag --max-wait: 'soon'", ""),
    "another target": (
        ["--target", "k8s://x"],
        2,
        "target: k8s://x is not supported by this version",
        "",
    ),
    "a bare number of hours": (["--max-duration", "1"], 2, "has no unit: 1h is hours", ""),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_run_is_one_error(cli: Cli, project: Path, mooring: Mooring, case: str) -> None:
    """125 for mooring's own failure, 2 for a mistake in the command; nothing is left."""
    (project / "host").touch()  # it is in the way of no image
    for folder in ("a", "b"):
        (project / folder).mkdir()
        (project / folder / "f").touch()
    flags, code, message, hint = BAD[case]
    given = flags if code == 125 or "host" in flags else [*flags, "host"]
    done = cli("run", *given, check=code)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") <= 2
    assert message in done.stderr
    assert hint in done.stderr
    assert mooring.sessions.list() == []


def test_run_without_an_engine(cli: Cli, project: Path) -> None:
    """No engine is a failure of mooring's, not of the command: 125."""
    environ = os.environ | {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    done = cli("run", "--rm", "-c", "1", "host", env=environ, check=125)
    assert done.stderr.startswith("error: no container engine")


def test_a_bug_is_no_exit_code_of_the_commands() -> None:
    """What nobody foresaw in run, exec and attach is a failure of mooring's, too: 125."""
    script = (
        "import mooring\n"
        "def broken(*a): raise RuntimeError('odd')\n"
        "mooring.Mooring.__init__ = broken\n"
        "from mooring_cli.main import run\nrun()"
    )
    for arguments in (["run", "host"], ["exec", "x", "--", "true"], ["attach", "x"]):
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 125
        assert done.stderr.startswith("error: internal error: RuntimeError: odd\nhint: ")


def test_ctrl_c_belongs_to_the_command(cli: Cli, project: Path, mooring: Mooring) -> None:
    """Once it runs, an interrupt reaches the program, whose exit code comes back."""
    line = "trap 'echo got it; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    command = [sys.executable, "-m", "mooring_cli", "run", "--rm", "--exec", line, "host"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.readline() == "got it\n"
        assert running.wait(20) == 9
    assert mooring.sessions.list() == []


def test_run_has_a_terminal_where_there_is_one(cli: Cli, project: Path, mooring: Mooring) -> None:
    """-t and -T say whether; without them it is as it is here."""
    ask = "test -t 0 && echo a tty || echo none"
    assert cli("run", "--rm", "--exec", ask, "host", check=0).stdout == "none\n"
    done = cli("run", "--rm", "-t", "--exec", ask, "host", check=0)
    assert done.stdout.strip() == "a tty"
    for flags, answer in ((["-T"], "none"), ([], "a tty")):
        arguments = ["-m", "mooring_cli", "run", "--rm", *flags, "--exec", ask, "host"]
        child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=20)
        child.expect(f"{answer}\r\n")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


def test_run_in_the_background(cli: Cli, project: Path, mooring: Mooring) -> None:
    """-d prints the name and returns while the command goes on; --enqueue-only is the same for
    what needs no GPU."""
    began = time.monotonic()
    assert cli("run", "-d", "--name", "aa", "--exec", "sleep 50", "host", check=0).stdout == "aa\n"
    done = cli("run", "--enqueue-only", "--name", "bb", "--exec", "sleep 50", "host", check=0)
    assert done.stdout == "bb\n"
    assert time.monotonic() - began < 40
    assert {session.state for session in mooring.sessions.list()} == {State.RUNNING}
