"""Doors import mooring; they never import each other; mooring imports no door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CORE = "mooring"
# Where each package lies: a folder that holds it and is itself no package
HOMES = {
    CORE: "core",
    "mooring_provisioner": "provisioner",
    "mooring_server_extension": "server_extension",
    "mooring_cli": "cli",
}


def imported(source: str) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every absolute import, lazy ones inside functions included.

    A name in a call of ``import_module`` or ``__import__`` counts too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]
        elif (
            isinstance(node, ast.Call)
            and (getattr(node.func, "id", "") or getattr(node.func, "attr", ""))
            in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value).split(".")[0]


def violations(root: Path) -> list[str]:
    """Every import that goes where it must not, as ``path:line: package imports package``."""
    found = []
    for package, home in HOMES.items():
        allowed = {package} if package == CORE else {package, CORE}
        for path in sorted((root / home / package).rglob("*.py")):
            found += [
                f"{path.relative_to(root)}:{line}: {package} imports {name}"
                for line, name in imported(path.read_text())
                if name in HOMES and name not in allowed
            ]
    return found


def generic_packages(root: Path) -> list[str]:
    """The homes that have become importable packages (``import cli``) by an ``__init__.py``."""
    return [home for home in HOMES.values() if (root / home / "__init__.py").exists()]


def test_imports_go_from_the_doors_to_the_core_only() -> None:
    assert violations(ROOT) == []


def test_every_package_is_looked_at() -> None:
    """A renamed folder must not turn the rule into a check of nothing."""
    for package, home in HOMES.items():
        assert (ROOT / home / package / "__init__.py").is_file(), f"{home}/{package}"


def test_no_generic_name_becomes_a_package() -> None:
    assert generic_packages(ROOT) == []


@pytest.mark.parametrize(
    ("package", "line", "named"),
    [
        (CORE, "import mooring_cli", "mooring imports mooring_cli"),
        (CORE, "from mooring_provisioner.provisioner import X", "mooring imports mooring_prov"),
        ("mooring_cli", "def f():\n    import mooring_provisioner.x as y", "mooring_cli imports"),
        ("mooring_provisioner", "async def f():\n    from mooring_cli import main", "mooring_cli"),
        ("mooring_server_extension", "import os, mooring_cli.main", "imports mooring_cli"),
        (CORE, "import importlib\nimportlib.import_module('mooring_cli.main')", "mooring_cli"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, package: str, line: str, named: str) -> None:
    """The checker turns red, wherever the import stands."""
    folder = tmp_path / HOMES[package] / package / "rooms"
    folder.mkdir(parents=True)
    (folder / "planted.py").write_text(f"{line}\n")
    (found,) = violations(tmp_path)
    assert named in found
    assert "planted.py" in found


def test_what_is_allowed_is_not_found(tmp_path: Path) -> None:
    """A door imports the core, itself, and others by names that only look alike."""
    folder = tmp_path / HOMES["mooring_cli"] / "mooring_cli"
    folder.mkdir(parents=True)
    (folder / "fine.py").write_text(
        "import mooring.spec, mooring_clip\nfrom mooring_cli import look\nfrom . import look\n"
    )
    assert violations(tmp_path) == []


def test_a_planted_generic_package_is_found(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "__init__.py").touch()
    assert generic_packages(tmp_path) == ["cli"]
