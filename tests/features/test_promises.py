"""What sessions do when nobody looks: waits, ends, dropped clients, deadlines."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.sessions.model import State
from tests.conftest import Background, Cli
from tests.features.conftest import Open
from tests.support.docker import inspect
from tests.support.registry import SlowRegistry, slow_registry
from tests.support.waiting import eventually

__all__ = ["slow_registry"]
pytestmark = pytest.mark.engine


def test_waiting_for_a_pull_is_told(
    cli: Cli, mooring: Mooring, slow_registry: SlowRegistry, background: Background
) -> None:
    """The image is named, here and in ps, with how far it is; stop elsewhere cancels it."""
    with background("create", "--name", "one", "--image", slow_registry.image) as waiting:
        assert waiting.stderr
        assert waiting.stderr.readline() == f"pulling {slow_registry.image}\n"
        eventually(lambda: "% of" in mooring.sessions.get("one").waiting)
        assert f"pulling {slow_registry.image}" in cli("why", "one", check=0).stdout
        assert cli("stop", "one", check=0).stdout == "one\n"
        assert waiting.wait(20) == 1
    assert mooring.sessions.list() == []


def test_ctrl_c_while_it_waits(
    mooring: Mooring, slow_registry: SlowRegistry, terminal: Open, state: Path
) -> None:
    """An interrupted pull leaves no session, no folder, and its name is free."""
    child = terminal("create", "--name", "one", "--image", slow_registry.image)
    child.expect(r"pulling [^ ]+: \d+% of")
    child.sendintr()
    assert child.code() == 130
    assert mooring.sessions.list() == []
    assert list((state / "sessions").iterdir()) == []


def test_ctrl_c_is_the_programs(terminal: Open, mooring: Mooring) -> None:
    """Once attached it reaches what runs inside, and nothing of mooring ends by it."""
    script = "trap 'echo caught it; exit 8' INT; echo rea''dy; while :; do sleep 0.1; done"
    child = terminal("create", "--name", "one", "--", "sh", "-c", script)
    child.expect("ready")
    child.sendintr()
    child.expect("caught it")
    assert child.code() == 8


def test_leaving_ends_nothing_but_the_main_process(
    terminal: Open, cli: Cli, mooring: Mooring
) -> None:
    """`exit` of another shell, and the keys that leave, keep the session; `exit` of its main
    process ends it."""
    child = terminal("create", "--name", "one")
    child.ask("echo up")
    child.leave()
    other = terminal("exec", "one")
    other.ask("echo up")
    other.sendline("exit")
    assert other.code() == 0
    assert mooring.sessions.get("one").state is State.RUNNING
    again = terminal("attach", "one")
    again.ask("echo up")
    again.sendline("exit 4")
    assert again.code() == 4
    eventually(lambda: mooring.sessions.get("one").state is State.STOPPED)
    assert mooring.sessions.get("one").exit_code == 4


def test_exit_codes_are_faithful(cli: Cli, project: Path, slow_registry: SlowRegistry) -> None:
    """The command's own for create, run and exec, also of a signal; 3 when a wait ran out."""
    cli("create", "--rm", "--", "sh", "-c", "exit 42", check=42)
    cli("run", "--rm", "--exec", "kill -KILL $$", "host", check=137)
    cli("create", "-d", "--name", "one", check=0)
    for code in (3, 125):
        cli("exec", "one", "--", "sh", "-c", f"exit {code}", check=code)
    cli("create", "--max-wait", "1s", "--image", slow_registry.image, check=3)
    cli("create", "--no-such-flag", check=2)
    assert cli("ps", "-q", check=0).stdout == "one\n"


def test_resume_after_a_killed_client(terminal: Open, cli: Cli, mooring: Mooring) -> None:
    """A client that is killed in the middle of output loses nothing: the next one is shown all,
    in order and once, and is in the same shell."""
    child = terminal("create", "--name", "one", "--", "bash", "--norc")
    pid = child.ask("echo $$")
    printing = "import time; [(print('line', i, 'of it'), time.sleep(0.001)) for i in range(2000)]"
    child.sendline(f'python3 -uc "{printing}"; echo d""one')
    child.expect("line 100 of it")
    child.kill(signal.SIGKILL)
    child.close(force=True)
    again = terminal("attach", "--replay", "all", "one")
    again.expect("\ndone\r\n", timeout=60)
    shown = [line for line in again.before.splitlines() if line.startswith("line ")]
    assert shown == [f"line {number} of it" for number in range(2000)]
    assert again.ask("echo $$") == pid


def test_any_image_keeps_terminals(terminal: Open, cli: Cli, mooring: Mooring, image: str) -> None:
    """Busybox has no tmux: it is said, and a terminal is kept all the same."""
    child = terminal("create", "--tmux", "--image", image, "--name", "one")
    child.expect("has no tmux; attaching to a terminal of the session")
    child.ask("echo up")
    child.sendline("KEPT=yes")
    assert child.ask("echo $KEPT") == "yes"
    child.kill(signal.SIGKILL)
    child.close(force=True)
    listed = json.loads(cli("terminals", "--json", "one", check=0).stdout)
    assert [one["id"] for one in listed] == ["main"]
    again = terminal("attach", "one")
    assert again.ask("echo $KEPT") == "yes"
    again.leave()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed here")
def test_any_image_with_tmux_uses_it(terminal: Open, cli: Cli) -> None:
    """A client that was killed in tmux comes back to the same window of it."""
    cli("create", "-d", "--name", "one", check=0)
    child = terminal("attach", "one", "--tmux")
    assert "/tmux-" in child.ask("echo $TMUX")
    pid = child.ask("echo $$")
    child.kill(signal.SIGKILL)
    child.close(force=True)
    again = terminal("attach", "one", "--tmux")
    assert again.ask("echo $$") == pid
    again.leave()


BUSY = "nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & while :; do sleep 1; done"
QUIET = "nohup sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 & while :; do sleep 1; done"


def in_background(cli: Cli, name: str, script: str, idle: str, longest: str) -> None:
    flags = ["--idle-timeout", idle, "--max-duration", longest]
    cli("create", "-d", "--name", name, *flags, "--", "sh", "-c", script, check=0)


def runs(container: str) -> bool:
    """By the engine's own account."""
    return bool(inspect(container)["State"]["Running"])


def test_lifetime_really_ends_it(cli: Cli, project: Path, mooring: Mooring) -> None:
    """At its maximum the container has ended, whatever works in it, and it is said why."""
    in_background(cli, "long", BUSY, idle="off", longest="3s")
    container = mooring.sessions.get("long").container
    eventually(lambda: not runs(container), 40)
    assert mooring.sessions.get("long").state is State.STOPPED
    assert "maximum duration" in cli("why", "long", check=0).stdout


def test_training_is_work_and_a_stalled_run_is_none(
    cli: Cli, project: Path, mooring: Mooring
) -> None:
    """Nobody is attached to either: the one that uses CPU stays, the other really ends."""
    in_background(cli, "training", BUSY, idle="4s", longest="off")
    in_background(cli, "stalled", QUIET, idle="4s", longest="off")
    containers = {one.name: one.container for one in mooring.sessions.list()}
    eventually(lambda: not runs(containers["stalled"]), 60)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        assert runs(containers["training"])
        time.sleep(0.2)
    (row,) = json.loads(cli("ps", "--json", "--filter", "name=training", check=0).stdout)
    assert "cpu" in row["active_signals"]
    told = cli("why", "stalled", check=0).stdout
    assert "idle timeout" in told
    assert "signals" in told
