"""What people paste: every command in a message has its paths and names quoted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for door in ("core", "cli", "provisioner", "server_extension")
    for path in (ROOT / door).rglob("*.py")
    if "/guest/" not in str(path)
)
# A command, and what follows it up to a value that is filled in
COMMAND = re.compile(
    r"\b(mooring (-v|[a-z-]+)|docker [a-z]+|chown|chmod|fuser|rm -|mkdir|kill -|umount|ls -)"
    r"[^,;:()]*$"
)
# Values that hold nothing a shell knows: the names of sessions are checked where they are read
# (``engines.labels.name_of``, ``spec.fields.SessionName``), and flags and numbers are mooring's own
SAFE = re.compile(
    r"quoted\(.*\)|' '\.join\(map\(quoted, .*\)\)|(self\._|[a-z]+\.)?(session\.|current\.)?name"
    r"|self\._session\.name|session|names\[0\]|flags|last|line|again|relay\.pid|_MODE"
)


def unquoted(source: str) -> Iterator[str]:
    """The values in commands of a module's texts that are not quoted, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
                continue
            assert isinstance(part, ast.FormattedValue)
            value = ast.unparse(part.value)
            if COMMAND.search(before) and not SAFE.fullmatch(value):
                yield f"{node.lineno}: {before[-40:]}{{{value}}}"
            before += "X"


def test_every_command_in_a_message_is_quoted() -> None:
    """A path or an image in a command that a person may paste is one word of the shell's."""
    found = [
        f"{path.relative_to(ROOT)}:{one}" for path in SOURCES for one in unquoted(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        'f"read it, then trust it: mooring trust {path}"',
        'f"as root: chown root {path}; chmod go-w {quoted(path)}"',
        'f"fuser -v {self.folder}"',
        'f"docker pull {image}"',
    ],
)
def test_the_scan_finds_what_it_looks_for(text: str) -> None:
    """A command with a bare value is found: the scan can fail."""
    assert len(list(unquoted(text))) == 1
