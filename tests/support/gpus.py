"""A machine with four GPUs, tickets for them, and containers that hold them on the fake engine."""

from __future__ import annotations

from mooring import FakeEngine
from mooring.engines.base import ContainerConfig
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    container_name,
)
from mooring.gpus.claims import Request, from_label
from mooring.gpus.inventory import Gpu
from mooring.gpus.tickets import Ticket

GPUS = tuple(Gpu(f"GPU-{n}", n, "nvidia", "A100" if n < 3 else "T4", 2**35, "1") for n in range(4))


def ticket(number: int, wanted: Request | int = 1, user: str = "bob", rank: int = 0) -> Ticket:
    """A ticket of session ``sNUMBER``; a lower number came first."""
    request = Request(wanted) if isinstance(wanted, int) else wanted
    return Ticket(f"{number:012x}", "here", user, f"s{number}", request, rank, number)


def fake_engine() -> FakeEngine:
    """An engine with the image ``i``, whose containers run until they are stopped."""
    return FakeEngine(["i"], main=lambda process: 0 if process.terminated.wait(60) else 1)


def start_holder(engine: FakeEngine, uuids: str, session: str = "f" * 12, **labels: str) -> str:
    """Start the container of a session ``big`` of eve's that holds GPUs; returns its id."""
    labels = {LABEL_ID: session, LABEL_INSTALLATION: "there", LABEL_OWNER: "eve"} | labels
    labels |= {LABEL_NAME: "big", LABEL_GPUS: uuids}
    name = container_name("big", labels[LABEL_ID])
    gpus = tuple(claim.gpu for claim in from_label(uuids))
    container = engine.create(ContainerConfig(name, "i", ("sh",), "0:0", labels=labels, gpus=gpus))
    engine.start(container)
    return container
