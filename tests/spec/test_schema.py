"""The JSON Schema: current, complete, and as strict as the model where that can be said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mooring.spec.schema import SCHEMA_FILE, json_schema, main
from tests.spec.test_model import FULL


def test_shipped_schema_is_current() -> None:
    """Editors complete what this version accepts; `python -m mooring.spec.schema` writes it."""
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema()


def test_schema_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing the schema again changes nothing."""
    monkeypatch.setattr("mooring.spec.schema.SCHEMA_FILE", tmp_path / "schema.json")
    main()
    assert (tmp_path / "schema.json").read_bytes() == SCHEMA_FILE.read_bytes()


def test_schema_describes_every_key() -> None:
    """An editor can explain every key."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == "urn:mooring:session"
    for part in (schema, *schema["$defs"].values()):
        assert all(key["description"] for key in part["properties"].values())


@pytest.mark.parametrize(
    "keys",
    [
        yaml.safe_load(FULL),
        {},
        {"environment": "azureml/dask", "inputs": "a,b", "distribution": {"nodes": 10}},
        {"image": {"build": {"dockerfile": "D"}}},
        {"build": "Dockerfile"},
        {"gpus": {"count": 2, "memory": "40GiB", "model": "A100"}},
        {"idle_timeout": False, "max_duration": 0, "memory": 2**30},
        {"record": False},
        {"record": "off"},
        {"command": ["sleep", 5], "env": {"A": 1, "B": True}},
        {"secrets": {"A": {"file": "a"}}, "inputs": [{"source": "a"}]},
        {"extends": "gpu"},
        {"extends": ["../base.yml", "gpu"], "image": None, "env": None, "memory": None},
    ],
)
def test_schema_accepts(keys: dict[str, Any]) -> None:
    """The schema accepts what a file may hold."""
    jsonschema.validate(keys, json_schema())


@pytest.mark.parametrize(
    "keys",
    [
        {"imagge": "x"},
        {"gpus": {"kind": "x"}},
        {"secrets": {"A": "x"}},
        {"secrets": {"A": {"env": "A", "file": "a"}}},
        {"name": "Upper"},
        {"pull": "often"},
        {"inputs": [{"name": "x"}]},
        {"home": "yes"},
        {"extends": 5},
        {"env": {"A": None}},
    ],
)
def test_schema_refuses(keys: dict[str, Any]) -> None:
    """The schema shows the common mistakes while they are typed."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(keys, json_schema())
