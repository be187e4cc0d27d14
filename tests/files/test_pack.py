"""The stream that a copy to a session sends."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from mooring.files.pack import opened, pack


def entries(root: Path) -> list[tuple[str, int]]:
    """The names and modes of a folder's stream, in order."""
    above, name = opened(str(root))
    try:
        data = b"".join(pack(above, name, "x", warn=print, progress=lambda done: None))
    finally:
        os.close(above)
    with tarfile.open(fileobj=io.BytesIO(data + bytes(1024))) as tar:
        return [(entry.name, entry.mode) for entry in tar]


def test_a_read_only_folder_is_closed_after_what_it_holds(tmp_path: Path) -> None:
    """A tar that sets modes at once, such as busybox's, can fill it: it is writable until then."""
    folder = tmp_path / "new"
    (folder / "locked").mkdir(parents=True)
    (folder / "locked" / "file").touch(mode=0o440)
    folder.chmod(0o755)
    (folder / "locked").chmod(0o550)
    assert entries(folder) == [
        ("x", 0o755),
        ("x/locked", 0o750),
        ("x/locked/file", 0o440),
        ("x/locked", 0o550),
    ]
