"""What claiming a GPU costs. ``make bench ARGS='--only gpu_start,gpu_claim'`` has it all, on the
real engine: a session beside ``docker run``, and two hundred containers that run.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from mooring import FakeEngine
from mooring.engines.base import ContainerConfig
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    container_name,
)
from mooring.gpus.claims import Claim, Request, to_label
from mooring.gpus.inventory import inventory
from mooring.gpus.queue import GpuQueue
from mooring.gpus.tickets import Ticket, TicketQueue
from tests.fakes.gpus import FakeGpus
from tests.support.pace import in_time

pytestmark = pytest.mark.alone


def test_claiming_among_many_takes_a_moment(nvml: FakeGpus, tmp_path: Path) -> None:
    """A claim among 64 GPUs, with 200 sessions that hold shares of most, takes at most 0.1 s."""
    machine = FakeGpus(nvml.file, 64)
    engine = FakeEngine(["i"], main=lambda process: 0 if process.terminated.wait(300) else 1)
    for number in range(200):
        session, name = f"{number:012x}", f"many-{number}"
        gpu = machine.uuids[number // 4]
        labels = {
            LABEL_ID: session,
            LABEL_NAME: name,
            LABEL_INSTALLATION: "there",
            LABEL_GPUS: to_label([Claim(gpu, 0.25)]),
        }
        config = ContainerConfig(
            container_name(name, session), "i", ("sh",), "0:0", labels=labels, gpus=(gpu,)
        )
        engine.start(engine.create(config))
    assert len(inventory()) == 64
    queue, taken = GpuQueue(engine, TicketQueue(tmp_path), "here"), []
    for _ in range(7):
        began = time.perf_counter()
        ticket = Ticket("f" * 12, "here", "bob", "one-more", Request(1), 0, 0)
        with queue.claim(ticket, tell=lambda text: None) as claims:
            taken.append(time.perf_counter() - began)
        assert claims == (Claim(machine.uuids[50]),)
    for container in list(engine.containers):
        engine.remove(container)
    print(f"a claim among 64 GPUs and 200 sessions: {statistics.median(taken) * 1000:.1f} ms")
    assert in_time(statistics.median(taken), 0.1)
