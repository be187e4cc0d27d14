"""mooring exec as a pipe: bytes, ends, signals and exit codes."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.errors import SessionStateError
from mooring.sessions.model import State
from tests.support.memory import peak_kib

pytestmark = pytest.mark.engine

MOORING = [sys.executable, "-m", "mooring_cli"]
SIZE = 64 << 20


@pytest.fixture
def name(cli: Callable[..., subprocess.CompletedProcess[str]], project: Path) -> str:
    cli("create", "-d", "--name", "pipe", check=0)
    return "pipe"


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "64MB"
    path.write_bytes(os.urandom(SIZE))
    return path


def wait_until(what: str, true: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


def inside(mooring: Mooring, words: str) -> bool:
    """Whether a process runs whose command line is exactly that; seen from this machine."""
    wanted = words.replace(" ", "\0").encode() + b"\0"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes() == wanted:
                    return True
            except OSError:
                continue
    return False


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the command line in the background; whatever still runs afterwards is killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **options) -> subprocess.Popen[bytes]:
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE} | options
        processes.append(subprocess.Popen([*MOORING, *arguments], **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_64_mb_in_arrive_whole_and_the_end_of_input_too(name, big, started) -> None:
    """What is piped in arrives byte for byte, then its end; memory does not grow with it."""
    with big.open("rb") as source:
        process = started("exec", name, "--", "sha256sum", stdin=source)
        assert process.stdout is not None
        peak = 0
        while process.poll() is None:
            peak = max(peak, peak_kib(process.pid))
            time.sleep(0.02)
    said = process.stdout.read().decode().split()[0]
    assert process.returncode == 0
    assert said == hashlib.sha256(big.read_bytes()).hexdigest()
    assert 0 < peak < 100 << 10


def test_64_mb_out_arrive_whole(name, project, big, started) -> None:
    """What the command prints arrives byte for byte, however slowly it is read."""
    local = project / "big"
    local.write_bytes(big.read_bytes())
    process = started("exec", "-n", name, "--", "cat", str(local))
    digest, count, peak = hashlib.sha256(), 0, 0
    assert process.stdout is not None
    while chunk := process.stdout.read(1 << 20):
        digest.update(chunk)
        count += len(chunk)
        peak = max(peak, peak_kib(process.pid))
    assert process.wait() == 0
    assert count == SIZE
    assert digest.hexdigest() == hashlib.sha256(local.read_bytes()).hexdigest()
    assert 0 < peak < 100 << 10


def test_exit_codes_and_streams_are_the_commands_own(cli, name) -> None:
    """The exit code is the command's; its two output streams stay apart."""
    done = cli("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 42", check=42)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    assert cli("exec", name, "--", "sh", "-c", "kill -9 $$").returncode == 137
    done = cli("exec", name, "--", "nosuchcommand", check=127)
    assert done.stderr == "nosuchcommand: not found\n"
    done = cli("exec", name, "--", "/etc", check=126)
    assert done.stderr == "/etc: is a folder\n"


def test_a_command_that_closes_its_output_is_waited_for(cli, name) -> None:
    """The exit code is told even if the output ended long before the command did."""
    cli("exec", name, "--", "sh", "-c", "exec >&- 2>&-; sleep 1.5; exit 7", check=7)


def test_moorings_own_failure_is_125(cli, name) -> None:
    """A failure that is not the command's has an exit code of its own, with error and hint."""
    done = cli("exec", "nosuch", "--", "true", check=125)
    assert done.stderr == "error: no session named nosuch\nhint: choose from: pipe\n"
    cli("exec", "--env", "SURELY_NOT_SET", name, "--", "true", check=125)
    cli("stop", name, check=0)
    done = cli("exec", name, "--", "true", check=125)
    assert "hint: start it again: mooring start pipe" in done.stderr


def test_a_folder_that_is_not_there_is_told(cli, name) -> None:
    """--workdir with no such folder in the session is one error with a hint, and nothing runs."""
    done = cli("exec", "-w", "/no such", name, "--", "echo", "ran", check=125)
    assert done.stdout == ""
    assert done.stderr.startswith("error: there is no folder /no such in the session\nhint: ")
    done = cli("exec", "-w", "/etc/passwd", name, "--", "echo", "ran", check=125)
    assert "error: /etc/passwd is not a folder in the session\nhint: " in done.stderr
    assert cli("exec", "-w", "/etc", name, "--", "pwd", check=0).stdout == "/etc\n"


def test_a_session_that_has_just_stopped_is_told(cli, mooring, name) -> None:
    """Between the look at a session and its exec it may stop: said as if it had been before."""
    session = mooring.sessions.get_running(name)
    cli("stop", name, check=0)
    for begin in (
        lambda: mooring.sessions.exec(session, ["true"], stdin=False),
        lambda: mooring.terminals.open(session, ["true"], size=(24, 80)),
    ):
        with pytest.raises(SessionStateError, match="session pipe is stopped") as raised:
            begin()
        assert raised.value.hint == "start it again: mooring start pipe"


