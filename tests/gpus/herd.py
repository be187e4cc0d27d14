"""Many command lines at once, cheaply: real processes, forked from one that has imported all.

``Herd`` is the handle; the module itself is the process that forks. It also looks into the folder
where mooring's tickets lie, so that a process can be killed a moment after its turn has come, and
so that the order of all turns is known afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOOK_S = 0.02


@dataclass(frozen=True)
class Call:
    """One command line.

    Attributes:
        session: the name of the session that it makes.
        start_s: when it starts, in seconds from the beginning.
        kill_s: when it is killed (SIGKILL), from its start; None for never.
        kill_after_grant_s: the same, from when its turn has come.
        user: uid, gid and further groups; None for this process's.
    """

    session: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    start_s: float = 0.0
    kill_s: float | None = None
    kill_after_grant_s: float | None = None
    user: tuple[int, int, list[int]] | None = None


@dataclass
class Outcome:
    """What became of a call. Times are seconds since the epoch."""

    session: str
    started: float
    code: int | None = None
    ended: float | None = None
    killed: float | None = None
    output: str = ""


@dataclass
class Turn:
    """A ticket, as it was seen in the queue. Times are seconds since the epoch."""

    session: str
    installation: str
    order: tuple[int, int]
    thousandths: int
    seen: float
    granted: float | None = None
    gone: float | None = None


class Herd:
    """Forks whatever it is told to, in a process of its own. A context manager."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate

    def __enter__(self) -> Herd:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.gpus.herd", str(self._gate)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _with_root(os.environ.get("PYTHONPATH", ""))},
        )
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        try:
            self._server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server.stdout.close()

    def run(
        self, calls: Sequence[Call], limit_s: float = 120
    ) -> tuple[list[Outcome], dict[str, Turn]]:
        """Run them all, and return when all have ended.

        Returns:
            What became of each, and the tickets that were drawn meanwhile, by session id.

        Raises:
            AssertionError: some had not ended after ``limit_s`` and were killed.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(
            json.dumps({"calls": [asdict(call) for call in calls], "limit_s": limit_s}) + "\n"
        )
        self._server.stdin.flush()
        line = self._server.stdout.readline()
        assert line, "the process that forks has died"
        said = json.loads(line)
        assert not said["late"], f"still at work after {limit_s:g} s: {said['late']}"
        turns = {
            key: Turn(**{**turn, "order": tuple(turn["order"])})
            for key, turn in said["turns"].items()
        }
        return [Outcome(**one) for one in said["outcomes"]], turns


def _with_root(path: str) -> str:
    return os.pathsep.join([str(ROOT), *filter(None, path.split(os.pathsep))])


class Tickets:
    """What is seen of the queue, by looking at its folder again and again."""

    def __init__(self, gate: Path) -> None:
        self._gate = gate
        self._marks: dict[str, int] = {}
        self.turns: dict[str, Turn] = {}

    def look(self) -> None:
        """A look at every ticket that is new or has changed."""
        now = time.time()
        present = set()
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._gate):
                if not entry.name.startswith("t-"):
                    continue
                present.add(entry.name)
                with contextlib.suppress(OSError, ValueError, KeyError):
                    self._read(entry, now)
        for name, turn in self.turns.items():
            if turn.gone is None and f"t-{name}" not in present:
                turn.gone = now

    def _read(self, entry: os.DirEntry[str], now: float) -> None:
        changed = os.stat(entry.path).st_mtime_ns
        if self._marks.get(entry.name) == changed:
            return
        said = json.loads(Path(entry.path).read_text())
        turn = self.turns.setdefault(
            said["id"],
            Turn(
                session=said["session"],
                installation=said["installation"],
                order=(-said["priority"], said["since"]),
                thousandths=round(said["request"]["share"] * said["request"]["count"] * 1000),
                seen=now,
            ),
        )
        if said["granted"] and turn.granted is None:
            turn.granted = changed / 1e9
        self._marks[entry.name] = changed


def serve(gate: Path) -> None:
    """Read batches of calls on standard input, write what came of them on standard output."""
    _import_all()
    for line in sys.stdin:
        said = json.loads(line)
        batch = _Batch(said["calls"], gate)
        late = batch.run(said["limit_s"])
        answer = {
            "outcomes": [asdict(one) for one in batch.outcomes],
            "turns": {key: asdict(turn) for key, turn in batch.tickets.turns.items()},
            "late": late,
        }
        print(json.dumps(answer), flush=True)


class _Batch:
    def __init__(self, calls: list[dict[str, Any]], gate: Path) -> None:
        self.tickets = Tickets(gate)
        self.outcomes: list[Outcome] = []
        self._waiting = sorted(calls, key=lambda call: call["start_s"], reverse=True)
        self._running: dict[int, tuple[Outcome, dict[str, Any], int]] = {}

    def run(self, limit_s: float) -> list[str]:
        """Returns the sessions whose processes had to be killed in the end."""
        began, parent = time.time(), os.getppid()
        late: list[str] = []
        while self._waiting or self._running:
            now = time.time()
            while self._waiting and self._waiting[-1]["start_s"] <= now - began:
                self._fork(self._waiting.pop())
            self.tickets.look()
            self._kill(now)
            self._reap()
            if now - began > limit_s or os.getppid() != parent:
                self._waiting.clear()
                for pid, (outcome, _, _) in self._running.items():
                    late.append(outcome.session)
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.5)
            time.sleep(LOOK_S)
        self.tickets.look()
        return late

    def _fork(self, call: dict[str, Any]) -> None:
        output = os.memfd_create("output")
        outcome = Outcome(call["session"], time.time())
        self.outcomes.append(outcome)
        pid = os.fork()
        if pid:
            self._running[pid] = (outcome, call, output)
        else:
            _become(call, output)

    def _kill(self, now: float) -> None:
        granted = {
            turn.session: turn.granted for turn in self.tickets.turns.values() if turn.granted
        }
        for pid, (outcome, call, _) in self._running.items():
            due = None
            if call["kill_s"] is not None:
                due = outcome.started + call["kill_s"]
            elif call["kill_after_grant_s"] is not None and outcome.session in granted:
                due = granted[outcome.session] + call["kill_after_grant_s"]
            if due is not None and now >= due and outcome.killed is None:
                outcome.killed = time.time()
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self._running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            outcome, _, output = self._running.pop(pid)
            outcome.ended, outcome.code = time.time(), os.waitstatus_to_exitcode(status)
            if outcome.code != -signal.SIGKILL:
                outcome.killed = None  # it was quicker
            outcome.output = os.pread(output, 1 << 22, 0).decode(errors="replace")
            os.close(output)


def _become(call: dict[str, Any], output: int) -> None:
    """In the child: be that command line, with nothing of the parent's but what is imported."""
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for there, here in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(there, here)
        os.closerange(3, 256)
        if call["user"] is not None:
            uid, gid, groups = call["user"]
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        os.environ.update(call["env"])
        os.chdir(call["cwd"])
        sys.argv = ["mooring", *call["argv"]]
        from mooring_cli.main import run

        code = 1
        try:
            run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(70)


def _import_all() -> None:
    """All that ``create`` imports on its way, and nothing that opens a file or starts a thread."""
    import importlib

    for name in (
        "mooring.client.client mooring.client.sessions mooring.launch.create mooring.launch.plan "
        "mooring.launch.container mooring.images.facts "
        "mooring.images.images mooring.images.host_image mooring.images.mounts "
        "mooring.gpus.queue mooring.gpus.tickets mooring.gpus.usage mooring.policy.limits "
        "mooring.policy.trust mooring.terminals.terminal mooring.sessions.history "
        "mooring.spec.resolve mooring.spec.yamlfile mooring.engines.docker.engine "
        "mooring_cli.main mooring_cli.create mooring_cli.spec_flags pydantic "
        "yaml platformdirs sqlite3 rich.console rich.progress"
    ).split():
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        importlib.import_module("pynvml")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
