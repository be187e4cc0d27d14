"""Files and folders to and from an image without tar: a process in the session for each file.

Slow for many small files, and as careful as the way with tar: what comes out goes through the same
``Unpacker``, and what goes in becomes visible by one rename.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence

from mooring.errors import MooringError
from mooring.files.pack import pieces, regular
from mooring.files.pipe import CHUNK, Pipe
from mooring.files.unpack import (
    FOLDER,
    PLAIN_MODE,
    HostileArchive,
    Member,
    Unpacker,
    plain_path,
    shown,
)

MAX_LISTING_BYTES = 64 << 20
_OCTAL, _SECONDS = re.compile("[0-7]{1,5}"), re.compile("[0-9]{1,11}")
_KINDS = {"folder": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}
_MODES = {"folder": 0o755, "file": 0o644, "link": 0o777}

Run = Callable[..., Pipe]


def fetch(
    run: Run,
    draft: int,
    path: str,
    is_folder: bool,
    *,
    told: Callable[[str], None],
    progress: Callable[[int], None],
) -> None:
    """Put a path of the session into a draft, as ``x``.

    Args:
        run: starts guest/copy.sh with these words.
        draft: a descriptor of an empty folder of this machine.

    Raises:
        HostileArchive, MooringError, OSError
    """
    unpacker = Unpacker(draft, place=lambda below: ("x", *below), told=told, progress=progress)
    path = f"{path}/." if is_folder else path
    for kind, mode, stamp, name, link in _listing(run, path):
        below = name.removeprefix(path)
        if not name.startswith(path) or (below and not (is_folder and below.startswith("/"))):
            raise HostileArchive(f"the session sent what nobody asked for: {shown(name)}")
        member = Member(
            plain_path(below.lstrip("/")),
            _KINDS.get(kind, tarfile.FIFOTYPE),
            mode if mode is not None else _MODES.get(kind, 0),
            stamp * 10**9,
            0,
            link,
        )
        if kind != "file":
            unpacker.add(member, iter(()))
            continue
        with run("read", name) as pipe:
            unpacker.add(member, _read(pipe))
            if pipe.finish():
                raise MooringError(
                    f"cannot read {shown(name)} in the session: {_last_line(pipe)}",
                    "is it yours, and does the image have cat?",
                )
    unpacker.finish()


def send(
    run: Run,
    above: int,
    name: str,
    where: Sequence[str],
    *,
    told: Callable[[str], None],
    progress: Callable[[int], None],
) -> None:
    """Put a file, link or folder of this machine into a session.

    Args:
        above, name: a folder's descriptor, and a name in it.
        where: in the session: a folder, the draft's name in it, and the name that it gets.

    Raises:
        MooringError, OSError: nothing is left of it but what a merge had put in place.
    """
    folder, draft, _ = where
    _do(run, "begin", *where)
    try:
        _put(run, above, name, f"{folder}/{draft}/x", told, progress)
        _do(run, "place", *where)
    except BaseException:
        with contextlib.suppress(MooringError):
            _do(run, "drop", *where)
        raise


def _put(
    run: Run,
    above: int,
    name: str,
    target: str,
    told: Callable[[str], None],
    progress: Callable[[int], None],
) -> None:
    found = os.stat(name, dir_fd=above, follow_symlinks=False)
    facts = (f"{found.st_mode & PLAIN_MODE:o}", str(max(0, int(found.st_mtime))))
    if stat.S_ISLNK(found.st_mode):
        _do(run, "link", target, os.readlink(name, dir_fd=above))
    elif stat.S_ISREG(found.st_mode):
        with regular(above, name) as descriptor, run("write", target, *facts) as pipe:
            for data in pieces(descriptor, os.fstat(descriptor).st_size):
                if not pipe.write(data):
                    break
                progress(len(data))
            _must_end_well(pipe)
    elif stat.S_ISDIR(found.st_mode):
        here = os.open(name, FOLDER, dir_fd=above)
        try:
            _do(run, "folder", target)
            for each in sorted(os.listdir(here)):
                _put(run, here, each, f"{target}/{each}", told, progress)
            _do(run, "facts", target, *facts)
        finally:
            os.close(here)
    else:
        told(f"left out: {shown(name)} is a special file")


def _listing(run: Run, path: str) -> Iterator[tuple[str, int | None, int, str, str]]:
    """Kind, mode, time, path and link's target of all that is at a path of the session."""
    with run("list", path) as pipe:
        data = pipe.exactly(MAX_LISTING_BYTES)
        if len(data) == MAX_LISTING_BYTES:
            raise MooringError("there are too many files", "use an image that has tar")
        if pipe.finish():
            raise MooringError(f"cannot list it in the session: {_last_line(pipe)}")
    words = data.decode("utf-8", "surrogateescape").split("\0")[:-1]
    for facts, link in zip(words[::2], words[1::2], strict=False):
        kind, mode, stamp, name = facts.split(" ", 3) if facts.count(" ") > 2 else ("",) * 4
        if not name:
            raise HostileArchive("what came out of the session is no list of files")
        yield (
            kind,
            int(mode, 8) & PLAIN_MODE if _OCTAL.fullmatch(mode) else None,
            int(stamp) if _SECONDS.fullmatch(stamp) else 0,
            name,
            link,
        )


def _read(pipe: Pipe) -> Iterator[bytes]:
    while data := pipe.read(CHUNK):
        yield data


def _do(run: Run, *words: str) -> None:
    with run(*words) as pipe:
        _must_end_well(pipe)


def _must_end_well(pipe: Pipe) -> None:
    if pipe.finish():
        raise MooringError(
            f"the session did not take it: {_last_line(pipe)}",
            "is there space, may you write there, are cat, mkdir, mv and chmod in the image?",
        )


def _last_line(pipe: Pipe) -> str:
    lines = pipe.complaint.splitlines()
    return shown(lines[-1]) if lines else "it did not say why"
