"""The built wheel, and a clean environment that it is installed in, for all who test either.

The root conftest.py names this module in ``pytest_plugins``. The environment is made once in a
run, with what the machine's users have: their own Python, pip, the tested versions. It lies in a
place that every user may read, so that tests can run it as somebody else.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class InstalledWheel:
    """A virtual environment that has the wheel and what it needs, and nothing else.

    Attributes:
        path: its folder, 0755, as is everything above it.
    """

    path: Path

    @property
    def bin(self) -> Path:
        return self.path / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def mooring(self) -> Path:
        return self.bin / "mooring"


def _run(*argv: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in argv],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o022,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stdout}")


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this clone, built with the backend that the environment already has."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def installed_wheel(built_wheel: Path) -> Iterator[InstalledWheel]:
    """The wheel, really installed: see the module's docstring."""
    folder = Path(tempfile.mkdtemp(prefix="mooring-wheel-", dir="/var/tmp"))
    try:
        folder.chmod(0o755)
        installed = InstalledWheel(folder / "venv")
        base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        _run(base, "-m", "venv", installed.path)
        _run(
            *(
                installed.python,
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
            ),
            *("-c", ROOT / "constraints.txt", built_wheel),
        )
        yield installed
    finally:
        shutil.rmtree(folder)
