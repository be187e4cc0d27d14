"""Which folders another kernel of this machine needs in a session of ``image: host``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.images.host_environment import host_environment
from mooring.images.host_image import host_image
from mooring.images.kernel_environment import KernelEnvironment, kernel_environment


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of Jupyter's, the user's own."""
    folder = tmp_path / "data"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder))
    return folder


def plant(data: Path, name: str, *argv: str, **metadata: Any) -> Path:
    folder = data / "kernels" / name
    folder.mkdir(parents=True)
    spec = {"argv": list(argv), "display_name": name, "language": "x", "metadata": metadata}
    (folder / "kernel.json").write_text(json.dumps(spec))
    return folder


def folders(kernel: str | None, home: Path | str = "/nowhere") -> list[str]:
    return list(kernel_environment(kernel, str(home)).sources)


def test_a_virtual_environment_and_what_it_is_based_on(data: Path, tmp_path: Path) -> None:
    """An environment of venv or uv has a link to a Python elsewhere, which its settings name."""
    base, environment = tmp_path / "python", tmp_path / "pt"
    (base / "lib" / "python3.12").mkdir(parents=True)
    (base / "lib" / "python3.12" / "os.py").touch()
    (base / "bin").mkdir()
    (base / "bin" / "python3.12").touch()
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(base / "bin" / "python3.12")
    (environment / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.12.1\n")
    spec = plant(data, "pt", str(environment / "bin" / "python"), "-m", "ipykernel_launcher")
    assert folders("pt") == [str(spec), str(environment), str(base)]
    assert kernel_environment("PT", "/nowhere").jupyter_path == str(data)


def test_a_conda_environment(data: Path, tmp_path: Path) -> None:
    """It is recognized whatever its language."""
    environment = tmp_path / "envs" / "r"
    (environment / "conda-meta").mkdir(parents=True)
    spec = plant(data, "ir", str(environment / "bin" / "R"), "--slave")
    assert folders("ir") == [str(spec), str(environment)]


def test_a_program_that_is_in_no_environment(data: Path, tmp_path: Path) -> None:
    """Nothing but the kernelspec is mounted for it, and never what contains the home."""
    (tmp_path / "home" / "bin").mkdir(parents=True)
    (tmp_path / "home" / "pyvenv.cfg").touch()
    one = plant(data, "one", str(tmp_path / "other" / "bin" / "kernel"))
    two = plant(data, "two", str(tmp_path / "home" / "bin" / "kernel"))
    three = plant(data, "three", "kernel")
    assert folders("one") == [str(one)]
    assert folders("two", tmp_path / "home") == [str(two)]
    assert folders("three") == [str(three)]


def test_kernels_that_need_nothing(data: Path) -> None:
    """Mooring's own kernelspecs are not kernels of this machine."""
    plant(data, "mk", "x", kernel_provisioner={"provisioner_name": "mooring-provisioner"})
    broken = data / "kernels" / "broken"
    broken.mkdir()
    (broken / "kernel.json").write_text("{")
    for kernel in (None, "python3", "mk", "missing", "broken", "no/name"):
        assert kernel_environment(kernel, "/nowhere") == KernelEnvironment()


def test_the_image_has_it(data: Path, tmp_path: Path) -> None:
    """It is mounted read-only, found by Jupyter, and the user's choice for the policy."""
    environment = tmp_path / "pt"
    venv = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(venv, check=True)
    spec = plant(data, "pt", str(environment / "bin" / "python"))
    image = host_image(FakeEngine(), host_environment("pt"))
    binds = {bind.target: bind for bind in image.binds}
    sources = host_environment("pt").sources
    for folder in (environment, spec):
        assert binds[str(folder)].read_only
        assert ("image host, kernel pt", Path(os.path.realpath(folder))) in sources
    assert str(data) in dict(image.env)["JUPYTER_PATH"].split(":")
    assert str(environment) not in {bind.target for bind in host_image(FakeEngine()).binds}


def python(folder: Path) -> Path:
    """An installed Python."""
    (folder / "lib" / "python3.12").mkdir(parents=True)
    (folder / "lib" / "python3.12" / "os.py").touch()
    (folder / "bin").mkdir()
    (folder / "bin" / "python3.12").touch()
    return folder


def venv(folder: Path, home: str, interpreter: Path | None = None) -> Path:
    """A virtual environment. Returns its interpreter."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(f"home = {home}\n")
    link = folder / "bin" / "python"
    link.symlink_to(interpreter or "/usr/bin/python3")
    return link


def test_an_environment_leads_to_an_installed_python_only(data: Path, tmp_path: Path) -> None:
    """A session that can write to an environment names what it likes in it: nothing private, not
    another project's environment, and no link to either is mounted."""
    secret = tmp_path / "secret"
    (secret / "bin").mkdir(parents=True)
    (secret / "bin" / "python").touch()
    other = venv(tmp_path / "other" / ".venv", "/usr/bin").parent.parent
    (tmp_path / "link").symlink_to(secret)
    for number, home in enumerate((f"{secret}/bin", f"{other}/bin", f"{tmp_path}/link/bin", "bin")):
        interpreter = venv(tmp_path / f"e{number}", home, secret / "bin" / "python")
        spec = plant(data, f"k{number}", str(interpreter))
        assert folders(f"k{number}") == [str(spec), str(tmp_path / f"e{number}")]
    interpreter = venv(tmp_path / "e", "/usr/bin", other / "bin" / "python")
    spec = plant(data, "k", str(interpreter))
    assert str(other) not in folders("k")


def test_what_is_found_once_is_what_is_mounted(data: Path, tmp_path: Path) -> None:
    """A session that exchanges a folder for a link, between the check and the mount, gains nothing:
    the real path was found before the check (a session got out of its container by that)."""
    base = python(tmp_path / "base")
    (tmp_path / "link").symlink_to(base)
    spec = plant(data, "pt", str(venv(tmp_path / "pt", f"{tmp_path}/link/bin")))
    found = host_environment("pt")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("/proc")
    binds = {bind.target: bind.source for bind in host_image(FakeEngine(), found).binds}
    assert binds[f"{tmp_path}/link"] == str(base)
    assert binds[str(spec)] == str(spec)
    assert {one.target for one in host_environment("pt").chosen} & {f"{tmp_path}/link"} == set()


@pytest.mark.parametrize("kind", ["fifo", "long", "spaces", "link", "binary", "missing"])
def test_settings_that_are_none(data: Path, tmp_path: Path, kind: str) -> None:
    """They hold up nobody, and lead nowhere."""
    spec = plant(data, "pt", str(venv(tmp_path / "pt", "/nowhere/bin")))
    config = tmp_path / "pt" / "pyvenv.cfg"
    config.unlink()
    if kind == "fifo":
        os.mkfifo(config)
        (tmp_path / "pt" / "conda-meta").mkdir()
    elif kind == "long":
        config.write_text("#\n" * 40_000 + f"home = {python(tmp_path / 'base')}/bin\n")
    elif kind == "spaces":
        config.write_text("home = a" + " " * 60_000 + "b\n")
    elif kind == "link":
        (tmp_path / "settings").write_text(f"home = {python(tmp_path / 'base')}/bin\n")
        config.symlink_to(tmp_path / "settings")
    elif kind == "binary":
        config.write_bytes(b"\xff\x00home = /\n" * 100)
    began = time.monotonic()
    expected = [str(spec)] if kind == "missing" else [str(spec), str(tmp_path / "pt")]
    assert [folder for folder in folders("pt") if folder != "/usr"] == expected
    assert time.monotonic() - began < 1
