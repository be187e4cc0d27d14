"""How a session begins, in real containers, under each shell that may be /bin/sh."""

from __future__ import annotations

import re
import subprocess
import time

import pytest

from tests.support.docker import docker
from tests.support.guest_scripts import HOSTILE, script_names
from tests.support.yard import (
    EXEC,
    PROGRAMS,
    Session,
    Yard,
    wait_for,
)

pytestmark = [pytest.mark.engine, pytest.mark.timed]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("-c", "exit 7"), 7, ""),
        (("/nosuch",), 127, "^/nosuch: not found$"),
        (("nosuch",), 127, "^nosuch: not found$"),
        (("/etc",), 126, "^/etc: is a folder$"),
        ((f"{PROGRAMS}/settings",), 126, f"^{PROGRAMS}/settings: not executable$"),
    ],
)
def test_the_exit_code_passes_at_once(
    yard: Yard, command: tuple[str, ...], code: int, said: str
) -> None:
    """When the command ends the container ends, with its code; as a shell's if it cannot run."""
    session = yard.start(*(("/bin/sh", *command) if len(command) == 2 else command), sample_s=60)
    assert session.wait(20) == code
    assert re.search(said, docker("logs", session.id).stderr)
    assert (session.run_dir / "checked").exists() == (not said)
    if said:
        assert session.end["reason"] == {127: "missing", 126: "unrunnable"}[code]
        assert re.search(said, session.end["detail"])


@pytest.mark.parametrize(
    ("path", "code"), [("/empty:/home", 127), ("/home:/usr/bin", 126), ("/home:/home/bin", 0)]
)
def test_a_command_is_looked_for_as_a_shell_does(yard: Yard, path: str, code: int) -> None:
    """In all of PATH, and what cannot be executed is passed over; also in a terminal
    that has its size."""
    folder = yard.root / f"path-{code}"
    (folder / "bin").mkdir(parents=True)
    behind = folder / "bin" / "tool"
    behind.write_text("#!/bin/sh\nexit 0\n")
    behind.chmod(0o644 if code else 0o755)
    if code != 127:  # in front, and nothing that can be run
        (folder / "tool").write_text("")
        (folder / "tool").chmod(0o644)
    flags = ("-e", f"PATH={path}", "-v", f"{folder}:/home")
    for size in (None, (24, 80)):
        session = yard.start("tool", size=size, flags=flags, sample_s=60)
        assert session.wait(20) == code
        assert (session.run_dir / "checked").exists() == (not code)


def test_the_environment_is_handed_on_as_it_was(yard: Yard) -> None:
    """Whatever names the scripts use, a command has its own variables of those names, and those
    that a shell gives a meaning to as through any shell."""
    theirs = {name: f"theirs of {name}" for name in script_names() if name not in HOSTILE}
    env = theirs | HOSTILE | {"PATH": "/usr/bin:/bin"}
    flags = tuple(text for name, value in env.items() for text in ("-e", f"{name}={value}"))
    flags += ("--hostname", "same")
    session = yard.start("env", flags=flags, sample_s=60)
    session.wait(20)
    waiting = yard.start("sleep", "100", flags=flags, sample_s=60)
    program = ("/bin/sh", EXEC)
    plain = lines_of(waiting.exec("/bin/sh", "-c", "exec env"))
    assert {f"{name}={value}" for name, value in theirs.items()} <= plain
    assert lines_of(docker("logs", session.id)) == plain
    assert lines_of(waiting.exec(*program, "counted", "one", "--", "env")) == plain
    assert lines_of(waiting.exec(*program, "terminal", "24", "80", "--", "env")) == plain
    shell = waiting.exec("/bin/sh", "-c", f"echo env | {' '.join(program)} terminal 24 80")
    assert {f"{name}={value}" for name, value in theirs.items()} <= lines_of(shell)


def lines_of(done: subprocess.CompletedProcess[str]) -> set[str]:
    """What was printed, without the variable that bash sets at every command."""
    return {line for line in done.stdout.splitlines() if not line.startswith("_=")}


