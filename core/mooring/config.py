"""Where each value of a spec came from: flags > environment > file > user config > default.

A higher source's value replaces a lower one's; `env` and `secrets` merge by name; `image` and
`build` replace each other. Nothing is read implicitly but the user's own configuration.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SpecError
from .spec import SessionSpec, canonical
from .specfile import KeyPath, SpecDocument, load, one_line, scalar, validate

#: Environment variables, and the key that each sets. An empty variable counts as absent; a value
#: is read as an unquoted YAML value: `MOORING_IDLE_TIMEOUT=30m`, `MOORING_HOME=true`.
ENVIRONMENT: Mapping[str, str] = types.MappingProxyType(
    {
        "MOORING_NAME": "name",
        "MOORING_IMAGE": "image",
        "MOORING_PULL": "pull",
        "MOORING_KERNEL": "kernel",
        "MOORING_COMMAND": "command",
        "MOORING_GPUS": "gpus",
        "MOORING_CPUS": "cpus",
        "MOORING_MEMORY": "memory",
        "MOORING_SHM": "shm",
        "MOORING_HOME": "home",
        "MOORING_IDLE_TIMEOUT": "idle_timeout",
        "MOORING_MAX_DURATION": "max_duration",
        "MOORING_TARGET": "target",
        "MOORING_ENCRYPT": "encrypt",
        "MOORING_RECORD": "record",
    }
)
#: Keys that belong to one session, so that the user's configuration cannot set them for all.
NOT_IN_USER_CONFIG = frozenset({"name", "command", "inputs", "outputs", "secrets"})

_MERGED = ("env", "secrets")
_TEXT = frozenset({"name", "image", "pull", "kernel", "command", "target", "encrypt"})
_ALTERNATIVES = {"image": "build", "build": "image"}


@dataclass(frozen=True)
class ResolvedSpec:
    """A spec, and where it came from.

    Attributes:
        spec: the validated declaration.
        origins: for every key, and for every `env.NAME` and `secrets.NAME`: `flag --image`,
            `environment MOORING_IMAGE`, `file session.yml:3`, `user config PATH:2` or `default`.
        path: the spec file, absolute; None when there was none.
        project: the folder that relative paths start from: the spec file's, or else the current.
        sha256: of the spec file's bytes, in hexadecimal; None when there was none.
    """

    spec: SessionSpec
    origins: Mapping[str, str]
    path: Path | None
    project: Path
    sha256: str | None


@dataclass(frozen=True)
class _Source:
    data: dict[str, Any]
    origin: Callable[[KeyPath], str]


def user_config_path() -> Path:
    """Where the user's configuration is looked for: `~/.config/mooring/config.yml` on Linux."""
    import platformdirs

    return Path(platformdirs.user_config_dir("mooring")) / "config.yml"


def resolve(
    *,
    flags: Mapping[str, object],
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    user_config: Path | None = None,
    flag: Callable[[str], str] = lambda key: f"flag --{key.replace('_', '-')}",
) -> ResolvedSpec:
    """Put a spec together from its five sources; every door calls this.

    Args:
        flags: keys as in a spec file; None is a flag that was not given.
        file: the spec file; None for none, also when there is a ./session.yml.
        environ: the environment, for the variables in `ENVIRONMENT`.
        user_config: the user's configuration; None for the usual place. It may be missing.
        flag: what a key of ``flags`` is called in errors, by a door that has no flags.

    Raises:
        SpecError: the first problem, with the flag, the variable or the `file:line:column`.
    """
    document = None if file is None else load(file)
    sources = [
        *_user_config(user_config_path() if user_config is None else Path(user_config)),
        *([] if document is None else [_from_document(document, "file")]),
        *_environment(environ),
        *_flags(flags, flag),
    ]
    data, origins = _merge(sources)
    spec = validate(data, where=lambda key: _origin(origins, key))
    path = None if document is None else _absolute(document.path)
    return ResolvedSpec(
        spec=spec,
        origins=types.MappingProxyType(origins),
        path=path,
        project=_absolute(Path()) if path is None else path.parent,
        sha256=None if document is None else document.sha256,
    )


def _absolute(path: Path) -> Path:
    try:
        return Path(os.path.abspath(path))
    except OSError:
        raise SpecError("the current folder is gone", "change to a folder that exists") from None


def _user_config(path: Path) -> Iterator[_Source]:
    if not os.path.lexists(path):
        return
    document = load(path, allow_empty=True)
    misplaced = sorted(NOT_IN_USER_CONFIG & document.data.keys())
    if misplaced:
        key = misplaced[0]
        raise SpecError(
            f"{document.where((key,))}: {key} belongs to one session, not to all",
            f"move {', '.join(misplaced)} to a session.yml",
        )
    yield _from_document(document, "user config")


def _from_document(document: SpecDocument, kind: str) -> _Source:
    validate(document.data, where=document)

    def origin(key: KeyPath) -> str:
        position = document.position(key)
        name = one_line(_tilde(document.path))
        return f"{kind} {name}:{position[0]}" if position else f"{kind} {name}"

    return _Source(canonical(document.data), origin)


def _tilde(path: Path) -> str:
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if home != "/" and text.startswith(home + "/") else text


def _environment(environ: Mapping[str, str]) -> Iterator[_Source]:
    for variable, key in ENVIRONMENT.items():
        text = environ.get(variable, "").strip()
        if text:
            yield _single(f"environment {variable}", key, _environment_value(variable, key, text))


def _environment_value(variable: str, key: str, text: str) -> object:
    if key in _TEXT:
        return text
    try:
        return scalar(text)
    except ValueError:
        raise SpecError(f"environment {variable}: {key} is not a number") from None


def _flags(flags: Mapping[str, object], called: Callable[[str], str]) -> Iterator[_Source]:
    for key, value in flags.items():
        if value is not None:
            yield _single(called(key), key, value)


def _single(label: str, key: str, value: object) -> _Source:
    """A source of one key, judged alone so that an error names it."""
    validate({key: value}, label=label)
    return _Source(canonical({key: value}), lambda _key: label)


def _merge(sources: list[_Source]) -> tuple[dict[str, Any], dict[str, str]]:
    """Lay sources over each other, the lowest first."""
    data: dict[str, Any] = {}
    origins = dict.fromkeys(SessionSpec.model_fields, "default")
    for source in sources:
        for key, value in source.data.items():
            origins[key] = source.origin((key,))
            replaced = _ALTERNATIVES.get(key)
            if replaced in data:
                del data[replaced]
                origins[replaced] = "default"
            if key not in _MERGED:
                data[key] = value
                continue
            named = value or {}
            origins.update({f"{key}.{name}": source.origin((key, name)) for name in named})
            data[key] = {**data.get(key, {}), **named}
    return data, origins


def _origin(origins: Mapping[str, str], key: KeyPath) -> str:
    dotted = ".".join(str(step) for step in key[:2])
    return origins.get(dotted) or origins.get(str(key[0]) if key else "", "")
