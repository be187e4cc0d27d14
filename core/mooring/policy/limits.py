"""The administrator's limits and defaults for all sessions: /etc/mooring/policy.yml.

The limits apply to mooring only: users with direct access to the engine can bypass them. If the
policy cannot be read, or others can write to it, no session may start. Every error is one line that
names the file.
"""

from __future__ import annotations

import fnmatch
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from mooring.errors import Mistakes, PolicyError, SpecError
from mooring.host.ownership import flaw_as_roots
from mooring.host.text import one_line, quoted
from mooring.host.users import caller
from mooring.policy.image_names import BUILD, plain_pattern, spellings
from mooring.spec.fields import GpuCount, Priority, Truth
from mooring.spec.model import SessionSpec, canonical
from mooring.spec.resolve import NOT_IN_USER_CONFIG, Source, tilde, user_config_path
from mooring.spec.units import format_duration, parse_duration
from mooring.spec.validation import check
from mooring.spec.yamlfile import KeyPath, SpecDocument, parse, read

#: Not configurable by an environment variable, which users could set.
POLICY_FILE = Path("/etc/mooring/policy.yml")
#: The user id that must own the file and its folder.
OWNER = 0
#: Keys that the administrator's defaults cannot set: those of a single session, and those by which
#: users give a session what is theirs.
NOT_IN_DEFAULTS = NOT_IN_USER_CONFIG | {"build", "distribution", "groups", "home"}

DEFAULTS = "defaults"
_ASK = "ask the administrator"
_UNITS = ((3600, "h"), (60, "m"))

