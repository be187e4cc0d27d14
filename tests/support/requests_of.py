"""Requests that an OpenAPI document allows, and requests that it does not, for hypothesis."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

Schema = Mapping[str, Any]
Values = st.SearchStrategy[Any]

TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
KINDS: dict[str, Values] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "array": st.lists(TEXT, max_size=2),
    "object": st.dictionaries(TEXT, ANYTHING, max_size=2),
}


class Document:
    """An OpenAPI document; schemas are of it, and may refer to its components."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def accepts(self, schema: Schema, value: object) -> bool:
        """Whether a schema allows a value."""
        whole = {**schema, "components": self.content["components"]}
        return Draft202012Validator(whole).is_valid(value)

    def valid(self, schema: Schema) -> Values:
        """Values that a schema allows."""
        return self._draw(schema).filter(functools.partial(self.accepts, schema))

    def invalid(self, schema: Schema) -> Values:
        """Values that it does not: of another type, or with one property changed or added."""

        def changed(value: Any, change: tuple[str, Any]) -> Any:
            return {**value, change[0]: change[1]} if isinstance(value, dict) else change[1]

        properties = self._resolved(schema).get("properties", {})
        changes = st.tuples(TEXT, ANYTHING)
        if properties:
            wrong = {name: self.invalid(inner) for name, inner in properties.items()}
            names = st.sampled_from(sorted(properties))
            changes |= names.flatmap(lambda name: st.tuples(st.just(name), wrong[name]))
        near = st.builds(changed, self._draw(schema), changes)
        return (near | ANYTHING).filter(lambda value: not self.accepts(schema, value))

    def _resolved(self, schema: Schema) -> dict[str, Any]:
        found = dict(schema)
        while "$ref" in found:
            target: Any = self.content
            for step in found.pop("$ref").removeprefix("#/").split("/"):
                target = target[step]
            found = {**target, **found}
        return found

    def _draw(self, given: Schema, depth: int = 0) -> Values:
        schema = self._resolved(given)
        if "anyOf" in schema and "properties" not in schema:
            return st.one_of(*(self._draw(one, depth) for one in schema["anyOf"]))
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if "properties" in schema:
            return self._object(schema, depth)
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        return st.one_of(*(self._kind(kind, schema, depth) for kind in kinds)) if kinds else TEXT

    def _kind(self, kind: str, schema: Schema, depth: int) -> Values:
        least, most = schema.get("minimum", 0), schema.get("maximum", 10**6)
        if kind == "string":
            text = TEXT.filter(bool) if schema.get("minLength") else TEXT
            if "pattern" not in schema:
                return text
            alphabet = st.characters(min_codepoint=32, max_codepoint=126)
            return st.from_regex(schema["pattern"], alphabet=alphabet).filter(str.isprintable)
        if kind == "integer":
            return st.integers(least, most)
        if kind == "number":
            return st.integers(int(least), int(most)) | st.floats(least, most)
        if kind == "array" and "items" in schema and depth < 3:
            return st.lists(self._draw(schema["items"], depth + 1), max_size=2)
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict) and depth < 3:
            inner = self._draw(schema["additionalProperties"], depth + 1)
            return st.dictionaries(st.sampled_from(["A", "B_1"]), inner, max_size=2)
        return KINDS[kind]

    def _object(self, schema: Schema, depth: int) -> Values:
        properties = {
            name: self._draw(inner, depth + 1) for name, inner in schema["properties"].items()
        }
        required = set(schema.get("required", []))
        if schema.get("oneOf"):  # of alternatives, each of which requires one property
            return st.one_of(
                *(
                    st.fixed_dictionaries({name: properties[name] for name in one["required"]})
                    for one in schema["oneOf"]
                )
            )
        if len(properties) > 6:  # a spec: a few keys at a time
            few = st.sets(st.sampled_from(sorted(properties)), max_size=3)
            return few.flatmap(
                lambda names: st.fixed_dictionaries({name: properties[name] for name in names})
            )
        return st.fixed_dictionaries(
            {name: properties[name] for name in properties if name in required},
            optional={name: properties[name] for name in properties if name not in required},
        )
