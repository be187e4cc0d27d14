"""Validation of specs and policies, with one-line errors that name the position of a value."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mooring.errors import SpecError
from mooring.host.text import one_line
from mooring.spec.fields import UNION_TAGS
from mooring.spec.model import EXTENDS, SessionSpec
from mooring.spec.yamlfile import KeyPath, SpecDocument

Model = TypeVar("Model", bound=BaseModel)
Where = Callable[[KeyPath], str]

#: Lists whose items may appear in errors.
_LISTS = frozenset({"inputs", "outputs", "ports", "groups"})
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
_MOUNTS = "inputs are read-only folders and files, outputs are writable"
_WORKDIR = "it is the folder that the session is created in"
# Hints for keys of other systems' files
_POINTERS = {
    "volumes": _MOUNTS,
    "mounts": _MOUNTS,
    "mem_limit": "did you mean memory?",
    "shm_size": "did you mean shm?",
    "pids": "did you mean pids_limit?",
    "group_add": "did you mean groups?",
    "entrypoint": "did you mean command?",
    "working_dir": _WORKDIR,
    "workdir": _WORKDIR,
}


def validate(
    data: Mapping[str, Any], *, where: Where | SpecDocument | None = None, label: str = ""
) -> SessionSpec:
    """Validate a spec.

    Args:
        data: keys as in a spec file, aliases included.
        where: the document, or a function that returns the position of a key path.
        label: the origin of all keys if `where` is None, such as `flag --image`; in a list, the
            error names the invalid item.

    Raises:
        SpecError: the first problem in the document's order, in one line, and the number of others.
            The message never contains values under `env`, `secrets` and `command`.
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
    """Validate a mapping with a model, as `validate` does for a spec.

    Args:
        model: the model.
        data: the mapping.
        what: the name for the mapping in errors.
        where: as for `validate`.
        label: as for `validate`.

    Raises:
        SpecError: as for `validate`.
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
    """Replace a list index in a key path by the item's text, if that may appear in errors."""
    index = key[1] if len(key) > 1 and key[0] in _LISTS else None
    if not isinstance(index, int):
        return key
    items = data.get(str(key[0]))
    item = items[index] if isinstance(items, (list, tuple)) and index < len(items) else None
    return key[2:] or ((str(item),) if isinstance(item, (str, int)) else ())


def _explain(model: type[BaseModel], what: str, key: KeyPath, problem: Any) -> tuple[str, str]:
    kind = problem["type"]
    if kind == "extra_forbidden" and model is SessionSpec and key == (EXTENDS,):
        return "is only allowed in a file", "use that file, or a profile"
    if kind == "extra_forbidden":
        return f"is not a key of a {what}", _nearest(model, key)
    context = problem.get("ctx", {})
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", ""), ""
    if kind == "value_error":
        return one_line(str(context["error"])), ""
    if kind == "tuple_type" and key == ("ports",):
        return "must be a list", "as in: [8080, 6006:6006]"
    hint = "write one NAME: VALUE per line" if kind == "dict_type" else ""
    return _WORDS.get(kind, "has an invalid value"), hint


def _nearest(model: type[BaseModel], key: KeyPath) -> str:
    if model is SessionSpec and len(key) == 1 and key[0] in _POINTERS:
        return _POINTERS[key[0]]
    valid = _keys_beside(model, key)
    close = difflib.get_close_matches(str(key[-1])[:100].lower(), valid, n=1)
    return f"did you mean {close[0]}?" if close else f"choose from: {', '.join(valid)}"


def _keys_beside(model: type[BaseModel], key: KeyPath) -> list[str]:
    """The valid keys at the position of an unknown key."""
    if len(key) > 1:
        models = _models_in(model.model_fields[str(key[0])].annotation)
        return list(next(iter(models), model).model_fields)
    return [*model.model_fields, *([EXTENDS] if model is SessionSpec else [])]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
