"""Fifty creations at once for eight GPUs, with kill -9 inside: what comes of it, in figures.

    python -m tests.gpus.contention --rounds 20 [--kind whole|shares|installations|users]

needs an engine that takes requests for GPUs (``make engine``) and no GPU. Each round starts real
processes of the command line at once, for sessions that end by themselves, and kills some: at
random moments, or just after their turn has come. Beside them an observer follows the engine's own
account of who was granted what. Counted are

    double      moments at which a GPU was given out more than once (shares: more than all of it)
    overtaken   grants to somebody while there was not enough for all who stood in front
    failed      creations that ended with an error, although nobody killed them
    leaked      GPUs that are not free when all is over, and tickets that are still there
    left        containers, folders, sockets and processes that are still there

and every one of them must be 0. It exits with 1 where one is not, and tells which.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.gpus import NVML, FakeGpus
from tests.gpus.herd import Call, Herd, Outcome, Turn
from tests.gpus.observer import WHOLE, Holding, Observer, own_socket

PROCESSES = 50
KILLED_SHARE = 0.3
KILL_WITHIN_S = 20.0
# How long a session holds its GPU
LONGEST_S = 3.0
# The engine's clock and the file system's differ by so much at most
CLOCKS_S = 0.05
LIMIT_S = 240.0
MOST_UNSEEN = 3
KINDS = ("whole", "shares", "installations", "users")


@dataclass
class Figures:
    """What was counted in a round, or in several; the lists hold a line for each."""

    rounds: int = 0
    processes: int = 0
    killed: int = 0
    granted: int = 0
    most_at_once: int = 0
    waits_s: list[float] = field(default_factory=list)
    took_s: float = 0.0
    double: list[str] = field(default_factory=list)
    overtaken: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [*self.double, *self.overtaken, *self.failed, *self.leaked, *self.left]

    def add(self, other: Figures) -> None:
        for name, value in vars(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if name == "most_at_once" else mine + value)

    def __str__(self) -> str:
        waits = f"{statistics.median(self.waits_s):.1f}" if self.waits_s else "-"
        longest = f"{max(self.waits_s):.1f}" if self.waits_s else "-"
        return (
            f"{self.processes:5} created {self.killed:4} killed {self.granted:5} granted "
            f"(at most {self.most_at_once} at once) | double {len(self.double)}  "
            f"overtaken {len(self.overtaken)}  failed {len(self.failed)}  "
            f"leaked {len(self.leaked)}  left {len(self.left)} | "
            f"waited {waits} s, at most {longest} s; {self.took_s:.0f} s in all"
        )


@dataclass(frozen=True)
class Place:
    """An installation, and who uses it."""

    state: Path
    project: Path
    user: tuple[int, int, list[int]] | None = None
    home: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        found = {
            "MOORING_STATE_DIR": str(self.state),
            "XDG_CONFIG_HOME": str(self.state / "config"),
        }
        return found | ({"HOME": str(self.home)} if self.home else {})


def one_round(herd: Herd, gpus: FakeGpus, places: Sequence[Place], kind: str, seed: int) -> Figures:
    """Fifty at once, and what is left when all of it is over."""
    chance = random.Random(seed)  # noqa: S311 - a dice, not a secret
    began = time.time()
    calls = [_call(chance, number, places, kind) for number in range(PROCESSES)]
    with Observer(gpus.uuids) as observer:
        outcomes, turns = herd.run(calls, limit_s=LIMIT_S)
        _until_ended(herd, places)
    figures = Figures(rounds=1, processes=len(calls), double=observer.doubled)
    figures.left += observer.faults
    figures.killed = sum(one.killed is not None for one in outcomes)
    figures.granted = sum(turn.granted is not None for turn in turns.values())
    figures.most_at_once = _most_at_once(observer.holdings)
    figures.waits_s = [
        turn.granted - turn.order[1] / 1e9 for turn in turns.values() if turn.granted
    ]
    figures.failed = [
        f"{one.session} ended with {one.code}: {one.output}"
        for one in outcomes
        if one.code and one.killed is None
    ]
    names = {turn.session for turn in turns.values()}
    # between two looks at the queue a ticket may be enqueued, granted and removed
    unseen = [one.session for one in outcomes if one.code == 0 and one.session not in names]
    if len(unseen) > MOST_UNSEEN:
        figures.failed += [f"{session} was never seen in the queue" for session in unseen]
    figures.overtaken = overtaken(turns, outcomes, observer.holdings, len(gpus.devices))
    figures.leaked = leaked(gpus)
    figures.left += _remove_all(herd, places)
    figures.took_s = time.time() - began
    return figures


def _call(chance: random.Random, number: int, places: Sequence[Place], kind: str) -> Call:
    name = f"c{number:02}"
    amount = chance.choice(["0.25", "0.5"]) if kind == "shares" else "1"
    argv = ["create", "-d", "--name", name, "--gpus", amount]
    if chance.random() < 0.2:
        argv += ["--priority", chance.choice(["-5", "5", "50"])]
    argv += ["--", "sleep", f"{chance.uniform(0.0, LONGEST_S):.2f}"]
    kill_s = kill_after_grant_s = None
    if chance.random() < KILLED_SHARE:
        if chance.random() < 0.5:
            kill_s = chance.uniform(0.0, KILL_WITHIN_S)
        else:
            kill_after_grant_s = chance.uniform(0.0, 1.5)
    place = places[number % len(places)]
    return Call(
        session=name,
        argv=tuple(argv),
        env=place.env,
        cwd=str(place.project),
        kill_s=kill_s,
        kill_after_grant_s=kill_after_grant_s,
        user=place.user,
    )


def overtaken(
    turns: dict[str, Turn], outcomes: Sequence[Outcome], holdings: Sequence[Holding], gpus: int
) -> list[str]:
    """Each grant for which there was too little for those who stood in front and were passed by.

    Whoever stands in front may be granted a moment later than one behind, as each looks for
    itself, if there was enough for both.
    """
    ends = {one.session: one.killed for one in outcomes if one.killed is not None}
    rows = []
    for session_id, turn in turns.items():
        ran = [one for one in holdings if one.name == f"mooring-{turn.session}-{session_id[:4]}"]
        if ran:
            end = max(one.ended or time.time() for one in ran)
        else:
            end = min(at for at in (ends.get(turn.session), turn.gone, time.time()) if at)
        rows.append((turn, end))
    found = []
    for turn, _ in rows:
        if turn.granted is None:
            continue
        at = turn.granted
        held = sum(
            other.thousandths
            for other, end in rows
            if other.granted is not None and other.granted <= at and end > at + CLOCKS_S
        )
        passed = [
            other
            for other, end in rows
            if other.order < turn.order
            and other.order[1] / 1e9 < at - CLOCKS_S
            and (other.granted is None or other.granted > at)
            and end > at + CLOCKS_S
        ]
        if held + sum(other.thousandths for other in passed) > gpus * WHOLE:
            names = ", ".join(other.session for other in passed)
            found.append(f"{turn.session} was granted before {names}, who stood in front")
    return found


def _most_at_once(holdings: Sequence[Holding]) -> int:
    began = [one.started for one in holdings]
    return max((sum(one.runs_at(at) for one in holdings) for at in began), default=0)


def _until_ended(herd: Herd, places: Sequence[Place]) -> None:
    """Wait until no session runs any more; each look also repairs, as any command's does."""
    from mooring.sessions.model import State

    live = (State.RUNNING, State.STARTING, State.PENDING)
    deadline = time.monotonic() + 60
    for place in places:
        while any(row["state"] in live for row in _sessions(herd, place)):
            assert time.monotonic() < deadline, "sessions that do nothing do not end"
            time.sleep(0.3)


