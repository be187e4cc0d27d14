"""What a program in a session does to the user's terminal: undone, restored, and in the way of no
key and no signal."""

from __future__ import annotations

import signal

import pexpect
import pytest

pytestmark = pytest.mark.engine

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
    for number, (keyboard, keys, off) in enumerate(KEYBOARDS.values(), 1):
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
        for ending in (signal.SIGTERM, signal.SIGHUP):
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
