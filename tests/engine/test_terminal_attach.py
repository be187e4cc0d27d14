"""mooring create, attach and exec as a terminal that a person sits at."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from mooring.sessions.model import State

pytestmark = pytest.mark.engine

DETACH = "\x10\x11"  # ctrl-p,ctrl-q


def ended(child: pexpect.spawn[str]) -> int | None:
    """Its exit code, once it has ended."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def ask(child: pexpect.spawn[str], command: str, answer: str) -> str:
    """Type a command into the shell; the part of its answer that the group holds.

    The answer is told from the command's echo by a mark that only the shell puts together.
    """
    child.sendline(f"echo A''B $({command}) E''F")
    child.expect(f"AB {answer} EF")
    return str(child.match.group(1))


def test_create_attaches_and_the_exit_code_comes_back(terminal, mooring) -> None:
    """`create` at a terminal is a shell in the session; `exit 7` ends both, and the code is 7."""
    child = terminal("create", "--name", "here")
    child.expect("session here; detach with ctrl-p,ctrl-q")
    ask(child, "echo $MOORING_SESSION", "(here)")
    child.sendline("exit 7")
    assert ended(child) == 7
    session = mooring.sessions.get("here")
    assert (session.state, session.exit_code) == (State.STOPPED, 7)


def test_detach_and_come_back_to_the_same_shell(terminal, mooring, cli) -> None:
    """The detach keys leave the shell as it is; `attach` comes back to it, variables and all."""
    child = terminal("create", "--name", "mine")
    ask(child, "echo ok", "(ok)")
    child.sendline("KEPT=yes; cd /tmp")
    pid = ask(child, "echo $$", r"(\d+)")
    child.send(DETACH)
    child.expect("detached from mine; to attach again: mooring attach mine")
    assert ended(child) == 0
    assert mooring.sessions.get("mine").state is State.RUNNING
    again = terminal("attach")
    assert ask(again, "echo $KEPT $PWD $$", r"(yes /tmp \d+)") == f"yes /tmp {pid}"
    again.sendline("exit 3")
    assert ended(again) == 3
    assert mooring.sessions.get("mine").exit_code == 3


def test_the_prompt_is_there_after_attaching(terminal) -> None:
    """Who attaches sees the prompt without typing anything."""
    child = terminal("create", "--name", "loud", "--", "bash", "--norc")
    ask(child, "echo ok", "(ok)")
    child.sendline("PS1=pr0''mpt:")
    child.expect("pr0mpt:")
    child.send(DETACH)
    assert ended(child) == 0
    again = terminal("attach", "loud")
    again.expect("pr0mpt:")


@pytest.mark.parametrize("how", ["create", "exec", "attach"])
def test_the_size_is_right_at_once_and_after_each_resize(terminal, cli, how) -> None:
    """The first command sees this terminal's size, and a program inside hears of every change."""
    # not a shell: bash loses a SIGWINCH that comes while its trap for one runs; and no print(),
    # which may not be called while it runs
    program = (
        "import os, signal, time; "
        'show = lambda *_: os.write(1, b"%d %d\\n" % tuple(os.get_terminal_size())[::-1]); '
        "signal.signal(signal.SIGWINCH, show); show(); time.sleep(1000)"
    )
    if how == "create":
        child = terminal("create", "--name", "sized", "--", "python3", "-c", program)
    else:
        cli("create", "-d", "--name", "sized", check=0)
        command = ["--", "python3", "-c", program] if how == "exec" else []
        child = terminal(how, "sized", *command)
    if how == "attach":
        assert ask(child, "stty size", r"(\d+ \d+)") == "31 97"
        child.sendline(f"python3 -c '{program}'")
    child.expect("31 97")
    for rows, columns in ((50, 120), (10, 40), (24, 80)):
        child.setwinsize(rows, columns)
        child.expect(f"{rows} {columns}")


