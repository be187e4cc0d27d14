"""VS Code, as a kernel's process sees it: what microsoft/vscode-jupyter does, call by call.

From its source of 2026-07: ``kernelLauncher.node.ts`` (ports, key), ``kernelProcess.node.ts``
(connection file, ``argv``, ports in use, ending), ``rawKernelConnection.node.ts`` (readiness,
restart).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient

from tests.support.kernel_clients import Outcome, host_pids, run
from tests.support.waiting import eventually

TIMEOUT_S = 60.0  # jupyter.jupyterLaunchTimeout
USED_POLL_S = 0.2
FIRST_PORT = 9000

_used: set[int] = set()


def free_ports(count: int = 5) -> list[int]:
    """The next ports from 9000 that nobody has, none of them given out before."""
    found: list[int] = []
    port = FIRST_PORT
    while len(found) < count:
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in _used:
                probe.bind(("127.0.0.1", port))
                found.append(port)
        port += 1
    _used.update(found)
    return found


def children(pid: int) -> list[int]:
    """All processes below one, as the pidtree package finds them: by their parents' numbers."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            stat = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(stat[1]), []).append(int(entry))
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


class KernelProcess:
    """One launch of a kernelspec: its process, its connection file, its ports."""

    def __init__(self, kernelspec: Path, cwd: Path, env: dict[str, str] | None = None) -> None:
        content = json.loads((kernelspec / "kernel.json").read_text())
        hb, control, shell, stdin, iopub = free_ports()
        self.connection: dict[str, Any] = {
            "key": str(uuid.uuid4()),
            "signature_scheme": "hmac-sha256",
            "transport": "tcp",
            "ip": "127.0.0.1",
            "hb_port": hb,
            "control_port": control,
            "shell_port": shell,
            "stdin_port": stdin,
            "iopub_port": iopub,
            "kernel_name": kernelspec.name,
        }
        name = f"kernel-v3{secrets.token_hex(20)}.json"
        self.file = Path(os.environ["JUPYTER_RUNTIME_DIR"]) / name
        self.file.write_text(json.dumps(self.connection))
        argv = [argument.replace("{resource_dir}", str(kernelspec)) for argument in content["argv"]]
        place = argv.index("{connection_file}")
        argv[place] = str(self.file)
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=os.environ | content.get("env", {}) | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.errors = ""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def ports(self) -> list[int]:
        return [number for name, number in self.connection.items() if name.endswith("_port")]

    def wait_until_used(self) -> None:
        """The first check: somebody listens at the ports of shell and iopub."""
        deadline = time.monotonic() + TIMEOUT_S
        for name in ("shell_port", "iopub_port"):
            while not self._is_used(self.connection[name]):
                assert self.process.poll() is None, f"the kernel process exited: {self.end()}"
                assert time.monotonic() < deadline, f"{name} not used within {TIMEOUT_S} s"
                time.sleep(USED_POLL_S)

    def dispose(self, slow_s: float = 0.0) -> None:
        """SIGTERM to its children, and to itself; nobody waits for its end."""
        time.sleep(slow_s)  # pidtree runs ps, and is given up after a second
        if self.process.poll() is None:
            for child in children(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            self.process.terminate()
        self.file.unlink(missing_ok=True)

    def end(self, timeout: float = 30) -> tuple[int, str]:
        """Wait for its exit. Returns the code, and all that it said on standard error."""
        code = self.process.wait(timeout)
        self._reading.join(10)
        assert not self._reading.is_alive(), "somebody else holds its standard error"
        return code, self.errors

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reading.join(10)
        assert self.process.stdout
        assert self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        self.file.unlink(missing_ok=True)

    def _is_used(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.errors += line.decode()


class Notebook:
    """A notebook in VS Code with a local kernelspec."""

    def __init__(self, kernelspec: Path, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.kernelspec, self.cwd, self.env = kernelspec, cwd, env
        self.launches: list[KernelProcess] = []
        self.client: BlockingKernelClient | None = None

    @property
    def process(self) -> KernelProcess:
        return self.launches[-1]

    def launch(self) -> KernelProcess:
        """Start the process, and nothing else."""
        self.launches.append(KernelProcess(self.kernelspec, self.cwd, self.env))
        return self.process

    def start(self) -> BlockingKernelClient:
        """Start the kernel and wait until it is ready, in VS Code's own order."""
        self.launch().wait_until_used()
        client = self.client = BlockingKernelClient()
        client.load_connection_info(dict(self.process.connection))
        client.start_channels(hb=False)  # VS Code has none
        deadline = time.monotonic() + TIMEOUT_S
        answered = heard = False
        while not (answered and heard):
            assert self.process.process.poll() is None, self.process.end()
            assert time.monotonic() < deadline, "no answer to kernel_info_request"
            for channel in (client.control_channel, client.shell_channel):
                channel.send(client.session.msg("kernel_info_request", {}))
            until = time.monotonic() + 0.5
            while not (answered and heard) and time.monotonic() < until:
                answered = answered or client.shell_channel.msg_ready()
                answered = answered or client.control_channel.msg_ready()
                heard = heard or client.iopub_channel.msg_ready()
                time.sleep(0.005)
        client.wait_for_ready(timeout=TIMEOUT_S)  # the answers that are on their way
        return client

    def restart(self, slow_s: float = 0.0) -> BlockingKernelClient:
        """End the process without waiting, and start the next one at once."""
        ending = threading.Thread(target=self.process.dispose, args=(slow_s,))
        ending.start()
        self._leave()
        try:
            return self.start()
        finally:
            ending.join()

    def run(self, code: str, **options: Any) -> Outcome:
        assert self.client
        return run(self.client, code, **options)

    def interrupt(self) -> None:
        """As it does for ``interrupt_mode: message``."""
        assert self.client
        message = self.client.session.msg("interrupt_request", {})
        self.client.control_channel.send(message)

    def dispose(self) -> None:
        """The notebook is closed, or another kernel is picked."""
        self._leave()
        if self.launches:
            self.process.dispose()

    def close(self) -> None:
        self.dispose()
        for launch in self.launches:
            with contextlib.suppress(subprocess.TimeoutExpired):
                launch.process.wait(10)
            launch.close()

    def _leave(self) -> None:
        if self.client is not None:
            self.client.stop_channels()
            self.client = None


def left_behind(kernelspec: Path) -> list[int]:
    """The launchers and keepers of a kernelspec that live."""
    return host_pids(str(kernelspec))


def nothing_left(kernelspec: Path, timeout: float = 30) -> None:
    """Wait until no process of a kernelspec is left, nor a port of any launch."""
    eventually(lambda: not left_behind(kernelspec), timeout, "a launcher or a keeper is left")
