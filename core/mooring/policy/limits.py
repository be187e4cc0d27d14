"""The administrator's limits for all sessions on this machine: /etc/mooring/policy.yml.

The limits apply to mooring only: users with direct access to the engine can bypass them. If the
policy cannot be read, or others can write to it, no session may start. Every error is one line that
names the file.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
import stat
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from mooring.errors import PolicyError, SpecError
from mooring.host.text import one_line, quoted
from mooring.host.users import caller
from mooring.spec.fields import GpuCount, Priority, Truth
from mooring.spec.units import format_duration, parse_duration
from mooring.spec.validation import check
from mooring.spec.yamlfile import SpecDocument, parse, read

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec
    from mooring.spec.resolve import ResolvedSpec

#: Not configurable by an environment variable, which users could set.
POLICY_FILE = Path("/etc/mooring/policy.yml")
#: The user id that must own the file and its folder.
OWNER = 0
#: In image patterns: this machine's own software, and an image built from the spec.
HOST, BUILD = "host", "build"

_HEX = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
_DEFAULT_REGISTRY = ("docker.io", "index.docker.io")
_ASK = "ask the administrator"
_UNITS = ((3600, "h"), (60, "m"))

#: The mounts: each the key in the spec, and the real path.
Sources = Iterable[tuple[str, Path]]
# A busy kernel keeps its session from idling out, and perhaps nobody knows of it any more
_KERNEL_MAX_DURATION_S = 7 * 86400.0


def _limit(value: Any) -> float:
    seconds = parse_duration(value)
    if not seconds:
        raise ValueError("must be above 0; leave it out for no limit")
    return seconds


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(map(_is_text, value)):
        raise ValueError("must be a list of strings; [] allows nothing")
    return tuple(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


def _prefixes(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and None in value:
        raise ValueError("has an empty item; YAML reads a lone ~ as null, so write ~/")
    texts = _texts(value)
    if not all(text.startswith(("/", "~/")) or text == "~" for text in texts):
        raise ValueError("must be absolute paths, or ~/ for each user's home")
    return texts


class Limits(BaseModel):
    """The keys of a policy; None means no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_gpus: GpuCount | None = None
    max_gpus_per_user: GpuCount | None = None
    max_duration: Annotated[float, BeforeValidator(_limit)] | None = None
    require_max_duration: Truth = False
    images: Annotated[tuple[str, ...], BeforeValidator(_texts)] | None = None
    host_paths: Annotated[tuple[str, ...], BeforeValidator(_prefixes)] | None = None
    max_priority: Priority | None = None


