"""Validation of specs and policies, with one-line errors that name the position of a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mooring.errors import SpecError, together
from mooring.host.text import one_line
from mooring.spec.fields import UNION_TAGS
from mooring.spec.model import EXTENDS, SessionSpec
from mooring.spec.other_names import HINTS, nearest
from mooring.spec.references import is_reference
from mooring.spec.yamlfile import KeyPath, SpecDocument

Model = TypeVar("Model", bound=BaseModel)
Where = Callable[[KeyPath], str]

#: Lists whose items may appear in errors.
_LISTS = frozenset({"inputs", "outputs", "ports", "groups", "preload"})
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
_SECRETS = "write NAME: {env: VARIABLE} or NAME: {file: PATH} for each"
# Hints for values of the wrong kind, by key and kind
_FORMS = {
    ("ports", "tuple_type"): "as in: [8080, 6006:6006]",
    ("inputs", "tuple_type"): "as in: [./data, {name: models, source: ../models}]",
    ("outputs", "tuple_type"): "as in: [./results, {name: models, source: ../models}]",
    ("groups", "tuple_type"): "as in: [GROUP]",
    ("preload", "tuple_type"): "as in: [torch, pandas]",
    ("env", "dict_type"): "write one NAME: VALUE per line",
    ("secrets", "dict_type"): _SECRETS,
    ("secrets", "model_type"): _SECRETS,
    ("secrets", "model_attributes_type"): _SECRETS,
}
# Examples of values, for hints
_EXAMPLES = {
    "cpus": "4",
    "gpus": "1",
    "memory": "16GiB",
    "shm": "8GiB",
    "record": "16MiB",
    "idle_timeout": "30m",
    "max_duration": "8h",
}
_WRITTEN_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgtpe])[a-z]*\s*", re.IGNORECASE)
MOST_SHOWN = 20


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
        SpecError: the first problem in the document's order, in one line, and the number of others,
            which are its `mistakes`. No message contains values under `env`, `secrets` or
            `command`.
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
    mistakes = []
    for key, problem in problems[:MOST_SHOWN]:
        place = label
        if isinstance(where, SpecDocument):
            place = where.where(key)
        elif where is not None:
            place = where(key)
        text, hint = _explain(model, what, key, problem)
        hint = hint or _form(data, key)
        shown = _item(data, key, alone=bool(label) and where is None)
        parts = f"{one_line(shown, 100)} {text}" if shown else text
        mistakes.append(SpecError(f"{place}: {parts}" if place else parts, hint))
    if len(mistakes) == 1:
        raise mistakes[0] from None
    if more := len(problems) - len(mistakes):
        last = mistakes[-1]
        mistakes[-1] = SpecError(f"{last.message} (and {more} more)", last.hint)
    raise together(mistakes, more) from None


def _form(data: Mapping[str, Any], key: KeyPath) -> str:
    """A hint for a value of the wrong form: what it probably means, or an example."""
    name = str(key[-1]) if key else ""
    value = data.get(name) if len(key) == 1 else None
    if name == "name" and isinstance(value, str):
        plain = re.sub("[^a-z0-9]+", "-", value.lower()).strip("-")[:40].strip("-")
        return f"as in: name: {plain}" if plain else ""
    if name in ("image", "environment") and isinstance(value, str) and is_reference(value.lower()):
        return f"did you mean {value.lower()}?"
    if name not in _EXAMPLES or key[0] in ("env", "secrets"):
        return ""
    size = _WRITTEN_SIZE.fullmatch(value) if isinstance(value, str) else None
    if size and name in ("memory", "shm"):
        return f"did you mean {size.group(1)}{size.group(2).upper()}iB?"
    return f"as in: {name}: {_EXAMPLES[name]}"


def _item(data: Mapping[str, Any], key: KeyPath, *, alone: bool) -> str:
    """A key path as text, with a list's item instead of its index, if that may appear in errors.

    Args:
        data: the spec.
        key: the path.
        alone: omit the list, which the error names already.
    """
    index = key[1] if len(key) > 1 and key[0] in _LISTS else None
    if not isinstance(index, int):
        return ".".join(map(str, key))
    items = data.get(str(key[0]))
    item = items[index] if isinstance(items, (list, tuple)) and index < len(items) else None
    if len(key) == 2 and isinstance(item, (str, int)):
        return str(item) if alone else f"{key[0]}: {item}"
    return ".".join(map(str, key[2:] if alone else key))


def _explain(model: type[BaseModel], what: str, key: KeyPath, problem: Any) -> tuple[str, str]:
    kind = problem["type"]
    if kind == "extra_forbidden" and model is SessionSpec and key == (EXTENDS,):
        return "is only allowed in a file", "use that file, or a profile"
    if kind == "extra_forbidden":
        return f"is not a key of a {what}", _nearest(model, key)
    context = problem.get("ctx", {})
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", ""), ""
    hint = _FORMS.get((str(key[0]), kind), "") if key else ""
    if kind == "value_error":
        return one_line(str(context["error"])), hint
    if kind == "tuple_type" and key[0] not in ("inputs", "outputs"):
        return "must be a list", hint
    return _WORDS.get(kind, "has an invalid value"), hint


def _nearest(model: type[BaseModel], key: KeyPath) -> str:
    name = str(key[-1])
    if model is SessionSpec and len(key) == 1 and name in HINTS:
        return HINTS[name]
    valid = _keys_beside(model, key)
    close = nearest(name, valid)
    return f"did you mean {close}?" if close else f"choose from: {', '.join(valid)}"


def _keys_beside(model: type[BaseModel], key: KeyPath) -> list[str]:
    """The valid keys at the position of an unknown key."""
    if len(key) > 1:
        models = _models_in(model.model_fields[str(key[0])].annotation)
        return list(next(iter(models), model).model_fields)
    return [*model.model_fields, *((EXTENDS, "environment") if model is SessionSpec else ())]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
