"""Whose turn it is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.engines.base import ContainerConfig
from mooring.engines.fake import FakeEngine
from mooring.errors import Cancelled, EngineError, EngineUnavailable, NoCapacity, SessionTimeout
from mooring.gpus import queue as queues
from mooring.gpus.claims import Claim, Request
from mooring.gpus.inventory import Gpu
from mooring.gpus.queue import GpuQueue, decide, in_line, ordinal
from mooring.gpus.tickets import Gate, Ticket, open_gate
from mooring.gpus.usage import GpuUse, Holder, look, lost
from mooring.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_SPEC,
    container_name,
)

GPUS = tuple(Gpu(f"GPU-{n}", n, "nvidia", "A100" if n < 3 else "T4", 2**35, "1") for n in range(4))


def ticket(number: int, wanted: Request | int = 1, user: str = "bob", rank: int = 0) -> Ticket:
    request = Request(wanted) if isinstance(wanted, int) else wanted
    return Ticket(f"{number:012x}", "here", user, f"s{number}", request, rank, number)


def use(gpu: Gpu, *holders: Holder) -> GpuUse:
    return GpuUse(gpu, "held" if holders else "free", 0.0 if holders else 1.0, holders)


def held(user: str = "eve", ends_at: float | None = None) -> Holder:
    return Holder(user, "big", "b" * 12, "c", "", 0.0, 1.0, ends_at, True)


def places(tickets: list[Ticket], uses: list[GpuUse], most: float | None = None) -> list[object]:
    """Of each ticket: the numbers of the devices that it gets, or its place."""
    found: list[object] = []
    for one in tickets:
        verdict = decide(one, tickets, uses, most)
        found.append([claim.gpu[-1] for claim in verdict.claims] or verdict.place)
    return found


def test_who_came_first_is_first() -> None:
    """Free devices go to those in front, one after another; the rest keep their places."""
    uses = [use(GPUS[0]), use(GPUS[1]), use(GPUS[2], held()), use(GPUS[3], held())]
    assert places([ticket(1), ticket(2), ticket(3), ticket(4)], uses) == [["0"], ["1"], 2, 3]


def test_who_is_in_front_is_not_overtaken() -> None:
    """Devices that suit the one in front wait for it, although one behind could have them."""
    uses = [use(GPUS[0]), use(GPUS[1], held()), use(GPUS[2], held()), use(GPUS[3], held())]
    assert places([ticket(1, 2), ticket(2, 1)], uses) == [0, 1]


def test_who_wants_something_else_passes_by() -> None:
    """One that waits for another model is in nobody's way."""
    uses = [use(GPUS[0], held()), use(GPUS[1], held()), use(GPUS[2], held()), use(GPUS[3])]
    waiting = ticket(1, Request(1, model="A100"))
    assert places([waiting, ticket(2, Request(1, model="T4"))], uses) == [0, ["3"]]


def test_a_quota_holds_up_only_its_own_user() -> None:
    """Who holds as much as one may is passed over, and told so."""
    uses = [use(GPUS[0], held("eve")), use(GPUS[1]), use(GPUS[2]), use(GPUS[3])]
    tickets = [ticket(1, 1, "eve"), ticket(2, 1, "bob"), ticket(3, 1, "bob")]
    assert places(tickets, uses, 1) == [0, ["1"], 2]
    assert "eve may hold 1 at a time" in decide(tickets[0], tickets, uses, 1).because


def test_who_cannot_be_served_any_more_holds_nobody_up() -> None:
    """One that waits for more than is left, since a GPU was lost, is passed by."""
    uses = [use(gpu) for gpu in GPUS[:3]]
    assert places([ticket(1, 4), ticket(2, 1)], uses) == [0, ["0"]]


def test_why_it_waits_is_told() -> None:
    """Its place, who holds what it wants, and when the first of them must end."""
    ends = time.mktime((2026, 11, 21, 14, 5, 0, 0, 0, -1))
    uses = [use(gpu, held("alice", ends)) for gpu in GPUS]
    assert decide(ticket(1, 2), [ticket(1, 2)], uses, None).because == (
        "1st in the queue for 2 GPUs; held by big (alice); the first must end by 14:05"
    )


