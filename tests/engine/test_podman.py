"""Rootless Podman through the same API: sessions and kernels of a user without any rights."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.waiting import eventually
from tests.support.wheel_env import InstalledWheel
from tests.users.people import ONE_CELL, Person, foreign_files, person

pytestmark = pytest.mark.engine

NEEDED = {"podman": "podman", "newuidmap": "uidmap", "slirp4netns": "slirp4netns"}
INIT = "/usr/libexec/podman/catatonit"
TUN = Path("/dev/net/tun")
# As whoever looks at GPUs asks; Podman refuses words that it does not know
ALIVE = """
from mooring.engines import open_engine
print(len(open_engine().list({}, alive=True)))
"""


@pytest.fixture(scope="module")
def pat(installed_wheel: InstalledWheel) -> Iterator[Person]:
    """A user whose engine is their own rootless Podman, and who is in no group of any engine."""
    missing = [package for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if not any(Path(path).exists() for path in (INIT, "/usr/bin/catatonit")):
        missing.append("catatonit")
    if missing:
        pytest.skip(f"rootless Podman is not tried here: apt-get install {' '.join(missing)}")
    with contextlib.ExitStack() as stack:
        user = stack.enter_context(person("mt-pat", installed_wheel, groups=()))
        runtime = Path(f"/run/user/{user.uid}")
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(runtime, user.uid, user.gid)
        stack.callback(shutil.rmtree, runtime, ignore_errors=True)
        stack.enter_context(everybodys(TUN))
        listening = runtime / "podman" / "podman.sock"
        listening.parent.mkdir()
        os.chown(listening.parent, user.uid, user.gid)
        variables = {
            "XDG_RUNTIME_DIR": str(runtime),
            "DOCKER_HOST": f"unix://{listening}",
            "TMPDIR": str(user.folder("tmp")),  # Podman 4 leaves what it imported there
        }
        user = Person(**{**vars(user), "env": {**user.env, **variables}})
        tried = user.run("podman", "unshare", "true", check=None)
        if tried.returncode != 0:
            pytest.skip(f"rootless Podman cannot run on this machine: {tried.stderr.strip()}")
        stack.enter_context(service(user, listening))
        yield user


@contextlib.contextmanager
def everybodys(device: Path) -> Iterator[None]:
    """A device with the mode that udev gives it; minimal machines have none to do so."""
    if not device.exists():
        pytest.skip(f"rootless Podman needs {device} for its network, and it is not there")
    mode = stat.S_IMODE(device.stat().st_mode)
    device.chmod(0o666)
    try:
        yield
    finally:
        device.chmod(mode)


@contextlib.contextmanager
def service(user: Person, listening: Path) -> Iterator[None]:
    """`podman system service`, as the user's own systemd would start it."""
    words = user.command("podman", "system", "service", "--time", "0", f"unix://{listening}")
    log = user.home / "podman.log"
    with log.open("w") as out:
        running = subprocess.Popen(
            words,
            cwd=user.home,
            env=dict(user.env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        deadline = time.monotonic() + 60
        while not listening.exists():
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


@pytest.fixture(autouse=True)
def nothing_left(pat: Person) -> Iterator[None]:
    """After each test no session, container or foreign file of the user's is left."""
    yield
    names = [row["name"] for row in pat.sessions()]
    if names:
        pat.mooring("rm", "-f", *names)
    assert pat.run("podman", "ps", "-aq").stdout == ""
    assert list((pat.state / "sessions").glob("*")) == []
    assert foreign_files(pat.state, pat.uid) == []


def test_a_session_on_podman(pat: Person) -> None:
    """A session is the user's own inside and outside: uid, name, files; a pipe, an exit code, a
    terminal and the log come through; stop and start keep the private home."""
    project = pat.folder("project")
    pat.mooring(
        "create", "--name", "s", "-d", "--", "sh", "-c", "echo begun; sleep 300", cwd=project
    )
    script = "id -u; id -g; whoami; pwd; touch here; echo kept >~/kept; python -c 'import pydantic'"
    told = pat.mooring("exec", "s", "--", "sh", "-c", script).stdout.split()
    assert told == [str(pat.uid), str(pat.gid), pat.name, str(project)]
    assert (project / "here").stat().st_uid == pat.uid
    assert not (pat.home / "kept").exists()
    assert pat.mooring("exec", "s", "--", "sh", "-c", "exit 5", check=5).stdout == ""
    assert pat.mooring("exec", "-t", "s", "--", "tty").stdout.startswith("/dev/pts/")
    data = os.urandom(300_000)
    done = subprocess.run(
        pat.command(pat.wheel.mooring, "exec", "s", "--", "cat"),
        input=data,
        capture_output=True,
        env=dict(pat.env),
        cwd=project,
        check=True,
        timeout=60,
    )
    assert done.stdout == data
    assert pat.mooring("logs", "s").stdout.split() == ["begun"]
    assert pat.python(ALIVE).stdout == "1\n"
    pat.mooring("stop", "s")
    assert pat.python(ALIVE).stdout == "0\n"
    (row,) = pat.sessions()
    assert row["state"] == "stopped"
    pat.mooring("start", "s")
    assert pat.mooring("exec", "s", "--", "cat", f"{pat.home}/kept").stdout == "kept\n"
    code = "exit 7"
    assert pat.mooring("create", "--rm", "--", "sh", "-c", code, check=7, cwd=project).stdout == ""
    assert foreign_files(project, pat.uid) == []


def test_a_container_on_podman_has_no_more_rights(pat: Person) -> None:
    """No capability or new privilege, no namespace of the machine's, no socket of Podman's."""
    project = pat.folder("rights")
    pat.mooring("create", "--name", "s", "-d", "--", "sleep", "300", cwd=project)
    script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; find /run -type s"
    told = pat.mooring("exec", "s", "--", "sh", "-c", script).stdout
    status = dict(line.split(":\t") for line in told.splitlines() if ":\t" in line)
    for name in ("CapBnd", "CapEff", "CapPrm", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert "/run/" not in told
    container = pat.container("s")
    pid = pat.run("podman", "inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
    for name in ("pid", "mnt", "net", "ipc", "uts", "user"):
        assert os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    runtime = pat.env["XDG_RUNTIME_DIR"]
    for source in (f"{runtime}/podman/podman.sock", f"{runtime}/podman", runtime):
        done = pat.mooring("create", "--input", f"x={source}", "-d", "--", "true", check=1)
        assert "would expose the host" in done.stderr


KERNEL = """
import sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="host")
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive("before = 1", timeout=60)
request = client.execute("import time; print('on', flush=True); time.sleep(100)")
while True:
    message = client.get_iopub_msg(timeout=60)
    if message["msg_type"] == "stream":
        break
manager.interrupt_kernel()
while True:
    reply = client.get_shell_msg(timeout=60)
    if reply["parent_header"].get("msg_id") == request:
        break
print(reply["content"]["ename"], flush=True)
manager.restart_kernel(now=True)
client.wait_for_ready(timeout=60)
client.execute_interactive("print('before' in globals(), flush=True)", timeout=60)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


def test_a_kernel_on_podman(pat: Person) -> None:
    """A notebook's cell runs in the container as the user; interrupt and restart work; the session
    ends with its kernel."""
    project = pat.folder("notebooks")
    pat.mooring("kernel", "install", "--name", "host", cwd=project)
    cell = "import os, getpass; open('made', 'w').close(); print(os.getuid(), getpass.getuser())"
    done = pat.run(pat.wheel.python, "-c", ONE_CELL, cell, cwd=project)
    assert done.stdout == f"{pat.uid} {pat.name}\n"
    assert (project / "made").stat().st_uid == pat.uid
    told = pat.python(KERNEL, cwd=project).stdout.split()
    assert told == ["KeyboardInterrupt", "False"]
    assert pat.sessions() == []
    pat.mooring("kernel", "remove", "host")


def test_the_clock_on_podman(pat: Person) -> None:
    """A silent session ends at its idle timeout however busy the machine is, and a busy one does
    not: also where rootless containers have no cgroup of their own (cgroup v1)."""
    words = ["create", "--idle-timeout", "4s", "-d", "--name"]
    pat.mooring(*words, "busy", "--", "sh", "-c", "while :; do :; done")
    pat.mooring(*words, "silent", "--", "sleep", "300")
    deadline = time.monotonic() + 60
    while True:
        found = {row["name"]: (row["state"], row["reason"]) for row in pat.sessions()}
        if found["silent"][0] != "running" or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert found["silent"] == ("stopped", "idle timeout")
    assert found["busy"] == ("running", "")


def test_limits_that_podman_would_ignore_are_refused(pat: Person) -> None:
    """Where rootless Podman cannot limit memory or cores, asking for it is an error by name; where
    it can, the limit is there."""
    version = pat.run("podman", "info", "-f", "{{.Host.CgroupsVersion}}").stdout.strip()
    words = [
        "create",
        "--name",
        "s",
        "-d",
        "--memory",
        "64MiB",
        "--cpus",
        "1",
        "--",
        "sleep",
        "300",
    ]
    if version == "v1":
        done = pat.mooring(*words, check=2)
        assert "memory and cpus: rootless Podman cannot enforce limits on cgroup v1" in done.stderr
        assert pat.sessions() == []
        return
    pat.mooring(*words)
    asked = pat.run("podman", "inspect", "-f", "{{.HostConfig.Memory}}", pat.container("s"))
    assert asked.stdout == f"{64 * 2**20}\n"


def test_doctor_names_podman(pat: Person) -> None:
    """`mooring doctor` says which engine answers."""
    found = json.loads(pat.mooring("doctor", "--json", check=None).stdout or "[]")
    assert "podman" in json.dumps(found)


def test_terminals_on_podman_outlive_their_clients(pat: Person) -> None:
    """A client that was killed leaves its terminal, and the next one finds what it printed."""
    project = pat.folder("terminals")
    pat.mooring("create", "--name", "s", "-d", cwd=project)
    for words, mark in ((("attach", "s"), "of-main"), (("exec", "s"), "of-exec")):
        with at_terminal(pat, *words) as child:
            child.sendline(f"mark={mark}; echo got-$mark")
            child.expect_exact(f"got-{mark}")
            child.kill(signal.SIGKILL)
    rows = json.loads(pat.mooring("terminals", "s", "--json").stdout)
    assert [(row["id"], row["clients"], row["lost"]) for row in rows] == [
        ("main", 0, False), ("t1", 0, False),
    ]  # fmt: skip
    for name, mark in (("t1", "of-exec"), ("main", "of-main")):
        with at_terminal(pat, "attach", "s", name) as child:
            child.expect_exact(f"got-{mark}")  # printed for the one before
            child.sendline("echo again-$mark; exit 3")
            child.expect_exact(f"again-{mark}")
            child.expect(pexpect.EOF)
            child.close()
            assert child.exitstatus == 3


@contextlib.contextmanager
def at_terminal(user: Person, *words: str) -> Iterator[pexpect.spawn[str]]:
    """The command line of that user's, at a terminal."""
    program, *arguments = user.command(user.wheel.mooring, *words)
    child = pexpect.spawn(
        program, arguments, env={**user.env, "TERM": "xterm"}, cwd=str(user.home),
        encoding="utf-8", timeout=30,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.close(force=True)


def test_ports_and_files_on_podman(pat: Person) -> None:
    """A published port answers on 127.0.0.1 alone, a forward too, and cp goes both ways."""
    project = pat.folder("ports")
    pat.write(project / "page", "hello")
    serve = ["python3", "-m", "http.server", "7001", "--bind", "::"]
    pat.mooring("create", "--name", "s", "-d", "-p", "7001", "--", *serve, cwd=project)
    (row,) = pat.sessions()
    ((inside, local),) = [(port["session"], port["local"]) for port in row["ports"]]
    assert inside == 7001
    eventually(lambda: asked(local) == "hello")
    bound = pat.run("podman", "port", row["container"]).stdout.split()
    assert bound[-1] == f"127.0.0.1:{local}"
    pat.mooring("cp", str(project / "page"), "s:/tmp/there")
    pat.mooring("cp", "s:/tmp/there", str(project / "back"))
    assert (project / "back").read_text() == "hello"
    assert (project / "back").stat().st_uid == pat.uid


def asked(port: int) -> str:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/page", timeout=5).read().decode()
    return ""


def test_no_set_id_file_leaves_a_session_on_podman(pat: Person) -> None:
    """A session on Podman cannot make set-user-ID files either, and has its user's group alone."""
    project = pat.folder("attack")
    pat.mooring("create", "--name", "s", "-d", "--", "sleep", "300", cwd=project)
    assert pat.mooring("exec", "s", "--", "id", "-G").stdout.split() == [str(pat.gid)]
    for attempt in ("chmod 4755 id", "install -m 6755 id other", "chmod g+s id"):
        script = f"cp /usr/bin/id id; {attempt}"
        done = pat.mooring("exec", "s", "--", "sh", "-c", script, check=1)
        assert "not permitted" in done.stderr
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in project.iterdir()}
    assert not [name for name, mode in modes.items() if mode & 0o6000]
