"""Waiting for GPUs: first come, first served, among all who share an engine.

A claim is decided with the gate locked, from what is there at that moment: the tickets, the
containers, the processes. Whoever is in front and does not fit yet keeps those devices that suit
it from being given to those behind: nobody starves, and who wants something else passes by.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mooring.engines.base import Engine
from mooring.errors import EngineError, EngineUnavailable, NoCapacity, SessionTimeout
from mooring.gpus.claims import WHOLE, Claim, Request, choose
from mooring.gpus.inventory import Gpu, inventory
from mooring.gpus.tickets import Drawn, Gate, Ticket
from mooring.gpus.usage import GpuUse, free_shares, held_by, look

LOOK_S = 0.3
LONGEST_LOOK_S = 5.0
TICK_S = 0.1
_NAME = 40  # whoever shares the engine may write anything on a ticket
_SHOWN = 4


@dataclass(frozen=True)
class Verdict:
    """What comes of a ticket now: claims, or its place (0 for the front) and why it waits.

    Attributes:
        behind: whether it would have its devices, were it not for those in front of it.
    """

    claims: tuple[Claim, ...] = ()
    place: int = 0
    because: str = ""
    behind: bool = False


@dataclass(frozen=True)
class Waiting:
    """One that waits, as others may see it.

    Attributes:
        session, user: whose; ``session`` is its name.
        wants: how many, in words: ``8 GPUs``.
        kept: devices with something free that nobody behind it is given, by UUID.
    """

    session: str
    user: str
    wants: str
    kept: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.session} ({self.user}, {self.wants})"


@dataclass(frozen=True)
class _Turn:
    """What is decided of a ticket when its turn to be looked at comes."""

    ticket: Ticket
    picked: tuple[Claim, ...] | None
    over: bool
    kept: tuple[str, ...]

    @property
    def waiting(self) -> Waiting:
        ticket = self.ticket
        return Waiting(
            ticket.session[:_NAME], ticket.user[:_NAME], ticket.request.how_many, self.kept
        )


class GpuQueue:
    """The GPUs of one engine's machine, for one installation.

    Args:
        most_per_user: devices that one user may hold at a time, by the policy; None for all.
        policy: what sets that, for the error.
        repair: called by who waits when somebody of this installation died between being granted
            GPUs and using them: puts in order what is left, so that nobody waits for the dead.
    """

    def __init__(
        self,
        engine: Engine,
        gate: Gate,
        installation: str,
        *,
        most_per_user: float | None = None,
        policy: str = "",
        repair: Callable[[], object] = lambda: None,
    ) -> None:
        self.engine, self.gate, self.installation = engine, gate, installation
        self.most_per_user, self.policy, self._repair = most_per_user, policy, repair

    def uses(self) -> list[GpuUse]:
        """Every GPU and who holds it.

        Raises:
            EngineUnavailable
        """
        return self.uses_and_waiting()[0]

    def uses_and_waiting(self) -> tuple[list[GpuUse], list[Waiting]]:
        """Every GPU and who holds it, and those who wait, the first to be served first.

        Raises:
            EngineUnavailable
        """
        gpus = inventory()
        if not gpus:
            return [], []
        with self.gate.locked():
            tickets = self.gate.tickets()
        uses = look(self.engine, gpus, tickets, self.installation)
        waiting = in_line(tickets, uses, self.most_per_user)
        kept = {uuid: one.session for one in waiting for uuid in one.kept}
        return [replace(use, kept_for=kept.get(use.gpu.uuid, "")) for use in uses], waiting

    def check(self, request: Request) -> None:
        """Refuse what can never be had.

        Raises:
            NoCapacity: the machine does not have that, or no user may have so much.
        """
        gpus = inventory()
        if choose(request, gpus, whole_machine(gpus)) is None:
            raise NoCapacity(
                f"{request}: this machine has {_what_there_is(gpus)}",
                "see what there is: mooring gpus",
            )
        if self.most_per_user is not None and request.amount > self.most_per_user:
            raise NoCapacity(
                f"{request}: one user may hold {self.most_per_user:g} at a time",
                f"max_gpus_per_user in {self.policy} says so",
            )

    def draw(self, ticket: Ticket) -> Drawn:
        """Take a place in the queue."""
        with self.gate.locked():
            return self.gate.draw(ticket)

    @contextlib.contextmanager
    def claim(
        self,
        ticket: Ticket,
        *,
        tell: Callable[[str], None],
        max_wait_s: float | None = None,
    ) -> Iterator[tuple[Claim, ...]]:
        """Wait for a turn, then hold the devices while the block makes its container run.

        If the block is cut off, they stay held for a while: the engine may still be at work. Who
        knows that it is not says so with ``Gate.forget``.

        Args:
            tell: called several times a second with what is waited for; "" once the turn has
                come. What it raises ends the wait, and the ticket with it.
            max_wait_s: give up after so many seconds.

        Raises:
            NoCapacity: it can never be had; not of one that was left to wait.
            SessionTimeout: the wait was too long.
            EngineUnavailable
        """
        if not ticket.enqueued:  # that was checked before; a driver that is away comes back
            self.check(ticket.request)
        deadline = None if max_wait_s is None else time.monotonic() + max_wait_s
        drawn: Drawn | None = None
        try:
            gpus = inventory()
            with self.gate.locked():
                drawn = self.gate.draw(ticket)
                verdict = self._decide(drawn, gpus)
            while not verdict.claims:
                tell(verdict.because)
                self._doze(verdict, deadline, tell)
                if deadline is not None and time.monotonic() >= deadline:
                    less = "" if verdict.behind else ", ask for less"
                    raise SessionTimeout(
                        f"no turn within {round(max_wait_s or 0, 1):g} s: {verdict.because}",
                        f"wait longer (--max-wait){less}, or see: mooring gpus",
                    )
                if self.gate.forsaken(self.installation):
                    self._repair()
                gpus = inventory()
                with self.gate.locked():
                    verdict = self._decide(drawn, gpus)
            tell("")
            yield verdict.claims
        except BaseException as error:
            away = isinstance(error, EngineUnavailable)
            refused = isinstance(error, EngineError) and not away
            if drawn is not None and (
                (drawn.ticket.granted and not refused)
                or (drawn.ticket.enqueued and away)  # its dispatcher comes back to it
            ):
                drawn.let_go()
            raise
        finally:
            if drawn is not None and drawn.held:
                drawn.leave()

    def _doze(self, verdict: Verdict, deadline: float | None, tell: Callable[[str], None]) -> None:
        """Sleep until it is worth to look again: who is further back looks less often."""
        place = verdict.place
        until = time.monotonic() + min(LOOK_S * (place + 1), LONGEST_LOOK_S)
        before = self.gate.changed()
        while (now := time.monotonic()) < until and (deadline is None or now < deadline):
            time.sleep(TICK_S)
            tell(verdict.because)
            if place and self.gate.changed() != before:
                until = min(until, now + LOOK_S * min(place, 3))

    def _decide(self, drawn: Drawn, gpus: Sequence[Gpu]) -> Verdict:
        """Give a ticket its devices if it is its turn; within ``Gate.locked``."""
        drawn.look()
        tickets = self.gate.tickets()
        uses = look(self.engine, gpus, tickets, self.installation)
        verdict = decide(drawn.ticket, tickets, uses, self.most_per_user)
        if verdict.claims:
            drawn.grant(verdict.claims)
        return verdict


def decide(
    mine: Ticket, tickets: Sequence[Ticket], uses: Sequence[GpuUse], most_per_user: float | None
) -> Verdict:
    """What comes of a ticket, when all before it are served first.

    One that cannot be served any more, for a GPU is lost, waits and holds nobody up.

    Args:
        tickets: in their order; ``mine`` is one of them.
        most_per_user: who holds more with this ticket is passed over until some of it is back.
    """
    ahead: list[_Turn] = []
    for turn in _turns(tickets, uses, most_per_user, mine.id):
        if turn.ticket.id != mine.id:
            ahead.append(turn)
        elif turn.picked:
            return Verdict(turn.picked)
        else:
            return _waits(mine, ahead, uses, most_per_user if turn.over else None)
    return _waits(mine, ahead, uses, None)


def in_line(
    tickets: Sequence[Ticket], uses: Sequence[GpuUse], most_per_user: float | None
) -> list[Waiting]:
    """Those that wait, in their order, and what is kept for each; as ``decide``."""
    return [turn.waiting for turn in _turns(tickets, uses, most_per_user)]


def _turns(
    tickets: Sequence[Ticket], uses: Sequence[GpuUse], most_per_user: float | None, mine: str = ""
) -> Iterator[_Turn]:
    """Look at each ticket that waits, when all before it are served first.

    Args:
        mine: the id of one that is looked at also if it was granted something before.
    """
    gpus = [use.gpu for use in uses]
    free = free_shares(uses)
    everything = whole_machine(gpus)
    held = {ticket.user: held_by(uses, ticket.user) for ticket in tickets}
    for ticket in tickets:
        if ticket.granted and ticket.id != mine:
            continue  # held already
        over = most_per_user is not None and (
            held[ticket.user] + ticket.request.amount > most_per_user
        )
        picked = None if over else choose(ticket.request, gpus, free)
        kept: list[str] = []
        if picked:
            held[ticket.user] += ticket.request.amount
            for claim in picked:
                free[claim.gpu] -= claim.thousandths
                kept.append(claim.gpu)
        elif not over and choose(ticket.request, gpus, everything):
            kept = [gpu.uuid for gpu in gpus if ticket.request.suits(gpu) and free[gpu.uuid]]
            free.update(dict.fromkeys(kept, 0))
        yield _Turn(ticket, picked, over, tuple(kept))


def whole_machine(gpus: Sequence[Gpu]) -> dict[str, int]:
    """Thousandths of each device that can be claimed, when nobody holds any."""
    return {gpu.uuid: WHOLE for gpu in gpus if not gpu.split}


def _waits(
    mine: Ticket, ahead: Sequence[_Turn], uses: Sequence[GpuUse], quota: float | None
) -> Verdict:
    """That it waits: its place, and what for.

    Args:
        quota: of what its user may hold, if that is what keeps it.
    """
    place, because = len(ahead), f"{ordinal(len(ahead) + 1)} in the queue for {mine.request}"
    if quota is not None:
        because += f"{_held(mine, uses)}; {mine.user} may hold {quota:g} at a time"
        return Verdict((), place, because)
    behind = choose(mine.request, [use.gpu for use in uses], free_shares(uses)) is not None
    if not behind:
        return Verdict((), place, because + _held(mine, uses))
    suitable = {use.gpu.uuid for use in uses if mine.request.suits(use.gpu)}
    before = [
        f"{one.session} ({one.wants if one.user == mine.user else f'{one.user}, {one.wants}'})"
        for one in (turn.waiting for turn in ahead if suitable & {*turn.kept})
    ]
    return Verdict((), place, f"{because}; behind {_some(before)}" if before else because, True)


def _held(ticket: Ticket, uses: Sequence[GpuUse]) -> str:
    """Who holds what it wants, and when the first of them must end."""
    names: dict[str, float | None] = {}
    for use in uses:
        if not ticket.request.suits(use.gpu):
            continue
        for holder in use.holders:
            who = f" ({holder.user})" if holder.user else ""
            names.setdefault(f"{holder.session or holder.what}{who}", holder.ends_at)
        if use.state == "draining":
            names.setdefault(f"processes that are ending on GPU {use.gpu.index}", None)
    text = f"; held by {_some(list(names))}" if names else ""
    ends = [at for at in names.values() if at is not None]
    if ends:
        text += f"; the first must end by {time.strftime('%H:%M', time.localtime(min(ends)))}"
    return text


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    tail = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{tail or 'th'}"


def _what_there_is(gpus: Sequence[Gpu]) -> str:
    if not gpus:
        return "no GPU that mooring can see"
    from mooring.spec.units import format_size

    kinds: dict[str, int] = {}
    for gpu in gpus:
        if not gpu.split:
            memory = f", {format_size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
            kinds[f"{gpu.model}{memory}"] = kinds.get(f"{gpu.model}{memory}", 0) + 1
    return "; ".join(f"{count} of {kind}" for kind, count in kinds.items())
