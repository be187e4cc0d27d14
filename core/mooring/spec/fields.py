"""The types of a spec's fields, with their validators and JSON Schemas."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Tag, ValidationInfo, WithJsonSchema

from mooring.spec.ports import canonical as canonical_port
from mooring.spec.references import PATTERN, is_reference
from mooring.spec.units import (
    format_size,
    parse_cpus,
    parse_duration,
    parse_gpu_count,
    parse_size,
)

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: The maximum of `record`, because a record is read as a whole when a client reconnects.
MAX_RECORD_BYTES = 64 * 2**20
#: The limits of `pids_limit`: mooring's own programs and one kernel need some 50 threads; and the
#: kernel's own maximum.
MIN_PIDS, MAX_PIDS = 100, 2**22
#: Tags that pydantic adds to an error's location.
UNION_TAGS = frozenset({"<number>", "<mapping>", "<line>", "<list>", "[key]"})

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_KERNEL = re.compile(r"[A-Za-z0-9._-]{1,100}")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_SCHEME = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://|(azureml):)", re.IGNORECASE)
_SECOND = 1.0
#: The context that validates what mooring has recorded, where durations are numbers of seconds.
RECORDED = {"recorded": True}
MIB = 2**20
#: The name of the image with this machine's own software.
HOST_IMAGE = "host"

_Check = Callable[[Any], Any]


def scheme_of(source: str) -> str | None:
    """The URL scheme of an image or a mount's source, in lower case; None if it has none."""
    match = _SCHEME.match(source)
    return (match.group(1) or match.group(2)).lower() if match else None


def _text(pattern: re.Pattern[str] | None, accepts: str, limit: int = 4096) -> _Check:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{accepts}; put it in quotes if it is meant as text")
        fits = 0 < len(value) <= limit and value.isprintable()
        if not fits or (pattern is not None and not pattern.fullmatch(value)):
            raise ValueError(accepts)
        return value

    return check


def _argument(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("must be text without NUL; put numbers in quotes")
    return _utf8(value)


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8 text; pass other bytes in a file") from None
    return text


def _variable(value: Any) -> str:
    if value is None:
        raise ValueError("has no value; write '' for an empty one")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)) or "\0" in str(value):
        raise ValueError("must be text, a number, true or false, without NUL")
    return _utf8(str(value))


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _gpus_of_a_kind(value: Any) -> int | float:
    count = parse_gpu_count(value)
    if count == 0:
        raise ValueError("must be above 0; write gpus: 0 for none")
    return count


def _size(minimum: int) -> _Check:
    def check(value: Any) -> int:
        size = parse_size(value)
        if size < minimum:
            raise ValueError(
                f"must be at least {format_size(minimum)}; a number without a unit is bytes"
            )
        return size

    return check


def _record(value: Any) -> int:
    if value is False or (isinstance(value, str) and value.strip().lower() == "off"):
        return 0
    size = parse_size(value)
    if size and not MIB <= size <= MAX_RECORD_BYTES:
        raise ValueError("must be from 1 MiB to 64 MiB, or off; a number without a unit is bytes")
    return size


