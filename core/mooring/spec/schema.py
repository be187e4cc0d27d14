"""The JSON Schema of spec files, for editors and for the panel's form.

`python -m mooring.spec.schema` writes it to `session.schema.json` in this folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mooring.spec.model import EXTENDS, SessionSpec

SCHEMA_FILE = Path(__file__).with_name("session.schema.json")
TEXT: dict[str, Any] = {"type": "string"}
_ABOUT = frozenset({"description", "default"})


def json_schema() -> dict[str, Any]:
    """Create the JSON Schema (draft 2020-12) of spec files.

    It includes the short forms that the model accepts: a path for a mount, a Dockerfile for a
    build, and aliases.
    """
    schema = SessionSpec.model_json_schema(mode="validation")
    properties, parts = schema["properties"], schema["$defs"]
    for part in (schema, *parts.values()):
        for described in part["properties"].values():
            described.pop("title", None)
    parts["Mount"]["required"] = ["source"]
    parts["SecretSource"]["oneOf"] = [{"required": ["env"]}, {"required": ["file"]}]
    properties["build"]["anyOf"].insert(0, TEXT)
    for key in ("inputs", "outputs"):
        properties[key].pop("type")
        items = {"anyOf": [TEXT, properties[key].pop("items")]}
        properties[key]["anyOf"] = [{"type": "array", "items": items}, TEXT]
    build = {"build": {"$ref": "#/properties/build"}}
    images = list(properties["image"]["anyOf"])
    properties["image"]["anyOf"].append(
        {"type": "object", "properties": build, "required": ["build"],
         "additionalProperties": False},
    )  # fmt: skip
    properties["environment"] = {"anyOf": images, "description": "Azure ML's key for image."}
    for described in properties.values():
        _let_be_null(described)
    properties[EXTENDS] = {
        "anyOf": [TEXT, {"type": "array", "items": TEXT}],
        "description": "What this file extends: another file, relative to this one's folder, the "
        "name of a profile, or a list of these; later ones override earlier ones.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:mooring:session",
        **schema,
        "title": "mooring session",
    }


def _let_be_null(described: dict[str, Any]) -> None:
    """Accept null, because a key without a value in a file has its default."""
    kinds = {key: described.pop(key) for key in list(described) if key not in _ABOUT}
    options = kinds["anyOf"] if set(kinds) == {"anyOf"} else [kinds]
    null = {"type": "null"}
    described["anyOf"] = options if null in options else [*options, null]


def main() -> None:
    """Write the JSON Schema to `SCHEMA_FILE`."""
    import json

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    SCHEMA_FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
