"""init, validate and create --dry-run: from an empty folder to a spec that is known to work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mooring import SCHEMA_FILE, resolve
from mooring_cli import init, main

SEVERAL = """\
inputs: [./a, s3://bucket/b, /nowhere]
memory: 900TiB
groups: [nogr]
target: k8s://lab
"""


def test_every_key_of_the_template_is_one_of_a_spec(tmp_path: Path) -> None:
    """The file works as it is, and with each of its comments turned into a line."""
    text = init.document({})
    assert text.startswith(f"# yaml-language-server: $schema={SCHEMA_FILE}\n")
    (tmp_path / "session.yml").write_text(text)
    assert yaml.safe_load(text) == {"image": "host", "idle_timeout": "1h"}
    everything = re.sub(r"^# (\w+: )", r"\1", text.partition("\n\n")[2], flags=re.M)
    assert len(yaml.safe_load(everything)) == len(everything.splitlines()) == 10
    (tmp_path / "all.yml").write_text(everything)
    resolve(flags={}, file=tmp_path / "all.yml", environ={})


def test_flags_are_values_of_the_file(tmp_path: Path) -> None:
    """What a flag sets is in the file, in whatever form YAML needs."""
    flags = {"image": "a/b:1", "gpus": 0.5, "env": {"A": "b: #c", "B": "é 010"}, "record": "off"}
    path = tmp_path / "session.yml"
    path.write_text(init.document({**flags, "ports": ["8080"], "home": True}), encoding="utf-8")
    spec = resolve(flags={}, file=path, environ={}).spec
    assert (spec.image, spec.gpus, spec.home, spec.record) == ("a/b:1", 0.5, True, 0)
    assert spec.env == {"A": "b: #c", "B": "é 010"}
    assert spec.ports == ("0:8080",)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in an empty folder: the exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mooring", *arguments])
        with pytest.raises(SystemExit) as caught:
            main.run()
        printed = capsys.readouterr()
        code = caught.value.code
        return (code if isinstance(code, int) else 0), printed.out + printed.err

    return run


def test_init_writes_a_file_once(run: Run, tmp_path: Path) -> None:
    """init writes session.yml, which is valid, and keeps one that exists."""
    code, text = run("init", "--gpus", "2")
    assert code == 0
    assert text.startswith("session.yml\nto start it: mooring create session.yml\n")
    assert "\ngpus: 2  " in (tmp_path / "session.yml").read_text()
    exists = "error: session.yml exists already\nhint: to replace it: --force\n"
    assert run("init") == (2, exists)
    assert run("init", "--force")[0] == 0
    assert "\n# gpus: 1  " in (tmp_path / "session.yml").read_text()
    code, text = run("init", "--memory", "12", "new.yml")
    assert code == 2
    assert "error: flag --memory: memory must be at least" in text
    assert not (tmp_path / "new.yml").exists()
    assert run("init", "/no/x.yml") == (1, "error: /no/x.yml: No such file or directory\n")


def test_init_writes_through_no_link(run: Run, tmp_path: Path) -> None:
    """A link in somebody else's project decides nothing outside of it."""
    outside = tmp_path / "outside"
    file = tmp_path / "session.yml"
    file.symlink_to(outside)
    assert run("init")[0] == 2
    assert not outside.exists()
    for before in (None, "important"):
        if before:
            outside.write_text(before)
        assert run("init", "--force")[0] == 0
        assert not file.is_symlink()
        assert "image: host" in file.read_text()
        assert outside.exists() == bool(before)
        file.unlink()
        file.symlink_to(outside)
    assert outside.read_text() == "important"
    assert sorted(os.listdir(tmp_path)) == ["outside", "session.yml"]


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_init_replaces_only_files(
    run: Run, tmp_path: Path, make: Callable[[Path], None], through_a_link: bool
) -> None:
    """A FIFO is not waited for, and stays."""
    file = tmp_path / "session.yml"
    if through_a_link:
        make(tmp_path / "other")
        file.symlink_to("other")
    else:
        make(file)
    before = sorted(os.listdir(tmp_path))
    assert run("init")[1] == "error: session.yml exists already\nhint: to replace it: --force\n"
    code, text = run("init", "--force")
    assert (code, text.splitlines()[0]) == (2, "error: session.yml is not a file")
    assert sorted(os.listdir(tmp_path)) == before


def test_init_keeps_permissions(run: Run, tmp_path: Path) -> None:
    """A new file has those that every new file has; one that is replaced keeps its own."""
    file = tmp_path / "session.yml"
    old = os.umask(0o027)
    try:
        assert run("init")[0] == 0
        assert file.stat().st_mode & 0o777 == 0o640
        file.chmod(0o604)
        assert run("init", "--force")[0] == 0
    finally:
        os.umask(old)
    assert file.stat().st_mode & 0o777 == 0o604


def test_init_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    """What cannot be written is not there, and what was there is still."""
    file = tmp_path / "session.yml"
    with pytest.raises(UnicodeEncodeError):
        init._write(file, "\ud800", replace=False)
    assert os.listdir(tmp_path) == []
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        init._write(file, "\ud800", replace=True)
    assert os.listdir(tmp_path) == ["session.yml"]
    assert file.read_text() == "old"


@pytest.mark.parametrize("words", ["validate", "validate session.yml", "create -d session.yml"])
def test_all_mistakes_at_once(run: Run, tmp_path: Path, words: str) -> None:
    """Each mistake of a file is printed, with its place and a hint, and nothing is created."""
    (tmp_path / "session.yml").write_text(SEVERAL)
    code, text = run(*words.split())
    assert code == 2
    errors = [row for row in text.splitlines() if row.startswith("error: ")]
    assert [row.partition(", and ")[0] for row in errors] == [
        "error: session.yml:4: target: k8s://lab is not supported by this version",
        "error: session.yml:1: inputs: b: s3 sources are not supported by this version",
        "error: memory is 900 TiB (file session.yml:2)",
        "error: session.yml:3: groups: there is no group nogr",
        f"error: session.yml:1: inputs: a: {tmp_path}/a does not exist",
        "error: session.yml:1: inputs: nowhere: /nowhere does not exist",
    ]
    assert text.count("\nhint: ") == len(errors)


def test_validate(run: Run, tmp_path: Path) -> None:
    """A valid file is said to be one, and what it needs trust for; a missing one names init."""
    none = "error: there is no session.yml here\nhint: to write one: mooring init\n"
    assert run("validate") == (2, none)
    (tmp_path / "session.yml").write_text("inputs: [/usr/share]\n")
    code, text = run("validate")
    assert code == 0
    assert text.startswith("session.yml: no mistakes\n")
    assert "it needs your trust for inputs: read /usr/share\n" in text
    code, text = run("validate", "no.yml", "session.yml")
    assert code == 2
    assert "error: no.yml: No such file or directory\n" in text
    assert "session.yml: no mistakes" in text
