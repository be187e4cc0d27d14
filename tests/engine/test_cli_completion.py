"""The shells complete names of sessions."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

BASH = """
source {script}
COMP_WORDS=(mooring {command} {typed})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_mooring_completion mooring
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
autoload -Uz compinit; compinit -u
source {script}
compdef_words() {{ :; }}
words=(mooring {command} {typed}) CURRENT=$(( 1 + {count} ))
_arguments() {{ print -l -- $@ }}
_mooring_completion
"""


@pytest.fixture
def script(cli, project: Path, tmp_path: Path):
    """Writes the completion of a shell; the command line is found in PATH as a user has it."""
    for name in ("bert-1", "bert-2", "other"):
        cli("create", "-d", "--name", name, check=0)
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def write(shell: str) -> Path:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        done = subprocess.run(
            ["mooring", "--show-completion", shell],
            env=environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        path = tmp_path / f"completion.{shell}"
        path.write_text(done.stdout)
        return path

    write.environ = environ  # type: ignore[attr-defined]
    return write


def run(shell: str, text: str, environ: dict[str, str]) -> str:
    done = subprocess.run(
        [shell, "-c", text], env=environ, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def test_bash(script) -> None:
    """In bash, every command that takes a session completes its name."""
    path = script("bash")
    for command in ("exec", "attach", "stop", "rm -f", "describe", "stop other"):
        text = BASH.format(script=path, command=command, typed="be")
        found = run("bash", text, script.environ).split()
        assert sorted(found) == ["bert-1", "bert-2"], command


def test_bash_completes_several_names_images_and_resources(script) -> None:
    """In bash, each name of several is completed, and so are run's image and -r's names."""
    path = script("bash")
    for command in (
        "stop bert-1",
        "start bert-1",
        "hold bert-1",
        "update bert-1",
        "describe other",
    ):
        text = BASH.format(script=path, command=command, typed="be")
        assert sorted(run("bash", text, script.environ).split()) == ["bert-1", "bert-2"], command
    said = run("bash", BASH.format(script=path, command="run", typed="ho"), script.environ)
    assert said.split() == ["host"]
    said = run("bash", BASH.format(script=path, command="run -r", typed="cuda"), script.environ)
    assert said.split() == ["cuda.device=", "cuda.shares="]


def test_bash_completes_images_of_the_engine(script, bare_image: str) -> None:
    """In bash, --image completes what the engine has, but not what mooring made for itself; it
    waits for no engine that hangs."""
    path, name = script("bash"), bare_image.partition(":")[0]
    for command in ("create --image", "run", "kernel install --image"):
        text = BASH.format(script=path, command=command, typed=name[:-1])
        assert bare_image in run("bash", text, script.environ).split(), command
    text = BASH.format(script=path, command="create --image", typed="mooring/")
    assert run("bash", text, script.environ) == "\n"
    with socket.socket(socket.AF_UNIX) as hanging:
        address = path.parent / "hangs.sock"
        hanging.bind(str(address))
        hanging.listen()
        environ = script.environ | {"DOCKER_HOST": f"unix://{address}"}
        text = BASH.format(script=path, command="create --image", typed="ho")
        began = time.monotonic()
        assert run("bash", text, environ).split() == ["host"]
        assert time.monotonic() - began < 5


def test_bash_completes_commands_and_options(script) -> None:
    """In bash, commands and options complete too, and what fits nothing stays empty."""
    path = script("bash")
    said = run("bash", BASH.format(script=path, command="", typed="at"), script.environ)
    assert said.split() == ["attach"]
    said = run("bash", BASH.format(script=path, command="ps", typed="--qu"), script.environ)
    assert said.split() == ["--quiet"]
    assert run("bash", BASH.format(script=path, command="exec", typed="zz"), script.environ) == "\n"


def test_bash_completes_the_sides_of_a_copy(script, project: Path) -> None:
    """In bash, cp's sides are sessions with a colon, or its home, and files of this machine."""
    (project / "bert-file").touch()
    (project / "beside").mkdir()
    sessions = ["bert-1:", "bert-1:~/", "bert-2:", "bert-2:~/"]
    for command in ("cp", "cp here"):
        text = BASH.format(script=script("bash"), command=command, typed="be")
        said = run("bash", text, script.environ).split()
        assert said == [*sessions, "bert-file", "beside/"], command
    for typed in ("zz", "./be", "bert-1:x"):  # the shell's own: files
        text = BASH.format(script=script("bash"), command="cp", typed=typed)
        assert run("bash", text, script.environ) == "\n", typed


def test_zsh(script) -> None:
    """In zsh, the names that fit are offered."""
    text = ZSH.format(script=script("zsh"), command="exec", typed="be", count=2)
    said = run("zsh", text, script.environ)
    assert "bert-1" in said
    assert "bert-2" in said
    assert "other" not in said
    text = ZSH.format(script=script("zsh"), command="cp", typed="bert-1", count=2)
    assert r"bert-1\:" in run("zsh", text, script.environ)  # a bare colon would end the word


def test_fish(script) -> None:
    """In fish, the names that fit are offered."""
    text = f"source {script('fish')}; complete -C 'mooring exec be'"
    lines = run("fish", text, script.environ).split()
    assert sorted(line for line in lines if "bert" in line) == ["bert-1", "bert-2"]
    assert "other" not in lines


def test_completion_needs_no_engine(script) -> None:
    """Names complete while the engine is down, and a broken state prints nothing at the prompt."""
    environ = script.environ | {"DOCKER_HOST": "unix:///nonexistent"}
    text = BASH.format(script=script("bash"), command="stop", typed="oth")
    assert run("bash", text, environ).split() == ["other"]
    broken = environ | {"MOORING_STATE_DIR": "/proc/nonexistent"}
    assert run("bash", text, broken) == "\n"
