"""A spec file: read safely, with the place of every key, and judged in one line.

A file may come from a stranger's repository, so it is bounded before it is parsed, and nothing in
it is ever run. PyYAML is imported on first use.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mooring.errors import SpecError
from mooring.spec.fields import UNION_TAGS
from mooring.spec.model import EXTENDS, SessionSpec

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node

MAX_BYTES = 256 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 64

Model = TypeVar("Model", bound=BaseModel)
KeyPath = tuple[str | int, ...]
Where = Callable[[KeyPath], str]

_CORE = "tag:yaml.org,2002:"
_TYPED = frozenset(_CORE + name for name in ("null", "bool", "int", "float"))
_PLAIN_TAGS = _TYPED | {_CORE + "str"}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Under these keys values are text: `VERSION: 1.10`, `MODE: off` and `[sleep, 010]` stay as
#: written, where YAML 1.1 would make them 1.1, false and 8, and 22:22 a number to base 60.
_VERBATIM = frozenset({"env", "command", "ports"})
#: Lists of what is no secret.
_LISTS = frozenset({"inputs", "outputs", "ports"})


@dataclass(frozen=True)
class SpecDocument:
    """A spec file that was read, and not yet judged.

    Attributes:
        path: as the user gave it.
        data: the root mapping: str, int, float, bool, None, list and dict only.
        positions: key path to (line, column) of its key or list item, from 1.
        sha256: of the file's bytes, in hexadecimal.
    """

    path: Path
    data: dict[str, Any]
    positions: Mapping[KeyPath, tuple[int, int]]
    sha256: str

    def position(self, key: KeyPath) -> tuple[int, int] | None:
        """The (line, column) of a key path, or else of the nearest one that holds it."""
        while key:
            for spelling in _spellings(key):
                if spelling in self.positions:
                    return self.positions[spelling]
            key = key[:-1]
        return None

    def where(self, key: KeyPath) -> str:
        """`session.yml:3:7`, or the path alone when the place is not known."""
        position = self.position(key)
        name = one_line(str(self.path))
        return f"{name}:{position[0]}:{position[1]}" if position else name


def _spellings(key: KeyPath) -> Iterator[KeyPath]:
    """A key path, and how the file may have written it (see `spec.canonical`)."""
    yield key
    if key[0] == "image":
        yield ("environment", *key[1:])
    if key[0] == "build":
        yield ("image", *key)


def one_line(text: str, limit: int = 200) -> str:
    """Text as it may stand in an error: printable, on one line, and not long."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def load(path: str | os.PathLike[str], *, allow_empty: bool = False) -> SpecDocument:
    """Read a spec file.

    Args:
        path: a regular file of at most 256 KiB of UTF-8: one YAML document, a mapping.
        allow_empty: a file without content is an empty mapping instead of an error.

    Raises:
        SpecError: it is not that, or holds tags, merge keys, duplicate keys, or aliases that
            grow past 10,000 values; the message begins with `path:line:column:`.
    """
    given = Path(path)
    return parse(given, read(given), allow_empty=allow_empty)


def parse(path: Path, content: bytes, *, allow_empty: bool = False) -> SpecDocument:
    """What `read` found, as a document.

    Raises:
        SpecError: as `load`.
    """
    data, positions = _Reader(path, _decode(path, content)).read(allow_empty)
    return SpecDocument(
        path, data, types.MappingProxyType(positions), hashlib.sha256(content).hexdigest()
    )


def scalar(text: str) -> object:
    """Read one unquoted YAML value, such as an environment variable's: text, number, truth, null.

    Raises:
        ValueError: it looks like a number and is none.
    """
    import yaml

    loader: Any = yaml.SafeLoader("")
    try:
        node = yaml.ScalarNode(loader.resolve(yaml.ScalarNode, text, (True, False)), text)
        return _typed(loader, node)
    finally:
        loader.dispose()


def _error(path: Path, problem: str, hint: str, at: tuple[int, int] | None = None) -> SpecError:
    place = f":{at[0]}:{at[1]}" if at else ""
    return SpecError(f"{one_line(str(path))}{place}: {one_line(problem)}", hint)


