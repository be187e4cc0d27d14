"""Files where the container can write: what is deleted there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[dict[str, socket.socket]]:
    """Sockets that listen: ``k/a/s-1`` in a run folder, and one outside, ``victim``."""
    (tmp_path / "run" / "k" / "a").mkdir(parents=True)
    made = {"own": tmp_path / "run" / "k" / "a" / "s-1", "victim": tmp_path / "victim"}
    with contextlib.ExitStack() as stack:
        opened = {}
        for name, path in made.items():
            opened[name] = stack.enter_context(socket.socket(socket.AF_UNIX))
            opened[name].bind(str(path))
            opened[name].listen()
            opened[name].setblocking(False)
        yield opened


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_pinned_socket_stays_what_it_was(
    tmp_path: Path, listeners: dict[str, socket.socket]
) -> None:
    """Whatever a session puts in its place, or in that of a folder above, leads nowhere else."""
    guest = SharedGuest(tmp_path / "run")
    guest.pin(["k/a/s-1"])
    guest.pin(["k/a/s-1"])  # once more
    path = guest.socket_path("k/a/s-1")
    assert not path.startswith(f"{tmp_path}/run/")
    own = tmp_path / "run" / "k" / "a" / "s-1"
    for replaced, way in ((own, ""), (own.parent, "s-1"), (own.parent.parent, "a/s-1")):
        replaced.rename(replaced.with_name("aside"))
        outside = tmp_path / "outside"
        (outside / way).parent.mkdir(parents=True, exist_ok=True)
        if way:
            (outside / way).symlink_to(tmp_path / "victim")
        replaced.symlink_to(outside if way else tmp_path / "victim")
        connect(path)
        listeners["own"].accept()[0].close()
        with pytest.raises(BlockingIOError):
            listeners["victim"].accept()
        with pytest.raises(OSError, match=r"not a socket|Not a directory|symbolic links"):
            guest.pin(["k/a/s-1"])
        replaced.unlink()
        replaced.with_name("aside").rename(replaced)
    guest.unpin("k/a")
    assert not Path(path).exists()
    assert own.exists()


def test_a_socket_is_made_where_the_session_finds_it_and_no_link_leads_elsewhere(
    tmp_path: Path,
) -> None:
    """What has its name already stays, and a folder that became a link is not entered."""
    root, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    guest = SharedGuest(root)
    with guest.listen("agent") as listening, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(root / "agent"))
        listening.accept()[0].close()
    (root / "link").symlink_to(elsewhere / "new")
    (root / "folder").symlink_to(elsewhere)
    for name in ("agent", "link", "folder/new"):
        with pytest.raises(OSError, match=r"in use|Not a directory|Too many"):
            guest.listen(name)
    assert list(elsewhere.iterdir()) == []
