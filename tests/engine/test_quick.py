"""One session of each kind on the real engine: what `make quick` looks at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.kernel_clients import install, jupyter, kernel, run

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


def test_a_session_is_created_used_stopped_started_and_removed(cli, project: Path) -> None:
    """Create, exec, stop, start and rm do what they say, on one container."""
    cli("create", "-d", "--name", "quick", "--", "sleep", "600", check=0)
    assert cli("exec", "quick", "--", "sh", "-c", "echo here; exit 7", check=7).stdout == "here\n"
    (session,) = json.loads(cli("ps", "--json", check=0).stdout)
    assert (session["name"], session["state"]) == ("quick", "running")
    cli("stop", "quick", check=0)
    cli("start", "quick", check=0)
    cli("rm", "-f", "quick", check=0)
    assert json.loads(cli("ps", "--json", check=0).stdout) == []


def test_a_kernel_runs_a_cell(mooring, jupyter: Path) -> None:
    """A kernelspec starts a kernel in a session of its own, which goes with it."""
    with kernel(install()) as (_, client):
        assert run(client, "print(6 * 7)").text == "42"
