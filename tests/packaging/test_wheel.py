"""The wheel is what users get: it holds what it must, nothing else, and runs by itself."""

from __future__ import annotations

import subprocess
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import mooring
from tests.wheel_env import ROOT, InstalledWheel

PACKAGES = {
    "mooring": ROOT / "core" / "mooring",
    "mooring_provisioner": ROOT / "provisioner" / "mooring_provisioner",
    "mooring_server_extension": ROOT / "server_extension" / "mooring_server_extension",
    "mooring_cli": ROOT / "cli" / "mooring_cli",
}
# What a file manager or an interrupted run may leave in a source folder
_LITTER = {"__pycache__", ".mypy_cache", ".ruff_cache", ".ipynb_checkpoints"}


@pytest.fixture(scope="module")
def names(built_wheel: Path) -> set[str]:
    with zipfile.ZipFile(built_wheel) as archive:
        return set(archive.namelist())


def test_only_our_own_names_reach_site_packages(names: set[str]) -> None:
    """No generic name (cli, tests, core) is installed for everybody to trip over."""
    dist_info = f"mooring-{mooring.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, dist_info}


def test_every_source_file_is_in_the_wheel(names: set[str]) -> None:
    """What works from the clone works from the wheel: code, schema, guest scripts, markers."""
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and not _LITTER & set(path.parts)
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "mooring/session.schema.json" in names
    assert any(name.startswith("mooring/guest/") and name.endswith(".sh") for name in names)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_metadata_says_what_is_installed(built_wheel: Path) -> None:
    """The version has one source, the licence travels along, and the entry points are declared."""
    with zipfile.ZipFile(built_wheel) as archive:
        dist_info = f"mooring-{mooring.__version__}.dist-info"
        metadata = Parser().parsestr(archive.read(f"{dist_info}/METADATA").decode())
        entry_points = archive.read(f"{dist_info}/entry_points.txt").decode()
        assert f"{dist_info}/licenses/LICENSE" in archive.namelist()
    assert metadata["Version"] == mooring.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert metadata["Requires-Python"] == ">=3.10"
    assert "mooring-provisioner = mooring_provisioner.provisioner:" in entry_points


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_runs_from_a_clean_environment(
    installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    """The installed command needs neither the clone nor the tests' packages."""
    done = subprocess.run(
        [installed_wheel.mooring, "--version"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"mooring {mooring.__version__}\n",
        "",
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_module_imports_from_a_clean_environment(
    installed_wheel: InstalledWheel, tmp_path: Path
) -> None:
    """No module leans on a package that only the tests or the linters bring along."""
    modules = sorted(
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(
            ".__init__"
        )
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
        if "guest" not in path.parts and path.name != "__main__.py"
    )
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [installed_wheel.python, "-W", "error::ImportWarning", "-c", code, *modules],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_jupyter_finds_the_provisioner(installed_wheel: InstalledWheel, tmp_path: Path) -> None:
    """The entry point loads where jupyter_client looks for it."""
    code = (
        "from importlib.metadata import entry_points\n"
        "(found,) = entry_points(group='jupyter_client.kernel_provisioners',"
        " name='mooring-provisioner')\n"
        "from jupyter_client.provisioning import KernelProvisionerBase\n"
        "assert issubclass(found.load(), KernelProvisionerBase)\n"
    )
    done = subprocess.run(
        [installed_wheel.python, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_editable_install_runs_the_clone() -> None:
    """The tests test these sources, not another copy of them that happens to be installed."""
    assert mooring.__file__ is not None
    assert Path(mooring.__file__).parent == PACKAGES["mooring"]
