"""What docs/explanation/local-kernel.md says of a kernel, and no other test shows."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from mooring.client import Mooring
from tests.support.kernel_clients import install, jupyter, kernel, only_session, run

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine

SEEN = """
import json, os, socket
with socket.socket() as client:
    refused = client.connect_ex(("127.0.0.1", {port}))
commands = [
    open(f"/proc/{{pid}}/cmdline").read() for pid in os.listdir("/proc") if pid.isdigit()
]
print(json.dumps([socket.gethostname(), refused, any("pytest" in one for one in commands)]))
"""


def test_what_a_cell_sees_of_the_machine(mooring: Mooring, jupyter: Path) -> None:
    """A cell has a host name, processes and a localhost of its session's own."""
    with socket.create_server(("127.0.0.1", 0)) as server, kernel(install()) as (_, client):
        name, refused, other = json.loads(
            run(client, SEEN.format(port=server.getsockname()[1])).text
        )
        assert name == only_session(mooring).name != socket.gethostname()
        assert refused != 0
        assert not other


def test_what_a_client_sees_of_the_kernel(mooring: Mooring, jupyter: Path) -> None:
    """The kernel is a child of its session's kernel host; its client has no process to look at."""
    with kernel(install()) as (manager, client):
        assert not hasattr(manager.provisioner, "process")
        parent = run(client, "import os; print(open(f'/proc/{os.getppid()}/cmdline').read())").text
        assert "kernelhost.py" in parent