def test_keys_go_to_the_program(terminal, cli) -> None:
    """Ctrl-C, Ctrl-Z and Ctrl-D belong to the program inside, not to mooring."""
    cli("create", "-d", "--name", "keys", check=0)
    child = terminal("exec", "keys", "--", "cat", "-v")
    child.sendline("hello")
    child.expect("hello\r\nhello")
    child.sendcontrol("c")
    assert ended(child) == 130
    child = terminal("exec", "keys", "--", "sh", "-c", "stty raw -echo; echo ready; cat -v")
    child.expect("ready")
    child.send("\x03\x1a\x04\x1c")
    child.expect_exact("^C^Z^D^\\")


def test_this_terminal_is_as_before_afterwards(terminal, cli, project) -> None:
    """However it ends, the terminal's modes are put back: left, ended, or told to go."""
    cli("create", "-d", "--name", "modes", check=0)
    attach = f"{shlex.quote(sys.executable)} -m mooring_cli attach modes"
    for end in ("detach", signal.SIGTERM):
        shell = pexpect.spawn("bash", ["--norc"], encoding="utf-8", timeout=20)
        shell.delaybeforesend = None
        shell.sendline("stty -g > before; echo $$ > pid; PS1=")
        shell.sendline(attach)
        ask(shell, "echo $MOORING_SESSION", "(modes)")
        if end == "detach":
            shell.send(DETACH)
            shell.expect("detached from modes")
        else:
            parent = (project / "pid").read_text().strip()
            (client,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            os.kill(int(client), end)
            deadline = time.monotonic() + 20
            while Path(f"/proc/{client}").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        ask(shell, "echo ${MOORING_SESSION-out}", "(out)")
        shell.sendline("stty -g > after; echo wri''tten")
        shell.expect("written")
        shell.close(force=True)
        assert (project / "after").read_text() == (project / "before").read_text()


def test_detach_from_an_exec(terminal, mooring) -> None:
    """Leaving an exec's terminal leaves its command running, and says so, and nothing else."""
    assert ended(terminal("create", "-d", "--name", "busy")) == 0
    child = terminal("exec", "--detach-keys", "ctrl-a,x", "busy", "--", "sh", "-c", "echo on; cat")
    child.expect("on")
    child.send("\x01x")
    child.expect("detached from t1 of busy; to attach again: mooring attach busy t1")
    assert ended(child) == 0
    assert "attach failed" not in child.before


def test_attach_without_a_name(terminal, cli) -> None:
    """Without a name it is the only running session; none or several is a telling error."""
    done = cli("attach", check=125)
    assert done.stderr == "error: no session is running\nhint: to create one: mooring create\n"
    cli("create", "-d", "--name", "one", check=0)
    cli("create", "-d", "--name", "two", check=0)
    done = cli("attach", check=125)
    assert done.stderr.startswith("error: 2 sessions are running: two, one\nhint: name one")
    cli("stop", "two", check=0)
    child = terminal("attach")
    child.expect("session one;")
    ask(child, "echo $MOORING_SESSION", "(one)")


def test_a_session_of_kernels_opens_a_shell(terminal, cli, mooring) -> None:
    """A session without a main terminal opens a new shell, says so, and outlives it."""
    cli("create", "--name", "nb", "--kernel", "python3", check=0)
    child = terminal("attach", "nb")
    child.expect("nb runs kernels and has no main terminal; opening a new shell")
    ask(child, "echo $MOORING_SESSION", "(nb)")
    child.sendline("exit 4")
    assert ended(child) == 4
    assert mooring.sessions.get("nb").state is State.RUNNING


def test_a_killed_terminal_can_be_taken_up_again(terminal, mooring) -> None:
    """`kill -9` of the attached client leaves the session and its shell; `attach` finds both."""
    child = terminal("create", "--name", "tough")
    pid = ask(child, "echo $$", r"(\d+)")
    child.kill(signal.SIGKILL)
    child.expect(pexpect.EOF)
    assert mooring.sessions.get("tough").state is State.RUNNING
    again = terminal("attach", "tough")
    assert ask(again, "echo $$", r"(\d+)") == pid
    again.kill(signal.SIGKILL)
    again.expect(pexpect.EOF)
    assert ask(terminal("attach", "tough"), "echo $$", r"(\d+)") == pid


def test_create_without_a_terminal_pipes(cli, project) -> None:
    """`create` with a command and no terminal is a pipe: input, its end, output, exit code."""
    done = cli(
        "create", "--rm", "--", "sh", "-c", "cat; echo err >&2; exit 5", input="in\n", check=5
    )
    assert done.stdout == "in\n"
    assert "err\n" in done.stderr
    assert cli("ps", "-q", check=0).stdout == ""


def test_rm_removes_it_when_its_shell_ends(terminal, mooring, state) -> None:
    """`create --rm` leaves no container and no folder, and still gives the exit code."""
    child = terminal("create", "--rm", "--name", "brief")
    ask(child, "echo ok", "(ok)")
    child.sendline("exit 6")
    assert ended(child) == 6
    assert mooring.sessions.list() == []
    assert list((state / "sessions").iterdir()) == []
    assert mooring.sessions.past("brief").exit_code == 6


def test_detached_create_prints_its_name_and_returns(cli, mooring) -> None:
    """`create -d` prints the name alone on standard output; the session runs its command."""
    done = cli("create", "-d", "--name", "back", "--", "sh", "-c", "echo hi; sleep 100", check=0)
    assert done.stdout == "back\n"
    assert mooring.sessions.get("back").state is State.RUNNING
    deadline = time.monotonic() + 10
    while "hi" not in cli("logs", "back", check=0).stdout:
        assert time.monotonic() < deadline


def test_interrupting_an_attached_pipe_reaches_the_command(mooring, project) -> None:
    """Ctrl-C of an attached `create` without a terminal belongs to the program inside."""
    script = "trap 'echo caught; exit 8' INT; echo ready; while :; do sleep 0.1; done"
    command = [
        sys.executable,
        "-m",
        "mooring_cli",
        "create",
        "--name",
        "p",
        "--",
        "sh",
        "-c",
        script,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(timeout=20) == 8


def test_consent_is_asked_for_at_a_terminal(terminal, project, tmp_path, mooring) -> None:
    """What a file wants beyond its folder is asked for; no is an error, yes is remembered."""
    (tmp_path / "data").mkdir()
    (project / "session.yml").write_text("name: asked\ninputs: [../data]\n")
    child = terminal("create", "-d", "-f", "session.yml")
    child.expect(re.escape("uses paths outside its folder:"))
    child.expect(re.escape(str(tmp_path / "data")))
    child.expect(r"as it is now\?")
    child.sendline("n")
    child.expect("read it, then trust it: mooring trust")
    assert ended(child) == 1
    assert mooring.sessions.list() == []
    child = terminal("create", "-d", "-f", "session.yml")
    child.expect(r"as it is now\?")
    child.sendline("y")
    assert ended(child) == 0
    assert mooring.sessions.get("asked").state is State.RUNNING
    child = terminal("create", "-d", "-f", "session.yml", "--name", "unasked")
    assert ended(child) == 0


LATE = """
import time
import mooring.terminals.pump as terminals
from mooring.client import Mooring
ask = terminals.exit_code
def late(stream):
    while Mooring().sessions.list():
        time.sleep(0.05)
    return ask(stream)
terminals.exit_code = late
from mooring_cli.main import run
run()
"""


def test_the_exit_code_survives_a_removal_by_others(mooring, project) -> None:
    """With `--rm`, another command may tidy up before the code was asked; it still comes back."""
    command = [sys.executable, "-c", LATE, "create", "--rm", "--name", "gone", "--"]
    done = subprocess.run(
        [*command, "sh", "-c", "exit 21"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode == 21, done.stderr