def _sessions(herd: Herd, place: Place) -> list[dict[str, object]]:
    import json

    outcome = _mooring(herd, place, "ps", "--all", "--json")
    found: list[dict[str, object]] = json.loads(outcome.output)
    return found


def _mooring(herd: Herd, place: Place, *words: str) -> Outcome:
    call = Call("", words, place.env, str(place.project), user=place.user)
    (outcome,), _ = herd.run([call])
    assert outcome.code == 0, f"mooring {' '.join(words)}: {outcome.code}\n{outcome.output}"
    return outcome


def leaked(gpus: FakeGpus) -> list[str]:
    """GPUs that are not free, and tickets that somebody answers for, although nobody is there."""
    from mooring.engines import open_engine
    from mooring.gpus.inventory import inventory
    from mooring.gpus.tickets import open_ticket_queue
    from mooring.gpus.usage import list_uses

    with contextlib.closing(open_engine()) as engine:
        ticket_queue = open_ticket_queue(engine.address)  # type: ignore[attr-defined]
        tickets = ticket_queue.tickets()
        uses = list_uses(engine, inventory(), tickets, "")
    assert {use.gpu.uuid for use in uses} == set(gpus.uuids), "the fake GPUs are not to be seen"
    taken = [
        f"{use.gpu.uuid} is {use.state}: {[one.session or one.what for one in use.holders]}"
        for use in uses
        if use.free_share < 1
    ]
    files = [
        path
        for path in ticket_queue.folder.glob("[td]-*")
        if path.name[2:] not in {one.id for one in tickets}
    ]
    return [
        *taken,
        *(f"the ticket of {ticket.session} is left" for ticket in tickets),
        *(f"{path} is left" for path in files),
    ]


