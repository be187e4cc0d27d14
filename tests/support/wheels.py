"""Packages for tests: small, and installed without a package index."""

from __future__ import annotations

import zipfile
from pathlib import Path

#: pip's arguments after which only the packages of a folder are found.
OFFLINE = "--no-index --disable-pip-version-check --root-user-action=ignore"


def tiny_wheel(folder: Path, name: str = "mt-tiny", version: str = "1.0") -> Path:
    """The smallest wheel that installers take: a module with ``VERSION``, and a program that
    prints it.

    Args:
        folder: where it is written to.
        name, version: the package's; its module has underscores, its program is its name.
    """
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"VERSION = {version!r}\ndef main():\n    print(VERSION)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path


def editable_project(folder: Path, name: str = "mt-edited") -> Path:
    """A project with a module ``src/NAME.py``, which has ``VERSION``.

    Args:
        folder: where the project's folder is made.
        name: the package's name.
    """
    project = folder / name
    module = name.replace("-", "_")
    (project / "src" / module).mkdir(parents=True)
    (project / "src" / module / "__init__.py").write_text("VERSION = 'edited'\n")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1"\n'
        '[tool.hatch.build]\ndev-mode-dirs = ["src"]\n'
    )
    return project