@dataclass(frozen=True)
class Policy:
    """The administrator's policy; without a file, everything is allowed.

    Attributes:
        limits: the keys of the file.
        document: the parsed file; None if there is none.
    """

    limits: Limits = field(default_factory=Limits)
    document: SpecDocument | None = None

    @property
    def max_gpus_per_user(self) -> int | float | None:
        """How many GPUs one user's sessions may hold at a time; the queue enforces it."""
        return self.limits.max_gpus_per_user

    def describe(self) -> dict[str, str]:
        """Return the limits that are set, as readable text by key."""
        limits = {}
        for key in self.document.data if self.document else ():
            value = getattr(self.limits, key)
            if value is not None and value is not False:
                limits[key] = _shown(key, value)
        return limits

    def place(self, key: str) -> str:
        """Return where the policy sets a key, such as `/etc/mooring/policy.yml:3`."""
        if self.document is None:
            return str(POLICY_FILE)
        position = self.document.position((key,))
        return f"{self.document.path}:{position[0]}" if position else str(self.document.path)

    def check(
        self,
        spec: SessionSpec,
        sources: Sources = (),
        origins: Mapping[str, str] = types.MappingProxyType({}),
    ) -> None:
        """Check a spec against the policy.

        Args:
            spec: the spec.
            sources: its mounts.
            origins: where its values came from, by key, for the message.

        Raises:
            PolicyError: for the first value that is not allowed; the hint tells what is.
        """
        if self.document is None:
            return

        def origin(key: str) -> str:
            return f" ({origins[key]})" if key in origins else ""

        self._check_gpus(spec.gpu_request[0], origin("gpus"))
        self.check_duration(spec.max_duration, origin("max_duration"))
        if spec.build is not None:
            self._check_image(BUILD, {BUILD}, origin(BUILD))
        else:
            names = set(spellings(spec.image, host=spec.uses_host_image))
            self._check_image(spec.image, names, origin("image"))
        self._check_priority(spec.priority, origin("priority"))
        self.check_paths(sources, origins)

    def check_duration(self, seconds: float, origin: str = "") -> None:
        """Check a maximum duration against the policy.

        Args:
            seconds: the duration; 0 for unlimited.
            origin: where the value came from, as ` (...)` for the message.

        Raises:
            PolicyError: it is too long, or missing.
        """
        longest = self.limits.max_duration
        if longest is not None and not 0 < seconds <= longest:
            asked = format_duration(seconds) if seconds else "never"
            if seconds and asked == format_duration(longest):
                asked = f"{seconds:g}s"
            limit = _shown("max_duration", longest)
            raise self._error(
                "max_duration",
                f"max_duration is {asked}{origin}, and the maximum is {limit}",
                f"use --max-duration {limit} or less, or set it in your configuration; for more "
                + _ASK,
            )
        if self.limits.require_max_duration and not seconds:
            raise self._error(
                "require_max_duration",
                f"max_duration is never{origin}, and every session must have one",
                "use --max-duration 8h, or set it in your configuration",
            )

    def check_paths(
        self, sources: Sources, origins: Mapping[str, str] = types.MappingProxyType({})
    ) -> None:
        """Check mounts against the policy.

        Args:
            sources: the mounts, with symbolic links resolved.
            origins: where the values came from, by key, for the message.

        Raises:
            PolicyError: a path is outside all allowed folders.
        """
        prefixes = self.limits.host_paths
        if prefixes is None:
            return
        tops = [Path(os.path.realpath(_expand_home(prefix))) for prefix in prefixes]
        for key, source in sources:
            if any(top == source or top in source.parents for top in tops):
                continue
            origin = f" ({origins[key]})" if key in origins else ""
            raise self._error(
                "host_paths",
                f"{key}{origin}: {one_line(str(source))} is outside the folders that may be "
                "mounted",
                f"allowed are {_listed(prefixes)}, and folders below them; for more {_ASK}",
            )

    def _check_gpus(self, count: float, origin: str) -> None:
        most = self.limits.max_gpus
        if most is not None and count > most:
            raise self._error(
                "max_gpus",
                f"gpus is {count:g}{origin}, and the maximum for a session is {most:g}",
                f"ask for {most:g} or fewer; for more {_ASK}",
            )

    def _check_image(self, image: str, names: set[str], origin: str) -> None:
        patterns = self.limits.images
        if patterns is None:
            return
        for pattern in map(_pattern, patterns):
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                return
        raise self._error(
            "images",
            f"image {one_line(image)}{origin} is not allowed",
            f"allowed: {_listed(patterns)}; for another one {_ASK}",
        )

    def _check_priority(self, asked: int, origin: str) -> None:
        most = self.limits.max_priority
        if most is not None and asked > most:
            raise self._error(
                "max_priority",
                f"priority is {asked}{origin}, and the maximum is {most}",
                f"use --priority {most} or less; for more {_ASK}",
            )

    def _error(self, key: str, problem: str, hint: str) -> PolicyError:
        return PolicyError(f"{problem}: {key} in {self.place(key)}", hint)


def load(path: Path | None = None) -> Policy:
    """Read the policy.

    Args:
        path: the file; None for /etc/mooring/policy.yml.

    Raises:
        PolicyError: the file exists, and cannot be read, is not valid, or can be written to by
            others than the administrator; no session may start then.
    """
    path = POLICY_FILE if path is None else path
    hint = "no session starts without a valid policy: " + _ASK
    try:
        if not _exists(path):
            return Policy()
        for place in {path.parent, Path(os.path.realpath(path)).parent}:
            _check_owner(place, os.stat(place))
        content = read(path, lambda info: _check_owner(path, info))
        document = parse(path, content, allow_empty=True)
        # a key without a value is an error: leaving the key out means no limit
        for key, value in document.data.items():
            if value is None:
                raise SpecError(f"{document.where((key,))}: {one_line(key)} has no value")
        return Policy(check(Limits, document.data, what="policy", where=document), document)
    except SpecError as error:
        nearest = f"{error.hint}; " if error.hint.startswith("did you mean") else ""
        raise PolicyError(error.message, nearest + hint) from None
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}", hint) from None


