"""Consent stays where it was given: a stranger's folder gets none with the same spec file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

SPEC = "home: true\ncommand: sh train.sh\n"
TRAIN = "touch {mark}\n"


def folder(path: Path, who: str) -> Path:
    """A folder with the spec file, and somebody's script beside it."""
    path.mkdir()
    (path / "session.yml").write_text(SPEC)
    (path / "train.sh").write_text(TRAIN.format(mark=f"run-by-{who}"))
    return path


def refused(cli: Cli, file: Path) -> None:
    done = cli("create", "-f", str(file), "-d", check=1)
    assert done.stderr.startswith(f"error: {file} uses paths outside its folder: home: your home")
    assert f"hint: read it, then trust it: mooring trust {file}" in done.stderr
    assert not list(file.parent.glob("run-by-*"))


@pytest.mark.parametrize("way", ["beside", "in its place", "made anew", "by links", "in a clone"])
def test_a_strangers_script_gets_no_home(cli: Cli, project: Path, way: str) -> None:
    """The bytes that were trusted, with a stranger's script beside them, need consent, whether they
    lie elsewhere, took the trusted folder's place, or are reached through links."""
    mine = folder(project / "mine", "me")
    cli("trust", str(mine / "session.yml"), check=0)
    if way == "beside":
        refused(cli, folder(project / "theirs", "them") / "session.yml")
    elif way == "in its place":
        mine.rename(project / "aside")
        folder(project / "theirs", "them").rename(mine)
        refused(cli, mine / "session.yml")
    elif way == "made anew":
        shutil.rmtree(mine)
        refused(cli, folder(mine, "them") / "session.yml")
    elif way == "by links":
        theirs = folder(project / "theirs", "them")
        (theirs / "session.yml").unlink()
        (theirs / "session.yml").symlink_to(mine / "session.yml")
        refused(cli, theirs / "session.yml")
    else:
        clone = project / "deep"
        clone.mkdir()
        shutil.copytree(mine, clone / "mine")
        refused(cli, clone / "mine" / "session.yml")


def test_the_trusted_folder_needs_no_more(cli: Cli, project: Path) -> None:
    """Consent holds where it was given, also through a link to the folder and after the file was
    written anew with the same bytes."""
    mine = folder(project / "mine", "me")
    cli("trust", str(mine / "session.yml"), check=0)
    (mine / "session.yml").unlink()
    (mine / "session.yml").write_text(SPEC)
    (project / "link").symlink_to("mine")
    cli("create", "-d", "-f", str(project / "link" / "session.yml"), check=0)
    eventually((mine / "run-by-me").exists)
