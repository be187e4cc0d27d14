"""Whose turn it is, and waiting for it."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace

import pytest

from mooring import FakeEngine
from mooring.errors import Cancelled, EngineUnavailable, NoCapacity, SessionTimeout
from mooring.gpus import queue as queues
from mooring.gpus.claims import Claim, Request
from mooring.gpus.inventory import Gpu
from mooring.gpus.queue import GpuQueue, decide, ordinal, waiting_list
from mooring.gpus.tickets import Ticket, TicketQueue
from mooring.gpus.usage import GpuUse, Holder
from tests.support.gpus import GPUS, fake_engine, start_holder, ticket


def use(gpu: Gpu, *holders: Holder) -> GpuUse:
    return GpuUse(gpu, "held" if holders else "free", 0.0 if holders else 1.0, holders)


def held(user: str = "eve", ends_at: float | None = None) -> Holder:
    return Holder(user, "big", "b" * 12, "c", "", 0.0, 1.0, ends_at, True)


def places(tickets: list[Ticket], uses: list[GpuUse], most: float | None = None) -> list[object]:
    """Of each ticket: the numbers of the devices that it gets, or its place."""
    found: list[object] = []
    for one in tickets:
        decision = decide(one, tickets, uses, most)
        found.append([claim.gpu[-1] for claim in decision.claims] or decision.place)
    return found


def test_who_came_first_is_first() -> None:
    """Free devices go to the tickets in front, one by one; the others keep their places."""
    uses = [use(GPUS[0]), use(GPUS[1]), use(GPUS[2], held()), use(GPUS[3], held())]
    assert places([ticket(1), ticket(2), ticket(3), ticket(4)], uses) == [["0"], ["1"], 2, 3]


def test_who_is_in_front_is_not_overtaken() -> None:
    """Devices that suit the first ticket are reserved for it, although the second would fit."""
    uses = [use(GPUS[0]), use(GPUS[1], held()), use(GPUS[2], held()), use(GPUS[3], held())]
    assert places([ticket(1, 2), ticket(2, 1)], uses) == [0, 1]


def test_who_wants_something_else_passes_by() -> None:
    """A ticket that waits for another model blocks nobody."""
    uses = [use(GPUS[0], held()), use(GPUS[1], held()), use(GPUS[2], held()), use(GPUS[3])]
    waiting = ticket(1, Request(1, model="A100"))
    assert places([waiting, ticket(2, Request(1, model="T4"))], uses) == [0, ["3"]]


def test_a_quota_holds_up_only_its_own_user() -> None:
    """A user who holds as much as one user may is passed over, and told so."""
    uses = [use(GPUS[0], held("eve")), use(GPUS[1]), use(GPUS[2]), use(GPUS[3])]
    tickets = [ticket(1, 1, "eve"), ticket(2, 1, "bob"), ticket(3, 1, "bob")]
    assert places(tickets, uses, 1) == [0, ["1"], 2]
    assert "eve may hold 1 at a time" in decide(tickets[0], tickets, uses, 1).reason


def test_who_cannot_be_served_any_more_holds_nobody_up() -> None:
    """A ticket that waits for more devices than are left, after one was lost, is passed over."""
    uses = [use(gpu) for gpu in GPUS[:3]]
    assert places([ticket(1, 4), ticket(2, 1)], uses) == [0, ["0"]]


def test_why_it_waits_is_told() -> None:
    """The reason is its place, the holders, and when the first of them must end."""
    ends = time.mktime((2026, 11, 21, 14, 5, 0, 0, 0, -1))
    uses = [use(gpu, held("alice", ends)) for gpu in GPUS]
    assert decide(ticket(1, 2), [ticket(1, 2)], uses, None).reason == (
        "1st in the queue for 2 GPUs; held by big (alice); the first must end by 14:05"
    )


def test_who_could_have_free_ones_is_told_who_is_in_front() -> None:
    """If only tickets in front keep it waiting, those are named instead of the holders, with their
    users if those are others."""
    uses = [use(GPUS[0], held("root")), *map(use, GPUS[1:])]
    tickets = [ticket(1, Request(3, model="A100")), ticket(2), ticket(3, 1, "eve"), ticket(4)]
    tickets += [ticket(5, Request(1, model="T4")), ticket(6, Request(1, model="A100"), "eve")]
    assert places(tickets, uses) == [0, ["3"], 2, 3, 4, 5]
    reasons = [decide(one, tickets, uses, None).reason for one in tickets]
    assert reasons[0].endswith("held by big (root)")
    assert reasons[3] == "4th in the queue for 1 GPU; behind s1 (3 GPUs), s2 (1 GPU)"
    assert reasons[4].endswith("; behind s2 (1 GPU)")
    assert reasons[5].endswith("; behind s1 (bob, 3 GPUs)")
    assert [(one.session, len(one.kept)) for one in waiting_list(tickets, uses, None)] == [
        ("s1", 2), ("s2", 1), ("s3", 0), ("s4", 0), ("s5", 0), ("s6", 0),
    ]  # fmt: skip


def test_ordinals() -> None:
    """Places are written as ordinal numbers."""
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th",
    ]  # fmt: skip


# waiting


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """The machine's GPUs; a test may change them."""
    there = list(GPUS)
    monkeypatch.setattr(queues, "inventory", lambda: tuple(there))
    monkeypatch.setattr(queues, "POLL_S", 0.02)
    monkeypatch.setattr(queues, "TICK_S", 0.005)
    return there


