"""Read spec files safely, with the position of every key.

A file may be untrusted, so its size is limited before it is parsed, and nothing in it is executed.
PyYAML is imported on first use.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mooring.errors import SpecError
from mooring.host.nofollow import real_path
from mooring.host.text import one_line

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node

MAX_BYTES = 256 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 64

KeyPath = tuple[str | int, ...]

_CORE = "tag:yaml.org,2002:"
_TYPED = frozenset(_CORE + name for name in ("null", "bool", "int", "float"))
_PLAIN_TAGS = _TYPED | {_CORE + "str"}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Section 10.3.2 of YAML 1.2.2, the core schema; PyYAML's own rules are those of YAML 1.1, in which
# 010 is 8, 1:30 is 90, and no is false
_RULES = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),  # of YAML 1.1; refused
)
#: Values under these keys remain text: `VERSION: 1.10` is no 1.1, and `MODE: 0755` keeps its zero.
_VERBATIM = frozenset({"env", "command", "ports"})


class FileContent(NamedTuple):
    """What was read from a file.

    Attributes:
        content: its bytes.
        path: the resolved path of the file that was open: what the bytes are from, wherever its
            name leads by now.
    """

    content: bytes
    path: Path


@dataclass(frozen=True)
class SpecDocument:
    """A parsed spec file that is not validated yet.

    Attributes:
        path: the path as the user gave it.
        data: the root mapping; it contains only str, int, float, bool, None, list and dict.
        positions: the 1-based (line, column) of each key and list item, by its key path.
        sha256: the hash of the file's bytes, in hexadecimal.
    """

    path: Path
    data: dict[str, Any]
    positions: Mapping[KeyPath, tuple[int, int]]
    sha256: str

    def position(self, key: KeyPath) -> tuple[int, int] | None:
        """The (line, column) of a key path or its nearest known parent; None if unknown."""
        while key:
            for spelling in _spellings(key):
                if spelling in self.positions:
                    return self.positions[spelling]
            key = key[:-1]
        return None

    def where(self, key: KeyPath) -> str:
        """The position as `session.yml:3:7`, or the path alone if it is unknown."""
        position = self.position(key)
        name = one_line(str(self.path))
        return f"{name}:{position[0]}:{position[1]}" if position else name


def _spellings(key: KeyPath) -> Iterator[KeyPath]:
    """A key path and its aliases in a file, see `mooring.spec.model.canonical`."""
    yield key
    if key[0] == "image":
        yield ("environment", *key[1:])
    if key[0] == "build":
        yield ("image", *key)


def load(path: str | os.PathLike[str]) -> SpecDocument:
    """Read a spec file.

    Args:
        path: a regular file of at most 256 KiB of UTF-8: one YAML document, a mapping.

    Raises:
        SpecError: it is not such a file, has tags, merge keys or duplicate keys, or expands to
            more than `MAX_NODES` values; the message begins with the path and, if known, line and
            column.
    """
    given = Path(path)
    return parse(given, read(given))


def parse(path: Path, content: bytes, *, allow_empty: bool = False) -> SpecDocument:
    """Parse the content of a spec file.

    Args:
        path: the file's path, for errors.
        content: the file's bytes.
        allow_empty: read a file without content as an empty mapping.

    Raises:
        SpecError: as for `load`.
    """
    data, positions = _Reader(path, _decode(path, content)).read(allow_empty)
    return SpecDocument(
        path, data, types.MappingProxyType(positions), hashlib.sha256(content).hexdigest()
    )


def scalar(text: str) -> object:
    """Parse an unquoted YAML value, such as that of an environment variable.

    Raises:
        ValueError: it looks like a number but is not a valid one.
    """
    import yaml

    loader = _loader_class()("")
    try:
        return _typed(loader.resolve(yaml.ScalarNode, text, (True, False)), text)
    finally:
        loader.dispose()


def _error(path: Path, problem: str, hint: str, at: tuple[int, int] | None = None) -> SpecError:
    place = f":{at[0]}:{at[1]}" if at else ""
    return SpecError(f"{one_line(str(path))}{place}: {one_line(problem)}", hint)


def read(
    path: Path,
    inspect: Callable[[os.stat_result], None] = lambda info: None,
    hint: str = "give the path of a session.yml",
) -> bytes:
    """Read a regular file as `read_file` does, and return its bytes."""
    return read_file(path, lambda info, _: inspect(info), hint).content


def read_file(
    path: Path,
    inspect: Callable[[os.stat_result, Path], None] = lambda info, real: None,
    hint: str = "give the path of a session.yml",
) -> FileContent:
    """Read a regular file, without blocking on a FIFO or a device.

    Args:
        path: the file.
        inspect: called with the `stat_result` and the resolved path of the open file, before
            anything is read from it; may raise.
        hint: the hint of the error for a file that is not regular or cannot be read.

    Raises:
        SpecError: it cannot be read, is not a regular file, or is larger than 256 KiB.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _error(path, "not a regular file", hint)
        # O_NONBLOCK, because it may be a FIFO by now; Windows has neither
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                raise _error(path, "not a regular file", hint)
            real = real_path(descriptor, path)
            inspect(info, real)
            content = file.read(MAX_BYTES + 1) or b""  # None: a file of /proc that would block
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it cannot be read"
        raise _error(path, reason, hint) from None
    except ValueError:
        raise _error(path, "not a path", hint) from None
    if len(content) > MAX_BYTES:
        raise _error(
            path,
            f"larger than {MAX_BYTES // 1024} KiB",
            "a spec is a short text file; check the path",
        )
    return FileContent(content, real)


