"""Resolve a spec from its sources, and record the origin of each value.

The order of precedence is: flags, environment, file, profile, user config, the administrator's
defaults, default. A value of a higher source replaces that of a lower one, except that `env` and
`secrets` are merged by name; `image` and `build` replace each other; in a file, a key without a
value resets it to its default, which is the administrator's if there is one. Files that a file
extends rank directly below it, by the same rules. Only the user's own configuration is read
implicitly.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mooring.errors import SpecError
from mooring.host.identity import folder_identity
from mooring.host.paths import current_dir, user_dir
from mooring.host.text import one_line
from mooring.spec.extends import NOT_IN_PROFILE, Chain, Layer, load_chain, refuse_keys
from mooring.spec.model import SessionSpec, canonical
from mooring.spec.profiles import profile_file
from mooring.spec.validation import validate
from mooring.spec.yamlfile import KeyPath, scalar

#: The key that each environment variable sets. Empty variables are ignored. Values of text keys
#: are used as they are, others are parsed as unquoted YAML values: `MOORING_IDLE_TIMEOUT=30m`.
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
        "MOORING_PIDS_LIMIT": "pids_limit",
        "MOORING_SHM": "shm",
        "MOORING_HOME": "home",
        "MOORING_IDLE_TIMEOUT": "idle_timeout",
        "MOORING_MAX_DURATION": "max_duration",
        "MOORING_PRIORITY": "priority",
        "MOORING_TARGET": "target",
        "MOORING_ENCRYPT": "encrypt",
        "MOORING_RECORD": "record",
    }
)
#: The environment variable that names a profile.
PROFILE_VARIABLE = "MOORING_PROFILE"
#: Keys of a single session, which the user's configuration cannot set.
NOT_IN_USER_CONFIG = frozenset({"name", "command", "inputs", "outputs", "ports", "secrets"})

_MERGED = ("env", "secrets")
_TEXT = frozenset({"name", "image", "pull", "kernel", "command", "target", "encrypt"})
_FLAGS = {
    "inputs": "input",
    "outputs": "output",
    "ports": "port",
    "secrets": "secret",
    "groups": "group-add",
}
_ALTERNATIVES = {"image": "build", "build": "image"}


@dataclass(frozen=True)
class ResolvedSpec:
    """A spec, and the origins of its values.

    Attributes:
        spec: the spec.
        origins: the origin of every key, and of every `env.NAME` and `secrets.NAME`:
            `flag --image`, `environment MOORING_IMAGE`, `file session.yml:3`, `profile PATH:4`,
            `user config PATH:2`, `policy PATH:5` or `default`. Files that the spec file extends
            are `file`, too.
        path: the absolute path of the spec file; None without one.
        project: the folder that relative paths start from: the spec file's, or the current one.
        root: without a spec file, the folder above which nothing is mounted by default, such as a
            Jupyter server's root; None for no such limit.
        sha256: the hash of the spec file and all files that it extends, with their real paths, in
            hexadecimal; None without a spec file. See `mooring.spec.extends.Chain`.
        reaches: descriptions of the files outside its folder that the spec file reads.
        extended: the files that it extends, as shown in errors.
        folder: the identity of the project's folder when the spec file had been read
            (`mooring.host.identity`); empty without a spec file.
        files: the real paths of the spec file and of all files that it extends.
    """

    spec: SessionSpec
    origins: Mapping[str, str]
    path: Path | None
    project: Path
    sha256: str | None
    reaches: tuple[str, ...] = ()
    extended: tuple[str, ...] = ()
    folder: str = ""
    files: tuple[Path, ...] = ()
    root: Path | None = None


@dataclass(frozen=True)
class Source:
    """Values of a spec that come from one place.

    Attributes:
        data: canonical keys and valid values of a spec file; None resets a key to its default.
        origin: returns the origin of a key path.
    """

    data: Mapping[str, Any]
    origin: Callable[[KeyPath], str]


#: No defaults but those of the spec's model.
NO_DEFAULTS = Source({}, lambda _key: "default")


def user_config_path() -> Path:
    """The path of the user's configuration: `~/.config/mooring/config.yml` on Linux."""
    return user_dir("config") / "config.yml"


def profiles_dir(user_config: Path | None = None) -> Path:
    """The folder of the user's profiles (NAME.yml): `profiles`, beside the user's configuration."""
    return (user_config or user_config_path()).parent / "profiles"


def flag_of(key: str) -> str:
    """The command-line flag of a key, for errors: `flag --idle-timeout`, `flag --input`."""
    return f"flag --{_FLAGS.get(key, key).replace('_', '-')}"