@pytest.fixture
def engine() -> FakeEngine:
    return fake_engine()


def quiet(reason: str) -> None:
    pass


def test_a_claim_lives_and_dies_with_its_container(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """A running container holds the claims of its label; one that has ended holds nothing."""
    queue = GpuQueue(engine, ticket_queue, "here")
    container = start_holder(engine, "GPU-0,GPU-1:0.5")
    assert [(one.state, one.free_share) for one in queue.uses()] == [
        ("held", 0.0), ("shared", 0.5), ("free", 1.0), ("free", 1.0),
    ]  # fmt: skip
    engine.finish(container)
    assert {one.state for one in queue.uses()} == {"free"}


def test_a_turn_comes_when_another_ends(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """The next ticket gets a device as soon as its holder has ended, and holds it meanwhile."""
    queue = GpuQueue(engine, ticket_queue, "here")
    container = start_holder(engine, "GPU-0,GPU-1,GPU-2,GPU-3")
    told: list[str] = []

    def tell(reason: str) -> None:
        told.append(reason)
        if len(told) == 3:
            engine.finish(container)
            assert [one.kept_for for one in queue.uses()] == ["s1", "", "", ""]

    with queue.claim(ticket(1), tell=tell) as claims:
        assert claims == (Claim("GPU-0"),)
        assert queue.uses()[0].holders[0].session == "s1"
    assert told[-1] == ""
    assert told[0].startswith("1st in the queue for 1 GPU; held by ")
    assert queue.uses()[0].state == "free"
    assert ticket_queue.tickets() == []


def test_a_wait_that_is_too_long(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """A wait ends in time, and its ticket is removed."""
    start_holder(engine, "GPU-0,GPU-1,GPU-2,GPU-3")
    queue = GpuQueue(engine, ticket_queue, "here")
    with pytest.raises(SessionTimeout) as caught, contextlib.ExitStack() as stack:
        stack.enter_context(queue.claim(ticket(1), tell=quiet, max_wait_s=0.05))
    assert caught.value.exit_code == 3
    assert ticket_queue.tickets() == []


def test_a_wait_that_is_given_up(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """Whatever is raised during a wait, the ticket is removed."""
    start_holder(engine, "GPU-0,GPU-1,GPU-2,GPU-3")
    queue = GpuQueue(engine, ticket_queue, "here")

    def give_up(reason: str) -> None:
        raise Cancelled("no more")

    with pytest.raises(Cancelled), queue.claim(ticket(1), tell=give_up):
        pass
    assert ticket_queue.tickets() == []


def test_who_was_left_to_wait_keeps_its_place_while_the_engine_is_away(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """An enqueued ticket stays for its dispatcher; one of a command is removed with it."""
    for one, left in ((replace(ticket(1), enqueued=True), 1), (ticket(2), 0)):
        engine.fail("list", EngineUnavailable("away"))
        with (
            pytest.raises(EngineUnavailable),
            GpuQueue(engine, ticket_queue, "here").claim(one, tell=quiet),
        ):
            pass
        assert len(list(ticket_queue.folder.glob("t-*"))) == left
        ticket_queue.discard(one.id)


def test_what_can_never_be_had(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """A request for more than there is, or than one user may hold, is refused at once."""
    with pytest.raises(NoCapacity, match=r"9 GPUs: this machine has 3 x A100.*1 x T4"):
        GpuQueue(engine, ticket_queue, "here").check(Request(9))
    with pytest.raises(NoCapacity, match="one user may hold 2") as caught:
        GpuQueue(engine, ticket_queue, "here", most_per_user=2, policy="/etc/p.yml").check(
            Request(3)
        )
    assert "/etc/p.yml" in caught.value.hint
    gpus.clear()
    with pytest.raises(NoCapacity, match="no GPU that mooring can see"):
        GpuQueue(engine, ticket_queue, "here").check(Request(1))


def test_who_was_left_to_wait_outlives_a_driver_that_is_away(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """While the machine shows no GPU (its driver is replaced) an enqueued ticket waits."""
    gpus.clear()
    told: list[str] = []

    def tell(reason: str) -> None:
        told.append(reason)
        if len(told) == 3:
            gpus.extend(GPUS)

    queue = GpuQueue(engine, ticket_queue, "here")
    with queue.claim(replace(ticket(1), enqueued=True), tell=tell) as claims:
        assert claims == (Claim("GPU-0"),)
    assert told[0] == "1st in the queue for 1 GPU"


def test_many_at_once_never_get_the_same(
    engine: FakeEngine, ticket_queue: TicketQueue, gpus: list[Gpu]
) -> None:
    """Threads that claim and release at random never hold a device together."""
    queue = GpuQueue(engine, ticket_queue, "here")
    holding: dict[str, str] = {}
    wrong: list[str] = []

    def worker(number: int) -> None:
        for turn in range(3):
            with queue.claim(ticket(number * 10 + turn + 1), tell=quiet) as claims:
                for claim in claims:
                    if claim.gpu in holding:
                        wrong.append(claim.gpu)
                    holding[claim.gpu] = str(number)
                queue.uses()  # the others get their chance
                for claim in claims:
                    del holding[claim.gpu]

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not holding
    assert ticket_queue.tickets() == []
