"""An attack on the mounts of sessions: what is mounted is exchanged while a session is made.

``python -m tests.security.attack --rounds 200`` makes a session in each round, and starts it again.
Meanwhile somebody who can write to the project waits until the session's output appears, and a
random time more, and puts a link to a folder outside in the place of the input, of a folder above
it, or of the output: once, or again and again with the folder put back in between, so that what is
mounted and what is there differ. The session copies what it sees. At the end the script prints how
many bytes it saw that were not granted: there must be none. It needs nothing but mooring and an
engine.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mooring import LaunchOptions, Mooring, MooringError, resolve

LOOT = "what was not granted\n"
GRANTED = "granted\n"
PLACES = ("a/data", "a", "out")  # what is exchanged: the input, the folder above it, the output
COMMAND = "cat /mnt/inputs/data/file /mnt/outputs/out/file >>seen 2>/dev/null; exec sleep 600"


class Round:
    """One session, and exchanges during its creation and its start.

    Args:
        folder: an empty folder.
        place: what is exchanged.
        delay_s: how long after the output appeared.
        pause_s: how long until it is put back and exchanged again; None for never.
    """

    def __init__(self, folder: Path, place: str, delay_s: float, pause_s: float | None) -> None:
        self.project, self.loot = folder / "project", folder / "loot"
        self.place, self.delay_s, self.pause_s = self.project / place, delay_s, pause_s
        self._over = threading.Event()
        for path in (self.project / "a" / "data", self.loot / "data"):
            path.mkdir(parents=True)
            (path / "file").write_text(GRANTED if self.project in path.parents else LOOT)
        (self.loot / "file").write_text(LOOT)

    def stolen(self) -> int:
        """The number of bytes that the session saw and was not granted."""
        seen = self.project / "seen"
        return seen.read_text().count(LOOT) * len(LOOT) if seen.exists() else 0

    def attacked(self, act: Callable[[], object]) -> str:
        """Call a function while the place is exchanged; returns what came of it."""
        self._over.clear()
        attacker = threading.Thread(target=self._attack)
        attacker.start()
        try:
            act()
        except MooringError as error:
            return type(error).__name__
        finally:
            self._over.set()
            attacker.join()
            self._put_back()
        return "let through"

    def _attack(self) -> None:
        while not (self.project / "out").exists():
            if self._over.wait(0.001):
                return
        ended = self._over.wait(self.delay_s)
        while not ended and self.place.exists():
            self.place.rename(self._aside)
            self.place.symlink_to(self.loot)
            ended = self.pause_s is None or self._over.wait(self.pause_s)
            if not ended:
                self._put_back()
                ended = self._over.wait(self.pause_s)

    def _put_back(self) -> None:
        if self.place.is_symlink():
            self.place.unlink()
            self._aside.rename(self.place)

    @property
    def _aside(self) -> Path:
        return self.place.with_name(f"{self.place.name}.aside")


def attack(
    rounds: int, seed: int, timeout_s: float, image: str, env: dict[str, str]
) -> Counter[str]:
    """Run the rounds, or as many as there is time for.

    Args:
        rounds: how many sessions are made.
        seed: of the random delays.
        timeout_s: no round begins later.
        image: of the sessions.
        env: variables of the sessions.

    Returns:
        How often each thing came of a creation or a start, and the stolen bytes as ``stolen``.
    """
    chance = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    came, deadline = Counter[str](), time.monotonic() + timeout_s
    service = Mooring()
    for number in range(rounds):
        if time.monotonic() > deadline:
            break
        with tempfile.TemporaryDirectory(prefix="mooring-attack-") as name:
            folder = Path(name).resolve()
            pause_s = chance.choice((None, chance.random() * 0.02))
            one = Round(folder, chance.choice(PLACES), chance.random() * 0.25, pause_s)
            flags = {
                "image": image,
                "inputs": ["a/data"],
                "outputs": ["out"],
                "command": ["/bin/sh", "-c", COMMAND],
                "env": env,
            }
            options = LaunchOptions(name=f"attack-{number}-{seed}", tty=False)
            os.chdir(one.project)
            came[one.attacked(partial(service.sessions.create, resolve(flags=flags), options))] += 1
            for session in service.sessions.list():
                if session.name == options.name:
                    service.sessions.stop(session)
                    came[one.attacked(partial(service.sessions.start, session))] += 1
                    service.sessions.remove(session, force=True)
            os.chdir("/")
            came["stolen"] += one.stolen()
            came["rounds"] += 1
    return came


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0, help="no round begins later")
    parser.add_argument("--image", default="host")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    env = dict(pair.split("=", 1) for pair in given.env)
    came = attack(given.rounds, given.seed, given.minutes * 60, given.image, env)
    stolen, rounds = came.pop("stolen", 0), came.pop("rounds", 0)
    told = ", ".join(f"{count} {what}" for what, count in came.most_common())
    print(f"rounds: {rounds} (seed {given.seed}): {told}")
    print(f"bytes read outside what was granted: {stolen}")
    return 1 if stolen or not rounds else 0


if __name__ == "__main__":
    sys.exit(main())
