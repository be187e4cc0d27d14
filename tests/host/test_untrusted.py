"""What other programs may have written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mooring
from mooring.host.untrusted import parse_json

CORE = Path(str(mooring.__file__)).parent


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, b"[" * 100_000, "", "{", "\0"]
)
def test_what_is_not_json(content: str | bytes) -> None:
    """Whatever is written there, and however deeply nested, the error is ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - json's own messages differ
        parse_json(content)


def test_json() -> None:
    """JSON is parsed with the options that are given."""
    assert parse_json(b'{"a": [1, NaN]}', parse_constant=str) == {"a": [1, "NaN"]}


def test_nothing_else_parses_json() -> None:
    """In the library, all JSON is parsed so: a session's or another user's is in many places."""
    found = [
        f"{path.relative_to(CORE)}:{node.lineno}"
        for path in CORE.rglob("*.py")
        if path.parent.name != "guest" and path.name != "untrusted.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("load", "loads")
        and isinstance(node.value, ast.Name)
        and node.value.id == "json"
    ]
    assert found == []
