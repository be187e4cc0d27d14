"""Where mooring keeps its files on this machine, and who this installation is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import platformdirs
import pytest

from mooring._version import __version__
from mooring.errors import MooringError, SpecError
from mooring.host import paths
from mooring.host.paths import Installation


def test_a_state_folder_of_somebody_else(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others own is not used, and what others can read is closed to them."""
    os.chmod(state, 0o755)
    assert paths.state_dir().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(MooringError, match="belongs to another user"):
        paths.state_dir()


def test_a_state_folder_that_cannot_be(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder that cannot be made is told with its path and what to set."""
    (state / "file").touch()
    monkeypatch.setenv("MOORING_STATE_DIR", str(state / "file" / "below"))
    with pytest.raises(MooringError, match="cannot create") as caught:
        paths.state_dir()
    assert "MOORING_STATE_DIR" in caught.value.hint


def test_a_home_that_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a home that anything tells, or with a current folder that was deleted, paths are an
    error with a hint, unless they are given."""

    def unknown(name: str) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(platformdirs, "user_config_dir", unknown)
    with pytest.raises(MooringError, match="home folder is unknown"):
        paths.user_dir("config")
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(SpecError, match="current folder no longer exists"):
        paths.current_dir()
    assert paths.state_dir().is_absolute()
    monkeypatch.setenv("MOORING_STATE_DIR", "relative")
    with pytest.raises(SpecError, match="current folder no longer exists"):
        paths.state_dir()
    monkeypatch.chdir(tmp_path)
    assert paths.state_dir() == tmp_path / "relative"


def test_root_in_another_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sudo that keeps HOME, nothing of root's is created in it, which locked its owner out."""
    home = tmp_path / "home"
    home.mkdir()
    if os.getuid() == 0:
        os.chown(home, 54_321, 54_321)
    for name in ("MOORING_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(MooringError, match="would be root's") as caught:
        paths.state_dir()
    assert "sudo -H" in caught.value.hint
    assert os.listdir(home) == []


@pytest.mark.parametrize("content", [b"", b"\n", b"\x80", b"two words", b"x" * 65])
def test_a_damaged_id_is_an_error(state: Path, content: bytes) -> None:
    """With another id, or none, the containers of the installation would be strangers."""
    (state / "installation").write_bytes(content)
    with pytest.raises(MooringError, match=r"installation, the id .* is damaged"):
        _ = Installation.here().id
    (state / "installation").unlink()


def test_an_installation_has_one_name(state: Path) -> None:
    """An installation's id is made once and kept; two installations have two."""
    first = Installation.here().id
    assert Installation.here().id == first
    assert len(first) == 16
    (state / "installation").unlink()
    assert Installation.here().id != first
    assert [path.name for path in state.glob(".installation*")] == []


def test_a_state_folder_of_a_newer_version_is_refused(state: Path) -> None:
    """Its files may mean something else; it is said which version wrote it, and nothing changes."""
    (state / ".mooring-format").write_text(f"{paths.STATE_FORMAT + 1} 9.9.9\n")
    with pytest.raises(MooringError, match=r"was used by a newer mooring, 9\.9\.9, and this is"):
        Installation.here()
    assert (state / ".mooring-format").read_text() == f"{paths.STATE_FORMAT + 1} 9.9.9\n"


@pytest.mark.parametrize("content", [None, "", "nonsense\n", "\xff"])
def test_a_state_folder_without_a_mark_is_marked(state: Path, content: str | None) -> None:
    """One of an earlier version is used as it is; a mark that power loss has emptied is renewed."""
    if content is not None:
        (state / ".mooring-format").write_text(content, encoding="latin-1")
    Installation.here()
    assert (state / ".mooring-format").read_text() == f"{paths.STATE_FORMAT} {__version__}\n"
    assert [path.name for path in state.iterdir()] == [".mooring-format"]


def test_a_file_of_the_users_is_no_mark(state: Path) -> None:
    """The folder may be one that has a file of that name, with anything in it."""
    (state / "version").write_text("7\n")
    Installation.here()
    assert (state / "version").read_text() == "7\n"


def test_a_mark_that_cannot_be_leaves_nothing(state: Path) -> None:
    (state / ".mooring-format").mkdir()
    for _ in range(2):
        assert Installation.here().path == state
    assert [path.name for path in state.iterdir()] == [".mooring-format"]


def test_a_state_folder_on_a_full_disk_is_used(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert Installation.here().path == state
