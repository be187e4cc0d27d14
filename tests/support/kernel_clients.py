"""What the kernel tests share: kernelspecs of the test's own, and clients of kernels."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from mooring.client import Mooring
from mooring.kernels import kernelspecs
from mooring.sessions.folder import SessionFolder
from mooring.sessions.model import Session
from tests.support.waiting import eventually

READY_S = 60.0


@pytest.fixture
def jupyter(state: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Jupyter's folders of this test alone; kernels start in the test's project."""
    from mooring_provisioner import provisioner

    folder = state / "jupyter"
    for name, kind in (("JUPYTER_DATA_DIR", "data"), ("JUPYTER_RUNTIME_DIR", "runtime")):
        (folder / kind).mkdir(parents=True)
        monkeypatch.setenv(name, str(folder / kind))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(folder / "config"))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    provisioner.shared_mooring.cache_clear()
    yield folder
    provisioner.shared_mooring.cache_clear()


def install(
    name: str = "mk", *, kernel: str = "python3", env: dict[str, str] | None = None, **config: Any
) -> str:
    """Install a kernelspec; ``config`` is the provisioner's: spec, flags, session."""
    config.setdefault("flags", {})
    config["flags"].setdefault("kernel", kernel)
    content = kernelspecs.document(display_name=name, kernel=kernel, config=config)
    if env:
        content["env"] = env
    kernelspecs.install(name, content, prefix=None, user=True)
    return name


@dataclass
class Outcome:
    """What came of a cell: the reply's content, its printed text, and its other messages."""

    status: str
    count: int
    text: str
    error: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [m["content"] for m in self.messages if m["msg_type"] == kind]


def run(client: BlockingKernelClient, code: str, timeout: float = 60, **options: Any) -> Outcome:
    """Execute a cell and wait for its end."""
    messages: list[dict[str, Any]] = []
    reply = client.execute_interactive(
        code, output_hook=messages.append, timeout=timeout, **options
    )
    return _outcome(reply["content"], messages)


def _outcome(content: dict[str, Any], messages: list[dict[str, Any]]) -> Outcome:
    text = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
    text += "".join(
        m["content"]["data"].get("text/plain", "")
        for m in messages
        if m["msg_type"] == "execute_result"
    )
    return Outcome(
        content["status"],
        content.get("execution_count", 0),
        text.strip(),
        content.get("ename", ""),
        messages,
    )


def debug(client: BlockingKernelClient, sequence: int, command: str, **arguments: object) -> dict:
    """Send a request to the debugger. Returns its answer."""
    content = {"type": "request", "seq": sequence, "command": command, "arguments": arguments}
    client.control_channel.send(client.session.msg("debug_request", content))
    while True:
        message = client.get_control_msg(timeout=60)
        if message["msg_type"] == "debug_reply":
            return dict(message["content"])


def wait_for_event(client: BlockingKernelClient, event: str) -> dict:
    """Wait until the debugger has told an event."""
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "debug_event" and message["content"]["event"] == event:
            return dict(message["content"])


def finish(client: BlockingKernelClient, request: str, timeout: float = 30) -> None:
    """Wait until the kernel has said that it is idle after a request."""
    while True:
        message = client.get_iopub_msg(timeout=timeout)
        mine = message["parent_header"].get("msg_id") == request
        if mine and message["content"].get("execution_state") == "idle":
            return


@contextlib.contextmanager
def kernel(
    name: str, manager_class: type[KernelManager] = KernelManager, **traits: Any
) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    """A kernel that is ready, and a client of it; shut down afterwards."""
    manager = manager_class(kernel_name=name, **traits)
    manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=READY_S)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.context.destroy(linger=0)


def only_session(mooring: Mooring) -> Session:
    """The one session that there is."""
    (found,) = mooring.sessions.list()
    return found


def alive(pid: int) -> bool:
    """Whether a process of this machine lives, zombies not counted."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def host_pids(mark: str) -> list[int]:
    """This machine's numbers of the processes that have ``mark`` in their command line."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in Path("/proc", entry, "cmdline").read_bytes() and alive(
                    int(entry)
                ):
                    found.append(int(entry))
    return found


def kernel_hosts(folder: SessionFolder) -> list[int]:
    """This machine's numbers of a session's kernel hosts: one, when all is well."""
    lock = os.stat(folder.run / "kernelhost.lock").st_ino
    return [pid for pid in kernel_processes(folder) if lock in open_inodes(pid)]


def kernel_processes(folder: SessionFolder) -> list[int]:
    """This machine's numbers of a session's kernel hosts and of the kernels they forked."""
    found = []
    for pid in host_pids("/kernelhost.py"):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/root/run/mooring").samefile(folder.run):
                found.append(pid)
    return found


