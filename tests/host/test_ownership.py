"""Whether a folder that is known by its name alone can be trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring.host.ownership import distrust

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shared" / "folder"
    made.mkdir(parents=True, mode=0o755)
    made.parent.chmod(0o1777)
    return made


def test_a_folder_of_the_callers_in_a_shared_one(folder: Path) -> None:
    """The caller's folder is trusted, also in one with the sticky bit that everybody can write
    to, as /tmp is."""
    assert distrust(folder) == ""
    assert distrust(Path("/")) == ""


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o775, 0o1777])
def test_a_folder_that_others_can_write_to(folder: Path, mode: int) -> None:
    """A folder in which others could put files is not trusted, whatever its sticky bit."""
    folder.chmod(mode)
    assert distrust(folder) == f"others can write to {folder}"


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_could_rename(folder: Path, mode: int) -> None:
    """A folder in one that others can write to, without the sticky bit, is not trusted."""
    folder.parent.chmod(mode)
    assert distrust(folder) == f"others can write to {folder.parent}"


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
def test_a_strangers_folder(folder: Path) -> None:
    """A folder of another user's, or in one of theirs, is not trusted."""
    os.chown(folder, NOBODY, NOBODY)
    assert distrust(folder) == f"{folder} belongs to user {NOBODY}"
    os.chown(folder, 0, 0)
    os.chown(folder.parent, NOBODY, NOBODY)
    assert distrust(folder) == f"{folder.parent} belongs to user {NOBODY}"


def test_links_and_other_files(folder: Path) -> None:
    """A link, also one to a trusted folder or on the way to one, a file and nothing at all are not
    trusted."""
    link = folder.parent / "link"
    link.symlink_to(folder)
    (folder / "inner").mkdir()
    (folder / "file").touch()
    assert distrust(link) == f"{link} is a link"
    assert distrust(link / "inner") == f"{link} is a link"
    assert distrust(folder / "file") == f"{folder}/file is not a folder"
    assert distrust(folder / "none") == f"{folder}/none: No such file or directory"
