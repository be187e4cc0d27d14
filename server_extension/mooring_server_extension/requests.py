"""Strict validation of request bodies and query arguments."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mooring import SpecError, duration_pattern, parse_duration
from mooring_server_extension.responses import BadRequest


class Body(BaseModel):
    """A request's body: unknown keys and wrong types are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Nothing(Body):
    """An empty object."""


class Create(Body):
    """A new session.

    Attributes:
        file: a spec file, relative to the server's root.
        values: keys of a spec, which override the file's.
        name: overrides the name in both.
        allow: trust the file in its current state, or only in the one that has this digest.
    """

    file: str | None = None
    values: dict[str, Any] = Field(default_factory=dict)
    name: str | None = None
    allow: bool | Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = False


def _whole(value: Any) -> Any:
    """An integer, as JSON Schema counts 1.0 as one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Update(Body):
    """New deadlines and limits of a session.

    Attributes:
        idle_timeout, max_duration: text such as ``1h``, or ``off``; empty if not given.
        cpus, memory_bytes, pids_limit: as in ``mooring.ResourceLimits``; 0 if not given.
    """

    idle_timeout: str | float = ""
    max_duration: str | float = ""
    cpus: Annotated[float, Field(ge=0.01, le=4096)] = 0.0
    memory_bytes: Annotated[int, BeforeValidator(_whole), Field(ge=6 << 20, le=1 << 60)] = 0
    pids_limit: Annotated[int, BeforeValidator(_whole), Field(ge=100, le=1 << 22)] = 0


class Hold(Body):
    """How long to keep a session: text such as ``2h``, or ``off``."""

    duration: str | float


class NewKernel(Body):
    """A new kernel, with the path of its folder or notebook relative to the server's root."""

    path: str | None = None


B = TypeVar("B", bound=Body)

#: The text of a duration, in the document too: all that it allows are durations.
DURATION = duration_pattern()
MAX_TEXT = 64
_DURATION = re.compile(DURATION)


def read(model: type[B], body: Any) -> B:
    """Validate a body.

    Args:
        model: the expected type.
        body: the parsed JSON.

    Raises:
        BadRequest: the body is invalid; the message names the first invalid key, and for an unknown
            key the hint lists the valid keys.
    """
    if not isinstance(body, dict):
        raise BadRequest("the body is not a JSON object", f"valid keys: {_keys(model)}")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # For a union of types the rest of the location names a member of the union
        key = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            raise BadRequest(
                f"unknown key {_printable(key)} in the body", f"valid keys: {_keys(model)}"
            ) from None
        raise BadRequest(f"{_printable(key)}: {problem['msg']}", "") from None


def duration(key: str, value: str | float) -> float:
    """Parse a duration in a body.

    Args:
        key: the key, for the error message.
        value: text such as ``1h``, or ``off``.

    Returns:
        The duration in seconds; 0 for ``off``.

    Raises:
        BadRequest, SpecError: the value is not a duration, or has no unit.
    """
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise SpecError(f"{key} {error}") from None
    if isinstance(value, str) and not (_DURATION.fullmatch(value) and len(value) <= MAX_TEXT):
        raise BadRequest(
            f"{key}: {_printable(value)} is not a duration",
            "use one such as 90s, 30m, 1h30m or 8h, or off",
        )
    return seconds


def number(key: str, text: str, *, least: int, most: int) -> int:
    """Parse a query argument that is an integer.

    Args:
        key: the argument's name.
        text: the argument's value.
        least, most: inclusive bounds.

    Raises:
        BadRequest: the value is not an integer, or out of bounds.
    """
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
        return int(text)
    raise BadRequest(f"?{key} must be a whole number", f"from {least} to {most}")


def flag(key: str, text: str) -> bool:
    """Parse a query argument that is ``0`` or ``1``.

    Args:
        key: the argument's name.
        text: the argument's value.

    Raises:
        BadRequest: the value is neither.
    """
    if text in ("0", "1"):
        return text == "1"
    raise BadRequest(f"?{key} must be 0 or 1")


def _keys(model: type[Body]) -> str:
    return ", ".join(model.model_fields) or "none"


def _printable(key: str) -> str:
    return key if key.isprintable() and len(key) <= 60 else repr(key[:60])
