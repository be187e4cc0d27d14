"""GPUs that were granted to somebody who died before a container had them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.engines.base import ContainerConfig
from mooring.engines.fake import FakeEngine
from mooring.errors import EngineError, EngineUnavailable
from mooring.gpus.claims import Claim, Request, to_label
from mooring.gpus.inventory import inventory
from mooring.gpus.queue import GpuQueue
from mooring.gpus.tickets import START_S, Gate, Ticket
from mooring.gpus.usage import look
from mooring.host import paths
from mooring.labels import LABEL_GPUS, LABEL_ID, LABEL_INSTALLATION
from tests.fakes.gpus import FakeGpus

ID = "0123456789ab"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(images=["any:1"])


def ticket() -> Ticket:
    return Ticket(ID, paths.installation_id(), "alice", "train", Request(1), 0, 0)


@pytest.fixture
def orphan(gate: Gate, nvml: FakeGpus) -> Claim:
    """The first GPU was granted, and whoever was granted it has died."""
    claim = Claim(nvml.uuids[0])
    with gate.locked():
        drawn = gate.draw(ticket())
        drawn.grant((claim,))
    drawn.let_go()
    return claim


def container(engine: FakeEngine, claim: Claim) -> str:
    labels = {
        LABEL_ID: ID,
        LABEL_INSTALLATION: paths.installation_id(),
        LABEL_GPUS: to_label([claim]),
    }
    return engine.create(ContainerConfig("c", "any:1", ("x",), "0:0", labels=labels))


def free(engine: FakeEngine, gate: Gate) -> list[str]:
    uses = look(engine, inventory(), gate.tickets(), paths.installation_id())
    return [use.gpu.uuid for use in uses if use.state == "free"]


def test_without_a_container_they_are_free_at_once(
    gate: Gate, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """The engine starts only what was made before: where nothing was made nothing can run."""
    assert free(engine, gate) == nvml.uuids


def test_while_the_container_may_be_starting_they_are_held(
    gate: Gate, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """An engine that was asked to start a container goes on although nobody waits for it: from
    the order to the end of the container nobody else is given its GPUs."""
    made = container(engine, orphan)
    assert free(engine, gate) == nvml.uuids[1:]
    engine.containers[made].state = "running"
    engine.containers[made].started_at = os.stat(gate.folder / f"t-{ID}").st_mtime + 1
    assert free(engine, gate) == nvml.uuids[1:]
    engine.containers[made].state = "exited"
    assert free(engine, gate) == nvml.uuids


def test_a_container_that_begins_between_two_looks_is_not_missed(
    gate: Gate, engine: FakeEngine, orphan: Claim, nvml: FakeGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was not running yet when those that run were listed counts all the same."""
    made = container(engine, orphan)
    real = engine.list

    def listing(labels, *, alive=False):
        rows = real(labels, alive=alive)
        engine.containers[made].state = "running"
        engine.containers[made].started_at = os.stat(gate.folder / f"t-{ID}").st_mtime + 1
        return rows

    monkeypatch.setattr(engine, "list", listing)
    assert free(engine, gate) == nvml.uuids[1:]


def test_one_that_is_started_again_holds_them_while_it_starts(
    gate: Gate, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """A container that ended before its GPUs were granted again may be about to run again."""
    made = container(engine, orphan)
    engine.containers[made].state = "exited"
    engine.containers[made].started_at = os.stat(gate.folder / f"t-{ID}").st_mtime - 100
    assert free(engine, gate) == nvml.uuids[1:]


def test_they_are_not_held_for_ever(
    gate: Gate, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """A container that was made and never started gives its GPUs back after a minute."""
    container(engine, orphan)
    path = gate.folder / f"t-{ID}"
    before = path.stat().st_mtime - START_S - 1
    os.utime(path, (before, before))
    assert free(engine, gate) == nvml.uuids


def test_who_waits_has_what_the_dead_left_put_in_order(
    gate: Gate, engine: FakeEngine, orphan: Claim, nvml: FakeGpus
) -> None:
    """The next one in the queue does not wait a minute for a creation of its installation's."""
    while len(nvml.devices) > 1:
        nvml.lose(-1)
    made = container(engine, orphan)

    def repair() -> None:
        engine.remove(made)
        gate.forget(ID)

    queue = GpuQueue(engine, gate, paths.installation_id(), repair=repair)
    following = Ticket("f" * 12, paths.installation_id(), "bob", "next", Request(1), 0, 0)
    with queue.claim(following, tell=lambda text: None, max_wait_s=5) as claims:
        assert claims == (orphan,)
    assert gate.tickets() == []


@pytest.mark.parametrize(
    ("error", "left"), [(KeyboardInterrupt(), 1), (EngineUnavailable("away"), 1), (EngineError, 0)]
)
def test_a_cut_off_start_keeps_them_held(
    gate: Gate, engine: FakeEngine, nvml: FakeGpus, error: BaseException, left: int
) -> None:
    """Ctrl-C, or an engine that no longer answers, leaves open what becomes of the container; an
    engine's refusal does not."""
    queue = GpuQueue(engine, gate, paths.installation_id())
    with (
        pytest.raises((KeyboardInterrupt, EngineError)),
        queue.claim(ticket(), tell=lambda text: None),
    ):
        raise error if isinstance(error, BaseException) else error("refused")
    assert len(gate.tickets()) == left
