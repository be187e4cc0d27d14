"""What a program in a session does to the user's terminal: undone, restored, and in the way of no
key, no signal and no job control."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys

import pexpect
import pytest

pytestmark = pytest.mark.engine

MOORING = [sys.executable, "-m", "mooring_cli"]
KEYBOARDS = {
    # what a program turns on, what Ctrl-P Ctrl-Q then is, and what turns it off
    "shpool#278": (r"\033[>1u", "\x1b[112;5u\x1b[113;5u", "\x1b[<1u"),
    "abduco#71": (r"\033[>4;2m", "\x1b[27;5;112~\x1b[27;5;113~", "\x1b[>4m"),
}


def shown(child: pexpect.spawn[str]) -> str:
    """The rest of what it writes."""
    child.expect(pexpect.EOF)
    child.close()
    return str(child.before)


def test_terminals_that_programs_change(terminal, cli) -> None:
    """A client that is detached by the keys of an extended keyboard, or ended by a signal, leaves
    the user's terminal as it was; one that attaches has what the program has set (atch#34)."""
    cli("create", "-d", "--name", "changed", check=0)
    sets = r"\033[?1049h\033[3;9r\033(0\033[?1003h\033[?2004h\033[?25l"
    undone = "\x1b[?1049l \x1b[?25h \x1b[?2004l \x1b[?1003l \x1b(B \x1b[r \x1b[0m".split()
    endings = (signal.SIGTERM, signal.SIGHUP)
    pairs = zip(KEYBOARDS.values(), endings, strict=True)
    for number, ((keyboard, keys, off), ending) in enumerate(pairs, 1):
        program = f"stty raw -echo; printf '{sets}{keyboard}ready'; exec cat"
        child = terminal("exec", "changed", "--", "sh", "-c", program)
        child.expect("ready")
        child.send("typed")
        child.expect("typed")
        child.send(keys)
        child.expect(f"detached from t{number} of changed")
        assert [text for text in (*undone, off) if text not in child.before] == []
        assert child.before.index("\x1b[?1049l") < child.before.index("\x1b[?25h")
        shown(child)
        child = terminal("attach", "changed", f"t{number}")
        child.expect_exact("\x1b[?25l")
        output = str(child.before)
        child.send("more")
        child.expect("more")
        output += str(child.before)
        restored = ("\x1b[?1003h", "\x1b(0", keyboard.replace(r"\033", "\x1b"))
        assert [text for text in restored if text not in output] == []
        child.kill(ending)
        output = shown(child)
        assert [text for text in (*undone, off) if text not in output] == []


def test_a_background_job_leaves_the_terminal_alone(cli, project) -> None:
    """`exec`, `create` and `run` in the background of a shell neither stop nor read what is typed
    there nor change its modes (docker/cli#6005)."""
    cli("create", "-d", "--name", "behind", check=0)
    mooring = shlex.join(MOORING)
    shell = pexpect.spawn("bash", ["--norc", "--noediting"], encoding="utf-8", timeout=40)
    shell.delaybeforesend = None
    shell.sendline("PS1=; stty -echo; set -m; echo be''gun")
    shell.expect("begun")
    commands = [
        f"{mooring} exec behind -- sh -c 'cat; echo one'",
        f"{mooring} create --rm -- sh -c 'cat; echo two'",
        f"{mooring} run --rm --exec 'cat; echo three' host",
    ]
    shell.sendline(" & ".join(commands) + " & jobs -p >/dev/null; stty -g >before")
    shell.sendline("wait; stty -g >after; jobs; echo f''inis''hed")
    shell.expect("finished")
    output = str(shell.before)
    shell.close(force=True)
    assert "Stopped" not in output
    assert [word for word in ("one", "two", "three") if word not in output.split()] == []
    assert "\x1b[?25l" not in output
    assert (project / "before").read_text() == (project / "after").read_text()


def test_no_stdin_is_left_to_others(project, mooring) -> None:
    """`create` and `run` with -n leave a loop's lines to the loop, as `ssh -n` does; their command
    sees the end of its input."""
    command = shlex.join(MOORING)
    script = (
        f"printf 'a line\\n' | {{ {command} create -n --rm -- sh -c 'cat; echo one'; "
        f"{command} run --no-stdin --rm host --exec 'cat; echo two'; cat; }}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "one\ntwo\na line\n", done.stderr


def test_without_input_ctrl_c_is_the_commands(terminal, cli) -> None:
    """With -n at a terminal the command has none, and Ctrl-C reaches it as a signal."""
    cli("create", "-d", "--name", "deaf", check=0)
    program = "trap 'exit 9' INT; test -t 1 || echo up; while :; do sleep 0.1; done"
    for command in (["exec", "-n", "deaf"], ["create", "-n", "--rm"]):
        child = terminal(*command, "--", "sh", "-c", program)
        child.expect("up\r\n")
        child.sendintr()
        shown(child)
        assert child.exitstatus == 9
