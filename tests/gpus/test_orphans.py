"""GPUs that were granted to somebody who died before a container had them."""

from __future__ import annotations

import os

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
from mooring.errors import EngineError, EngineUnavailable
from mooring.gpus.claims import Claim, Request, to_label
from mooring.gpus.inventory import inventory
from mooring.gpus.queue import GpuQueue
from mooring.gpus.tickets import GRANTED_GRACE_S, Ticket, TicketQueue
from mooring.gpus.usage import list_uses
from mooring.host.paths import Installation
from tests.fakes.gpus import FakeGpus

ID = "0123456789ab"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(images=["any:1"])


def ticket() -> Ticket:
    return Ticket(ID, Installation.here().id, "alice", "train", Request(1), 0, 0)


@pytest.fixture
def orphan(ticket_queue: TicketQueue, nvml: FakeGpus) -> Claim:
    """The first GPU was granted to a process that has died."""
    claim = Claim(nvml.uuids[0])
    with ticket_queue.locked():
        held = ticket_queue.enqueue(ticket())
        held.grant((claim,))
    held.release()
    return claim


def container(engine: FakeEngine, claim: Claim) -> str:
    labels = {
        LABEL_ID: ID,
        LABEL_NAME: "train",
        LABEL_INSTALLATION: Installation.here().id,
        LABEL_GPUS: to_label([claim]),
    }
    name, gpus = container_name("train", ID), (claim.gpu,)
    config = ContainerConfig(name, "any:1", ("x",), "0:0", labels=labels, gpus=gpus)
    return engine.create(config)


def free(engine: FakeEngine, ticket_queue: TicketQueue) -> list[str]:
    uses = list_uses(engine, inventory(), ticket_queue.tickets(), Installation.here().id)
    return [use.gpu.uuid for use in uses if use.state == "free"]


def test_without_a_container_they_are_free_at_once(
    ticket_queue: TicketQueue, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """An engine starts only containers that exist: without one nothing can run."""
    assert free(engine, ticket_queue) == nvml.uuids


def test_while_the_container_may_be_starting_they_are_held(
    ticket_queue: TicketQueue, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """An engine starts a container even if nobody waits for that any more: its GPUs are held from
    the request to the end of the container."""
    made = container(engine, orphan)
    assert free(engine, ticket_queue) == nvml.uuids[1:]
    engine.containers[made].state = "running"
    engine.containers[made].started_at = os.stat(ticket_queue.folder / f"t-{ID}").st_mtime + 1
    assert free(engine, ticket_queue) == nvml.uuids[1:]
    engine.containers[made].state = "exited"
    assert free(engine, ticket_queue) == nvml.uuids


def test_a_container_that_begins_between_two_looks_is_not_missed(
    ticket_queue: TicketQueue,
    engine: FakeEngine,
    orphan: Claim,
    nvml: FakeGpus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A container that was not among the running ones a moment ago counts too."""
    made = container(engine, orphan)
    real = engine.list

    def listing(labels, *, alive=False):
        rows = real(labels, alive=alive)
        engine.containers[made].state = "running"
        engine.containers[made].started_at = os.stat(ticket_queue.folder / f"t-{ID}").st_mtime + 1
        return rows

    monkeypatch.setattr(engine, "list", listing)
    assert free(engine, ticket_queue) == nvml.uuids[1:]


def test_one_that_is_started_again_holds_them_while_it_starts(
    ticket_queue: TicketQueue, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """A container that ended before its GPUs were granted again may be about to run again."""
    made = container(engine, orphan)
    engine.containers[made].state = "exited"
    engine.containers[made].started_at = os.stat(ticket_queue.folder / f"t-{ID}").st_mtime - 100
    assert free(engine, ticket_queue) == nvml.uuids[1:]


def test_they_are_not_held_for_ever(
    ticket_queue: TicketQueue, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """A container that was created and never started holds its GPUs for a minute."""
    container(engine, orphan)
    path = ticket_queue.folder / f"t-{ID}"
    before = path.stat().st_mtime - GRANTED_GRACE_S - 1
    os.utime(path, (before, before))
    assert free(engine, ticket_queue) == nvml.uuids


def test_who_waits_has_what_the_dead_left_put_in_order(
    ticket_queue: TicketQueue, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """A waiting session repairs what a dead process of its installation has left, at once."""
    while len(nvml.devices) > 1:
        nvml.lose(-1)
    made = container(engine, orphan)

    def repair() -> None:
        engine.remove(made)
        ticket_queue.discard(ID)

    queue = GpuQueue(engine, ticket_queue, Installation.here().id, repair=repair)
    following = Ticket("f" * 12, Installation.here().id, "bob", "next", Request(1), 0, 0)
    with queue.claim(following, tell=lambda text: None, max_wait_s=5) as claims:
        assert claims == (orphan,)
    assert ticket_queue.tickets() == []


@pytest.mark.parametrize(
    ("error", "left"), [(KeyboardInterrupt(), 1), (EngineUnavailable("away"), 1), (EngineError, 0)]
)
def test_a_cut_off_start_keeps_them_held(
    ticket_queue: TicketQueue, engine: FakeEngine, nvml: FakeGpus, error: BaseException, left: int
) -> None:
    """After Ctrl-C, or without an engine's answer, the container may still start; after the
    engine's refusal it does not."""
    queue = GpuQueue(engine, ticket_queue, Installation.here().id)
    with (
        pytest.raises((KeyboardInterrupt, EngineError)),
        queue.claim(ticket(), tell=lambda text: None),
    ):
        raise error if isinstance(error, BaseException) else error("refused")
    assert len(ticket_queue.tickets()) == left
