"""The specs of examples/ are what their comments say: whole, completed by editors, and loadable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from mooring.errors import NotSupported
from mooring.host.users import caller
from mooring.images import mounts
from mooring.spec.model import refuse_unsupported
from mooring.spec.resolve import resolve
from mooring.spec.schema import SCHEMA_FILE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.yml"))
# What this version reads, checks and refuses, and the word that it refuses by
REFUSED = {"azureml/distributed-job.yml": "distribution"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "examples"))


def test_there_are_examples() -> None:
    """Every example that is known to be refused is there, and so are others."""
    names = {name_of(path) for path in EXAMPLES}
    assert REFUSED.keys() < names
    assert "demo/session.yml" in names


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_is_a_valid_spec(path: Path) -> None:
    """The JSON Schema and the model both take it, and its mounts can be laid out or are refused."""
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    resolved = resolve(flags={}, file=path)
    refused = REFUSED.get(name_of(path))
    if refused:
        with pytest.raises(NotSupported, match=f"^{refused} is not supported") as found:
            refuse_unsupported(resolved.spec)
        first = (found.value.mistakes or [found.value])[0]
        assert first.message in path.read_text(), "the comment quotes another error"
        assert "NOT YET" in path.read_text()
    else:
        refuse_unsupported(resolved.spec)
        mounts.plan(resolved.spec, project=resolved.project, cwd=resolved.project, user=caller())


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_editor_finds_the_schema_of_an_example(path: Path) -> None:
    """The first line leads from the file to the schema that is shipped."""
    first = path.read_text().splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found, first
    assert (path.parent / found[1]).resolve() == SCHEMA_FILE.resolve()


def test_the_list_of_examples_is_complete() -> None:
    """The README of examples/ links each spec, or its folder."""
    text = (ROOT / "examples" / "README.md").read_text()
    linked = re.findall(r"\]\(([^)#]+)\)", text)
    for target in linked:
        assert (ROOT / "examples" / target).exists(), target
    for path in EXAMPLES:
        assert name_of(path) in linked or f"{name_of(path.parent)}/" in linked, name_of(path)


def test_the_data_of_the_demonstration_is_what_its_script_writes(tmp_path: Path) -> None:
    """data/runs.csv is reproducible."""
    script = (ROOT / "examples/demo/make_data.py").read_text()
    (tmp_path / "make_data.py").write_text(script)
    scope: dict[str, object] = {"__name__": "make_data", "__file__": str(tmp_path / "make_data.py")}
    exec(compile(script, "make_data.py", "exec"), scope)  # noqa: S102 - our own script
    scope["main"]()  # type: ignore[operator]
    written = (tmp_path / "data" / "runs.csv").read_bytes()
    assert written == (ROOT / "examples/demo/data/runs.csv").read_bytes()


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("command", [("create", "-d", "-f"), ("trust",)])
def test_what_is_refused_is_refused_before_anything_else(
    name: str, command: tuple[str, ...]
) -> None:
    """A person is told what is not there yet, not first asked to allow or find its mounts."""
    path = ROOT / "examples" / name
    done = subprocess.run(
        [sys.executable, "-m", "mooring_cli", *command, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    refused = f": {REFUSED[name]} is not supported by this version\nhint:"
    assert re.match(rf"error: {re.escape(str(path))}:\d+{re.escape(refused)}", done.stderr)