def read(
    path: Path,
    judge: Callable[[os.stat_result], None] = lambda found: None,
    hint: str = "give the path of a session.yml",
) -> bytes:
    """A regular file's bytes; a FIFO or a device is never opened for long enough to wait on it.

    Args:
        judge: is shown the open file, and may raise.
        hint: for a file that cannot be read.

    Raises:
        SpecError: it cannot be read, is no regular file, or is larger than 256 KiB.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _error(path, "not a regular file", hint)
        # O_NONBLOCK: should it have become a FIFO since. Windows has neither.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _error(path, "not a regular file", hint)
            judge(found)
            content = file.read(MAX_BYTES + 1) or b""  # None: one of the kernel's that would wait
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it cannot be read"
        raise _error(path, reason, hint) from None
    except ValueError:
        raise _error(path, "not a path", hint) from None
    if len(content) > MAX_BYTES:
        raise _error(
            path,
            f"larger than {MAX_BYTES // 1024} KiB",
            "a spec is a short text; is this the right file?",
        )
    return content


def _decode(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        raise _error(
            path, "not UTF-8 text", "save the file as UTF-8", _line_column(before)
        ) from None
    found = _UNPRINTABLE.search(text)
    if found:
        what = "a NUL byte" if found.group() == "\0" else f"the character {found.group()!a}"
        raise _error(
            path,
            f"{what} is not allowed",
            "a spec is plain text; remove it",
            _line_column(text[: found.start()]),
        )
    return text


def _line_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _typed(loader: Any, node: Node) -> object:
    """A scalar as text, number, truth or null: what YAML 1.2 would say, and 1.1's `off`.

    Dates and clock times (`1:30` is 90 in YAML 1.1) stay text.
    """
    if node.tag not in _TYPED or (":" in node.value and node.tag != _CORE + "null"):
        return str(node.value)
    value: object = loader.construct_object(node)
    return value


class _Reader:
    """One pass to bound a text, one to build it."""

    def __init__(self, path: Path, text: str) -> None:
        import yaml

        self._path = path
        self._text = text
        self._yaml = yaml
        self._loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
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
                raise _error(
                    self._path, "empty", "a spec has at least one key, such as image: host"
                )
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
        """Refuse, without building anything, what may be deep, long, tagged or several."""
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
        # Aliases make one node appear in many places: count and measure where they lead.
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
            return _typed(loader, node)
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
                raise self._refuse(
                    key,
                    f"{name} is here twice, first on line {self._positions[place][0]}",
                    "keep one of them",
                )
            self._positions[place] = (key.start_mark.line + 1, key.start_mark.column + 1)
            result[name] = self._value(loader, value, place)
        return result


_WORDS = {
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list of paths, or of {name: …, source: …}",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "missing": "is missing",
}


_MOUNTS = "inputs are folders and files to read, outputs are to be written to"
# What fingers know from other systems' files
_POINTERS = {
    "volumes": _MOUNTS,
    "mounts": _MOUNTS,
    "mem_limit": "did you mean memory?",
    "shm_size": "did you mean shm?",
    "entrypoint": "did you mean command?",
    "working_dir": "it is the folder that the session is made in",
    "workdir": "it is the folder that the session is made in",
}


def validate(
    data: Mapping[str, Any], *, where: Where | SpecDocument | None = None, label: str = ""
) -> SessionSpec:
    """Judge a declaration.

    Args:
        data: keys as a spec file has them, aliases included.
        where: the document, or a function, that says where a key path was written.
        label: where it all was written, when `where` is None: `flag --image`. Of a list only the
            item that is wrong is named.

    Raises:
        SpecError: with the first problem in the file's order, in one line, and how many more
            there are. Values under `env`, `secrets` and `command` are never shown.
    """
    return check(SessionSpec, data, where=where, label=label)


def check(
    model: type[Model],
    data: Mapping[str, Any],
    *,
    what: str = "spec",
    where: Where | SpecDocument | None = None,
    label: str = "",
) -> Model:
    """Judge a mapping by any model, as ``validate`` does by that of a spec.

    Args:
        what: it is, in errors.

    Raises:
        SpecError: as ``validate``.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [
            (tuple(step for step in problem["loc"] if step not in UNION_TAGS), problem)
            for problem in error.errors(include_url=False, include_input=False)
        ]
    if isinstance(where, SpecDocument):
        document = where
        problems.sort(key=lambda item: document.position(item[0]) or (0, 0))
    key, problem = problems[0]
    place = label
    if isinstance(where, SpecDocument):
        place = where.where(key)
    elif where is not None:
        place = where(key)
    text, hint = _explain(model, what, key, problem)
    shown = _item(data, key) if label and where is None else key
    dotted = one_line(".".join(str(step) for step in shown), 100)
    more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
    parts = f"{dotted} {text}" if dotted else text
    raise SpecError(f"{place}: {parts}{more}" if place else f"{parts}{more}", hint) from None


def _item(data: Mapping[str, Any], key: KeyPath) -> KeyPath:
    """A key in an item of a list as who wrote that list alone knows it: by the item's own text.

    Only where such text may be shown.
    """
    index = key[1] if len(key) > 1 and key[0] in _LISTS else None
    if not isinstance(index, int):
        return key
    items = data.get(str(key[0]))
    item = items[index] if isinstance(items, (list, tuple)) and index < len(items) else None
    return key[2:] or ((str(item),) if isinstance(item, (str, int)) else ())


def _explain(model: type[BaseModel], what: str, key: KeyPath, problem: Any) -> tuple[str, str]:
    kind = problem["type"]
    if kind == "extra_forbidden" and model is SessionSpec and key == (EXTENDS,):
        return "belongs in a file", "name the file itself, or a profile"
    if kind == "extra_forbidden":
        return f"is not a key of a {what}", _nearest(model, key)
    context = problem.get("ctx", {})
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", ""), ""
    if kind == "value_error":
        return one_line(str(context["error"])), ""
    if kind == "tuple_type" and key == ("ports",):
        return "must be a list", "as in: [8080, 6006:6006]"
    hint = "a line for each, NAME: VALUE" if kind == "dict_type" else ""
    return _WORDS.get(kind, "has a value that is not accepted"), hint


def _nearest(model: type[BaseModel], key: KeyPath) -> str:
    if model is SessionSpec and len(key) == 1 and key[0] in _POINTERS:
        return _POINTERS[key[0]]
    valid = _keys_beside(model, key)
    close = difflib.get_close_matches(str(key[-1])[:100].lower(), valid, n=1)
    return f"did you mean {close[0]}?" if close else f"the keys are {', '.join(valid)}"


def _keys_beside(model: type[BaseModel], key: KeyPath) -> list[str]:
    """The keys that the model has where an unknown one stands."""
    if len(key) > 1:
        models = _models_in(model.model_fields[str(key[0])].annotation)
        return list(next(iter(models), model).model_fields)
    return [*model.model_fields, *([EXTENDS] if model is SessionSpec else [])]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
