"""Files where the container can write: what is deleted there."""

from __future__ import annotations

from pathlib import Path

from mooring.guest.shared import MAX_ENTRIES, SharedGuest


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


def test_a_folder_in_the_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    """A write and a removal have their way, whatever the session put there, and follow no link."""
    guest = SharedGuest(tmp_path)
    (tmp_path / "outside").mkdir()
    for name in ("settings", "hold"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "link").symlink_to(tmp_path / "outside")
    guest.write("settings", "text")
    guest.remove("hold")
    assert guest.read("settings") == "text"
    assert not guest.exists("hold")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "settings"]


def test_a_listing_reads_a_bounded_number_of_names(tmp_path: Path) -> None:
    """A folder with many more names is not read to its end."""
    (tmp_path / "k").mkdir()
    for number in range(MAX_ENTRIES + 50):
        (tmp_path / "k" / f"{number:05}").touch()
    names = SharedGuest(tmp_path).names("k")
    assert len(names) == MAX_ENTRIES
    assert names == sorted(names)