def test_options_after_the_name_are_not_run(cli, name) -> None:
    """An option that stands where the command begins is a usage error, not a program."""
    done = cli("exec", name, "--workdir", "/", "ls", check=2)
    assert "option --workdir must come before NAME" in done.stderr


def test_workdir_and_environment(cli, name) -> None:
    """--workdir and --env reach the command; nothing else of this environment does."""
    arguments = ["--workdir", "/tmp", "--env", "A=b c", "-e", "FROM_HERE", name]
    environ = os.environ | {"FROM_HERE": "1=2", "NOT_ASKED": "x"}
    script = 'pwd; echo "$A $FROM_HERE ${NOT_ASKED-unset} $MOORING_SESSION"'
    done = cli("exec", *arguments, "--", "sh", "-c", script, check=0, env=environ)
    assert done.stdout == "/tmp\nb c 1=2 unset pipe\n"


def test_closed_standard_input(name) -> None:
    """With standard input closed (<&-) the command sees its end, and nothing else is read as it."""
    command = f"{shlex.join(MOORING)} exec {name} -- sh -c 'cat; echo end' <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "end\n")


def test_no_stdin_leaves_a_loops_input_alone(name) -> None:
    """-n in a `while read` loop does not eat the lines; without it, they go to the command."""
    loop = "printf '1\\n2\\n3\\n' | while read -r line; do {} $line; done"
    for flag, expected in (("-n", "got 1\ngot 2\ngot 3\n"), ("", "got 1\n")):
        command = f"{shlex.join(MOORING)} exec {flag} {name} -- sh -c 'cat; echo got $0' "
        done = subprocess.run(
            ["bash", "-c", loop.format(command)], capture_output=True, text=True, timeout=60
        )
        assert done.stdout.replace("2\n3\ngot", "got") == expected, done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_the_command_and_its_children(
    mooring, name, started, number, code
) -> None:
    """Ctrl-C and SIGTERM of an exec without a terminal end the process group inside, once."""
    seconds = f"{3000 + number}"
    process = started("exec", name, "--", "sh", "-c", f"sleep {seconds}; exit 5")
    wait_until("the child", lambda: inside(mooring, f"sleep {seconds}"))
    process.send_signal(number)
    assert process.wait(timeout=20) == code
    wait_until("the child's end", lambda: not inside(mooring, f"sleep {seconds}"))


def test_a_command_may_catch_the_signal(mooring, name, started) -> None:
    """A command that handles Ctrl-C ends as it likes, and its words and code still come back."""
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"
    process = started("exec", name, "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 9
    assert process.stdout.read() == b"caught\n"


def test_a_command_whose_reader_has_gone_is_ended(mooring, name) -> None:
    """`mooring exec NAME -- yes | head -1` prints a line, and no `yes` goes on inside."""
    command = f"{shlex.join(MOORING)} exec -n {name} -- yes mooring-test-pipe | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "mooring-test-pipe\n", "")
    wait_until("the end of yes", lambda: not inside(mooring, "yes mooring-test-pipe"))


def test_a_killed_client_leaves_session_and_command(mooring, name, started) -> None:
    """`kill -9` of an exec's client ends neither the session nor the command."""
    process = started("exec", name, "--", "sleep", "3333")
    wait_until("the command", lambda: inside(mooring, "sleep 3333"))
    process.kill()
    process.wait()
    time.sleep(0.5)  # time in which it could die wrongly
    assert inside(mooring, "sleep 3333")
    assert mooring.sessions.get(name).state is State.RUNNING


def test_many_short_commands(cli, name) -> None:
    """Twenty commands in a row each give their own output and code, none lost or mixed up."""
    script = (
        f"for i in $(seq 20); do {shlex.join(MOORING)} exec -n {name} -- sh -c "
        "'echo $0; exit $0' $i; echo \"= $?\"; done"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=100)
    assert done.stdout == "".join(f"{i}\n= {i}\n" for i in range(1, 21))


def test_output_that_comes_with_the_engines_answer_is_not_lost(mooring, name, monkeypatch) -> None:
    """A machine under load reads the engine's answer late, with the first output behind it."""
    from http.client import HTTPResponse

    begin = HTTPResponse.begin

    def late(response: HTTPResponse) -> None:
        time.sleep(0.5)
        begin(response)

    session = mooring.sessions.get(name)
    with monkeypatch.context() as patched:
        patched.setattr(HTTPResponse, "begin", late)
        stream = mooring.sessions.exec(session, ["echo", "early"], stdin=False)
    printed = b""
    while data := stream.socket().recv(4096):
        printed += data
    stream.close()
    assert printed.endswith(b"early\n")