def for_kernelspec(resolved: ResolvedSpec) -> ResolvedSpec:
    """Return the spec of a session that a kernelspec creates: with a maximum duration.

    Without one of its own, the session ends after seven days, or the policy's maximum if that is
    shorter.

    Raises:
        PolicyError: as ``load``.
    """
    if resolved.origins["max_duration"] != "default":
        return resolved
    longest_s = min(_KERNEL_MAX_DURATION_S, load().limits.max_duration or _KERNEL_MAX_DURATION_S)
    spec = resolved.spec.model_copy(update={"max_duration": longest_s})
    return dataclasses.replace(resolved, spec=spec)


def check_again(
    public: Mapping[str, Any], sources: Sources, max_duration_s: float | None = None
) -> None:
    """Check an existing session against the current policy.

    Args:
        public: its spec, as in its label.
        sources: its mounts.
        max_duration_s: its current maximum duration in seconds, 0 for never; None for the spec's.

    Raises:
        PolicyError: as `load` and `Policy.check`.
    """
    from mooring.spec.model import SessionSpec

    policy = load()
    if policy.document is None:
        return
    spec = SessionSpec.from_public_dict(public)
    if max_duration_s is not None:
        spec = spec.model_copy(update={"max_duration": max_duration_s})
    policy.check(spec, sources)


def spellings(image: str, *, host: bool = False) -> Iterator[str]:
    """Yield all names of an image that a pattern may match.

    `python:3.12` is also `docker.io/library/python:3.12` and, without its tag, `python`. An image
    with a digest is identified by that, and its tag is ignored. An image's id has no other name.

    Args:
        image: the image, as in `SessionSpec.image`.
        host: the image is this machine's own software.
    """
    if host:
        yield HOST
        return
    if _HEX.fullmatch(image):
        yield image
        return
    repository, mark, suffix = image.partition("@")
    tail = repository.rpartition("/")[2]
    tag = tail.partition(":")[2]
    if tag:
        repository = repository[: -len(tag) - 1]
    if not mark:
        mark, suffix = ":", tag or "latest"
    for name in _repositories(repository):
        yield f"{name}{mark}{suffix}"
        if name not in (HOST, BUILD):  # as patterns these do not name images of a registry
            yield name


def _repositories(name: str) -> Iterator[str]:
    """Yield the names of a repository; one on Docker Hub has several."""
    first, slash, rest = name.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    if has_registry and first.lower() not in _DEFAULT_REGISTRY:
        yield f"{first.lower()}/{rest}"
        return
    path = rest if has_registry else name
    path = path.removeprefix("library/") if path.count("/") == 1 else path
    yield path
    yield f"docker.io/{path}"
    if "/" not in path:
        yield f"library/{path}"
        yield f"docker.io/library/{path}"


def _pattern(text: str) -> str:
    plain = text.removeprefix("docker://")
    return f"docker.io/library/{plain}" if plain == HOST and plain != text else plain


def _expand_home(prefix: str) -> str:
    return prefix if prefix.startswith("/") else caller().home + prefix[1:]


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _check_owner(path: Path, info: os.stat_result) -> None:
    if info.st_uid != OWNER:
        flaw = "is not owned by root"
    elif info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        flaw = "is writable by other users"
    else:
        return
    raise PolicyError(
        f"{path} {flaw}, so it is not a valid policy",
        f"no session starts until this is fixed: chown root {quoted(path)}; "
        f"chmod go-w {quoted(path)}",
    )


def _shown(key: str, value: Any) -> str:
    if key == "max_duration":
        size, unit = next((each for each in _UNITS if not value % each[0]), (1, "s"))
        return f"{value / size:g}{unit}"
    if isinstance(value, tuple):
        return _listed(value)
    return "yes" if value is True else f"{value:g}"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(one_line(text, 100) for text in texts) or "none"
