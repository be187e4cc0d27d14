"""Errors of a spec: one line that says where a value was written, and what is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from mooring.errors import SpecError
from mooring.spec.validation import MOST_SHOWN, validate
from tests.spec.test_yamlfile import refusal


@pytest.fixture(autouse=True)
def _in_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (
            "output: [a]",
            "session.yml:1:1: output is not a key of a spec",
            "did you mean outputs?",
        ),
        (
            "gpus:\n  cuont: 2",
            "session.yml:2:3: gpus.cuont is not a key of a spec",
            "did you mean count?",
        ),
        (
            "inputs:\n- name: a\n  sauce: b",
            "session.yml:2:3: inputs.0.source is missing",
            "",
        ),
        (
            "image: host\nidle_timeout: soon",
            "session.yml:2:1: idle_timeout must be a duration such as 90s",
            "",
        ),
        ("pull: often", "session.yml:1:1: pull must be always, missing or never", ""),
        ("home: 1", "session.yml:1:1: home must be true or false", ""),
        ("env: {1A: x}", "session.yml:1:7: env.1A must be a variable name", ""),
        ("env: {A: }", "session.yml:1:7: env.A has no value", ""),
        ("env: [A=1]", "session.yml:1:1: env must be a mapping", ""),
        ("inputs: {a: b}", "session.yml:1:1: inputs must be a list", ""),
        ("command: [[a]]", "session.yml:1:11: command.0 must be text", ""),
        ("gpus: -1", "session.yml:1:1: gpus must be a whole number", ""),
        ("gpus: {count: x}", "session.yml:1:8: gpus.count must be", ""),
        ("environment: -x", "session.yml:1:1: image must be host or", ""),
        ("image: {build: {file: x}}", "session.yml:1:17: build.file is not a key", "dockerfile"),
        ("memory: 16", "session.yml:1:1: memory must be at least 6 MiB", ""),
        ("name: 2024-01-01\nkernel: 2024-13-99\ncpus: x", "session.yml:3:1: cpus must be", ""),
        ("image: a\nenvironment: b", "session.yml: image and environment mean the same", ""),
        ("volumes: [a]", "session.yml:1:1: volumes is not a key", "inputs are read-only"),
        ("ports: 8080", "session.yml:1:1: ports must be a list", "[8080, 6006:6006]"),
        ("env: [A=1]", "session.yml:1:1: env must be a mapping", "NAME: VALUE"),
        (
            "file_mounts: {a: b}",
            "session.yml:1:1: file_mounts is not a key",
            "inputs are read-only",
        ),
        ("restart: always", "session.yml:1:1: restart is not a key", "mooring start NAME"),
        ("enviroment: x", "session.yml:1:1: enviroment is not a key", "did you mean environment?"),
        ("$schema: x", "session.yml:1:1: $schema is not a key", "mooring config schema"),
        ("environment_variables: {A: b}", "session.yml:1:1: environment_variables", "mean env?"),
        ("code: src", "session.yml:1:1: code is not a key", "the folder that the session is"),
        ("resources: {shm_size: 8g}", "session.yml:1:1: resources is not a key", "memory or shm"),
        ("compute: azureml:x", "session.yml:1:1: compute is not a key", "runs on this machine"),
        ("inputs: {d: {path: x}}", "session.yml:1:1: inputs must be a list", "{name: models, so"),
        ("secrets: [HF_TOKEN]", "session.yml:1:1: secrets must be a mapping", "{env: VARIABLE}"),
        ("secrets: {T: x}", "session.yml:1:11: secrets.T must be a mapping", "{env: VARIABLE}"),
        ("ports: [8080, 99999]", "session.yml:1:15: ports: 99999 must be a port", ""),
        ("preload: torch", "session.yml:1:1: preload must be a list", "as in: [torch, pandas]"),
        ("preload: [a-b]", "session.yml:1:11: preload: a-b must be a Python module", ""),
        (
            "{kernel: ir, preload: [torch]}",
            "session.yml: preload is for kernel: python3, not ir",
            "",
        ),
        ("groups: [1]", "session.yml:1:10: groups: 1 must be the name", ""),
        ("memory: 16 gigs", "session.yml:1:1: memory must be a size", "did you mean 16GiB?"),
        ("memory: lots", "session.yml:1:1: memory must be a size", "as in: memory: 16GiB"),
        ("gpus: {memory: 1.5.2}", "session.yml:1:8: gpus.memory must be", "as in: memory: 16GiB"),
        ("cpus: two", "session.yml:1:1: cpus must be a number of cores", "as in: cpus: 4"),
        ("name: Bad_Name", "session.yml:1:1: name must be at most", "as in: name: bad-name"),
        ("image: Python:3.12", "session.yml:1:1: image must be host", "did you mean python:3.12?"),
        ("zzzzzz: 1", "session.yml:1:1: zzzzzz is not a key", "choose from: name, image"),
        ('"a\\nb\\e": 1', "session.yml:1:1: a\\nb\\x1b is not a key", ""),
    ],
)
def test_validation(content: str, message: str, hint: str) -> None:
    """A wrong value is one line: where it stands, its key, and what is accepted in plain words."""
    error = refusal(content)
    assert error.message.startswith(message)
    assert hint in error.hint


def test_first_problem_and_how_many_more() -> None:
    """Of several problems the first in the file is told, and the others are counted."""
    error = refusal("zz: 1\nhome: 5\nname: A B")
    assert error.message == "session.yml:1:1: zz is not a key of a spec (and 2 more)"


def test_every_problem_has_its_place() -> None:
    """Each of several mistakes is one of the error's, with its position and hint."""
    error = refusal("zz: 1\nhome: 5\nname: A B")
    assert [one.message.partition(" ")[0] for one in error.mistakes] == [
        f"session.yml:{line}:1:" for line in (1, 2, 3)
    ]
    assert [bool(one.hint) for one in error.mistakes] == [True, False, True]
    many = refusal("\n".join(f"k{number}: 1" for number in range(100)))
    assert len(many.mistakes) == MOST_SHOWN
    assert many.mistakes[-1].message.endswith("(and 80 more)")
    assert refusal("zz: 1").mistakes == ()


def test_secrets_are_never_shown() -> None:
    """A value that may be a secret is in no error."""
    for content in (
        "secrets: {T: hunter2}",
        "secrets: {T: {env: hunter2!}}",
        "secrets: {T: [hunter2]}",
        "secrets: [hunter2]",
        "env: [hunter2]",
        "secrets: {memory: {file: [hunter2]}}",
        "env: {T: [hunter2]}",
        "env: {T: {a: hunter2}}",
        "command: {T: hunter2}",
        "token: hunter2",
    ):
        assert "hunter2" not in str(refusal(content))


def test_labels() -> None:
    """Without a document, an error begins with its label, or with what a function says."""
    with pytest.raises(SpecError, match=r"^flag --gpus: gpus must be"):
        validate({"gpus": "x"}, label="flag --gpus")
    with pytest.raises(SpecError, match=r"^here/gpus: gpus must be"):
        validate({"gpus": "x"}, where=lambda key: f"here/{key[0]}")
    with pytest.raises(SpecError, match=r"^gpus must be"):
        validate({"gpus": "x"})


def test_bytes_that_are_not_utf8() -> None:
    """What the engine would silently replace, in a variable or an argument, is refused."""
    for key in ({"env": {"A": "\udcff"}}, {"command": ["\udcff"]}, {"command": "\udcff"}):
        with pytest.raises(SpecError, match="must be UTF-8 text"):
            validate(key, label="flag")