def test_who_could_have_free_ones_is_told_who_is_in_front() -> None:
    """Where others' places alone keep it, those are named and no holder is; of others, whose."""
    uses = [use(GPUS[0], held("root")), *map(use, GPUS[1:])]
    tickets = [ticket(1, Request(3, model="A100")), ticket(2), ticket(3, 1, "eve"), ticket(4)]
    tickets += [ticket(5, Request(1, model="T4")), ticket(6, Request(1, model="A100"), "eve")]
    assert places(tickets, uses) == [0, ["3"], 2, 3, 4, 5]
    because = [decide(one, tickets, uses, None).because for one in tickets]
    assert because[0].endswith("held by big (root)")
    assert because[3] == "4th in the queue for 1 GPU; behind s1 (3 GPUs), s2 (1 GPU)"
    assert because[4].endswith("; behind s2 (1 GPU)")
    assert because[5].endswith("; behind s1 (bob, 3 GPUs)")
    assert [(one.session, len(one.kept)) for one in in_line(tickets, uses, None)] == [
        ("s1", 2), ("s2", 1), ("s3", 0), ("s4", 0), ("s5", 0), ("s6", 0),
    ]  # fmt: skip


def test_ordinals() -> None:
    """Places are counted as people count them."""
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th",
    ]  # fmt: skip


# the gate


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_tickets_are_served_by_rank_then_by_time(gate: Gate) -> None:
    """Higher priorities first; among equals, first come first."""
    with gate.locked():
        drawn = [gate.draw(ticket(0, rank=rank)) for rank in ()]
        for number, rank in ((1, 0), (2, 5), (3, -1), (4, 5), (5, 0)):
            one = Ticket(f"{number:012x}", "i", "u", f"s{number}", Request(1), rank, 0)
            drawn.append(gate.draw(one))
    assert [one.session for one in gate.tickets()] == ["s2", "s4", "s1", "s5", "s3"]
    drawn[1].leave()
    assert [one.session for one in gate.tickets()] == ["s4", "s1", "s5", "s3"]
    for one in drawn:
        one.leave()
    assert gate.tickets() == []


def test_a_ticket_ends_with_its_process(gate: Gate) -> None:
    """Nobody answers for a killed process's ticket: it holds nobody up, and is swept away."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with gate.locked():
            gate.draw(ticket(1))
        os.write(writer, b".")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    assert [one.session for one in gate.tickets()] == ["s1"]
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert gate.tickets() == []
    with gate.locked():
        gate.sweep("here")
    assert list(gate.folder.glob("t-*")) == []


def test_an_enqueued_ticket_lives_with_its_dispatcher(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was left to wait counts for a moment, and then while a dispatcher lives."""
    from dataclasses import replace

    with gate.locked():
        gate.draw(replace(ticket(1), enqueued=True)).let_go()
    assert len(gate.tickets()) == 1
    monkeypatch.setattr("mooring.gpus.tickets.GRACE_S", 0.0)
    assert gate.tickets() == []
    descriptor = gate.become_dispatcher("here")
    assert descriptor is not None
    assert gate.become_dispatcher("here") is None
    assert len(gate.tickets()) == 1
    gate.retire("here", descriptor)
    assert gate.tickets() == []


FORGED = (
    '{{"id": "a", "installation": "i", "user": "u", "session": "s", "priority": {priority}, '
    '"since": {since}, "granted": "GPU-1", "enqueued": false, "seen": 0, "request": '
    '{{"count": {count}, "share": {share}, "memory_bytes": 0, "model": "", "before": []}}}}'
)
SAID = {"priority": "0", "since": "1", "count": "1", "share": "1.0"}