def _priority(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -100 <= value <= 100:
        raise ValueError("must be a whole number from -100 to 100")
    return value


def _pids_limit(value: Any) -> int:
    if value is False or (isinstance(value, str) and value.strip().lower() == "off"):
        return 0
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value > MAX_PIDS:
        raise ValueError(f"must be a whole number from {MIN_PIDS} to {MAX_PIDS}, or off")
    if value in (0, -1):  # as Docker writes it
        return 0
    if value < MIN_PIDS:
        raise ValueError(f"must be at least {MIN_PIDS}, or off for no limit")
    return value


def _timeout(value: Any, info: ValidationInfo) -> float:
    if info.context is RECORDED and isinstance(value, (int, float)):
        seconds = float(value)
    else:
        seconds = parse_duration(value)
    if 0 < seconds < _SECOND:
        raise ValueError("must be at least 1s, or off for never")
    return seconds


def _image(value: Any) -> str:
    accepts = "must be host or an image such as python:3.12 or docker://quay.io/org/name:tag"
    image: str = _text(None, accepts, 512)(value)
    if scheme_of(image) == "docker":
        image = image[len("docker://") :]
        # Docker Hub's image of that name, not this machine's software
        image = f"docker.io/library/{image}" if image == HOST_IMAGE else image
    elif scheme_of(image):
        return image
    if not is_reference(image):
        lower = is_reference(image.lower())
        raise ValueError(f"{accepts}; its name must be lowercase" if lower else accepts)
    return image


def _mount_name(value: Any) -> str:
    accepts = "must be a plain name of at most 100 characters: no '/', not '.' or '..'"
    name: str = _text(None, accepts, 100)(value)
    if "/" in name or name in (".", "..") or len(name.encode()) > 255:
        raise ValueError(accepts)
    return name


def by_kind(mapping: str, scalar: str, kinds: type | tuple[type, ...]) -> Discriminator:
    """Discriminate a union by the type of its value, so that an error is about one member only.

    Args:
        mapping: the tag of values of these types.
        scalar: the tag of all others.
        kinds: the types.
    """
    return Discriminator(lambda value: mapping if isinstance(value, kinds) else scalar)


def _schema(*alternatives: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": list(alternatives)} if alternatives[1:] else alternatives[0])


_TEXT: dict[str, Any] = {"type": "string"}
_SIZE_SCHEMA = _schema(_TEXT, {"type": "integer", "minimum": 0})
_COUNT_SCHEMA = _schema({"type": "number", "minimum": 0, "maximum": 1024})

# The types of a spec's fields

SessionName = Annotated[
    str,
    BeforeValidator(_text(_NAME, "must be at most 40 lowercase letters, digits and dashes")),
    _schema({**_TEXT, "pattern": f"^{_NAME.pattern}$"}),
]
KernelName = Annotated[
    str,
    BeforeValidator(_text(_KERNEL, "must be a kernel's name such as python3")),
    _schema({**_TEXT, "pattern": f"^{_KERNEL.pattern}$"}),
]
ModuleName = Annotated[
    str,
    BeforeValidator(_text(_MODULE, "must be a Python module such as torch or numpy.linalg", 200)),
    _schema({**_TEXT, "pattern": f"^{_MODULE.pattern}$", "maxLength": 200}),
]
Image = Annotated[
    str,
    BeforeValidator(_image),
    _schema(
        {**_TEXT, "pattern": f"^(?:docker://)?{PATTERN}$", "maxLength": 512},
        # other schemes are for later versions, and for other tools
        {**_TEXT, "pattern": "^(?!docker:)(?:[A-Za-z][A-Za-z0-9+.-]*://|azureml:)"},
    ),
]
MountName = Annotated[str, BeforeValidator(_mount_name)]
PathText = Annotated[
    str, BeforeValidator(_text(None, "must be a path, without control characters"))
]
Cpus = Annotated[
    float,
    BeforeValidator(parse_cpus),
    _schema({"type": "number", "minimum": 0.01, "maximum": 4096}),
]
Memory = Annotated[int, BeforeValidator(_size(6 * MIB)), _SIZE_SCHEMA]
SmallMemory = Annotated[int, BeforeValidator(_size(MIB)), _SIZE_SCHEMA]
GpuCount = Annotated[int | float, BeforeValidator(parse_gpu_count), _COUNT_SCHEMA]
GpusOfAKind = Annotated[int | float, BeforeValidator(_gpus_of_a_kind), _COUNT_SCHEMA]
GpuModel = Annotated[str, BeforeValidator(_text(None, "must be a GPU's model such as A100", 100))]
Port = Annotated[
    str,
    BeforeValidator(canonical_port),
    _schema(_TEXT, {"type": "integer", "minimum": 1, "maximum": 65535}),
]
Truth = Annotated[bool, BeforeValidator(_truth)]
EnvName = Annotated[
    str,
    BeforeValidator(
        _text(
            ENV_NAME,
            "must be a variable name: letters, digits and _, not starting with a digit",
            200,
        )
    ),
]
EnvValue = Annotated[
    str, BeforeValidator(_variable), _schema({"type": ["string", "number", "boolean"]})
]
Argument = Annotated[
    str, BeforeValidator(_argument), _schema({"type": ["string", "number", "boolean"]})
]
Command = Annotated[
    Annotated[str, BeforeValidator(_argument), Tag("<line>")]
    | Annotated[list[Argument], Tag("<list>")],
    by_kind("<list>", "<line>", (list, tuple)),
]
Duration = Annotated[
    float,
    BeforeValidator(_timeout),
    _schema(_TEXT, {"const": 0}, {"const": False}),
]
Priority = Annotated[
    int,
    BeforeValidator(_priority),
    _schema({"type": "integer", "minimum": -100, "maximum": 100}),
]
PidsLimit = Annotated[
    int,
    BeforeValidator(_pids_limit),
    _schema({"type": "integer", "minimum": -1, "maximum": MAX_PIDS}, _TEXT, {"const": False}),
]
GroupName = Annotated[
    str, BeforeValidator(_text(None, "must be the name of one of your groups", 256))
]
Target = Annotated[str, BeforeValidator(_text(None, "must be local or the name of an engine", 255))]
Record = Annotated[
    int,
    BeforeValidator(_record),
    _schema(_TEXT, {"type": "integer", "minimum": 0}, {"const": False}),
]
