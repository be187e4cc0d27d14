"""Images that hold nothing but some programs of this machine, for what an image may lack."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.docker import imported

# What every image of a session has, whatever else it lacks
SHELL = ("dash", "cat", "stat", "sleep", "rm", "mkdir", "ls")
BUSYBOX = ("sh", "cat", "ls", "rm", "mv", "sleep", "stat", "tail", "date", "seq")
Make = Callable[..., str]
NOTHING: Mapping[str, str] = {}


@contextlib.contextmanager
def image_maker() -> Iterator[Make]:
    """Makes images of programs of this machine, and what they need; removes them at the end.

    ``make("socat", name="relay")``; ``also`` puts programs that need no library elsewhere.
    """
    made = contextlib.ExitStack()

    def make(
        *programs: str,
        name: str,
        also: Mapping[str, str] = NOTHING,
    ) -> str:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            _add(tar, [*SHELL, *programs], also)
        return made.enter_context(imported(data.getvalue(), name))

    with made:
        yield make


@contextlib.contextmanager
def busybox_image(*changes: str, links: Mapping[str, str] = NOTHING) -> Iterator[str]:
    """An image with busybox's shell and few of its programs; removed at the end.

    Args:
        changes: instructions of a Dockerfile.
        links: symbolic links, by their path without the first slash.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.fail("busybox is not installed: apt install busybox-static")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for tool in BUSYBOX:
            entry = tarfile.TarInfo(f"bin/{tool}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        for folder in {"tmp", "proc", "sys", "dev", "run", "etc", "mnt"} - links.keys():
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
    with imported(data.getvalue(), "busybox", *changes) as reference:
        yield reference


def _add(tar: tarfile.TarFile, programs: Sequence[str], also: Mapping[str, str]) -> None:
    for folder in ("bin", "usr", "usr/bin", "etc", "tmp", "run", "proc"):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        tar.addfile(entry)
    added: set[str] = set()
    for program in programs:
        path = shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{program} is not installed here")
        real = str(Path(path).resolve())
        _file(tar, real, f"bin/{program}", added)
        for library in _libraries(real):
            _file(tar, library, library.lstrip("/"), added)
    for program, name in also.items():
        _file(tar, str(shutil.which(program)), name, added)
    entry = tarfile.TarInfo("bin/sh")
    entry.type, entry.linkname = tarfile.SYMTYPE, "dash"
    tar.addfile(entry)


def _libraries(program: str) -> list[str]:
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", said)


def _file(tar: tarfile.TarFile, path: str, name: str, added: set[str]) -> None:
    if name in added:
        return
    added.add(name)
    content = Path(path).read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))
