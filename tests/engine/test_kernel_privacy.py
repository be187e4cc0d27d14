"""A kernel's channel: who can listen, what is encrypted, and where its key is not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from mooring.client import Mooring
from tests.support.kernel_clients import Server, install, jupyter, kernel, only_session, run
from tests.support.sessions import session_folder

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


def answers(info: dict[str, object], timeout: float) -> bool:
    """Whether a kernel answers a client that knows what ``info`` says."""
    client = BlockingKernelClient(context=zmq.Context())
    client.load_connection_info(dict(info))
    client.start_channels(hb=False)
    try:
        client.shell_channel.socket.sndtimeo = round(timeout * 1000)
        client.kernel_info()
        if not client.shell_channel.socket.poll(timeout * 1000):
            return False
        return client.get_shell_msg(timeout=5)["msg_type"] == "kernel_info_reply"
    except zmq.Again:
        return False  # it is not even let in
    finally:
        client.stop_channels()
        client.context.destroy(linger=0)


def heard_in_plain(path: str, timeout: float) -> list[bytes]:
    """What a plaintext listener hears on a kernel's iopub socket."""
    context = zmq.Context()
    listener = context.socket(zmq.SUB)
    listener.setsockopt(zmq.SUBSCRIBE, b"")
    listener.connect(f"ipc://{path}")
    heard = listener.recv_multipart() if listener.poll(timeout * 1000) else []
    context.destroy(linger=0)
    return heard


@pytest.mark.parametrize("wish", ["spec", "manager"])
def test_sockets_are_encrypted_where_that_is_wanted(
    mooring: Mooring, jupyter: Path, wish: str
) -> None:
    """By the spec or by Jupyter's setting: who has no key gets nothing, and a restart keeps it."""
    name = install(flags={"encrypt": "always"} if wish == "spec" else {})
    traits = {"transport_encryption": "required"} if wish == "manager" else {}
    with kernel(name, **traits) as (manager, client):
        info = manager.get_connection_info()
        plain = {k: v for k, v in info.items() if not k.startswith("curve")}
        assert len(plain) == len(info) - 2
        assert answers(info, timeout=30)
        assert not answers(plain, timeout=1)
        client.execute("print('overheard')")
        assert heard_in_plain(f"{info['ip']}-{info['iopub_port']}", 1) == []
        manager.restart_kernel()
        client.wait_for_ready(timeout=60)
        assert manager.get_connection_info() == info
        assert run(client, "1").text == "1"
        assert not answers(plain, timeout=1)
        wrong = dict(zip(("curve_publickey", "curve_secretkey"), zmq.curve_keypair(), strict=True))
        stranger = info | {key: value.decode() for key, value in wrong.items()}
        assert not answers(stranger, timeout=1)


def test_sockets_are_plain_and_private_by_default(mooring: Mooring, jupyter: Path) -> None:
    """Unix sockets in a folder that nobody else can enter; nothing listens on a network."""
    with kernel(install()) as (manager, client):
        info = manager.get_connection_info()
        assert info["transport"] == "ipc"
        assert "curve_publickey" not in info
        sockets = Path(str(info["ip"])).parent
        session = session_folder(only_session(mooring).id)
        folder = session.run / "k" / sockets.name
        assert sockets == session.path / "k" / sockets.name  # out of the session's reach
        for path in (sockets, folder):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "c.json").stat().st_mode) == 0o600
        assert (folder / "c.json").stat().st_uid == os.getuid()
        listening = run(
            client,
            "rows = [row.split() for name in ('tcp', 'tcp6')"
            " for row in open(f'/proc/net/{name}').readlines()[1:]]\n"
            "loopback = ('0100007F', '0B00007F')\n"  # 127.0.0.11: the engine's name server
            "print([row[1] for row in rows if row[3] == '0A' and row[1][:8] not in loopback])",
        )
        assert listening.text == "[]"  # on its own loopback ipykernel collects children's output
        container = only_session(mooring).container
        ports = subprocess.run(["docker", "port", container], capture_output=True, text=True)
        assert ports.stdout == ""


@pytest.fixture
def server(mooring: Mooring, jupyter: Path) -> Iterator[Server]:
    """A Jupyter server."""
    running = Server()
    yield running
    running.stop()


def test_the_key_is_nowhere_but_in_its_file(
    server: Server, mooring: Mooring, jupyter: Path, state: Path
) -> None:
    """No command line, environment, label, log or event of the machine has a kernel's keys."""
    install(flags={"encrypt": "always"})
    kernel_id = server.start("mk")
    with server.socket(kernel_id) as socket:
        assert socket.execute("1").text == "1"
    session = only_session(mooring)
    (file,) = session_folder(session.id).run.glob("k/*/c.json")
    said = json.loads(file.read_text())
    keys = [said["key"], said["curve_secretkey"]]
    assert all(len(key) > 20 for key in keys)

    places: dict[str, bytes] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                places[f"/proc/{pid}/{name}"] = Path("/proc", pid, name).read_bytes()
            except OSError:
                continue
    kernel_process = (file.parent / "pid").read_text().split()[0]
    assert kernel_process.isdigit()
    assert any(b"kernelhost.py" in text for text in places.values())
    for command in (["inspect", session.container], ["logs", session.container]):
        done = subprocess.run(["docker", *command], capture_output=True, check=True)
        places["docker " + command[0]] = done.stdout + done.stderr
    places["events"] = repr(mooring.sessions.events(session.id)).encode()
    places["server's log"] = "".join(server.log).encode()
    for path in state.rglob("*"):
        runtime = jupyter / "runtime"  # the server's own connection file, 0600, is there
        if path.is_file() and path != file and runtime not in path.parents:
            places[str(path)] = path.read_bytes()
    for place, text in places.items():
        for key in keys:
            assert key.encode() not in text, place
    for path in (jupyter / "runtime").glob("kernel-*.json"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert server.ask("DELETE", f"kernels/{kernel_id}")[0] == 204
    assert not file.exists()


def test_encryption_that_the_kernel_cannot_do_is_refused(mooring: Mooring, jupyter: Path) -> None:
    """Required encryption is never dropped: a kernel that cannot have it does not start."""
    from tests.support.kernel_clients import own_kernelspec

    flags = own_kernelspec(Path.cwd(), "odd", ["/bin/true", "{connection_file}"])
    manager = KernelManager(
        kernel_name=install("odd", kernel="odd", flags=flags), transport_encryption="required"
    )
    with pytest.raises(RuntimeError, match="supported_encryption"):
        manager.start_kernel()
    assert mooring.sessions.list() == []
