"""A folder that is replaced on this machine while a session has it mounted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring_provisioner.provisioner import LaunchFailed
from tests.support.kernel_clients import install, jupyter, kernel, run

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


def test_what_to_do_is_said(  # argo-cd#28877
    cli, mooring: Mooring, jupyter: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `git checkout` of a branch without it and back, a kernel, an exec and describe say that
    the session has the old folder; after a stop and a start it has the new one."""
    work = project / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with kernel(install(session="lab")) as (manager, client):
        assert run(client, "import os; open('old', 'w').close(); os.listdir()").text == "['old']"
        assert "replaced" not in cli("describe", "lab", check=0).stdout
        shutil.rmtree(work)
        work.mkdir()
        (work / "new").touch()
        monkeypatch.chdir(work)
        told = f"{work} was replaced on this machine, and session lab still has the old one"
        done = cli("exec", "lab", "--", "ls", cwd=project, check=125)
        assert done.stderr.splitlines() == [
            f"error: {told}",
            "hint: stop the session and start it again: mooring stop lab && mooring start lab",
        ]
        shown = cli("describe", "lab", cwd=project, check=0).stdout
        assert f"{work} was replaced on this machine: stop and start the session" in shown
        with pytest.raises(LaunchFailed, match=told):
            manager.restart_kernel(now=True)
        mooring.sessions.stop(mooring.sessions.get("lab"), grace_s=1.0)
        mooring.sessions.start(mooring.sessions.get("lab"))
        assert cli("exec", "lab", "--", "ls", cwd=project, check=0).stdout == "new\n"
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        assert run(client, "import os; os.listdir()").text == "['new']"
