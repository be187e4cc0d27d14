"""The environment that a session of the host image has over the one that mooring runs from."""

from __future__ import annotations

import ast
import os
import site
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.images.environment import ENVIRONMENT, PYTHON, variables, write_environment

Outside = Callable[..., Path]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    """Lets mooring run from an environment with some programs, and returns its folder."""

    def make(**programs: str) -> Path:
        prefix = tmp_path / "outside"
        (prefix / "bin").mkdir(parents=True)
        for name, text in programs.items():
            (prefix / "bin" / name).write_text(text.format(prefix=prefix))
        monkeypatch.setattr(sys, "prefix", str(prefix))
        return prefix

    return make


def written(tmp_path: Path) -> Path:
    """The folder of a new environment."""
    folder = tmp_path / os.path.basename(ENVIRONMENT)
    write_environment(folder)
    return folder


def test_it_is_a_virtual_environment_over_the_machines(tmp_path: Path) -> None:
    """Its Python is in an environment of its own, which comes before the machine's packages; what
    was not installed there is the machine's."""
    python = written(tmp_path) / "bin" / "python"
    script = (
        "import pydantic, sys, sysconfig; paths = sys.path; own = sysconfig.get_path('purelib'); "
        "print(sys.prefix, pydantic.__file__, sys.base_prefix, sep='\\n'); "
        f"print(paths.index(own) < paths.index({site.getsitepackages()[0]!r}))"
    )
    env = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [python, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    import pydantic

    expected = [str(python.parents[1]), pydantic.__file__, sys.base_prefix, "True"]
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""


def test_no_folder_is_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a Python that is no virtual environment, each folder of packages is there once."""
    base = subprocess.run(
        [sys._base_executable, "-c", "import site; print(site.getsitepackages())"],  # type: ignore[attr-defined]
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(site, "getsitepackages", lambda: ast.literal_eval(base))
    python = written(tmp_path) / "bin" / "python"
    script = "import sys; print(sorted(sys.path) == sorted(set(sys.path)), sys.path)"
    told = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.startswith("True ")
    assert [
        path for path in ast.literal_eval(base) if os.path.isdir(path) and path not in told
    ] == []


def test_the_callers_pythonpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders of PYTHONPATH come after the session's packages and before the machine's; one
    that the session does not have, and a relative one, are left out."""
    ours = tmp_path / "ours"
    ours.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"relative:{ours}:/nowhere:")
    python = written(tmp_path) / "bin" / "python"
    script = "import sys; print([path for path in sys.path if path])"
    told = subprocess.run([python, "-c", script], env={}, capture_output=True, check=True).stdout
    paths = ast.literal_eval(told.decode())
    own = str(next((python.parents[1] / "lib").glob("python*/site-packages")))
    order = [own, str(ours), site.getsitepackages()[0]]
    assert sorted(order, key=paths.index) == order
    assert not {"relative", "/nowhere", ""} & set(paths)


def test_it_is_written_to_no_folder_that_there_is(tmp_path: Path) -> None:
    """A session could have put links into it."""
    written(tmp_path)
    with pytest.raises(FileExistsError):
        written(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#!{prefix}/bin/python\nprint()\n", "#!%s\nprint()\n"),
        ("#!{prefix}/bin/python3.11 -I\nx\n", "#!%s -I\nx\n"),
        (
            "#!/bin/sh\n'''exec' \"{prefix}/bin/python3\" \"$0\" \"$@\"\n' '''\n",
            "#!/bin/sh\n'''exec' \"%s\" \"$0\" \"$@\"\n' '''\n",
        ),
        ("#!/bin/sh\nexec {prefix}/bin/prog\n", None),
        ("#!/usr/bin/python3\n", None),
        ("#!{prefix}/bin/python-config\n", None),
        ("\x7fELF {prefix}/bin/python\n", None),
        ("#!{prefix}/bin/python\n" + "#" * (16 << 10), None),
    ],
)
def test_the_machines_python_programs_see_what_is_installed(
    tmp_path: Path, outside: Outside, text: str, expected: str | None
) -> None:
    """A program of the machine's environment is run by the session's Python; what is none, or of
    another Python, is left to PATH."""
    outside(program=text)
    program = written(tmp_path) / "bin" / "program"
    assert program.exists() == (expected is not None)
    if expected is not None:
        assert program.read_text() == expected % PYTHON
        assert program.stat().st_mode & stat.S_IXUSR


def test_the_systems_programs_keep_the_systems_packages(
    tmp_path: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Python in /usr only pip is run by the session's Python."""
    prefix = outside(**dict.fromkeys(("pip", "pip3", "reportbug"), "#!{prefix}/bin/python3\n"))
    monkeypatch.setattr("mooring.images.environment.SYSTEM_PREFIXES", (str(prefix),))
    programs = {path.name for path in (written(tmp_path) / "bin").iterdir()}
    assert programs & {"pip", "pip3", "reportbug"} == {"pip", "pip3"}
    assert "JUPYTER_PATH" not in variables()


@pytest.mark.parametrize("enabled", [True, False, None])
def test_a_user_site_is_the_sessions_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool | None
) -> None:
    """`pip install --user` installs into the session's environment where outside it would install
    for the user, and is refused where it is outside."""
    monkeypatch.setattr(site, "ENABLE_USER_SITE", enabled)
    assert variables().get("PYTHONUSERBASE") == (ENVIRONMENT if enabled else None)
    config = (written(tmp_path) / "pyvenv.cfg").read_text()
    assert f"include-system-site-packages = {str(bool(enabled)).lower()}\n" in config
