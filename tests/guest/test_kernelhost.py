"""The parent of kernels, run on this machine in a folder of its own: no engine, no container."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient

from mooring.errors import KernelError
from mooring.host.locks import is_held
from mooring.kernels import kernelhost
from mooring.kernels.kernel import KernelHandle
from mooring.kernels.kernelhost import HostState, host_lives, host_state
from mooring.sessions.folder import SessionFolder
from mooring.sessions.history import History
from tests.support.kernel_clients import alive, debug, host_pids, open_inodes, run, wait_for_event
from tests.support.sessions import make_folder
from tests.support.waiting import eventually

SCRIPT = resources.files("mooring") / "guest" / "kernelhost.py"
PROCESS = resources.files("mooring") / "guest" / "kernelprocess.py"
DEBUGGER = resources.files("mooring") / "guest" / "debugger.py"
PRELOAD = resources.files("mooring") / "guest" / "preload.py"
RECORDER = resources.files("mooring") / "guest" / "recorder.py"
SCRIPTS = (SCRIPT, PROCESS, DEBUGGER, PRELOAD, RECORDER)


class Host:
    """A kernel host in a session's folder, and requests to it."""

    def __init__(self, folder: SessionFolder) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        with open(self.folder.run / "kernelhost.log", "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(self.folder.path / "programs" / "kernelhost.py")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | env,
            )
        eventually(lambda: host_state(self.folder.guest) is HostState.ANSWERS)

    def kill(self) -> None:
        if self.process:
            lock = os.stat(self.folder.run / "kernelhost.lock").st_ino
            for pid in host_pids(str(self.folder.path / "programs")):
                with contextlib.suppress(OSError):  # it has ended
                    if lock in open_inodes(pid):  # not a kernel, which ends with it
                        os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def ask(self, **request: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.folder.run / "kernelhost.sock"))
            link.sendall(json.dumps(request).encode() + b"\n")
            with link.makefile("rb") as file:
                return json.loads(file.readline())

    @contextlib.contextmanager
    def kernel(self, kernel_id: str, **env: str) -> Iterator[tuple[KernelHandle, int]]:
        """A kernel that has opened its sockets, and its process's number."""
        handle = self.handle(kernel_id)
        try:
            handle.start(cwd="/tmp", env=env)
            yield handle, int((handle.path / "pid").read_text().split()[0])
        finally:
            handle.send_signal(signal.SIGKILL)
            eventually(lambda: handle.poll() is not None)
            handle.close()

    def handle(self, kernel_id: str, kernel_name: str = "python3") -> KernelHandle:
        handle = KernelHandle(
            self.folder.guest, kernel_id, session_id=self.folder.id, memory_limit="1 GiB"
        )
        handle.write_connection(key=b"secret", encrypt=False, kernel_name=kernel_name)
        path = handle.path / "c.json"  # the container's path of the folder is this machine's here
        path.write_text(json.dumps(json.loads(path.read_text()) | {"ip": f"{handle.path}/s"}))
        return handle


@contextlib.contextmanager
def client_of(handle: KernelHandle) -> Iterator[BlockingKernelClient]:
    connection = handle.connection()
    assert connection
    client = BlockingKernelClient()
    client.load_connection_info(connection.info())
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()
    client.context.destroy(linger=0)


