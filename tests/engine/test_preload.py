"""Modules that a spec preloads, in kernels as a person starts them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring.client import Mooring
from tests.support.kernel_clients import (
    alive,
    install,
    jupyter,
    kernel,
    kernel_hosts,
    only_session,
    run,
)
from tests.support.sessions import session_folder
from tests.support.waiting import eventually

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine
THERE = "import sys; print(sys.modules['numpy'] is not None)"


def test_a_kernel_has_preloaded_modules_after_each_start(
    mooring: Mooring, jupyter: Path, cli: Callable[..., Any]
) -> None:
    """They are there in a first kernel, after a restart, and after a stop; why tells what is not,
    and so does each kernel's first cell."""
    text = "nothing_here: it cannot be imported (ModuleNotFoundError: No module named "
    text += "'nothing_here')"
    name = install(flags={"preload": ["numpy", "nothing_here"]})
    with kernel(name) as (manager, client):
        for _ in range(2):
            told = run(client, THERE).text.splitlines()
            assert told == [f"mooring: preload: {text}", "True"]
            assert run(client, THERE).text == "True"
            manager.restart_kernel(now=True)
            client.wait_for_ready(timeout=60)
        session = only_session(mooring)
        assert mooring.kernels.preload_problems(session.id) == [f"preload: {text}"]
        said = cli("why", session.name, check=0).stdout
        assert f"  preload   {text}\n" in said
        mooring.sessions.stop(session)
        mooring.sessions.start(session)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        assert run(client, THERE).text.endswith("True")


def test_a_kernel_host_that_was_killed_preloads_again(mooring: Mooring, jupyter: Path) -> None:
    """Modules are also preloaded by a kernel host that is started into a session that runs."""
    name = install(flags={"preload": ["numpy"]})
    with kernel(name) as (manager, client):
        folder = session_folder(only_session(mooring).id)
        (host,) = kernel_hosts(folder)
        os.kill(host, signal.SIGKILL)
        eventually(lambda: not alive(host))
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        assert run(client, THERE).text == "True"
        (other,) = kernel_hosts(folder)
        assert other != host
