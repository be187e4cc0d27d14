"""Where a session's files are: in the project, which stays, or in the private home, which goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

from mooring.client import Mooring
from tests.support.kernel_clients import install, jupyter

__all__ = ["jupyter"]
pytestmark = pytest.mark.engine


@pytest.fixture
def notebooks() -> Iterator[Path]:
    """``~/…/ds/notebooks``, in the caller's real home."""
    top = Path(tempfile.mkdtemp(prefix="mooring-test-", dir=Path.home()))
    folder = top / "ds" / "notebooks"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(top)


def execute(folder: Path, *cells: str) -> str:
    """Execute a notebook in a folder as ``jupyter execute`` does, and return its printed text."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, kernel_name="mk", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def test_a_notebook_by_a_relative_path(
    mooring: Mooring, jupyter: Path, notebooks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nbconvert gives the folder as it was written; its first cell said that it cannot be used."""
    install()
    (notebooks.parent / ".git").mkdir()
    monkeypatch.chdir(notebooks.parent)
    text = execute(Path("notebooks"), "import os; print(os.getcwd())")
    assert text == f"{notebooks}\n"


def test_a_notebook_writes_beside_its_folder(
    mooring: Mooring, jupyter: Path, notebooks: Path
) -> None:
    """The commonest layout there is, ``notebooks/``, ``data/``, ``src/`` and ``models/`` in one
    repository (enterprise_gateway#930, docker-cookiecutter-data-science#4)."""
    install()
    project = notebooks.parent
    for name in (".git", "data", "src", "models"):
        (project / name).mkdir()
    (project / "data" / "a.csv").write_text("1,2")
    (project / "src" / "ours.py").write_text("ANSWER = 42")
    text = execute(
        notebooks,
        "import sys; sys.path.insert(0, '../src'); import ours; print(ours.ANSWER)",
        "print(open('../data/a.csv').read())",
        "open('../models/m.bin', 'w').write('model'); import os; print(os.getcwd())",
    )
    assert text.split() == ["42", "1,2", str(notebooks)]
    assert (project / "models" / "m.bin").read_text() == "model"


def test_a_write_beside_what_is_mounted_fails(
    mooring: Mooring, jupyter: Path, notebooks: Path
) -> None:
    """Without a mark of a project only the folder is mounted, and nothing beside it pretends to
    be (enterprise_gateway#930)."""
    install()
    for cell in (
        "open('../m.bin', 'w')",
        "import os; os.makedirs('../models')",
        f"open({str(notebooks.parents[1] / 'x')!r}, 'w')",
    ):
        with pytest.raises(CellExecutionError, match="Read-only file system"):
            execute(notebooks, cell)
    assert execute(notebooks, "print(open('here', 'w').write('x'))").strip() == "1"
    assert (notebooks / "here").exists()


def test_files_in_a_private_home_are_not_removed_without_a_word(
    mooring: Mooring, jupyter: Path, notebooks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever ends the session is told what its home contained, and the history has it too."""
    install()
    name = execute(
        notebooks,
        "import os; print(os.environ['MOORING_SESSION'])",
        "import pathlib; folder = pathlib.Path.home() / 'checkpoints'; folder.mkdir()",
        "(folder / 'c.pt').write_text('12345678')",
    ).strip()
    assert "its private home contained 1 file (8 bytes): checkpoints/c.pt" in caplog.text
    past = mooring.sessions.past(name)
    assert past is not None
    (event,) = [event for event in mooring.sessions.events(past.id) if event.kind == "removed"]
    assert event.detail == "in its private home: 1 file (8 bytes): checkpoints/c.pt"


def cli(folder: Path, *arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "mooring_cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    return done.stdout, done.stderr


def test_a_shells_private_home(mooring: Mooring, notebooks: Path) -> None:
    """`create` names the project, `describe` what the home contains, and `rm` and `--rm` what they
    delete; a project's file and a file that was sent are none of it."""
    (notebooks.parent / "pyproject.toml").touch()
    (notebooks / "sent.txt").touch()
    script = "echo x >../model.bin; echo hello >~/a.csv"
    _, told = cli(notebooks, "create", "--name", "s", "--", "sh", "-c", script)
    assert f"your project, {notebooks.parent}, is mounted: it contains pyproject.toml" in told
    assert (notebooks.parent / "model.bin").exists()
    assert "1 file (6 bytes): a.csv" in cli(notebooks, "describe", "s")[0]
    shown, told = cli(notebooks, "rm", "s")
    assert shown == "s\n"
    assert told.startswith("s: its private home contained 1 file (6 bytes): a.csv, deleted with")
    assert "  deleted  1 file (6 bytes): a.csv\n" in cli(notebooks, "why", "s")[0]
    _, told = cli(notebooks, "run", "--rm", "host", "sent.txt", "--exec", "cat sent.txt; echo x >y")
    assert "is removed; its private home contained 1 file (2 bytes): y, deleted with it; " in told