def _decode(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        raise _error(
            path, "not UTF-8 text", "save the file as UTF-8", _line_column(before)
        ) from None
    match = _UNPRINTABLE.search(text)
    if match:
        what = "a NUL byte" if match.group() == "\0" else f"the character {match.group()!a}"
        at = _line_column(text[: match.start()])
        raise _error(path, f"{what} is not allowed", "a spec is plain text; remove it", at)
    return text


def _line_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _loader_class() -> Any:
    """A loader of PyYAML with the rules of YAML 1.2, written in C if there is one."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    made: Any = type("_CoreLoader", (base,), {"yaml_implicit_resolvers": {}})
    for name, pattern, first in _RULES:
        starts = [character.strip("\0") for character in first]
        made.add_implicit_resolver(_CORE + name, re.compile(rf"(?:{pattern})\Z"), starts)
    return made


def _typed(tag: str, text: str) -> object:
    """Convert a scalar to text, a number, a bool or None.

    Raises:
        ValueError: it is tagged as a number or a bool, and is none.
    """
    if tag not in _TYPED:
        return text
    if tag == _CORE + "null":
        return None
    lower = text.lower()
    if tag == _CORE + "bool":
        if lower not in ("true", "false"):
            raise ValueError("not a bool")
        return lower == "true"
    if tag == _CORE + "float":
        return float(lower.replace(".inf", "inf").replace(".nan", "nan"))
    base = {"0o": 8, "0x": 16}.get(lower[:2], 10)
    return int(text, base)


class _Reader:
    """Reads a text in two passes: the first checks its limits, the second builds the values."""

    def __init__(self, path: Path, text: str) -> None:
        import yaml

        self._path = path
        self._text = text
        self._yaml = yaml
        self._loader_class = _loader_class()
        self._positions: dict[KeyPath, tuple[int, int]] = {}
        self._count = 0

    def read(self, allow_empty: bool) -> tuple[dict[str, Any], dict[KeyPath, tuple[int, int]]]:
        loader = None
        try:
            self._bound()
            loader = self._loader_class(self._text)
            root = loader.get_single_node()
            if root is None and allow_empty:
                return {}, {}
            if root is None:
                hint = "a spec has at least one key, such as image: host"
                raise _error(self._path, "empty", hint)
            if not isinstance(root, self._yaml.MappingNode):
                raise self._refuse(root, "not a mapping", "write key: value lines")
            return self._mapping(loader, root, ()), self._positions
        except self._yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = (mark.line + 1, mark.column + 1) if mark else None
            problem = error.problem or error.context or "not YAML"
            raise _error(self._path, problem, "check the YAML there", at) from None
        except self._yaml.YAMLError:
            raise _error(self._path, "not YAML", "check the file's syntax") from None
        finally:
            if loader is not None:
                loader.dispose()

    def _refuse(self, item: Any, problem: str, hint: str) -> SpecError:
        mark = item.start_mark
        return _error(self._path, problem, hint, (mark.line + 1, mark.column + 1))

    def _bound(self) -> None:
        """Refuse a text with too many values, too deep nesting, tags, or a second document."""
        yaml = self._yaml
        depth = documents = count = 0
        loader = self._loader_class(self._text)
        try:
            while loader.check_event():
                event = loader.get_event()
                count += isinstance(event, yaml.NodeEvent)
                documents += isinstance(event, yaml.DocumentStartEvent)
                depth += isinstance(event, yaml.CollectionStartEvent)
                depth -= isinstance(event, yaml.CollectionEndEvent)
                if documents > 1:
                    raise self._refuse(event, "a second document", "keep one spec in a file")
                self._check_size(event, count, depth)
                tag = getattr(event, "tag", None)
                scalar_tag = isinstance(event, yaml.ScalarEvent) and tag in _PLAIN_TAGS
                if tag is not None and not scalar_tag:
                    raise self._refuse(event, f"the tag {tag} is not allowed", "leave it out")
        finally:
            loader.dispose()

    def _check_size(self, item: Any, count: int, depth: int) -> None:
        if count > MAX_NODES:
            raise self._refuse(item, f"more than {MAX_NODES} values", "make the spec shorter")
        if depth > MAX_DEPTH:
            raise self._refuse(item, f"nested deeper than {MAX_DEPTH}", "make the spec flatter")

    def _value(self, loader: Any, node: Node, path: KeyPath) -> Any:
        # An alias repeats a node, which counts each time
        self._count += 1
        self._check_size(node, self._count, len(path))
        if isinstance(node, self._yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, self._yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                place = (*path, index)
                self._positions[place] = (item.start_mark.line + 1, item.start_mark.column + 1)
                items.append(self._value(loader, item, place))
            return items
        if len(path) == 2 and path[0] in _VERBATIM and node.tag != _CORE + "null":
            return str(node.value)
        try:
            return _typed(node.tag, str(node.value))
        except ValueError:
            raise self._refuse(node, "not a number", "put it in quotes if it is text") from None

    def _mapping(self, loader: Any, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, self._yaml.ScalarNode):
                raise self._refuse(key, "a list or a mapping as a key", "write key: value lines")
            if key.tag == _CORE + "merge":
                raise self._refuse(key, "merge keys (<<) are not allowed", "write the keys out")
            name = str(key.value)
            place = (*path, name)
            if name in result:
                first = f"first on line {self._positions[place][0]}"
                raise self._refuse(key, f"duplicate key {name}, {first}", "keep one of them")
            self._positions[place] = (key.start_mark.line + 1, key.start_mark.column + 1)
            result[name] = self._value(loader, value, place)
        return result
