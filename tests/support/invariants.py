"""What must be true when nobody works any more: nothing is left, and nobody else's is touched."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from mooring.engines import open_engine
from mooring.engines.base import Engine
from mooring.engines.docker import networks
from mooring.engines.labels import LABEL_INSTALLATION
from mooring.errors import EngineUnavailable
from tests.support.docker import docker

# A process that was told to end does so within that time
ENDING_S = 3.0


def leaks(engine: Engine, state: Path, installation: str) -> list[str]:
    """Everything that one installation left behind, a line each; empty when all is well.

    Args:
        engine: where its containers would be.
        state: its state folder.
        installation: its id.
    """
    return [
        *_containers(engine, installation),
        *_folders(state),
        *_files(state),
        *_processes(state),
    ]


def suite_leaks(installations: set[str]) -> list[str]:
    """What is left of any of these installations, clocks outside of a container, networks."""
    found = [*_stray_clocks(), *_networks()]
    try:
        with contextlib.closing(open_engine()) as engine:
            rows = engine.list({LABEL_INSTALLATION: ""})
    except EngineUnavailable:
        return found
    for row in rows:
        if row.labels[LABEL_INSTALLATION] in installations:
            found.append(f"container {row.name} ({row.state}) is left")
    return found


def _stray_clocks() -> Iterator[str]:
    """A clock belongs into a container: on the machine itself it would end everybody's work."""
    mine = os.readlink("/proc/self/ns/pid")
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if b"clock.sh" in b" ".join(command[:2]) and os.readlink(entry / "ns/pid") == mine:
                yield f"process {entry.name} is a clock outside of a container: {command!r}"
        except OSError:
            continue


def _networks() -> Iterator[str]:
    """All sessions are in one network, which stays; a second one of its name is left over."""
    words = ["network", "ls", "--quiet", "--no-trunc", "--filter", f"name=^{networks.NAME}$"]
    for network in docker(*words).stdout.split()[1:]:
        yield f"network {network} is left: a second one named {networks.NAME}"


def _containers(engine: Engine, installation: str) -> Iterator[str]:
    for row in engine.list({LABEL_INSTALLATION: installation}):
        yield f"container {row.name} ({row.state}) is left"


def _folders(state: Path) -> Iterator[str]:
    for path in sorted((state / "sessions").glob("*")) + sorted((state / "sessions").glob(".*")):
        yield f"session folder {path} is left"


def _files(state: Path) -> Iterator[str]:
    for folder, names, files in os.walk(state):
        for name in [*names, *files]:
            path = Path(folder) / name
            found = path.lstat()
            if stat.S_ISSOCK(found.st_mode):
                yield f"socket {path} is left"
            if found.st_uid != os.getuid():
                yield f"{path} belongs to uid {found.st_uid}"


def _processes(state: Path) -> list[str]:
    """Processes of this machine that still name the state folder, and do not end just now."""
    deadline = time.monotonic() + ENDING_S
    while (found := list(_named(state))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _named(state: Path) -> Iterator[str]:
    """Processes of this machine that have the state folder in their command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(state / "sessions") in command:
            yield f"process {entry.name} is left: {command[:80]!r}"
