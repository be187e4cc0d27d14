"""The wheel is what users get: it holds what it must, nothing else, and runs by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import mooring
from mooring.kernels import kernelspecs
from tests.support.wheel_env import ROOT, InstalledWheel

PACKAGES = {
    "mooring": ROOT / "core" / "mooring",
    "mooring_provisioner": ROOT / "provisioner" / "mooring_provisioner",
    "mooring_server_extension": ROOT / "server_extension" / "mooring_server_extension",
    "mooring_cli": ROOT / "cli" / "mooring_cli",
}
# What a file manager or an interrupted run may leave in a source folder, and what is built there
_LITTER = {"__pycache__", ".mypy_cache", ".ruff_cache", ".ipynb_checkpoints", "labextension"}
# Where a wheel keeps what is no module, and the panel in it
DATA = f"mooring-{mooring.__version__}.data/data"
PANEL = f"{DATA}/share/jupyter/labextensions/mooring"
BUILT = PACKAGES["mooring_server_extension"] / "labextension"


def run(
    words: list[str | Path], cwd: Path, env: dict[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program outside of the clone."""
    return subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="module")
def names(built_wheel: Path) -> set[str]:
    with zipfile.ZipFile(built_wheel) as archive:
        return set(archive.namelist())


def test_only_our_own_names_reach_site_packages(names: set[str]) -> None:
    """No generic name (cli, tests, core) is installed for everybody to trip over."""
    dist_info = f"mooring-{mooring.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {*PACKAGES, dist_info, DATA.split("/")[0]}


def test_every_source_file_is_in_the_wheel(names: set[str]) -> None:
    """What works from the clone works from the wheel: code, schema, guest scripts, markers."""
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and not _LITTER & set(path.parts)
    }
    modules = {name for name in names if name.split("/")[0] in PACKAGES}
    assert modules == expected
    assert "mooring/spec/session.schema.json" in names
    assert any(name.startswith("mooring/guest/") and name.endswith(".sh") for name in names)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_jupyter_is_told_of_the_extension_and_the_kernel(built_wheel: Path) -> None:
    """Installing the wheel enables the server's extension and brings a kernel to pick."""
    with zipfile.ZipFile(built_wheel) as archive:
        config = json.loads(
            archive.read(f"{DATA}/etc/jupyter/jupyter_server_config.d/mooring.json")
        )
        spec = json.loads(archive.read(f"{DATA}/share/jupyter/kernels/mooring/kernel.json"))
    assert config == {"ServerApp": {"jpserver_extensions": {"mooring_server_extension": True}}}
    assert spec["argv"][0] == "mooring-kernel"
    assert "{connection_file}" in spec["argv"]
    assert spec["metadata"]["kernel_provisioner"]["provisioner_name"] == kernelspecs.PROVISIONER


def test_the_manual_is_where_man_looks(names: set[str]) -> None:
    """Beside the environment's bin/, which man(1) derives its folders from."""
    manual = {path.name for path in (ROOT / "docs" / "man").glob("*.1")}
    assert {name for name in names if "/man/" in name} == {
        f"{DATA}/share/man/man1/{name}" for name in manual
    }
    assert {"mooring.1", "mooring-create.1", "mooring-kernel-install.1"} <= manual


def test_the_built_panel_is_in_the_wheel(built_wheel: Path, names: set[str]) -> None:
    """JupyterLab's panel travels built: whoever installs the wheel needs no Node."""
    if not (BUILT / "package.json").exists():
        if os.environ.get("CI"):
            pytest.fail("CI needs the panel: make panel")
        pytest.skip("the panel is not built: make panel")
    expected = {
        f"{PANEL}/{path.relative_to(BUILT).as_posix()}"
        for path in BUILT.rglob("*")
        if path.is_file()
    }
    assert {name for name in names if name.startswith(PANEL)} == expected
    assert any(name.startswith(f"{PANEL}/static/remoteEntry") for name in names)
    with zipfile.ZipFile(built_wheel) as archive:
        package = json.loads(archive.read(f"{PANEL}/package.json"))
    assert package["version"] == mooring.__version__
    assert package["jupyterlab"]["_build"]["load"].startswith("static/remoteEntry")


@pytest.mark.slow
def test_a_clone_without_the_panel_still_makes_a_wheel(tmp_path: Path) -> None:
    """Without Node there is no panel, a warning says so, and all else is installed."""
    clone = tmp_path / "clone"
    shutil.copytree(
        ROOT,
        clone,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", "node_modules", "build", "labextension", "tests", "__pycache__"
        ),
    )
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", clone],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "`make panel`" in done.stdout + done.stderr
    (wheel,) = (clone / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    assert not any("labextensions" in name for name in found)
    assert f"{DATA}/etc/jupyter/jupyter_server_config.d/mooring.json" in found


def test_the_panels_lock_names_no_host() -> None:
    """What the panel is built with comes from the registry that the builder's machine uses."""
    for name in ("yarn.lock", ".yarnrc.yml", "package.json"):
        assert "http" not in (ROOT / "server_extension" / "panel" / name).read_text().lower(), name


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
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = run([installed_wheel.mooring, "--version"], tmp_path, env=clean)
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
    """No module leans on a package that only the tests or the linters bring along, but for those
    of the extra ``ssh``; who lacks it is told what to install."""
    modules = sorted(
        ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(
            ".__init__"
        )
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*.py")
        if not {"guest", "ssh"} & set(path.parts) and path.name != "__main__.py"
    )
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    words = [installed_wheel.python, "-W", "error::ImportWarning", "-c", code, *modules]
    done = run(words, tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = run([installed_wheel.mooring, "ssh-config"], tmp_path, env=clean)
    assert done.returncode == 2
    assert f"{installed_wheel.python} -m pip install 'mooring[ssh]'" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_server_loads_the_extension(installed_wheel: InstalledWheel, tmp_path: Path) -> None:
    """A server of the environment has the extension, without anybody enabling it."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = run(
        [installed_wheel.bin / "jupyter", "server", "extension", "list"], tmp_path, env=clean
    )
    said = done.stdout + done.stderr
    assert "mooring_server_extension" in said
    assert "enabled" in said.partition("mooring_server_extension")[2].partition("\n")[0]


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
    done = run([installed_wheel.python, "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_editable_install_runs_the_clone() -> None:
    """The tests test these sources, not another copy of them that happens to be installed."""
    assert mooring.__file__ is not None
    assert Path(mooring.__file__).parent == PACKAGES["mooring"]
