"""ssh NAME: commands and shells of a session, as its user has them with the real client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import asyncssh
import pexpect
import pytest

from mooring.client import Mooring
from tests.ssh.conftest import Cli, Client
from tests.support.memory import peak_kib
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

PROXY = [sys.executable, "-m", "mooring_cli", "ssh-proxy", "box"]


def test_a_command_has_its_streams_its_end_of_input_and_its_exit_code(ssh: Client) -> None:
    """Output and errors stay apart, the shell's syntax holds, and no key or question is needed."""
    done = ssh.run("box", "cat; echo 'no  thing' >&2; exit 7", input=b"\0\xff in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"\0\xff in\n", b"no  thing\n")
    assert ssh.run("box", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    assert ssh.run("-o", "BatchMode=yes", "anybody@box", "true").returncode == 0
    assert ssh.run("box", "nosuchcommand").returncode == 127
    assert ssh.text("cd ~ && pwd && echo $HOME; [ ! -t 0 ] && echo piped") .split() == [
        os.path.expanduser("~"), os.path.expanduser("~"), "piped",
    ]  # fmt: skip


def test_the_environment_is_that_of_mooring_exec_and_what_sshd_takes(ssh: Client, cli: Cli) -> None:
    """LANG, LC_* and TERM of the client; nothing else of it, and all of the session's own."""
    sent = ["-o", "SendEnv=LANG LC_X EDITOR LD_PRELOAD"]
    environ = os.environ | {"LANG": "de_DE", "LC_X": "a b", "EDITOR": "no", "LD_PRELOAD": ""}
    text = ssh.run(*sent, "box", "env", env=environ, check=0).stdout.decode()
    found = dict(line.split("=", 1) for line in text.splitlines())
    own = cli("exec", "box", "--", "env", check=0).stdout
    expected = dict(line.split("=", 1) for line in own.splitlines())
    assert (found["LANG"], found["LC_X"]) == ("de_DE", "a b")
    assert "EDITOR" not in found
    assert "SSH_AUTH_SOCK" not in found
    same = expected.keys() - {"LANG", "PWD", "_", "SHLVL", "OLDPWD"}
    assert {name: found.get(name) for name in same} == {name: expected[name] for name in same}


def test_a_login_shell_keeps_the_sessions_own_path_in_front(ssh: Client, cli: Cli) -> None:
    """Debian's /etc/profile sets PATH anew; an image's own programs must not vanish by that."""
    path = cli("exec", "box", "--", "sh", "-c", "echo $PATH", check=0).stdout.strip()
    said = ssh.run("box", input=b"echo [$PATH]; pwd\n", check=0).stdout.decode().split()
    assert said[0].startswith(f"[{path}")
    assert said[1] == os.path.expanduser("~")


def test_what_there_is_not_is_refused(ssh: Client) -> None:
    """Another subsystem, a listener for -R, and X11."""
    done = ssh.run("-s", "box", "netconf")
    assert done.returncode == 255
    assert b"subsystem request failed" in done.stderr
    done = ssh.run("-o", "ExitOnForwardFailure=yes", "-R", "0:localhost:1", "box", "true")
    assert done.returncode == 255
    assert b"remote port forwarding failed" in done.stderr


def test_a_session_that_does_not_run_is_told_of_in_a_line_and_a_hint(ssh: Client, cli: Cli) -> None:
    """Before there is a connection, and on one that is open."""
    control = ["-o", f"ControlPath={ssh.config.parent}/c", "-o", "ControlPersist=20"]
    master = ssh.options("-fN", "-o", "ControlMaster=yes", *control, "box")
    subprocess.run(["ssh", *master], check=True, timeout=30)  # it keeps standard error open
    cli("stop", "box", check=0)
    for options in ([], control):
        done = ssh.run(*options, "box", "true")
        lines = done.stderr.decode().splitlines()
        assert done.returncode == 255
        assert lines[0].startswith("error: session box is stopped")
        assert lines[1] == "hint: start it again: mooring start box"
    cli("start", "box", check=0)
    assert ssh.run(*control, "box", "echo again").stdout == b"again\n"
    ssh.run("-O", "exit", *control, "box", check=0)


def test_one_connection_has_many_channels(ssh: Client) -> None:
    """ControlMaster: further commands are there at once, each with its own exit code."""
    control = ["-o", f"ControlPath={ssh.config.parent}/c"]
    master = ["-fN", "-o", "ControlMaster=yes", "-o", "ControlPersist=30", *control]
    subprocess.run(["ssh", *ssh.options(*master, "box")], check=True, timeout=30)
    running = [
        ssh.start(*control, "box", f"cat; echo {number}; exit {number}") for number in range(10)
    ]
    for number, process in enumerate(running):
        out, _ = process.communicate(b"in ", timeout=30)
        assert (process.returncode, out) == (number, b"in %d\n" % number)
    ssh.run("-O", "exit", *control, "box", check=0)


def test_another_client_can_send_signals(ssh: Client) -> None:
    """OpenSSH's client sends none; others do, and the whole process group gets them."""

    async def talk() -> int | None:
        async with asyncssh.connect("box", proxy_command=PROXY, known_hosts=None) as connection:
            process = await connection.create_process("sleep 100 | sleep 100")
            await asyncio.sleep(1)
            process.send_signal("TERM")
            return (await process.wait(timeout=20)).returncode

    assert asyncio.run(talk()) == 128 + signal.SIGTERM


# terminals


Shell = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def shell(ssh: Client) -> Iterator[Shell]:
    """Starts ssh at a terminal of 31 rows and 97 columns."""
    opened: list[pexpect.spawn[str]] = []

    def start(*words: str) -> pexpect.spawn[str]:
        child = pexpect.spawn(
            "ssh", ssh.options(*words, "box"), encoding="utf-8", timeout=20, dimensions=(31, 97),
            env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip
        child.delaybeforesend = None
        opened.append(child)
        return child

    yield start
    for child in opened:
        child.close(force=True)


def test_a_terminal_has_the_clients_size_keys_and_exit_code(shell: Shell) -> None:
    """Also a size that changes, Ctrl-C, and a program of its own."""
    child = shell()
    child.sendline("echo $TERM $(stty size) $(tty | cut -c 1-8)")
    child.expect_exact("xterm 31 97 /dev/pts")
    child.setwinsize(40, 120)
    child.sendline("until stty size | grep '^40'; do sleep 0.1; done; echo si''zed")
    child.expect_exact("40 120")
    child.expect_exact("sized")
    child.sendline("sh -c \"echo sle''eping; exec sleep 100\"")
    child.expect_exact("sleeping")
    child.sendintr()
    child.sendline("echo ag''ain")
    child.expect_exact("again")
    child.sendline("exit 5")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 5


def test_a_terminal_outlives_its_connection(shell: Shell, cli: Cli) -> None:
    """It is one of the session's own: listed by its command, and there is more to it than ssh."""
    child = shell("-t")
    child.sendline("kept=$((6 * 7)); echo re''ady")
    child.expect_exact("ready")
    child.send("\r~.")
    child.expect(pexpect.EOF)
    rows = cli("terminals", "box", check=0).stdout.splitlines()
    assert re.search(r"^t1 +running +0 .*\(shell\)", rows[-1])
    again = pexpect.spawn(
        sys.executable, ["-m", "mooring_cli", "attach", "box", "t1"], encoding="utf-8", timeout=20
    )
    again.sendline("echo $kept; exit 3")
    again.expect_exact("42")
    again.expect(pexpect.EOF)
    again.wait()
    assert again.exitstatus == 3


def test_a_terminal_for_a_command_and_without_one_here(ssh: Client, cli: Cli) -> None:
    """ssh -tt from a script: a usual size, and an end of input that ends nothing."""
    done = ssh.run("-tt", "box", "stty size; sleep 0.5; tty; exit 4")
    assert done.returncode == 4
    assert done.stdout.startswith(b"24 80\r\n/dev/pts/")
    assert "t1" not in cli("terminals", "box", check=0).stdout


# clients that go, and programs that do not stop


def inside(ssh: Client, pattern: str) -> list[str]:
    """Command lines of the session's processes with a pattern, except those that look."""
    lines = ssh.text("ps -eo args").splitlines()
    return [line for line in lines if re.search(pattern, line) and "ps -eo" not in line]


def test_a_client_that_is_killed_ends_what_reads_or_writes(ssh: Client) -> None:
    """As closed pipes would; what is silent goes on, as with sshd."""
    for command, pattern in (
        ("yes loud", "^yes loud"),
        ("yes piped | cat", "^yes piped"),
        ("cat; echo over > ~/over", "-c cat; echo over"),
        ("sleep 4321", "^sleep 4321"),
    ):
        process = ssh.start("box", command, stdout=subprocess.DEVNULL)
        eventually(lambda pattern=pattern: inside(ssh, pattern), 20)
        process.kill()
        process.communicate()
    eventually(lambda: not inside(ssh, "^yes"), 20)
    eventually(lambda: "over" in ssh.text("cat ~/over 2>&1; true"), 20)
    assert inside(ssh, "^sleep 4321") != []


def proxies() -> list[int]:
    """The proxies of this test's installation."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                    words = file.read()
                with open(f"/proc/{entry.name}/environ", "rb") as file:
                    state = os.environ["MOORING_STATE_DIR"].encode()
                    if b"ssh-proxy\0box" in words and state in file.read():
                        found.append(int(entry.name))
    return found


def test_floods_are_held_back_with_little_memory(ssh: Client) -> None:
    """Output that nobody reads, input that nobody or hardly anybody takes, control sequences."""
    noise = "while :; do printf '\\033]0;x\\007\\033[2J\\033c'; done"
    with open("/dev/zero", "rb") as endless:
        running = [
            ssh.start("box", "cat /dev/zero"),
            ssh.start("-tt", "box", noise),
            ssh.start("box", "sleep 100", stdin=endless),
            ssh.start("box", "while head -c 9999 >/dev/null; do sleep 0.03; done", stdin=endless),
        ]
    eventually(lambda: len(proxies()) == 4, 20)
    time.sleep(4)
    before = {pid: peak_kib(pid) for pid in proxies()}
    assert len(before) == 4, "a proxy has ended"
    time.sleep(2)
    assert max(before.values()) < 150 << 10
    for pid, peak in before.items():
        assert peak_kib(pid) < peak + (32 << 10), "it takes ever more"
    assert ssh.text("echo still here") == "still here\n"
    for process in running:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    eventually(lambda: not proxies(), 20)


def test_a_command_counts_as_activity_until_it_ends(ssh: Client, mooring: Mooring) -> None:
    """As one of mooring exec: the session's clock knows of it."""
    run = mooring._ctx.folder(mooring.sessions.get("box").id).run
    process = ssh.start("box", "echo up; cat")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert len(os.listdir(run / "x")) == 1
    process.communicate(b"")
    assert process.returncode == 0
