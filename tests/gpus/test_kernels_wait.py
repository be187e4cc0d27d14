"""Kernels whose session has to wait for GPUs: they wait no longer than somebody wants them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from jupyter_client.manager import AsyncKernelManager

from mooring.client import Mooring
from mooring.errors import SessionTimeout
from mooring.sessions.model import State
from mooring_provisioner.session import KernelspecConfig, open_session
from tests.support.kernel_clients import install, jupyter
from tests.support.waiting import eventually

__all__ = ["jupyter"]

pytestmark = pytest.mark.engine


def names(mooring: Mooring) -> list[str]:
    return sorted(session.name for session in mooring.sessions.list())


def test_a_client_that_gives_up_leaves_the_queue(
    mooring: Mooring, jupyter: Path, taken: str
) -> None:
    """An interrupt while a kernel waits for its GPU takes its session back, and nothing runs."""
    install("gpu", flags={"gpus": 1})

    async def start_and_give_up() -> None:
        manager = AsyncKernelManager(kernel_name="gpu")
        start = asyncio.ensure_future(manager.start_kernel())

        def pending() -> bool:
            return State.PENDING in [session.state for session in mooring.sessions.list()]

        await asyncio.to_thread(eventually, pending)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    asyncio.run(start_and_give_up())
    eventually(lambda: names(mooring) == [taken])


@pytest.mark.parametrize("shared", ["", "lab"])
def test_a_client_that_cannot_wait_is_told_who_holds_them(
    mooring: Mooring, project: Path, taken: str, shared: str
) -> None:
    """Where a client gives a kernel a minute, the wait ends before, and says what it was for."""
    wanted = KernelspecConfig(flags={"gpus": 1}, session=shared)
    with pytest.raises(SessionTimeout, match="1st in the queue for 1 GPU; held by big"):
        open_session(
            mooring,
            wanted,
            wanted.resolve(str(project)),
            cwd=str(project),
            short_id="0" * 12,
            max_wait_s=0.5,
        )
    assert names(mooring) == [taken]
