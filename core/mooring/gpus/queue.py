"""Waiting for GPUs: by priority, then first come, first served, among all users of one engine.

Claims are decided under the queue's lock, from what exists at that moment: tickets, containers and
processes. A ticket that cannot be served yet reserves the devices that suit it, so that later
tickets cannot starve it; requests for other devices are served meanwhile.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mooring.engines.base import Engine
from mooring.errors import EngineError, EngineUnavailable, NoCapacity, SessionTimeout
from mooring.gpus.claims import WHOLE, Claim, Request, choose
from mooring.gpus.inventory import Gpu, inventory
from mooring.gpus.tickets import HeldTicket, Ticket, TicketQueue
from mooring.gpus.usage import GpuUse, free_shares, held_by, list_uses

POLL_S = 0.3
LONGEST_POLL_S = 5.0
TICK_S = 0.1
_NAME_MAX = 40  # other users' tickets are untrusted
_NAMES_SHOWN = 4

#: Called with what a ticket waits for, in one line; what it raises ends the wait.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Decision:
    """The decision on a ticket: its claims, or a place in the queue.

    Attributes:
        claims: the claims; empty while it waits.
        place: the number of waiting tickets ahead of it.
        reason: why it waits, in one line.
        behind: whether it waits only because of the tickets ahead of it.
    """

    claims: tuple[Claim, ...] = ()
    place: int = 0
    reason: str = ""
    behind: bool = False


@dataclass(frozen=True)
class Waiting:
    """A session that waits for GPUs, as shown to other users.

    Attributes:
        session, user: the session's and its owner's name.
        wants: the number of GPUs as text: ``8 GPUs``.
        kept: UUIDs of the devices whose free shares are reserved for it.
    """

    session: str
    user: str
    wants: str
    kept: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.session} ({self.user}, {self.wants})"


@dataclass(frozen=True)
class _Turn:
    """The outcome for a ticket after all tickets ahead of it have been decided.

    Attributes:
        ticket: the ticket.
        claims: the claims that it gets; None for none.
        over_quota: whether its claims would exceed its user's quota.
        kept: UUIDs of the devices that it takes or reserves.
    """

    ticket: Ticket
    claims: tuple[Claim, ...] | None
    over_quota: bool
    kept: tuple[str, ...]

    @property
    def waiting(self) -> Waiting:
        ticket = self.ticket
        session, user = ticket.session[:_NAME_MAX], ticket.user[:_NAME_MAX]
        return Waiting(session, user, ticket.request.how_many, self.kept)


class GpuQueue:
    """The GPUs of one engine's machine, for one installation.

    Args:
        engine: the engine.
        ticket_queue: the engine's ticket queue.
        installation: this installation's id.
        most_per_user: quota: devices that one user may hold at a time; None for no limit.
        policy: the file that sets the quota, for error messages.
        repair: called during a wait if a process of this installation died between a grant and
            its use; it removes what is left, so that its devices become free.
    """

    def __init__(
        self,
        engine: Engine,
        ticket_queue: TicketQueue,
        installation: str,
        *,
        most_per_user: float | None = None,
        policy: str = "",
        repair: Callable[[], object] = lambda: None,
    ) -> None:
        self.engine, self.ticket_queue, self.installation = engine, ticket_queue, installation
        self.most_per_user, self.policy, self._repair = most_per_user, policy, repair

    def uses(self) -> list[GpuUse]:
        """Return every GPU with its holders.

        Raises:
            EngineUnavailable
        """
        return self.uses_and_waiting()[0]

    def uses_and_waiting(self) -> tuple[list[GpuUse], list[Waiting]]:
        """Return every GPU with its holders, and the waiting sessions in the order of service.

        Raises:
            EngineUnavailable
        """
        gpus = inventory()
        if not gpus:
            return [], []
        with self.ticket_queue.locked():
            tickets = self.ticket_queue.tickets()
        uses = list_uses(self.engine, gpus, tickets, self.installation)
        waiting = waiting_list(tickets, uses, self.most_per_user)
        kept_for = {uuid: session.session for session in waiting for uuid in session.kept}
        return [replace(use, kept_for=kept_for.get(use.gpu.uuid, "")) for use in uses], waiting

    def check(self, request: Request) -> None:
        """Check that a request can be served at some time.

        Raises:
            NoCapacity: the machine does not have such devices, or the quota is below the request.
        """
        gpus = inventory()
        if choose(request, gpus, whole_machine(gpus)) is None:
            raise NoCapacity(
                f"{request}: this machine has {_describe(gpus)}", "list its GPUs: mooring gpus"
            )
        if self.most_per_user is not None and request.amount > self.most_per_user:
            raise NoCapacity(
                f"{request}: one user may hold {self.most_per_user:g} at a time",
                f"the limit is max_gpus_per_user in {self.policy}",
            )

    def enqueue(self, ticket: Ticket) -> HeldTicket:
        """Put a ticket into the queue.

        Raises:
            EngineUnavailable: as ``TicketQueue.locked``.
        """
        with self.ticket_queue.locked():
            return self.ticket_queue.enqueue(ticket)

    @contextlib.contextmanager
    def claim(
        self, ticket: Ticket, *, tell: Tell, max_wait_s: float | None = None
    ) -> Iterator[tuple[Claim, ...]]:
        """Wait for GPUs, and hold them while the block starts a container with them.

        If the block is interrupted, or the engine cannot be reached, the devices stay held for
        ``GRANTED_GRACE_S``, because the engine may still start the container;
        ``TicketQueue.discard`` releases them at once.

        Args:
            ticket: the ticket to enqueue.
            tell: called several times a second with what the ticket waits for, and with "" once it
                is served. What it raises ends the wait and removes the ticket.
            max_wait_s: timeout in seconds; None for no limit.

        Raises:
            NoCapacity: the request can never be served; not raised for an enqueued ticket.
            SessionTimeout: the ticket was not served within ``max_wait_s``.
            EngineUnavailable
        """
        if not ticket.enqueued:  # checked when enqueued; the driver may be unavailable for a while
            self.check(ticket.request)
        deadline = math.inf if max_wait_s is None else time.monotonic() + max_wait_s
        place: HeldTicket | None = None
        try:
            gpus = inventory()
            with self.ticket_queue.locked():
                place = self.ticket_queue.enqueue(ticket)
                decision = self._decide(place, gpus)
            while not decision.claims:
                decision = self._wait(place, decision, deadline, tell)
                if not decision.claims and time.monotonic() >= deadline:
                    raise _timeout(decision, max_wait_s or 0)
            tell("")
            yield decision.claims
        except BaseException as error:
            if place is not None and _stays(place.ticket, error):
                place.release()
            raise
        finally:
            if place is not None and place.is_held:
                place.remove()

    def _wait(self, place: HeldTicket, decision: Decision, deadline: float, tell: Tell) -> Decision:
        """Pause, then decide again; after the deadline, return the same decision."""
        tell(decision.reason)
        self._pause(decision, deadline, tell)
        if time.monotonic() >= deadline:
            return decision
        if self.ticket_queue.has_orphaned_grant(self.installation):
            self._repair()
        gpus = inventory()
        with self.ticket_queue.locked():
            return self._decide(place, gpus)

    def _pause(self, decision: Decision, deadline: float, tell: Tell) -> None:
        """Sleep until the next decision: longer for tickets further back in the queue."""
        place = decision.place
        until = time.monotonic() + min(POLL_S * (place + 1), LONGEST_POLL_S)
        version = self.ticket_queue.version()
        while (now := time.monotonic()) < min(until, deadline):
            time.sleep(TICK_S)
            tell(decision.reason)
            if place and self.ticket_queue.version() != version:
                until = min(until, now + POLL_S * min(place, 3))

    def _decide(self, place: HeldTicket, gpus: Sequence[Gpu]) -> Decision:
        """Decide a ticket, and record a grant. Call it within ``TicketQueue.locked``."""
        place.refresh()
        tickets = self.ticket_queue.tickets()
        uses = list_uses(self.engine, gpus, tickets, self.installation)
        decision = decide(place.ticket, tickets, uses, self.most_per_user)
        if decision.claims:
            place.grant(decision.claims)
        return decision


def _stays(ticket: Ticket, error: BaseException) -> bool:
    """Return whether a ticket stays in the queue after an error in its holder."""
    away = isinstance(error, EngineUnavailable)
    refused = isinstance(error, EngineError) and not away
    if ticket.granted and not refused:
        return True  # the engine may still start the container
    return ticket.enqueued and away  # the dispatcher retries


def _timeout(decision: Decision, max_wait_s: float) -> SessionTimeout:
    fewer = "" if decision.behind else ", request fewer GPUs"
    return SessionTimeout(
        f"still queued after {round(max_wait_s, 1):g} s: {decision.reason}",
        f"use a longer --max-wait{fewer}, or see: mooring gpus",
    )


def decide(
    mine: Ticket, tickets: Sequence[Ticket], uses: Sequence[GpuUse], most_per_user: float | None
) -> Decision:
    """Decide a ticket, after all tickets ahead of it.

    A ticket that can no longer be served, because a GPU was lost, waits and reserves nothing.

    Args:
        mine: the ticket, one of ``tickets``.
        tickets: all valid tickets, in the order of service.
        uses: every GPU of the machine with its holders.
        most_per_user: devices that one user may hold at a time; a ticket that would exceed that is
            skipped until its user has released some.
    """
    ahead: list[_Turn] = []
    for turn in _turns(tickets, uses, most_per_user, mine.id):
        if turn.ticket.id != mine.id:
            ahead.append(turn)
        elif turn.claims:
            return Decision(turn.claims)
        else:
            return _waits(mine, ahead, uses, most_per_user if turn.over_quota else None)
    return _waits(mine, ahead, uses, None)


def waiting_list(
    tickets: Sequence[Ticket], uses: Sequence[GpuUse], most_per_user: float | None
) -> list[Waiting]:
    """Return the waiting sessions in the order of service, with what is reserved for each.

    Args:
        tickets, uses, most_per_user: as in ``decide``.
    """
    return [turn.waiting for turn in _turns(tickets, uses, most_per_user)]


def _turns(
    tickets: Sequence[Ticket], uses: Sequence[GpuUse], most_per_user: float | None, mine: str = ""
) -> Iterator[_Turn]:
    """Decide each waiting ticket, in order.

    Args:
        tickets, uses, most_per_user: as in ``decide``.
        mine: the id of a ticket that is decided even if it has a grant.
    """
    gpus = [use.gpu for use in uses]
    free = free_shares(uses)
    everything = whole_machine(gpus)
    held = {ticket.user: held_by(uses, ticket.user) for ticket in tickets}
    for ticket in tickets:
        if ticket.granted and ticket.id != mine:
            continue  # included in the holders already
        over_quota = most_per_user is not None and (
            held[ticket.user] + ticket.request.amount > most_per_user
        )
        claims = None if over_quota else choose(ticket.request, gpus, free)
        kept: list[str] = []
        if claims:
            held[ticket.user] += ticket.request.amount
            for claim in claims:
                free[claim.gpu] -= claim.thousandths
                kept.append(claim.gpu)
        elif not over_quota and choose(ticket.request, gpus, everything):
            kept = [gpu.uuid for gpu in gpus if ticket.request.suits(gpu) and free[gpu.uuid]]
            free.update(dict.fromkeys(kept, 0))
        yield _Turn(ticket, claims, over_quota, tuple(kept))


def whole_machine(gpus: Sequence[Gpu]) -> dict[str, int]:
    """Return the claimable thousandths of each device, by UUID, on an idle machine."""
    return {gpu.uuid: WHOLE for gpu in gpus if not gpu.split}


def _waits(
    mine: Ticket, ahead: Sequence[_Turn], uses: Sequence[GpuUse], quota: float | None
) -> Decision:
    """Return the decision for a ticket that has to wait.

    Args:
        mine: the ticket.
        ahead: the waiting tickets ahead of it.
        uses: every GPU of the machine with its holders.
        quota: devices that its user may hold, if that is why it waits; else None.
    """
    place = len(ahead)
    reason = f"{ordinal(place + 1)} in the queue for {mine.request}"
    if quota is not None:
        reason += f"{_held(mine, uses)}; {mine.user} may hold {quota:g} at a time"
        return Decision((), place, reason)
    behind = choose(mine.request, [use.gpu for use in uses], free_shares(uses)) is not None
    if not behind:
        return Decision((), place, reason + _held(mine, uses))
    suitable = {use.gpu.uuid for use in uses if mine.request.suits(use.gpu)}
    names = [
        f"{other.session} ({'' if other.user == mine.user else f'{other.user}, '}{other.wants})"
        for other in (turn.waiting for turn in ahead if suitable & {*turn.kept})
    ]
    if names:
        reason += f"; behind {_first(names)}"
    return Decision((), place, reason, True)


def _held(ticket: Ticket, uses: Sequence[GpuUse]) -> str:
    """Describe who holds the devices that suit a ticket, and when the first of them must end.

    Returns:
        A text to append to a reason; empty if no suitable device is held.
    """
    ends: dict[str, float | None] = {}
    for use in uses:
        if not ticket.request.suits(use.gpu):
            continue
        for holder in use.holders:
            user = f" ({holder.user})" if holder.user else ""
            ends.setdefault(f"{holder.session or holder.what}{user}", holder.ends_at)
        if use.state == "draining":
            ends.setdefault(f"processes exiting on GPU {use.gpu.index}", None)
    text = f"; held by {_first(list(ends))}" if ends else ""
    known = [end for end in ends.values() if end is not None]
    if known:
        text += f"; the first must end by {time.strftime('%H:%M', time.localtime(min(known)))}"
    return text


def _first(names: Sequence[str]) -> str:
    """Return the first few names as text, with the number of further ones."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def ordinal(number: int) -> str:
    """Return an English ordinal: 1st, 2nd, 3rd, 4th, 11th, 21st."""
    tail = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{tail or 'th'}"


def _describe(gpus: Sequence[Gpu]) -> str:
    """Describe the devices that can be claimed: ``8 x NVIDIA A100 (40 GiB), 1 x Tesla T4``."""
    if not gpus:
        return "no GPU that mooring can see"
    from mooring.spec.units import format_size

    counts: dict[str, int] = {}
    for gpu in gpus:
        if not gpu.split:
            memory = f" ({format_size(gpu.memory_bytes)})" if gpu.memory_bytes else ""
            counts[f"{gpu.model}{memory}"] = counts.get(f"{gpu.model}{memory}", 0) + 1
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())