def open_inodes(pid: int) -> set[int]:
    """The files that a process has open; fails if it has ended."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(entry.stat().st_ino)
    return found


class Server:
    """A Jupyter server in a process of its own, and what a browser asks it.

    Args:
        module: what is started: ``jupyterlab``, say.
        port, token: those of a server that was killed, for one that takes its place; otherwise a
            port that is free, and a token of its own.
    """

    def __init__(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        module: str = "jupyter_server",
        port: int = 0,
        token: str = "",
    ) -> None:
        self.token = token or secrets.token_hex(16)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                module,
                "--allow-root",
                "--no-browser",
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                *arguments,
            ],
            env=os.environ | {"JUPYTER_TOKEN": self.token} | (env or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        runtime = Path(os.environ["JUPYTER_RUNTIME_DIR"])
        file = runtime / f"jpserver-{self.process.pid}.json"
        said = eventually(lambda: self._ended() or (file.exists() and file.read_text()), timeout=60)
        assert not self._ended(), "".join(self.log)
        self.url = json.loads(said)["url"].rstrip("/")
        self.port = int(json.loads(said)["port"])
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"token {self.token}"
        eventually(self._answers, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 120) -> Any:
        """A request of the REST API; the status and what it returned."""
        answer = self.http.request(method, f"{self.url}/api/{path}", json=body, timeout=timeout)
        return answer.status_code, (answer.json() if answer.content else None)

    def start(self, name: str, path: str = "") -> str:
        """Start a kernel as a notebook does. Returns its id."""
        status, said = self.ask("POST", "kernels", {"name": name, "path": path})
        assert status == 201, said
        return str(said["id"])

    @contextlib.contextmanager
    def socket(self, kernel_id: str) -> Iterator[Socket]:
        """The kernel's websocket."""
        url = self.url.replace("http", "ws", 1) + f"/api/kernels/{kernel_id}/channels"
        opened = websocket.create_connection(
            url, header=[f"Authorization: token {self.token}"], timeout=60
        )
        try:
            yield Socket(opened)
        finally:
            opened.close()

    def kill(self) -> None:
        """End it as a machine out of memory does: no hook of it runs."""
        self.process.kill()
        self.stop()

    def stop(self) -> None:
        self.http.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stderr
            self.process.stderr.close()

    def _ended(self) -> bool:
        return self.process.poll() is not None

    def _read(self) -> None:
        assert self.process.stderr
        with contextlib.suppress(ValueError):
            self.log.extend(self.process.stderr)

    def _answers(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return bool(self.ask("GET", "status")[0] == 200)
        return False


class Socket:
    """A kernel's websocket, as a notebook in a browser uses it."""

    def __init__(self, opened: websocket.WebSocket) -> None:
        self.opened = opened

    def send(self, channel: str, kind: str, content: dict[str, Any]) -> str:
        """Send a message. Returns its id."""
        number = secrets.token_hex(8)
        header = {
            "msg_id": number,
            "msg_type": kind,
            "session": "browser",
            "username": "",
            "version": "5.3",
        }
        message = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": channel,
        }
        self.opened.send(json.dumps(message))
        return number

    def messages(self, timeout: float = 60) -> Iterator[dict[str, Any]]:
        """Messages as they come."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"not within {timeout} s"
            self.opened.settimeout(left)
            with contextlib.suppress(websocket.WebSocketTimeoutException):
                yield json.loads(self.opened.recv())

    def wait_for_state(self, state: str, timeout: float = 60) -> None:
        """Wait until a status message says so."""
        for message in self.messages(timeout):
            if message["content"].get("execution_state") == state:
                return

    def wait_for_ready(self, timeout: float = 60) -> None:
        """Wait until a kernel that starts again answers, and is heard on all channels."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            asked = self.send("shell", "kernel_info_request", {})
            with contextlib.suppress(AssertionError):
                for message in self.messages(timeout=1):
                    mine = message["parent_header"].get("msg_id") == asked
                    if mine and message["channel"] == "iopub":
                        return
        raise AssertionError(f"not ready within {timeout} s")

    def execute(self, code: str, timeout: float = 60) -> Outcome:
        """Execute a cell and wait for its end."""
        asked = self.send(
            "shell", "execute_request", {"code": code, "silent": False, "stop_on_error": False}
        )
        outcome, idle = None, False
        found = []
        for message in self.messages(timeout):
            if message["parent_header"].get("msg_id") != asked:
                continue
            found.append(message)
            idle = idle or message["content"].get("execution_state") == "idle"
            if message["msg_type"] == "execute_reply":
                outcome = message["content"]
            if outcome and idle:
                break
        assert outcome
        return _outcome(outcome, found)


def own_kernelspec(project: Path, name: str, argv: list[str]) -> dict[str, Any]:
    """A kernelspec that the image has beside its own, in a project's folder.

    Returns the flags of a session in which it is found.
    """
    folder = project / "jupyter-path" / "kernels" / name
    folder.mkdir(parents=True)
    spec = {"argv": argv, "display_name": name, "language": name}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return {"env": {"JUPYTER_PATH": str(project / "jupyter-path")}}
