"""The commands that README and docs/ show do what they say, on a real engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mooring
from mooring.client import Mooring

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# <!-- run --> stands before a block that is run; <!-- run: 2 --> before one that exits with 2
BLOCK = re.compile(r"^<!-- run(?:: (\d+))? -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = [page for page in PAGES if BLOCK.search(page.read_text())]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Each command of a block, and the lines that are shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif found:
            found[-1][1].append(line)
    return found


def pattern(line: str) -> str:
    """A shown line as a pattern: a number is any number, … anything, blanks any blanks."""
    parts = []
    for part in re.split(r"(…|\d+(?:\.\d+)?|\s+)", line):
        if part == "…":
            parts.append(".*")
        elif part.strip() and re.fullmatch(r"\d+(?:\.\d+)?", part):
            parts.append(re.escape(part) if len(part) > 4 else r"\d+(?:\.\d+)?")
        else:
            parts.append(r"\s+" if part.isspace() else re.escape(part))
    return "".join(parts)


@pytest.mark.engine
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_commands_of_a_page_do_what_it_says(
    page: Path, mooring: Mooring, state: Path, tmp_path: Path
) -> None:
    """Each marked command exits as it should and prints the shown lines, in their order."""
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns("results", "work", "writedata", "executed.ipynb")
    shutil.copytree(ROOT / "examples", clone / "examples", ignore=ignored)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    environment.pop("HF_TOKEN", None)
    for expected, block in BLOCK.findall(page.read_text()):
        for command, shown in commands(block):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=clone,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=100,
            )
            told = f"$ {command}\n{done.stdout}"
            assert done.returncode == int(expected or 0), told
            assert "Traceback" not in done.stdout, told
            rest = done.stdout.splitlines()
            for line in filter(str.strip, shown):
                while rest and not re.fullmatch(pattern(line), rest[0]):
                    rest.pop(0)
                assert rest, f"{line!r} is not in what came of\n{told}"
                rest.pop(0)
    for session in mooring.sessions.list():
        mooring.sessions.remove(session, force=True)


def test_pages_are_run() -> None:
    """The README and the tutorial have commands that are run."""
    assert {"README.md", "docs/tutorial.md"} <= {name_of(page) for page in RUN}


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_a_block_can_be_pasted(page: str) -> None:
    """No `exec` at a terminal reads the commands that were pasted after it: it has -n there."""
    for _, block in BLOCK.findall((ROOT / page).read_text()):
        for command, _ in commands(block)[:-1]:
            assert not command.startswith("mooring exec") or " -n " in command, command


@pytest.mark.parametrize("page", [*PAGES, ROOT / "examples/README.md"], ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository leads to one, and one to a heading to a heading."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        leads = page if not path else page.parent / path
        assert leads.exists(), f"{name_of(page)}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", leads.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{name_of(page)}: {target}"


def test_every_page_is_linked() -> None:
    """No page of docs/ is left out: each is linked from the README."""
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"({name_of(page)})" in readme, name_of(page)


def test_generated_pages_are_current() -> None:
    """docs/reference and docs/man say what the code says; `make docs` writes them anew."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_the_library_has_every_public_name() -> None:
    """Each name of ``mooring.__all__`` is a heading, and so is each member of a class."""
    heads = {*re.findall(r"^#+ (.*)$", (ROOT / "docs/reference/api.md").read_text(), re.MULTILINE)}
    public = {name for name in mooring.__all__ if not isinstance(getattr(mooring, name), str)}
    assert public <= heads
    for part in (mooring.Mooring, mooring.Sessions, mooring.Terminals, mooring.Engine):
        members = {f"{part.__name__}.{name}" for name in vars(part) if not name.startswith("_")}
        assert members
        assert members <= heads


def test_a_stale_page_is_found(tmp_path: Path) -> None:
    """The check turns red when a generated page was changed by hand, or is of a command that is
    gone, and tells what to do."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for page in ("reference/cli.md", "man/mooring-gone.1"):
        with (tmp_path / "docs" / page).open("a") as file:
            file.write("\nmore\n")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "docs/generate.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "2 page(s)" in done.stderr
    assert "make docs" in done.stderr
    assert "more" in done.stdout
