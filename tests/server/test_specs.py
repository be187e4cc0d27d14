"""What a form is made from: the schema of a spec, and the spec files of the server's root."""

from __future__ import annotations

import os
from pathlib import Path

from mooring.spec.model import SessionSpec
from tests.server.inprocess import InProcess


def test_the_schema_is_the_specs(server: InProcess) -> None:
    """Every key of a spec is in it."""
    status, schema = server.ask("GET", "/schema")
    assert status == 200
    assert set(SessionSpec.model_fields) <= set(schema["properties"])


def test_spec_files_are_listed_with_what_they_set(server: InProcess, project: Path) -> None:
    """A spec comes with its name and values; the secrets of one are names alone."""
    (project / "session.yml").write_text(
        "name: bert\nmemory: 1GiB\nidle_timeout: 5m\nsecrets: {T: {file: key.txt}}\n"
    )
    (project / "plain.yaml").write_text("image: python:3.12\n")
    status, reply = server.ask("GET", "/specs")
    assert status == 200
    assert reply["specs"] == [
        {"path": "plain.yaml", "name": "plain", "spec": {"image": "python:3.12"}, "problem": ""},
        {
            "path": "session.yml",
            "name": "bert",
            "spec": {"name": "bert", "memory": 2**30, "idle_timeout": 300.0, "secrets": ["T"]},
            "problem": "",
        },
    ]


def test_a_spec_with_a_mistake_is_listed_with_it(server: InProcess, project: Path) -> None:
    """Files that are meant to be specs are told with file, line and column."""
    (project / "session.yml").write_text("nmae: x\n")
    (project / "train.yml").write_text("image: host\nmemory: much\n")
    (project / "sub").mkdir()
    (project / "sub" / "a.yml").write_text("kernel: python3\n")
    _, reply = server.ask("GET", "/specs")
    assert [one["path"] for one in reply["specs"]] == ["session.yml", "train.yml"]
    assert "session.yml:1:1" in reply["specs"][0]["problem"]
    assert "memory" in reply["specs"][1]["problem"]
    _, reply = server.ask("GET", "/specs?path=sub")
    assert [one["path"] for one in reply["specs"]] == ["sub/a.yml"]


def test_other_yaml_is_no_spec(server: InProcess, project: Path) -> None:
    """Files of other programs are left out, and so is what is no file; nothing hangs."""
    (project / "docker-compose.yml").write_text("services: {a: {image: x}}\n")
    (project / "mkdocs.yml").write_text("site_name: x\nnav: []\ntheme: y\n")
    (project / "bad.yml").write_text("{")
    (project / "list.yml").write_text("- 1\n")
    (project / "folder.yml").mkdir()
    os.mkfifo(project / "pipe.yml")
    assert server.ask("GET", "/specs") == (200, {"specs": []})


def test_a_folder_outside_or_nowhere_is_refused(server: InProcess) -> None:
    """Only folders of the server's root are looked into."""
    for path, status in (("..", 403), ("/etc", 403), ("nothing", 404), ("a%00b", 404)):
        assert server.ask("GET", f"/specs?path={path}")[0] == status


def test_presets_may_build_on_profiles(server: InProcess, state: Path, project: Path) -> None:
    """A preset that extends a profile or another file shows the values of both."""
    folder = state / "config" / "mooring" / "profiles"
    folder.mkdir(parents=True)
    (folder / "small.yml").write_text("memory: 1GiB\n")
    (project / "base.yml").write_text("extends: small\ncpus: 2\n")
    (project / "session.yml").write_text("extends: ./base.yml\nname: mine\n")
    specs = {one["path"]: one for one in server.ask("GET", "/specs")[1]["specs"]}
    assert specs["session.yml"]["spec"] == {"name": "mine", "memory": 1 << 30, "cpus": 2.0}
    assert specs["session.yml"]["problem"] == ""
