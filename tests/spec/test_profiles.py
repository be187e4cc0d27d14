"""Profiles of the administrator's, for everybody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mooring import SpecError, profile_files, resolve
from mooring.client.doctor import examine
from mooring.spec import profiles

OWN = Path("user/profiles")


@pytest.fixture(autouse=True)
def everybodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The administrator's folder, in one of the test's own; returned for its files."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    OWN.mkdir(parents=True)
    monkeypatch.setattr(profiles, "SYSTEM", folder)
    monkeypatch.setattr(profiles, "OWNER", os.getuid())
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def resolved(profile: str):
    return resolve(flags={}, environ={}, user_config=Path("user/config.yml"), profile=profile)


def refusal(profile: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        resolved(profile)
    return caught.value


def test_everybody_has_them(everybodys: Path) -> None:
    """By name, in --profile, under extends, and in the list; the origin is the file's line."""
    write(everybodys, "gpu", "memory: 2g\n")
    write(OWN, "mine", "extends: gpu\ncpus: 2\n")
    assert resolved("gpu").spec.memory == 2 << 30
    assert resolved("gpu").origins["memory"] == f"profile {everybodys}/gpu.yml:1"
    assert (resolved("mine").spec.memory, resolved("mine").spec.cpus) == (2 << 30, 2.0)
    assert profile_files(OWN) == {"gpu": everybodys / "gpu.yml", "mine": OWN / "mine.yml"}
    assert refusal("gpus").hint == "did you mean gpu?"


def test_ones_own_goes_first(everybodys: Path) -> None:
    write(everybodys, "gpu", "memory: 2g\n")
    write(OWN, "gpu", "memory: 1g\n")
    assert resolved("gpu").spec.memory == 1 << 30
    assert profile_files(OWN) == {"gpu": OWN / "gpu.yml"}


@pytest.mark.parametrize("mode", [0o664, 0o646])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_one_that_others_can_write_is_none(everybodys: Path, mode: int, place: str) -> None:
    """As with the policy; one's own in the same state is one's own affair."""
    path = write(everybodys, "gpu", "memory: 2g\n")
    open_to = path if place == "file" else everybodys
    open_to.chmod(mode | (0o111 if open_to is everybodys else 0))
    error = refusal("gpu")
    assert error.message == (
        f"{open_to} is writable by other users, so it is no profile for everybody"
    )
    assert f"chmod go-w {open_to}" in error.hint
    write(OWN, "gpu", "memory: 1g\n").chmod(mode)
    assert resolved("gpu").spec.memory == 1 << 30


def test_one_of_somebody_elses_is_none(everybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a link of the administrator's into a folder of somebody else's."""
    path = write(everybodys, "gpu", "memory: 2g\n")
    monkeypatch.setattr(profiles, "OWNER", os.getuid() + 1)
    assert "gpu.yml is not owned by root" in refusal("gpu").message
    monkeypatch.setattr(profiles, "OWNER", os.getuid())
    theirs = Path("theirs")
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    path.rename(theirs / "gpu.yml")
    path.symlink_to(theirs.absolute() / "gpu.yml")
    assert f"{theirs.absolute()} is writable by other users" in refusal("gpu").message


def test_what_it_extends_is_the_administrators_too(everybodys: Path, tmp_path: Path) -> None:
    """Whoever could write to a base would set what is mounted for everybody."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    write(everybodys, "gpu", f"extends: {shared}/base.yml\n")
    base = write(shared, "base", "memory: 2g\n")
    assert resolved("gpu").spec.memory == 2 << 30
    base.chmod(0o666)
    assert f"{base} is writable by other users" in refusal("gpu").message
    base.chmod(0o644)
    shared.chmod(0o777)
    assert f"{shared} is writable by other users" in refusal("gpu").message
    write(OWN, "mine", f"extends: {shared}/base.yml\n")
    assert resolved("mine").spec.memory == 2 << 30


def test_doctor_reads_them(everybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile with a mistake is told before somebody needs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(Path("user").absolute()))
    write(everybodys, "gpu", "memory: much\n")
    found = [one.text for one in examine() if one.subject == "config"]
    assert any(f"{everybodys}/gpu.yml:1" in text for text in found)