def test_an_attached_client_is_not_kept(yard: Yard) -> None:
    """The clock holds no stream open: an attached client ends with the command."""
    session = yard.start(
        "/bin/sh", "-c", "read -r line; echo got $line", flags=("-i",), sample_s=60
    )
    began = time.monotonic()
    done = subprocess.run(
        ["docker", "attach", session.id],
        input="a line\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == "got a line\n"
    assert time.monotonic() - began < 8


def test_a_command_has_default_signals_and_no_child(yard: Yard) -> None:
    """Ctrl-C reaches the command as it would without a clock, and no child is forced on it."""
    if yard.shell == "busybox":
        pytest.skip("no python in the busybox image")
    script = (
        "import os, signal, sys; "
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, "
        "[s.name for s in map(signal.Signals, range(1, 16)) "
        "if signal.getsignal(s) == signal.SIG_IGN], "
        "os.getppid(), sys.stdin.isatty(), os.tcgetpgrp(0) == os.getpgrp(), "
        "open(f'/proc/self/task/{os.getpid()}/children').read().split(), flush=True)"
    )
    session = yard.start("/usr/bin/python3", "-c", script, flags=("-t",), sample_s=60)
    assert session.wait(20) == 0
    # Python itself ignores SIGPIPE.
    assert docker("logs", session.id).stdout.rstrip() == "True ['SIGPIPE'] 1 True True []"


def test_a_new_run_forgets_the_last(yard: Yard) -> None:
    """What an earlier run left is removed, its kernels are lost, and their logs are kept."""

    def prepare(session: Session) -> None:
        session.write("end", "reason idle\n")
        session.write("hold", "99999999999\n")
        session.write("exec", "99.5\n")
        session.write("x/old", "1 1\n")
        session.write("k/one/busy", "busy 4\n")
        session.write("k/one/log", "said\n")
        session.write("k/two/exit", "1\n")

    session = yard.sampled(prepare=prepare, sample_s=60)
    assert not session.end
    assert not (session.run_dir / "hold").exists()
    assert not (session.run_dir / "exec").exists()
    assert list((session.run_dir / "x").iterdir()) == []
    assert (session.run_dir / "k/one/exit").read_text() == "lost\n"
    assert (session.run_dir / "k/one/log").read_text() == "said\n"
    assert (session.run_dir / "k/two/exit").read_text() == "1\n"
    assert session.status()["active"] == ""


@pytest.mark.parametrize("command", [(), ("sleep", "30")], ids=["alone", "command"])
def test_the_kernel_host_is_started(yard: Yard, command: tuple[str, ...]) -> None:
    """The kernel host runs as the init's child, with its output in its log."""

    def prepare(session: Session) -> None:
        (session.programs / "kernelhost").write_text("/bin/sh\nmore\n")
        (session.programs / "kernelhost.py").write_text(
            "echo host; sleep 0.3\nread -r _ _ _ parent _ </proc/$$/stat; echo parent $parent >&2\n"
        )

    session = yard.sampled(*command, prepare=prepare, sample_s=60)
    log = session.run_dir / "kernelhost.log"
    wait_for("the host's last line", lambda: log.exists() and log.read_text().count("\n") == 2)
    assert log.read_text() == "host\nparent 1\n"


def test_a_shell_has_the_size_of_its_client(yard: Yard) -> None:
    """`terminal ROWS COLS` sizes the terminal before the command sees it."""
    session = yard.sampled(sample_s=60)
    sized_exec = ("/bin/sh", EXEC, "terminal", "33", "97")
    sized = docker("exec", "-t", session.id, *sized_exec, "--", "stty", "size")
    assert sized.stdout.strip() == "33 97"
    plain = docker("exec", session.id, *sized_exec, "--", "/bin/sh", "-c", "exit 5")
    assert plain.returncode == 5
    assert list((session.run_dir / "x").iterdir()) == []
