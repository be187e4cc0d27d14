"""An engine of the tests' own, that they may freeze, kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.engines.docker import DockerEngine
from mooring.errors import EngineUnavailable


class PrivateEngine:
    """A dockerd with its own folders, socket and network namespace: it disturbs no other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder / 'docker.sock'}"
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self._daemon = subprocess.Popen(
                [
                    "unshare",
                    "--net",
                    "dockerd",
                    f"--host={self.address}",
                    f"--data-root={self.folder / 'data'}",
                    f"--exec-root={self.folder / 'exec'}",
                    f"--pidfile={self.folder / 'pid'}",
                    "--iptables=false",
                    "--live-restore",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            engine = DockerEngine(self.address, timeout_s=5)
            try:
                engine.info()
                return
            except EngineUnavailable:
                log_tail = (self.folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, f"dockerd does not start:\n{log_tail}"
                assert self._daemon.poll() is None, f"dockerd ended:\n{log_tail}"
                time.sleep(0.2)
            finally:
                engine.close()

    def send(self, signum: signal.Signals) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(signum)
        if signum == signal.SIGSTOP:  # its threads stop one after the other
            deadline = time.monotonic() + 10
            while "(stopped)" not in Path(f"/proc/{self._daemon.pid}/status").read_text():
                assert time.monotonic() < deadline, "dockerd does not stop"
                time.sleep(0.01)
            time.sleep(0.2)

    def kill(self) -> None:
        """As the out-of-memory killer does it."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        for stale in ("pid", "exec/containerd/containerd.pid"):
            (self.folder / stale).unlink(missing_ok=True)

    def stop(self) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGCONT)
            self._daemon.terminate()
            self._daemon.wait(timeout=60)


@pytest.fixture
def private_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateEngine]:
    """Running, and what this process and its children use from now on."""
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("an engine of the tests' own needs root and dockerd")
    folder = Path(tempfile.mkdtemp(prefix="md-", dir="/var/tmp"))
    engine = PrivateEngine(folder)
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    engine.start()
    yield engine
    engine.stop()
    for line in Path("/proc/mounts").read_text().splitlines():
        if str(folder) in line:
            subprocess.run(["umount", "--lazy", line.split()[1]], check=False)
    shutil.rmtree(folder, ignore_errors=True)