def forged(**said: str) -> str:
    return FORGED.format(**SAID | said)


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"id": 1}', "x" * 20000, '{"id": "a"}', "[" * 9999,
        forged(priority="Infinity"), forged(since="1e999"), forged(share="NaN"),
        forged(share="Infinity"), forged(share="-1"), forged(count="-3"),
    ],
)  # fmt: skip
def test_rubbish_is_no_ticket(gate: Gate, content: str) -> None:
    """What somebody puts there is not waited for, and nobody hangs at it or runs out of files."""
    (gate.folder / "t-rubbish").write_text(content)
    (gate.folder / "t-link").symlink_to("/etc/passwd")
    (gate.folder / "t-folder").mkdir()
    os.mkfifo(gate.folder / "t-fifo")
    os.mkfifo(gate.folder / "d-here")
    before = len(os.listdir("/proc/self/fd"))
    assert gate.tickets() == []
    assert not gate.forsaken("i")
    assert not gate.dispatched("here")
    assert len(os.listdir("/proc/self/fd")) <= before  # others may be collected meanwhile
    (gate.folder / "t-rubbish").write_text(forged())
    assert gate.forsaken("i")


def test_who_is_suspended_holds_nobody_up(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not look any more (Ctrl-Z) is passed over; it keeps its place for later."""
    monkeypatch.setattr("mooring.gpus.tickets.ASLEEP_S", 0.05)
    with gate.locked():
        first, second = gate.draw(ticket(1)), gate.draw(ticket(2))
    time.sleep(0.06)
    second.look()
    assert [one.session for one in gate.tickets()] == ["s2"]
    with gate.locked():
        gate.sweep("here")
    first.look()
    assert [one.session for one in gate.tickets()] == ["s1", "s2"]
    first.grant((Claim("GPU-0"),))
    time.sleep(0.06)
    assert [one.session for one in gate.tickets()] == ["s1"], "what was granted is held"
    first.leave()
    second.leave()


def test_others_see_a_dispatcher_whatever_its_umask(gate: Gate) -> None:
    """Who may not read its file would take what it answers for to be nobody's."""
    before = os.umask(0o077)
    try:
        descriptor = gate.become_dispatcher("here")
    finally:
        os.umask(before)
    assert descriptor is not None
    assert (gate.folder / "d-here").stat().st_mode & 0o777 == 0o640
    gate.retire("here", descriptor)


def test_a_look_does_not_keep_a_dispatcher_from_being_one(gate: Gate) -> None:
    """Who asks whether there is one locks its file for a moment."""
    import fcntl

    path = gate.folder / "d-here"
    path.touch()
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        descriptor = gate.become_dispatcher("here")
    assert descriptor is not None
    gate.retire("here", descriptor)


def test_one_at_a_time(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody decides, others wait, and say so when it takes too long."""
    monkeypatch.setattr("mooring.gpus.tickets.LOCK_PATIENCE_S", 0.05)
    with gate.locked(), pytest.raises(EngineUnavailable), Gate(gate.folder).locked():
        pass


def test_a_gate_that_is_gone(gate: Gate) -> None:
    """A folder that was removed is one clear error."""
    gate.folder.rmdir()
    with pytest.raises(EngineError), gate.locked():
        pass


def test_an_engine_without_a_socket_has_a_gate_of_its_own(state: Path) -> None:
    """Where nobody shares the engine, the queue is this installation's."""
    assert open_gate("").folder == state / "queue"


@pytest.fixture
def shared(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a socket that a group may use."""
    monkeypatch.setattr("mooring.gpus.tickets.SHARED_PLACES", (str(tmp_path),))
    tmp_path.chmod(0o1777)
    made = tmp_path / "docker.sock"
    made.touch()
    made.chmod(0o660)
    # of somebody else, to whom it is not root
    monkeypatch.setattr("os.getuid", lambda: 0)
    return f"unix://{made}"


def test_a_shared_gate_is_the_groups_alone(shared: str, tmp_path: Path) -> None:
    """Several make it at once: it is one folder, whatever the umask, and no draft is left."""
    before = os.umask(0o077)
    found: list[Path] = []
    try:
        threads = [
            threading.Thread(target=lambda: found.append(open_gate(shared).folder))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    finally:
        os.umask(before)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert found[0].stat().st_mode & 0o7777 == 0o3770
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker.sock", found[0].name]


def test_a_gate_that_somebody_has_made_is_never_replaced(
    shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was slower at the first use after a boot takes the lock that the other may hold."""
    first = open_gate(shared)
    with first.locked():
        before = first.folder.stat().st_ino
        exists = Path.exists
        monkeypatch.setattr(
            Path, "exists", lambda path: path != first.folder and exists(path)
        )  # as it was when both looked
        assert open_gate(shared).folder.stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker.sock", first.folder.name]


def test_who_may_not_make_the_gate_is_told(
    shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not being of the socket's group is one clear error, and leaves no folder."""

    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.chown", refuse)
    with pytest.raises(EngineError, match="cannot be made"):
        open_gate(shared)
    assert [path.name for path in tmp_path.iterdir()] == ["docker.sock"]


# waiting


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """The machine's; a test may change them."""
    there = list(GPUS)
    monkeypatch.setattr(queues, "inventory", lambda: tuple(there))
    monkeypatch.setattr(queues, "LOOK_S", 0.02)
    monkeypatch.setattr(queues, "TICK_S", 0.005)
    return there


def run(engine: FakeEngine, name: str, **labels: str) -> str:
    made = engine.create(ContainerConfig(name, "i", ("sh",), "0:0", labels=labels))
    engine.start(made)
    return made


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(["i"], main=lambda process: 0 if process.terminated.wait(60) else 1)


def claimed(engine: FakeEngine, uuids: str, session: str = "f" * 12, **more: str) -> str:
    labels = {LABEL_ID: session, LABEL_INSTALLATION: "there", LABEL_OWNER: "eve"} | more
    labels |= {LABEL_NAME: "big", LABEL_GPUS: uuids}
    return run(engine, container_name("big", labels[LABEL_ID]), **labels)


def quiet(because: str) -> None:
    pass


def test_a_claim_lives_and_dies_with_its_container(
    engine: FakeEngine, gate: Gate, gpus: list[Gpu]
) -> None:
    """What a running container's label says is taken; of one that has ended, nothing is."""
    queue = GpuQueue(engine, gate, "here")
    made = claimed(engine, "GPU-0,GPU-1:0.5")
    assert [(one.state, one.free_share) for one in queue.uses()] == [
        ("held", 0.0), ("shared", 0.5), ("free", 1.0), ("free", 1.0),
    ]  # fmt: skip
    engine.finish(made)
    assert {one.state for one in queue.uses()} == {"free"}


def test_a_turn_comes_when_another_ends(engine: FakeEngine, gate: Gate, gpus: list[Gpu]) -> None:
    """Who waits gets the device as soon as its holder has ended, and holds it by its ticket."""
    queue = GpuQueue(engine, gate, "here")
    made = claimed(engine, "GPU-0,GPU-1,GPU-2,GPU-3")
    told: list[str] = []

    def tell(because: str) -> None:
        told.append(because)
        if len(told) == 3:
            engine.finish(made)
            assert [one.kept_for for one in queue.uses()] == ["s1", "", "", ""]

    with queue.claim(ticket(1), tell=tell) as claims:
        assert claims == (Claim("GPU-0"),)
        assert queue.uses()[0].holders[0].session == "s1"
    assert told[-1] == ""
    assert told[0].startswith("1st in the queue for 1 GPU; held by ")
    assert queue.uses()[0].state == "free"
    assert gate.tickets() == []


def test_a_wait_that_is_too_long(engine: FakeEngine, gate: Gate, gpus: list[Gpu]) -> None:
    """It ends in time, and its ticket with it."""
    claimed(engine, "GPU-0,GPU-1,GPU-2,GPU-3")
    queue = GpuQueue(engine, gate, "here")
    with pytest.raises(SessionTimeout) as caught, contextlib.ExitStack() as stack:
        stack.enter_context(queue.claim(ticket(1), tell=quiet, max_wait_s=0.05))
    assert caught.value.exit_code == 3
    assert gate.tickets() == []


def test_a_wait_that_is_given_up(engine: FakeEngine, gate: Gate, gpus: list[Gpu]) -> None:
    """Whatever is raised while it waits, its ticket goes."""
    claimed(engine, "GPU-0,GPU-1,GPU-2,GPU-3")
    queue = GpuQueue(engine, gate, "here")

    def give_up(because: str) -> None:
        raise Cancelled("no more")

    with pytest.raises(Cancelled), queue.claim(ticket(1), tell=give_up):
        pass
    assert gate.tickets() == []


def test_who_was_left_to_wait_keeps_its_place_while_the_engine_is_away(
    engine: FakeEngine, gate: Gate, gpus: list[Gpu]
) -> None:
    """Its ticket stays, for its dispatcher comes back to it; one of a command's goes with that."""
    from dataclasses import replace

    from mooring.errors import EngineUnavailable

    for one, left in ((replace(ticket(1), enqueued=True), 1), (ticket(2), 0)):
        engine.fail("list", EngineUnavailable("away"))
        with (
            pytest.raises(EngineUnavailable),
            GpuQueue(engine, gate, "here").claim(one, tell=quiet),
        ):
            pass
        assert len(list(gate.folder.glob("t-*"))) == left
        gate.forget(one.id)


def test_what_can_never_be_had(engine: FakeEngine, gate: Gate, gpus: list[Gpu]) -> None:
    """More than there are is refused at once, with what there is; so is more than one may have."""
    with pytest.raises(NoCapacity, match=r"9 GPUs: this machine has 3 of A100.*1 of T4"):
        GpuQueue(engine, gate, "here").check(Request(9))
    with pytest.raises(NoCapacity, match="one user may hold 2") as caught:
        GpuQueue(engine, gate, "here", most_per_user=2, policy="/etc/p.yml").check(Request(3))
    assert "/etc/p.yml" in caught.value.hint
    gpus.clear()
    with pytest.raises(NoCapacity, match="no GPU that mooring can see"):
        GpuQueue(engine, gate, "here").check(Request(1))


def test_who_was_left_to_wait_outlives_a_driver_that_is_away(
    engine: FakeEngine, gate: Gate, gpus: list[Gpu]
) -> None:
    """While the machine shows no GPU (its driver is replaced) it waits, and then has its turn."""
    from dataclasses import replace

    gpus.clear()
    told: list[str] = []

    def tell(because: str) -> None:
        told.append(because)
        if len(told) == 3:
            gpus.extend(GPUS)

    queue = GpuQueue(engine, gate, "here")
    with queue.claim(replace(ticket(1), enqueued=True), tell=tell) as claims:
        assert claims == (Claim("GPU-0"),)
    assert told[0] == "1st in the queue for 1 GPU"


def test_many_at_once_never_get_the_same(engine: FakeEngine, gate: Gate, gpus: list[Gpu]) -> None:
    """Threads that claim and let go at random never hold a device together."""
    queue = GpuQueue(engine, gate, "here")
    holding: dict[str, str] = {}
    wrong: list[str] = []

    def worker(number: int) -> None:
        for turn in range(3):
            with queue.claim(ticket(number * 10 + turn + 1), tell=quiet) as claims:
                for claim in claims:
                    if claim.gpu in holding:
                        wrong.append(claim.gpu)
                    holding[claim.gpu] = str(number)
                time.sleep(0.005)
                for claim in claims:
                    del holding[claim.gpu]

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not holding
    assert gate.tickets() == []


# holders


def test_another_container_has_what_it_asked_for(engine: FakeEngine) -> None:
    """A container that is none of mooring's takes the devices that it asked the engine for."""
    made = engine.create(ContainerConfig("web", "i", ("sh",), "0:0", gpus=("GPU-1",)))
    engine.start(made)
    uses = look(engine, GPUS, [], "here")
    assert [one.state for one in uses] == ["free", "outside", "free", "free"]
    assert uses[1].holders[0].what == "container web"


def test_all_gpus_are_their_instances_too(engine: FakeEngine) -> None:
    """Who asked the engine for every GPU has the instances of a divided one."""
    from dataclasses import replace

    from mooring.engines.base import DeviceRequest
    from mooring.gpus.usage import _resolved

    gpus = [replace(GPUS[0], split=True), replace(GPUS[1], uuid="MIG-1", parent="GPU-0")]
    for asked in (DeviceRequest(-1, ()), DeviceRequest(1, ()), DeviceRequest(0, ("all",))):
        assert _resolved([asked], gpus) == ["GPU-0", "MIG-1"]


def test_a_device_that_is_gone() -> None:
    """It is lost where the driver lists all and not that; who knows only numbers cannot tell."""
    from dataclasses import replace

    assert lost([Claim("GPU-0"), Claim("GPU-9")], GPUS)
    assert not lost([Claim("GPU-0")], GPUS)
    assert not lost([Claim("GPU-0")], [])
    assert not lost([Claim("GPU-0")], [replace(GPUS[0], uuid="0", driver="")])


def test_latest_end(engine: FakeEngine) -> None:
    """When a session must end at the latest is told by what it declared."""
    claimed(engine, "GPU-0", **{LABEL_SPEC: '{"max_duration": 3600.0}'})
    for number, rubbish in enumerate(("[rubbish", "[" * 9999, '{"max_duration": 1e300}'), 1):
        claimed(engine, f"GPU-{number}", f"{number}" * 12, **{LABEL_SPEC: rubbish})
    first, *others = [one.holders[0] for one in look(engine, GPUS, [], "here")]
    assert first.ends_at == pytest.approx(first.since + 3600)
    assert [one.ends_at for one in others] == [None] * 3


@pytest.fixture
def process() -> Iterator[Callable[[], int]]:
    """Starts a process, and kills it in the end."""
    children: list[int] = []

    def start() -> int:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
        return child

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, 9)
            os.waitpid(child, 0)


def test_a_bare_process_takes_its_gpu(engine: FakeEngine, process: Callable[[], int]) -> None:
    """A process outside of every container holds the GPU that it computes on."""
    from dataclasses import replace

    from mooring.gpus.inventory import GpuProcess

    pid = process()
    busy = replace(GPUS[0], processes=(GpuProcess(pid, 2**20),))
    found = look(engine, [busy, GPUS[1]], [], "here")
    assert [one.state for one in found] == ["outside", "free"]
    assert found[0].holders[0].what.startswith(f"process {pid} (")
    assert found[0].free_share == 0


def test_a_process_that_is_going_drains(engine: FakeEngine, process: Callable[[], int]) -> None:
    """A GPU is free only when its last process has gone, also one that waits to be reaped."""
    from dataclasses import replace

    from mooring.gpus.inventory import GpuProcess

    pid = process()
    busy = replace(GPUS[0], processes=(GpuProcess(pid, None),))
    os.kill(pid, 9)
    deadline = time.monotonic() + 5
    while (found := look(engine, [busy], [], "here")[0]).state != "draining":
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    assert found.free_share == 0


def test_the_daemon_that_shares_a_gpu_does_not_hold_it(engine: FakeEngine, tmp_path: Path) -> None:
    """MPS's server computes for the sessions that share, and stays when they have gone."""
    from dataclasses import replace

    from mooring.gpus.inventory import GpuProcess

    server = tmp_path / "nvidia-cuda-mps-server"
    server.symlink_to("/bin/sleep")
    claimed(engine, "GPU-0:0.5")
    with subprocess.Popen([server, "60"]) as running:
        busy = replace(GPUS[0], processes=(GpuProcess(running.pid, 2**20),))
        found = look(engine, [busy], [], "here")[0]
        running.kill()
    assert (found.state, found.free_share) == ("shared", 0.5)
