"""Files that are exchanged between the check of a name and its use, or its mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mooring.engines.base import ContainerConfig, Engine
from tests.support.docker import docker
from tests.support.waiting import eventually

_acts: dict[str, Callable[[], None]] = {}
_hooked: list[bool] = []

FLIPPING = """
import os, sys
path, one, two = sys.argv[1:]
count = 0
while True:
    for target in (one, two):
        os.symlink(target, path + ".next")
        os.replace(path + ".next", path)
    count += 1
    if count == 1:
        print("flipping", flush=True)
"""


class Exchanging:
    """An engine, beside which somebody acts just before a container is created or started.

    Args:
        engine: the real one.
        method: ``create`` or ``start``; empty for neither.
        act: what is done then.

    Attributes:
        created: the ids of the containers that were created.
        printed: what each container had printed when it was stopped or removed.
    """

    def __init__(self, engine: Engine, method: str, act: Callable[[], object]) -> None:
        self._engine, self._method, self._act = engine, method, act
        self.created: list[str] = []
        self.printed: list[str] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def create(self, config: ContainerConfig) -> str:
        if self._method == "create":
            self._act()
        self.created.append(self._engine.create(config))
        return self.created[-1]

    def start(self, container: str) -> None:
        if self._method == "start":
            self._act()
        self._engine.start(container)

    def stop(self, container: str, grace_s: float) -> None:
        self._look(container)
        self._engine.stop(container, grace_s)

    def remove(self, container: str) -> None:
        self._look(container)
        self._engine.remove(container)

    def _look(self, container: str) -> None:
        done = docker("logs", container)
        self.printed.append(done.stdout + done.stderr)


@contextlib.contextmanager
def at_open(name: str, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` once, in the moment before this process opens a path that ends with ``name``."""
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(_hook)  # it stays for the life of the process, and does nothing by itself
    _acts[name] = act
    try:
        yield
    finally:
        _acts.pop(name, None)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _acts and isinstance(arguments[0], (str, bytes, os.PathLike)):
        act = _acts.pop(os.path.basename(os.fsdecode(arguments[0])), None)
        if act is not None:
            act()


def replace_by_link(path: Path, target: Path) -> Callable[[], None]:
    """Return what puts a link to ``target`` in the place of ``path``."""

    def act() -> None:
        if path.is_symlink():
            path.unlink()
        else:
            path.rename(path.with_name(f"{path.name}.aside"))
        path.symlink_to(target)

    return act


@contextlib.contextmanager
def flipping(path: Path, one: Path, two: Path) -> Iterator[None]:
    """Let another process replace ``path`` by links to ``one`` and ``two``, again and again."""
    words = [sys.executable, "-c", FLIPPING, str(path), str(one), str(two)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"flipping\n"
            eventually(path.is_symlink)
            yield
        finally:
            process.kill()
