"""debugpy is imported when it is first used; what ipykernel offers is the same as ever."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

DEFER = """
import runpy, sys
{before}
runpy.run_path({script!r})["defer"]()
import ipykernel.ipkernel
from ipykernel import debugger
"""


def python(code: str, *, before: str = "", path: Path | None = None) -> list[str]:
    """Run ``code`` after ipykernel was imported without debugpy; what it printed."""
    script = str(resources.files("mooring") / "guest" / "debugger.py")
    if path is not None:
        before += f"\nsys.path.insert(0, {str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", DEFER.format(before=before, script=script) + code],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not done.returncode, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


LOADED = "print(sorted({n.partition('.')[0] for n in sys.modules} & {'debugpy', '_pydevd_bundle'}))"


def test_the_debugger_is_offered_without_debugpy() -> None:
    """Nothing of debugpy is imported at the start, nor is anything left in its place."""
    assert python(LOADED + "; print(debugger._is_debugpy_available)") == ["[]", "True"]


def test_debugpy_comes_with_the_first_look_at_variables() -> None:
    """An explorer of variables brings debugpy when it is used; the next is ipykernel's own."""
    code = (
        "first = debugger.VariableExplorer()\n"
        "first.frame = 'kept'\n"
        f"{LOADED}\n"
        "first.untrack_all()\n"
        "print(first.frame, isinstance(first, debugger.VariableExplorer))\n"
        "print(type(debugger.VariableExplorer()) is debugger.VariableExplorer)\n"
        f"{LOADED}"
    )
    expected = ["[]", "kept True", "True", "['_pydevd_bundle', 'debugpy']"]
    assert python(code) == expected


def test_a_process_that_is_debugged_is_left_alone() -> None:
    """Where debugpy is imported already, ipykernel has it at once."""
    before = "import os; os.environ['PYDEVD_DISABLE_FILE_VALIDATION'] = '1'; import debugpy"
    code = "print(debugger._FramesTracker is not None)"
    assert python(code, before=before) == ["True"]


def test_without_debugpy_no_debugger_is_offered() -> None:
    """An image without debugpy has kernels without a debugger, as it has locally."""
    before = (
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'debugpy': raise ModuleNotFoundError(name)\n"
        "import importlib.util\n"
        "sys.meta_path.insert(0, Hide())\n"
        "importlib.util.find_spec = lambda name: None"
    )
    assert python("print(debugger._is_debugpy_available)", before=before) == ["False"]


@pytest.mark.parametrize("content", ["import debugpy.server.api, os", "import nothing_like_this"])
def test_an_ipykernel_that_is_not_known_has_its_own_debugger(tmp_path: Path, content: str) -> None:
    """Another ipykernel's debugger is imported as ever, and finds debugpy."""
    package = tmp_path / "ipykernel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "ipkernel.py").write_text("")
    (package / "debugger.py").write_text(f"try:\n    {content}\nexcept ImportError:\n    pass\n")
    assert python("print(hasattr(debugger, 'VariableExplorer'))", path=tmp_path) == ["False"]
