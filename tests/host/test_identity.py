"""The identity of a folder: of this one, not of its name or its number."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mooring.host.identity import folder_identity


def test_a_folder_keeps_its_identity(tmp_path: Path) -> None:
    """Another name, another content and another mode make no other folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    first = folder_identity(folder)
    (folder / "file").touch()
    folder.chmod(0o700)
    folder.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to("moved")
    assert folder_identity(tmp_path / "moved") == folder_identity(tmp_path / "link") == first


@pytest.mark.parametrize("top", ["/var/tmp", "/dev/shm"])
def test_a_folder_made_anew_is_another(top: str) -> None:
    """A folder that is deleted and made again at the same path is another one, although a file
    system may give it the same inode."""
    folder = Path(top) / f"mooring-identity-{os.getpid()}"
    seen = set()
    for _ in range(20):
        folder.mkdir()
        seen.add(folder_identity(folder))
        shutil.rmtree(folder)
    assert len(seen) == 20


def test_device_numbers_are_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart of the machine, which gives devices other numbers, makes no other folder."""
    first = folder_identity(tmp_path)
    fstat = os.fstat

    def renumbered(descriptor: int) -> os.stat_result:
        values = list(fstat(descriptor))
        values[2] += 7  # st_dev
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", renumbered)
    assert folder_identity(tmp_path) == first


def test_no_folder_has_none(tmp_path: Path) -> None:
    """What is not there, or is a file, is an error."""
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(OSError, match=name):
            folder_identity(tmp_path / name)
