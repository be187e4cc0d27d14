"""The rooms of the library and its doors: the contracts of pyproject.toml hold, and they bite.

import-linter reads them; it looks at every import, those inside functions and under
``TYPE_CHECKING`` included.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = "mooring"
# Where each package lies: a folder that holds it and is itself no package
HOMES = {
    CORE: "core",
    "mooring_provisioner": "provisioner",
    "mooring_server_extension": "server_extension",
    "mooring_cli": "cli",
}
MOST_ROOMS = 15
MOST_LINES_OF_A_MODULE, MOST_LINES_OF_A_FUNCTION = 450, 60
NO_CODE = shutil.ignore_patterns(
    "__pycache__", "node_modules", "panel", "labextension", "*.md", "lib"
)


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Hold the packages of a tree against the contracts that its pyproject.toml has."""
    return subprocess.run(
        [sys.executable, "-c", LINT, *(str(tree / home) for home in HOMES.values())],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
    )


# The tree's own packages come before those that the environment has
LINT = """
import sys
sys.path[:0] = sys.argv[1:]
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename="pyproject.toml", no_cache=True))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages and their contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package, home in HOMES.items():
        shutil.copytree(ROOT / home / package, tmp_path / home / package, ignore=NO_CODE)
    return tmp_path


def rooms() -> list[str]:
    """The folders and modules of the library."""
    folder = ROOT / HOMES[CORE] / CORE
    return sorted(
        path.stem
        for path in folder.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists())
        and path.stem not in ("__init__", "_version")
    )


def circles(package: str) -> Iterator[list[str]]:
    """The modules of a package that import each other in a circle, each circle once.

    ``mooring/__init__.py`` itself is left out: it imports every public name, but lazily.
    """
    graph = grimp.build_graph(package, cache_dir=None)
    if package == CORE:
        graph.remove_module(CORE)
    modules = sorted(graph.modules)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in modules}
    seen: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        seen[module] = lowest[module] = len(seen)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in seen:
                yield from visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], seen[other])
        if lowest[module] == seen[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1 or module in imports[module]:
                yield sorted(circle)

    for module in modules:
        if module not in seen:
            yield from visit(module)


def dynamic_imports(root: Path) -> list[str]:
    """Calls of ``import_module`` and ``__import__`` that go where no import may.

    import-linter does not see these.
    """
    found = []
    for package, home in HOMES.items():
        for path in sorted((root / home / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                name = _dynamically_imported(node)
                into = name.partition(".")[0]
                if into in HOMES and into != package and name != CORE:
                    found.append(f"{path.relative_to(root)}: {package} imports {name}")
    return found


def _dynamically_imported(node: ast.AST) -> str:
    if not isinstance(node, ast.Call) or not node.args:
        return ""
    called = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
    first = node.args[0]
    if called not in ("import_module", "__import__") or not isinstance(first, ast.Constant):
        return ""
    return str(first.value)


def test_imports_go_from_the_doors_to_the_core_only() -> None:
    """Every contract of pyproject.toml is kept."""
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
    assert dynamic_imports(ROOT) == []


def test_every_package_is_looked_at() -> None:
    """A renamed folder must not turn the rules into a check of nothing."""
    for package, home in HOMES.items():
        assert (ROOT / home / package / "__init__.py").is_file(), f"{home}/{package}"
    said = re.search(r"^root_packages = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert said is not None
    assert json.loads(said[1]) == list(HOMES)


def test_no_generic_name_becomes_a_package() -> None:
    """No home has become an importable package (``import cli``) by an ``__init__.py``."""
    assert [home for home in HOMES.values() if (ROOT / home / "__init__.py").exists()] == []


@pytest.mark.parametrize(
    ("package", "room", "line", "named"),
    [
        (CORE, "", "import mooring_cli", "mooring.planted -> mooring_cli"),
        (CORE, "host", "from mooring.sessions import find", "mooring.host.planted -> mooring.sess"),
        (
            CORE,
            "gpus",
            "def f():\n    import mooring.images.mounts",
            "mooring.gpus.planted -> mooring.images.mounts",
        ),
        ("mooring_cli", "", "from mooring.sessions import find", "mooring_cli.planted -> mooring."),
        ("mooring_provisioner", "", "import mooring.sessions", "mooring_provisioner.planted -> "),
        ("mooring_cli", "", "def f():\n    import mooring_provisioner.session", "mooring_cli.pl"),
        (
            "mooring_server_extension",
            "",
            "import os, mooring_cli.main",
            "mooring_server_extension.planted -> mooring_cli.main",
        ),
    ],
)
def test_a_planted_violation_is_found(
    tree: Path, package: str, room: str, line: str, named: str
) -> None:
    """The contracts turn red and name the import, wherever it stands."""
    (tree / HOMES[package] / package / room / "planted.py").write_text(f"{line}\n")
    done = lint_imports(tree)
    assert done.returncode == 1, done.stdout + done.stderr
    assert named in done.stdout


def test_a_planted_dynamic_import_is_found(tree: Path) -> None:
    """A module that is imported by its name in a text counts too."""
    line = "import importlib\nimportlib.import_module('mooring_cli.main')\n"
    (tree / "core" / "mooring" / "host" / "planted.py").write_text(line)
    (found,) = dynamic_imports(tree)
    assert found == "core/mooring/host/planted.py: mooring imports mooring_cli.main"


def test_what_is_allowed_is_not_found(tree: Path) -> None:
    """A door imports the library's public names, itself, and names that only look alike."""
    (tree / "cli" / "mooring_cli" / "planted.py").write_text(
        "import mooring\nfrom mooring import Mooring\nfrom mooring_cli import output\n"
    )
    done = lint_imports(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", HOMES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Not even for their types."""
    assert list(circles(package)) == []


def test_the_rooms_can_be_counted() -> None:
    """Who looks for something looks in few places."""
    assert len(rooms()) <= MOST_ROOMS, rooms()


def product_modules() -> Iterator[Path]:
    """Python, the guest's shell scripts and the panel's sources."""
    for package, home in HOMES.items():
        for path in (ROOT / home / package).rglob("*"):
            if path.suffix in (".py", ".sh"):
                yield path
    yield from (ROOT / "server_extension" / "panel" / "src").rglob("*.ts*")


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a Python module, each with its number of lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.name}: {node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_modules_and_functions_stay_short() -> None:
    """Longer ones hold more than one thing."""
    modules = list(product_modules())
    assert {".py", ".sh", ".ts", ".tsx"} == {path.suffix for path in modules}
    long = [path.name for path in modules if len(lines_of(path)) > MOST_LINES_OF_A_MODULE]
    assert long == []
    scripts = [path for path in modules if path.suffix == ".py"]
    counted = [found for path in scripts for found in functions(path)]
    assert [name for name, count in counted if count > MOST_LINES_OF_A_FUNCTION] == []
