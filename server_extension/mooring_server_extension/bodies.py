"""What requests may say: their bodies and their query arguments, judged strictly."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mooring.errors import SpecError
from mooring.spec.units import parse_duration
from mooring_server_extension.answers import BadRequest


class Body(BaseModel):
    """A request's body: unknown keys and wrong types are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Nothing(Body):
    """No keys at all."""


class Create(Body):
    """A new session.

    Attributes:
        file: a spec file, relative to the server's root.
        values: keys of a spec, which win over the file's.
        name: wins over both.
        allow: give consent to the file as it stands.
    """

    file: str | None = None
    values: dict[str, Any] = Field(default_factory=dict)
    name: str | None = None
    allow: bool = False


class Update(Body):
    """New deadlines: text such as 1h, a number of seconds, or off."""

    idle_timeout: str | float | None = None
    max_duration: str | float | None = None


class Hold(Body):
    """How long: text such as 2h, a number of seconds, or off."""

    duration: str | float


class NewKernel(Body):
    """Where a kernel starts: a folder or a notebook, relative to the server's root."""

    path: str | None = None


B = TypeVar("B", bound=Body)


def read(model: type[B], said: Any) -> B:
    """A body as its model.

    Raises:
        BadRequest: names the first key that is wrong, and those that there are.
    """
    if not isinstance(said, dict):
        raise BadRequest("the body is no JSON object", f"its keys are: {_keys(model)}")
    try:
        return model.model_validate(said)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # of several types that a value may have, the last step names one
        key = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            raise BadRequest(
                f"unknown key {_shown(key)} in the body", f"its keys are: {_keys(model)}"
            ) from None
        raise BadRequest(f"{_shown(key)}: {problem['msg']}", "") from None


def duration(key: str, value: str | float) -> float:
    """Seconds; 0 for never.

    Raises:
        SpecError: it is no duration.
    """
    try:
        return parse_duration(value)
    except ValueError as error:
        raise SpecError(f"{key} {error}") from None


def number(key: str, text: str, *, least: int, most: int) -> int:
    """A query argument that is a whole number.

    Raises:
        BadRequest: it is none, or out of bounds.
    """
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise BadRequest(f"?{key} must be a whole number", f"from {least} to {most}")


def truth(key: str, text: str) -> bool:
    """A query argument that is 0 or 1.

    Raises:
        BadRequest: it is neither.
    """
    if text in ("", "0", "1"):
        return text == "1"
    raise BadRequest(f"?{key} must be 0 or 1")


def _keys(model: type[Body]) -> str:
    return ", ".join(model.model_fields) or "none"


def _shown(key: str) -> str:
    return key if key.isprintable() and len(key) <= 60 else repr(key[:60])