@pytest.fixture
def host(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A kernel host that runs."""
    monkeypatch.setenv("IPYTHONDIR", str(state / "ipython"))
    folder = make_folder("s", "s", spec={"memory": 1 << 30})
    folder.release()
    for script in SCRIPTS:
        shutil.copy(str(script), folder.path / "programs" / script.name)
    (folder.path / "programs" / "run").symlink_to("../run")
    folder.clock.write_settings(record_bytes=16 << 20)
    made = Host(folder)
    made.start()
    yield made
    made.kill()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_it_reads_as_python_3_8(script: Any) -> None:
    """The image's own Python may be as old as 3.8, and knows nothing of mooring."""
    tree = ast.parse(script.read_text(), feature_version=(3, 8))
    names = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    if script not in (PRELOAD, RECORDER):
        assert "ipykernel" in {name.partition(".")[0] for name in names}
    assert "mooring" not in {name.partition(".")[0] for name in names}


def test_it_forks_from_one_thread(host: Host) -> None:
    """What it imports beforehand starts no thread: a fork would copy its locks and not it."""
    assert host.process
    assert host.ask(op="ping") == {"kernels": {}, "problem": ""}  # it has imported everything
    assert len(os.listdir(f"/proc/{host.process.pid}/task")) == 1


def test_there_is_one_in_a_session(host: Host) -> None:
    """A second one leaves by itself, and the first goes on."""
    second = subprocess.run(
        [sys.executable, str(host.folder.path / "programs" / "kernelhost.py")],
        timeout=30,
        check=False,
    )
    assert second.returncode == 0
    assert host.ask(op="ping")["problem"] == ""


def test_who_looks_at_the_lock_does_not_keep_it_from_starting(host: Host) -> None:
    """It starts although its lock is being probed all the time, as older versions of mooring do."""
    host.kill()
    assert not host_lives(host.folder.guest)
    process = subprocess.Popen(
        [sys.executable, str(host.folder.path / "programs" / "kernelhost.py")]
    )
    host.process = process
    deadline = time.monotonic() + 30
    while not is_held(host.folder.run / "kernelhost.lock"):
        assert process.poll() is None
        assert time.monotonic() < deadline
    assert process.poll() is None
    eventually(lambda: host_lives(host.folder.guest))


def test_one_that_is_stopped_is_not_gone(host: Host) -> None:
    """While its container is paused it lives, and its kernels with it; then it answers again."""
    assert host.process
    assert host_state(host.folder.guest) is HostState.ANSWERS
    with host.kernel("a") as (handle, _):
        handle.close()
        host.process.send_signal(signal.SIGSTOP)
        for _ in range(100):  # more than it has room for
            assert host_state(host.folder.guest, 0.001) is HostState.SILENT
        assert handle.poll() is None
        assert host_lives(host.folder.guest)
        host.process.send_signal(signal.SIGCONT)
        eventually(lambda: host_state(host.folder.guest, 30.0) is HostState.ANSWERS)


def test_a_kernel_says_whether_a_person_keeps_it_busy(host: Host) -> None:
    """The busy file counts a person's requests; what clients ask by themselves does not count."""
    with host.kernel("a") as (handle, _), client_of(handle) as client:
        busy = handle.path / "busy"
        for _ in range(3):
            client.kernel_info(reply=True, timeout=30)
            client.comm_info(reply=True, timeout=30)
            client.history(hist_access_type="tail", n=1, reply=True, timeout=30)
        assert busy.read_text().split() == ["idle", "0"]
        seen = run(client, f"print(open({str(busy)!r}).read())")
        assert seen.text.split()[:2] == ["busy", "1"]
        assert seen.text.split()[2:] == [seen.messages[0]["parent_header"]["msg_id"]]
        eventually(lambda: busy.read_text().split() == ["idle", "1"])


def test_two_forked_kernels_are_no_twins(host: Host) -> None:
    """Random numbers and names differ between kernels that were forked from the same process."""
    code = (
        "import random, uuid, secrets, tempfile, numpy\n"
        "print(random.random(), uuid.uuid4(), uuid.uuid1(), secrets.token_hex(),"
        " numpy.random.rand(), tempfile.mktemp())"
    )
    drawn = []
    for name in ("a", "b"):
        with host.kernel(name) as (handle, _), client_of(handle) as client:
            drawn.append(run(client, code).text.split())
    assert len(drawn[0]) == 6
    assert not set(drawn[0]) & set(drawn[1])


def test_random_numbers_differ_where_numpy_was_loaded_before_the_fork(host: Host) -> None:
    """numpy keeps its state over a fork; a kernel seeds it anew."""
    host.kill()
    site = host.folder.path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import numpy.random")
    host.start(PYTHONPATH=str(site))
    drawn = []
    for name in ("a", "b"):
        with host.kernel(name) as (handle, _), client_of(handle) as client:
            drawn.append(run(client, "import numpy; print(numpy.random.rand())").text)
    assert drawn[0] != drawn[1]


def test_what_python_reads_at_its_start_is_honoured(host: Host) -> None:
    """A variable that only a new interpreter obeys gets a new interpreter."""
    folder = host.folder.path / "modules"
    folder.mkdir()
    (folder / "planted_module.py").write_text("value = 7")
    with host.kernel("a", PYTHONPATH=str(folder)) as (handle, _), client_of(handle) as client:
        assert run(client, "import planted_module; print(planted_module.value)").text == "7"
        assert (handle.path / "busy").read_text().split()[1] == "1"


@pytest.mark.parametrize("env", [{}, {"PYTHONHASHSEED": "1"}], ids=["forked", "new"])
def test_the_debugger_is_there_when_it_is_asked(host: Host, env: dict[str, str]) -> None:
    """debugpy is not imported until variables are listed; then a breakpoint stops all the same."""
    with host.kernel("a", **env) as (handle, _), client_of(handle) as client:
        loaded = "import sys; x = 41; print('debugpy' in sys.modules)"
        assert debug(client, 1, "debugInfo")["body"]["isStarted"] is False
        assert run(client, loaded).text == "False"
        shown = debug(client, 2, "inspectVariables")["body"]["variables"]
        assert {"name": "x", "value": "41"}.items() <= next(
            variable for variable in shown if variable["name"] == "x"
        ).items()
        rich = debug(client, 3, "richInspectVariables", variableName="x")
        assert rich["body"]["data"] == {"text/plain": "41"}
        assert run(client, loaded).text == "True"
        assert debug(client, 4, "initialize", clientID="t", adapterID="")["success"]
        assert debug(client, 5, "attach")["success"]
        wait_for_event(client, "initialized")
        code = "def f(x):\n    y = x + 1\n    return y\nf(41)"
        source = {"path": debug(client, 6, "dumpCell", code=code)["body"]["sourcePath"]}
        lines = {"source": source, "breakpoints": [{"line": 2}], "sourceModified": False}
        assert debug(client, 7, "setBreakpoints", **lines)["body"]["breakpoints"][0]["verified"]
        assert debug(client, 8, "configurationDone")["success"]
        client.execute(code)
        thread = wait_for_event(client, "stopped")["body"]["threadId"]
        frames = debug(client, 9, "stackTrace", threadId=thread)["body"]["stackFrames"]
        assert (frames[0]["name"], frames[0]["line"]) == ("f", 2)
        assert debug(client, 10, "continue", threadId=thread)["success"]
        assert "frozen" not in (handle.path / "log").read_text()


def test_a_kernel_after_an_installation_is_a_new_interpreter(host: Host) -> None:
    """What a .pth file adds that was installed meanwhile is there in the next kernel (pip#7627);
    without a change, a kernel is forked."""
    host.kill()
    packages, added, custom = (host.folder.path / name for name in ("site-packages", "new", "c"))
    for folder in (packages, added, custom):
        folder.mkdir()
    (custom / "sitecustomize.py").write_text(f"import site; site.addsitedir({str(packages)!r})")
    host.start(PYTHONPATH=str(custom))
    code = "print(open('/proc/self/cmdline').read().count('kernel\\0'))"
    with host.kernel("a") as (handle, _), client_of(handle) as client:
        assert run(client, code).text == "0"
    (added / "planted_module.py").write_text("value = 7")
    (packages / "planted.pth").write_text(f"{added}\n")
    with host.kernel("b") as (handle, _), client_of(handle) as client:
        assert run(client, "import planted_module; print(planted_module.value)").text == "7"
        assert run(client, code).text == "1"


def test_a_kernel_that_breaks_at_its_start_leaves_its_last_words(host: Host) -> None:
    """The error has the kernel's own log, of this run and not of the one before."""
    with host.kernel("a"):
        pass
    folder = host.folder.path / "broken"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("print('the plant is broken'); raise SystemExit(3)")
    with pytest.raises(KernelError) as caught, host.kernel("a", PYTHONPATH=str(folder)):
        pass
    assert "ended while starting (exit code 1)" in caught.value.message
    assert "the plant is broken" in caught.value.message


def test_its_death_takes_its_kernels_along(host: Host, state: Path) -> None:
    """kill -9 of it ends the kernels; the next one writes down how, and ends what they started."""
    history = History(state / "history.db")
    mine = host.kernel("a")
    handle, pid = mine.__enter__()
    with client_of(handle) as client:
        child = int(
            run(client, "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid)").text
        )
    host.kill()
    eventually(lambda: not alive(pid), timeout=5)
    assert handle.poll() == -9
    assert alive(child)
    assert handle.send_signal(signal.SIGINT) is False
    host.start()
    eventually(lambda: not alive(child), timeout=5)
    assert handle.describe_exit() == "killed by SIGKILL"
    assert handle.record_exit(history) is True
    assert handle.record_exit(history) is False
    mine.__exit__(None, None, None)
    (event,) = history.events("s")
    assert event.detail == "python3 a ended: killed by SIGKILL"


def test_a_number_that_was_used_again_is_not_signalled(host: Host) -> None:
    """A process of another beginning is not the kernel, whatever its number."""
    bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        handle = host.handle("a")
        (handle.path / "pid").write_text(f"{bystander.pid} 1\n")
        host.kill()
        host.start()
        eventually(lambda: (handle.path / "exit").exists())
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_host_that_cannot_start_is_told_with_its_log(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a start has the log of a Python that failed before it could serve."""
    monkeypatch.setattr(kernelhost, "BROKEN_HOST_S", 0.1)
    host.kill()
    (host.folder.run / "kernelhost.log").write_text("python3: the image is broken\n")
    began = time.monotonic()
    with pytest.raises(KernelError, match="the image is broken"):
        host.handle("a").start(cwd="/tmp", env={}, timeout_s=60)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("read_at_start", [False, True])
def test_a_kernel_that_cannot_enter_its_folder_says_so_in_its_first_cell(
    host: Host, read_at_start: bool
) -> None:
    """Also one that a new interpreter runs; one that may run elsewhere says nothing."""
    env = {"PYTHONHASHSEED": "0"} if read_at_start else {}
    handle = host.handle("a")
    here = os.path.realpath(".")
    gone = "/gone cannot be used in this session (No such file or directory)"
    for optional, told in ((False, f"mooring: {gone}: the kernel runs in {here}"), (True, "")):
        handle.start(cwd="/gone", cwd_optional=optional, env=env)
        with client_of(handle) as client:
            assert run(client, "pass").text == told
            assert run(client, "pass").text == ""
        handle.send_signal(signal.SIGKILL)
        eventually(lambda: handle.poll() is not None)
    handle.close()


def test_an_unknown_kernel_is_refused_with_the_names_there_are(host: Host) -> None:
    """A kernelspec that the image lacks is named, with those it has."""
    handle = host.handle("a", kernel_name="cobol")
    with pytest.raises(KernelError, match="start: no kernel 'cobol' in this image") as caught:
        handle.start(cwd="/tmp", env={})
    assert "python3" in caught.value.message.partition("it has: ")[2]
    handle.close()
