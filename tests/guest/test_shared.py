"""Files where the container can write: what is deleted there."""

from __future__ import annotations

from pathlib import Path

from mooring.guest.shared import SharedGuest


def test_a_folder_goes_with_all_in_it(tmp_path: Path) -> None:
    """Links in it go, and what they lead to stays; a folder that is not there will do."""
    root, outside = tmp_path / "run", tmp_path / "outside"
    (root / "k" / "a" / "below").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").touch()
    (root / "k" / "a" / "link").symlink_to(outside)
    SharedGuest(root).remove_folder("k/a")
    assert list((root / "k").iterdir()) == []
    assert (outside / "file").exists()
    SharedGuest(root).remove_folder("k/a")


def test_no_link_leads_a_deletion_out(tmp_path: Path) -> None:
    """Whether the folder or one above it was made a link: nothing behind it is deleted."""
    root, outside = tmp_path / "run", tmp_path / "outside"
    root.mkdir()
    (outside / "a").mkdir(parents=True)
    (root / "k").symlink_to(outside)
    SharedGuest(root).remove_folder("k/a")
    assert (outside / "a").is_dir()
    (root / "k").unlink()
    (root / "k").mkdir()
    (root / "k" / "a").symlink_to(outside / "a")
    SharedGuest(root).remove_folder("k/a")
    assert (outside / "a").is_dir()
