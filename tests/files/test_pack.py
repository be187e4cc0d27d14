"""The stream that a copy to a session sends."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

from mooring.files.pack import measure, opened, pack
from mooring.files.unpack import MAX_DEPTH, Unpacker
from mooring.host import trees


def stream_of(root: Path) -> bytes:
    """A folder's stream, to its end."""
    above, name = opened(str(root))
    try:
        packed = pack(above, name, "x", warn=print, progress=lambda count: None)
        return b"".join((*packed, bytes(1024)))
    finally:
        os.close(above)


def entries(root: Path) -> list[tuple[str, int]]:
    """The names and modes of a folder's stream, in order."""
    with tarfile.open(fileobj=io.BytesIO(stream_of(root))) as tar:
        return [(entry.name, entry.mode) for entry in tar]


def unpack_into(folder: Path, data: bytes) -> None:
    """Unpack a stream as a copy from a session, or to one that is stopped, does."""
    descriptor = os.open(folder, os.O_RDONLY)
    unpacker = Unpacker(
        descriptor, place=lambda path: path, warn=print, progress=lambda count: None
    )
    try:
        unpacker.unpack(io.BytesIO(data).read)
    finally:
        os.close(descriptor)


def test_a_read_only_folder_is_closed_after_what_it_holds(tmp_path: Path) -> None:
    """A tar that sets modes at once, such as busybox's, can fill it: it is writable until then."""
    folder = tmp_path / "new"
    (folder / "locked").mkdir(parents=True)
    (folder / "locked" / "file").touch(mode=0o440)
    folder.chmod(0o755)
    (folder / "locked").chmod(0o550)
    (folder / "empty").mkdir(mode=0o500)
    assert entries(folder) == [
        ("x", 0o755),
        ("x/empty", 0o500),
        ("x/locked", 0o750),
        ("x/locked/file", 0o440),
        ("x/locked", 0o550),
    ]


def test_a_folders_mode_survives_our_own_unpacking(tmp_path: Path) -> None:
    """Of the two entries of a read-only folder the last is what it becomes, in a deep one too."""
    folder = tmp_path / "new"
    (folder / "locked" / "inner").mkdir(parents=True)
    (folder / "locked" / "inner" / "file").write_text("kept")
    for path, mode in ((folder / "locked" / "inner", 0o500), (folder / "locked", 0o550)):
        path.chmod(mode)
    there = tmp_path / "there"
    there.mkdir()
    unpack_into(there, stream_of(folder))
    assert (there / "x" / "locked" / "inner" / "file").read_text() == "kept"
    assert stat.S_IMODE((there / "x" / "locked").stat().st_mode) == 0o550
    assert stat.S_IMODE((there / "x" / "locked" / "inner").stat().st_mode) == 0o500


def test_a_tree_of_any_depth_is_packed_as_far_as_it_can_be_unpacked(tmp_path: Path) -> None:
    """What lies deeper is left out by name, and what is sent can be received."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "file").write_text("kept")
    here = os.open(top, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("d", 0o700, dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    above, name = opened(str(top))
    warnings: list[str] = []
    packed = pack(above, name, "x", warn=warnings.append, progress=lambda count: None)
    data = b"".join((*packed, bytes(1024)))
    assert measure(above, name) == 4
    os.close(above)
    (warning,) = warnings
    assert warning.endswith(f"is more than {MAX_DEPTH} folders deep")
    (tmp_path / "there").mkdir()
    unpack_into(tmp_path / "there", data)
    assert (tmp_path / "there" / "x" / "file").read_text() == "kept"
    for folder in (top, tmp_path / "there"):
        trees.remove_path(folder)