#: The mounts: each the key in the spec, and the real path.
Sources = Iterable[tuple[str, Path]]


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
    """The keys of a policy; None means no limit.

    Attributes:
        defaults: values of sessions that say nothing else; the other keys are limits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_gpus: GpuCount | None = None
    max_gpus_per_user: GpuCount | None = None
    max_duration: Annotated[float, BeforeValidator(_limit)] | None = None
    require_max_duration: Truth = False
    images: Annotated[tuple[str, ...], BeforeValidator(_texts)] | None = None
    host_paths: Annotated[tuple[str, ...], BeforeValidator(_prefixes)] | None = None
    max_priority: Priority | None = None
    defaults: SessionSpec = SessionSpec()


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

    @property
    def defaults(self) -> Source:
        """The administrator's defaults."""
        data = self.document.data.get(DEFAULTS, {}) if self.document else {}
        return Source(canonical(data), lambda key: f"policy {self.place(DEFAULTS, *key)}")

    def describe(self) -> dict[str, str]:
        """Return the limits that are set, as readable text by key."""
        limits = {}
        for key in self.document.data if self.document else ():
            if key == DEFAULTS:
                continue
            value = getattr(self.limits, key)
            if value is not None and value is not False:
                limits[key] = _shown(key, value)
        return limits

    def place(self, *key: str | int) -> str:
        """Return where the policy sets a key, such as `/etc/mooring/policy.yml:3`."""
        if self.document is None:
            return str(POLICY_FILE)
        position = self.document.position(key)
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
            PolicyError: values are not allowed; the hint tells what is.
        """
        if self.document is None:
            return

        def origin(key: str) -> str:
            return f" ({origins[key]})" if key in origins else ""

        mistakes = Mistakes()
        with mistakes:
            self._check_gpus(spec.gpu_request[0], origin("gpus"))
        with mistakes:
            self.check_duration(spec.max_duration, origin("max_duration"))
        with mistakes:
            if spec.build is not None:
                self._check_image(BUILD, {BUILD}, origin(BUILD))
            else:
                self._check_image(spec.image, set(_names(spec)), origin("image"))
        with mistakes:
            self._check_priority(spec.priority, origin("priority"))
        with mistakes:
            self.check_paths(sources, origins)
        mistakes.report()

    def check_duration(self, seconds: float, origin: str = "") -> None:
        """Check a maximum duration against the policy.

        Args:
            seconds: the duration; 0 for unlimited.
            origin: where the value came from, as ` (...)` for the message.

        Raises:
            PolicyError: it is too long, or missing.
        """
        longest = self.limits.max_duration
        missing = not seconds and origin == " (default)"
        if longest is not None and not 0 < seconds <= longest:
            asked = format_duration(seconds) if seconds else "never"
            if seconds and asked == format_duration(longest):
                asked = f"{seconds:g}s"
            limit = _shown("max_duration", longest)
            raise self._error(
                "max_duration",
                f"max_duration is {asked}{origin}, and the maximum is {limit}",
                f"{_how_to_set(limit, missing)}; for more {_ASK}",
            )
        if self.limits.require_max_duration and not seconds:
            raise self._error(
                "require_max_duration",
                f"max_duration is never{origin}, and every session must have one",
                _how_to_set("8h", missing),
            )

    def check_paths(
        self, sources: Sources, origins: Mapping[str, str] = types.MappingProxyType({})
    ) -> None:
        """Check mounts against the policy.

        Args:
            sources: the mounts, with symbolic links resolved.
            origins: where the values came from, by key, for the message.

        Raises:
            PolicyError: paths are outside all allowed folders.
        """
        prefixes = self.limits.host_paths
        if prefixes is None:
            return
        tops = [Path(os.path.realpath(_expand_home(prefix))) for prefix in prefixes]
        mistakes = Mistakes()
        for key, source in sources:
            if any(top == source or top in source.parents for top in tops):
                continue
            origin = f" ({origins[key]})" if key in origins else ""
            with mistakes:
                raise self._error(
                    "host_paths",
                    f"{key}{origin}: {one_line(str(source))} is outside the folders that may be "
                    "mounted",
                    f"allowed are {_listed(prefixes)}, and folders below them; for more {_ASK}",
                )
        mistakes.report()

    def check_defaults(self) -> None:
        """Check the defaults against the limits.

        Raises:
            SpecError, PolicyError: a default is not allowed; the message has its line.
        """
        spec, limits = self.limits.defaults, self.limits
        checks: dict[str, Callable[[], None]] = {
            "gpus": lambda: self._check_gpus(spec.gpu_request[0], ""),
            "max_duration": lambda: self.check_duration(spec.max_duration),
            "image": lambda: self._check_image(spec.image, set(_names(spec)), ""),
            "priority": lambda: self._check_priority(spec.priority, ""),
        }
        for key in self.defaults.data:
            place = self.place(DEFAULTS, key)
            if key in NOT_IN_DEFAULTS:
                raise SpecError(f"{place}: {DEFAULTS}: {key} is each user's own")
            try:
                checks.get(key, lambda: None)()
            except PolicyError as error:
                raise SpecError(f"{place}: {DEFAULTS}: {error.message}") from None
        most = limits.max_gpus_per_user
        if most is not None and spec.gpu_request[0] > most:
            place = self.place(DEFAULTS, "gpus")
            raise SpecError(f"{place}: {DEFAULTS}: gpus is above max_gpus_per_user, {most:g}")

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
        for pattern in map(plain_pattern, patterns):
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
        _require_values(document)
        policy = Policy(check(Limits, document.data, what="policy", where=document), document)
        policy.check_defaults()
        return policy
    except SpecError as error:
        nearest = f"{error.hint}; " if error.hint.startswith("did you mean") else ""
        raise PolicyError(error.message, nearest + hint) from None
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}", hint) from None


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
    policy = load()
    if policy.document is None:
        return
    spec = SessionSpec.from_public_dict(public)
    if max_duration_s is not None:
        spec = spec.model_copy(update={"max_duration": max_duration_s})
    policy.check(spec, sources)


def _names(spec: SessionSpec) -> Iterator[str]:
    return spellings(spec.image, host=spec.uses_host_image)


def _require_values(document: SpecDocument) -> None:
    """Refuse keys without a value: leaving a key out means no limit, and no default."""
    values: dict[KeyPath, object] = {(key,): value for key, value in document.data.items()}
    defaults = document.data.get(DEFAULTS)
    if isinstance(defaults, dict):
        values |= {(DEFAULTS, key): value for key, value in defaults.items()}
    for path, value in values.items():
        if value is None:
            raise SpecError(f"{document.where(path)}: {one_line(path[-1])} has no value")


def _how_to_set(limit: str, missing: bool) -> str:
    """Return the hint for a maximum duration: ``missing`` if nothing sets one."""
    if not missing:
        return f"use --max-duration {limit} or less, or correct it where it is set"
    place = one_line(tilde(user_config_path()))
    return f"write max_duration: {limit} into {place}, or use --max-duration {limit}"


def _expand_home(prefix: str) -> str:
    return prefix if prefix.startswith("/") else caller().home + prefix[1:]


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _check_owner(path: Path, info: os.stat_result) -> None:
    if flaw := flaw_as_roots(info, OWNER):
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