def _remove_all(herd: Herd, places: Sequence[Place]) -> list[str]:
    """Remove what ended, and tell what is there all the same."""
    from mooring.engines import open_engine
    from tests.support.invariants import leaks

    found = []
    with contextlib.closing(open_engine()) as engine:
        for place in places:
            names = [str(row["id"]) for row in _sessions(herd, place) if row["container"]]
            if names:
                _mooring(herd, place, "rm", "--force", *names)
            installation = (place.state / "installation").read_text().strip()
            found += [
                one
                for one in leaks(engine, place.state, installation)
                if place.user is None or "belongs to uid" not in one
            ]
    return found


@contextlib.contextmanager
def field_of_play(kind: str) -> Iterator[tuple[Herd, FakeGpus, list[Place]]]:
    """A queue, eight GPUs and the installations for a kind of contest; nothing stays of them."""
    before = dict(os.environ)
    folder = Path(tempfile.mkdtemp(prefix="mt-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        gpus = FakeGpus(folder / "gpus.json")
        gpus.file.chmod(0o644)
        os.environ.update(gpus.environ, MOORING_STATE_DIR=str(folder / "own"))
        if str(NVML) not in sys.path:
            sys.path.insert(0, str(NVML))
        with own_socket() as address, contextlib.ExitStack() as stack:
            os.environ["DOCKER_HOST"] = address
            from mooring.gpus.tickets import open_ticket_queue

            places = list(_places(folder, kind, stack))
            stack.callback(_remove_containers, places)  # of a contest that was cut off
            yield stack.enter_context(Herd(open_ticket_queue(address).folder)), gpus, places
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _places(folder: Path, kind: str, stack: contextlib.ExitStack) -> Iterator[Place]:
    for number in range(2 if kind in ("installations", "users") else 1):
        state, project = folder / f"s{number}", folder / f"p{number}"
        state.mkdir(mode=0o700)
        project.mkdir()
        if kind == "users" and number:
            user, home = stack.enter_context(_somebody())
            os.chown(state, user[0], user[1])
            os.chown(project, user[0], user[1])
            yield Place(state, project, user, home)
        else:
            yield Place(state, project)


def _remove_containers(places: Sequence[Place]) -> None:
    from mooring.engines import open_engine
    from mooring.engines.labels import LABEL_INSTALLATION

    with contextlib.closing(open_engine()) as engine:
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                installation = (place.state / "installation").read_text().strip()
                for row in engine.list({LABEL_INSTALLATION: installation}):
                    engine.remove(row.id)


@contextlib.contextmanager
def _somebody() -> Iterator[tuple[tuple[int, int, list[int]], Path]]:
    """A user of this machine who may use the engine."""
    import pwd
    import subprocess

    name = "mt-guest"
    group = os.stat(os.environ["DOCKER_HOST"].removeprefix("unix://")).st_gid
    # one that was cut off has left its user
    subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)
    subprocess.run(["useradd", "--create-home", "--groups", str(group), name], check=True)
    try:
        found = pwd.getpwnam(name)
        yield (found.pw_uid, found.pw_gid, [found.pw_gid, group]), Path(found.pw_dir)
    finally:
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


def contest(kind: str, rounds: int, seed: int = 0, say: bool = True) -> Figures:
    """So many rounds of one kind; a line is printed for each."""
    total = Figures()
    with field_of_play(kind) as (herd, gpus, places):
        for number in range(rounds):
            figures = one_round(herd, gpus, places, kind, seed + number)
            total.add(figures)
            if say:
                print(f"{kind:13} {number + 1:3}/{rounds} {figures}", flush=True)
                for fault in figures.faults[:10]:
                    print(f"    {' '.join(fault.split())}", flush=True)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kind", choices=KINDS, action="append", help="default: all but users")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    faults = 0
    for kind in options.kind or KINDS[:3]:
        total = contest(kind, options.rounds, options.seed)
        print(f"{kind:13}   all  {total}", flush=True)
        faults += len(total.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
