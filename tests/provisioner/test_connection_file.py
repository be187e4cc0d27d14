"""What the launcher reads: a connection file, a kernelspec, its client's environment."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import KernelError, NotSupported
from mooring.kernels.connection import CHANNELS
from mooring.kernels.kernelspecs import document
from mooring_provisioner.connection_file import Ports, notebook_of, read_kernelspec

CONTENT = {name: 5000 + number for number, name in enumerate(CHANNELS)} | {
    "ip": "127.0.0.1",
    "key": "secret",
    "transport": "tcp",
    "signature_scheme": "hmac-sha256",
}


def write(folder: Path, **changes: Any) -> str:
    file = folder / "kernel.json"
    file.write_text(json.dumps(CONTENT | changes))
    return str(file)


def test_a_clients_ports_and_key_are_read(tmp_path: Path) -> None:
    """In the order of the channels; the key is not in the text of the value."""
    ports = Ports.read(write(tmp_path))
    assert ports.numbers == (5000, 5001, 5002, 5003, 5004)
    assert ports.key == b"secret"
    assert "secret" not in repr(ports)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"shell_port": 70000}, KernelError),
        ({"shell_port": None}, KernelError),
        ({"ip": "0.0.0.0"}, NotSupported),  # noqa: S104 - that is what is refused
        ({"transport": "ipc"}, NotSupported),
        ({"key": ""}, NotSupported),
        ({"curve_publickey": "x"}, NotSupported),
    ],
)
def test_a_connection_file_that_cannot_be_served_is_refused(
    tmp_path: Path, changes: dict[str, Any], kind: type[Exception]
) -> None:
    """Before anything is started."""
    with pytest.raises(kind):
        Ports.read(write(tmp_path, **changes))


def test_a_port_in_use_is_named() -> None:
    """And the ports that were bound before it are free again."""
    with socket.socket() as other, socket.socket() as probe:
        for one in (other, probe):
            one.bind(("127.0.0.1", 0))
        other.listen()
        taken, free = other.getsockname()[1], probe.getsockname()[1]
        probe.close()
        ports = Ports("127.0.0.1", (free, taken), b"k")
        with pytest.raises(KernelError, match=f"port {taken}"), ports.bound():
            pass
        with Ports("127.0.0.1", (free,), b"k").bound() as (bound,):
            assert bound.getsockname()[1] == free


def test_a_kernelspecs_configuration_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment is the client's where that sets it, and what debuggers want comes along."""
    content = document(display_name="x", kernel="python3", config={"session": "lab"})
    content["env"] = {"ONE": "1", "TWO": "2", "PATH": "/x:${PATH}"}
    (tmp_path / "kernel.json").write_text(json.dumps(content))
    monkeypatch.setenv("TWO", "other")
    monkeypatch.setenv("PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING", "1")
    config, env = read_kernelspec(str(tmp_path))
    assert (config.session, config.spec) == ("lab", "")
    assert env.pop("PATH") == "/x:${PATH}"  # the kernel's own
    assert env == {"ONE": "1", "TWO": "other", "PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1"}


def test_another_programs_kernelspec_is_refused(tmp_path: Path) -> None:
    """The hint says how to install one of mooring's."""
    (tmp_path / "kernel.json").write_text(json.dumps({"argv": ["python"], "metadata": {}}))
    with pytest.raises(KernelError) as refusal:
        read_kernelspec(str(tmp_path))
    assert "mooring kernel install" in refusal.value.hint


def test_a_notebook_that_the_client_itself_was_given_is_not_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All kernels of that client would share it. Its environment is that of its start."""
    monkeypatch.setenv("JPY_SESSION_NAME", "/p/a.ipynb")
    assert notebook_of(os.getpid()) == "/p/a.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", "")
    assert notebook_of(os.getpid()) == ""