def resolve(
    *,
    flags: Mapping[str, object],
    file: Path | None = None,
    profile: str | None = None,
    environ: Mapping[str, str] = os.environ,
    user_config: Path | None = None,
    profiles: Path | None = None,
    flag: Callable[[str], str] = flag_of,
    defaults: Source = NO_DEFAULTS,
) -> ResolvedSpec:
    """Resolve a spec from its sources.

    Frontends call `mooring.policy.defaults.resolve`, which has the same arguments.

    Args:
        defaults: the administrator's defaults, which rank below all other sources.

    Raises:
        SpecError: the first problem, with the flag, the variable or the `file:line:column`.
    """
    config = user_config_path() if user_config is None else Path(user_config)
    folder = profiles or profiles_dir(config)
    path = None if file is None else _absolute(Path(file))
    project = _absolute(Path()) if path is None else path.parent
    chain = None if file is None else load_chain(Path(file), project=project, profiles=folder)
    label = flag("profile") if profile else f"environment {PROFILE_VARIABLE}"
    name = profile or environ.get(PROFILE_VARIABLE, "").strip()
    sources = [
        *_user_config(config, project, folder),
        *(_own(profile_file(name, folder, label), "profile", project, folder) if name else ()),
        *(_from_layer(layer, "file") for layer in (chain.layers if chain else ())),
        *_environment(environ),
        *_flags(flags, flag),
    ]
    data, origins = _merge(sources, defaults)
    spec = validate(data, where=lambda key: _origin(origins, key))
    return ResolvedSpec(
        spec=spec,
        origins=types.MappingProxyType(origins),
        path=path,
        project=project,
        sha256=chain.sha256 if chain else None,
        reaches=chain.reaches if chain else (),
        extended=_extended(chain) if chain else (),
        folder=_identity(project) if chain else "",
        files=chain.files if chain else (),
    )


def _identity(project: Path) -> str:
    try:
        return folder_identity(project)
    except OSError as error:
        raise SpecError(f"{project}: {error.strerror}", "try again") from None


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path if path.is_absolute() else current_dir() / path))


def _user_config(path: Path, project: Path, profiles: Path) -> Iterator[Source]:
    if os.path.lexists(path):
        yield from _own(path, "user config", project, profiles, NOT_IN_USER_CONFIG)


def _own(
    path: Path,
    kind: str,
    project: Path,
    profiles: Path,
    misplaced: frozenset[str] = NOT_IN_PROFILE,
) -> Iterator[Source]:
    """The sources of one of the user's own files, and of the files that it extends."""
    for layer in load_chain(path, project=project, profiles=profiles, own=True).layers:
        refuse_keys(layer.document, misplaced)
        yield _from_layer(layer, kind)


def _from_layer(layer: Layer, kind: str) -> Source:
    document = layer.document

    def origin(key: KeyPath) -> str:
        position = document.position(key)
        name = one_line(tilde(document.path))
        return f"{kind} {name}:{position[0]}" if position else f"{kind} {name}"

    return Source(layer.data, origin)


def _extended(chain: Chain) -> tuple[str, ...]:
    paths = [one_line(tilde(layer.document.path)) for layer in chain.layers[:-1]]
    return tuple(dict.fromkeys(paths))


def tilde(path: Path) -> str:
    """Return a path as text, with ``~`` for the user's home."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if home != "/" and text.startswith(home + "/") else text


def _environment(environ: Mapping[str, str]) -> Iterator[Source]:
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


def _flags(flags: Mapping[str, object], called: Callable[[str], str]) -> Iterator[Source]:
    for key, value in flags.items():
        if value is not None:
            yield _single(called(key), key, value)


def _single(label: str, key: str, value: object) -> Source:
    """A source with one key, validated separately so that an error names the source."""
    validate({key: value}, label=label)
    return Source(canonical({key: value}), lambda _key: label)


def _merge(sources: list[Source], defaults: Source) -> tuple[dict[str, Any], dict[str, str]]:
    """Merge sources, in ascending precedence, into the data and the origin of each key."""
    data: dict[str, Any] = {}
    origins = dict.fromkeys(SessionSpec.model_fields, "default")

    def put(source: Source, key: str, value: Any) -> None:
        origins[key] = source.origin((key,))
        replaced = _ALTERNATIVES.get(key)
        if replaced in data:
            del data[replaced]
            origins[replaced] = "default"
        if key not in _MERGED:
            data[key] = value
            return
        origins.update({f"{key}.{name}": source.origin((key, name)) for name in value})
        data[key] = {**data.get(key, {}), **value}

    for source in (defaults, *sources):
        for key, value in source.data.items():
            if value is not None:
                put(source, key, value)
                continue
            origins[key] = source.origin((key,))
            data.pop(key, None)
            for name in [name for name in origins if name.startswith(f"{key}.")]:
                del origins[name]
            if key in defaults.data:
                put(defaults, key, defaults.data[key])
    return data, origins


def _origin(origins: Mapping[str, str], key: KeyPath) -> str:
    dotted = ".".join(str(step) for step in key[:2])
    return origins.get(dotted) or origins.get(str(key[0]) if key else "", "")
