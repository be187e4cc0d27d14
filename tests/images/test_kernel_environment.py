"""Which folders another kernel of this machine needs in a session of ``image: host``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mooring import FakeEngine
from mooring.images.host_image import chosen_sources, host_image
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
    return list(kernel_environment(kernel, str(home)).folders)


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
    image = host_image(FakeEngine(), "pt")
    binds = {bind.target: bind for bind in image.binds}
    for folder in (environment, spec):
        assert binds[str(folder)].read_only
        assert ("image host, kernel pt", Path(os.path.realpath(folder))) in chosen_sources("pt")
    assert str(data) in dict(image.env)["JUPYTER_PATH"].split(":")
    assert str(environment) not in {bind.target for bind in host_image(FakeEngine()).binds}
