"""Files that are exchanged between the check of a name and its use."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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
