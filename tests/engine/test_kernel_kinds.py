"""Kernels of another kind than Python's: found in the image, run by their own command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mooring.client import Mooring
from tests.support.kernel_clients import (
    finish,
    install,
    jupyter,
    kernel,
    only_session,
    own_kernelspec,
    run,
)
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

ECHO = '''
import os, sys, time
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel


class Echo(Kernel):
    """Says again what it is told; waits where it is told to; tells who it is."""

    implementation, implementation_version, banner = "echo", "1", "echo"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}

    def do_execute(self, code, silent, store_history=True, user_expressions=None,
                   allow_stdin=False, **options):
        text = str(os.getpid()) if code == "who" else os.environ.get(code, code)
        try:
            if code == "wait":
                open("waiting", "w").close()
                time.sleep(1000)
        except KeyboardInterrupt:
            text = "interrupted"
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})
        return {"status": "ok", "execution_count": self.execution_count,
                "payload": [], "user_expressions": {}}


IPKernelApp.launch_instance(kernel_class=Echo)
'''


@pytest.mark.parametrize("encrypt", ["auto", "always"])
def test_a_kernel_of_another_kind_lives_the_same_life(
    mooring: Mooring, jupyter: Path, project: Path, encrypt: str
) -> None:
    """It starts, executes, is interrupted and restarted in place; its work counts as activity."""
    (project / "echo.py").write_text(ECHO)
    (project / "token").write_text("planted-token")
    argv = [sys.executable, str(project / "echo.py"), "-f", "{connection_file}"]
    flags = own_kernelspec(project, "echo", argv)
    flags |= {"encrypt": encrypt, "secrets": {"TOKEN": {"file": "token"}}}
    with kernel(install("ek", kernel="echo", flags=flags)) as (manager, client):
        assert client.kernel_info(reply=True, timeout=30)["content"]["implementation"] == "echo"
        assert ("curve_publickey" in manager.get_connection_info()) is (encrypt == "always")
        pid = run(client, "who").text
        assert run(client, "hello").text == "hello"
        assert run(client, "TOKEN").text == "TOKEN"  # a new program's environment can be read
        session = only_session(mooring)
        eventually(
            lambda: (
                [(k.requests, k.busy) for k in only_session(mooring).live_kernels] == [(3, False)]
            )
        )
        asked = client.execute("wait")
        eventually(lambda: only_session(mooring).to_dict()["busy_kernels"] == 1)
        eventually((project / "waiting").exists)  # a kernel that is busy may not be waiting yet
        manager.interrupt_kernel()
        assert client.get_shell_msg(timeout=30)["content"]["status"] == "ok"
        finish(client, asked)
        eventually(lambda: only_session(mooring).to_dict()["busy_kernels"] == 0)
        manager.restart_kernel(now=encrypt == "always")
        client.wait_for_ready(timeout=60)
        assert run(client, "who").text != pid
        assert only_session(mooring).container == session.container
    assert mooring.sessions.list() == []


def test_kernels_of_two_kinds_share_a_session(
    mooring: Mooring, jupyter: Path, project: Path
) -> None:
    """Each kernelspec says which kernel it wants; the session is the same."""
    (project / "echo.py").write_text(ECHO)
    argv = ["python3", str(project / "echo.py"), "-f", "{connection_file}"]
    flags = own_kernelspec(project, "echo", argv)
    echo = install("ek", kernel="echo", session="both", flags=dict(flags))
    python = install("pk", session="both", flags=dict(flags))
    with kernel(echo) as (_, one), kernel(python) as (_, two):
        assert run(one, "hello").text == "hello"
        assert run(two, "6 * 7").text == "42"
        assert len(only_session(mooring).live_kernels) == 2


def test_a_kernel_of_another_environment(
    mooring: Mooring, jupyter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernelspec that ``python -m ipykernel install`` wrote for a virtual environment runs in
    that environment, which a session of image: host sees read-only."""
    environment = tmp_path / "pt"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    packages = Path(next(environment.glob("lib/python3*/site-packages")))
    (packages / "ours.py").write_text("ANSWER = 42")
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "here.pth").write_text("".join(f"{path}\n" for path in here))
    python = str(environment / "bin" / "python")
    own_kernelspec(tmp_path, "pt", [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter-path"))
    with kernel(install(kernel="pt")) as (_, client):
        assert run(client, "import sys; print(sys.prefix)").text.strip() == str(environment)
        assert run(client, "import ours; print(ours.ANSWER)").text.strip() == "42"
        run(client, f"try: open({str(packages / 'x')!r}, 'w')\nexcept OSError as e: error = e")
        assert run(client, "print(error.strerror)").text.strip() == "Read-only file system"
