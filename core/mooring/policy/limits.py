"""The administrator's limits for every session of this machine: /etc/mooring/policy.yml.

It binds those who use mooring. Who may use the engine itself can go around it, as around mooring.
A policy that cannot be read or trusted allows nothing: every error here is one line that names
the file.
"""

from __future__ import annotations

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
from mooring.host.users import caller
from mooring.images.images import HOST
from mooring.spec.units import format_duration, parse_duration, parse_gpu_count
from mooring.spec.yamlfile import SpecDocument, check, one_line, parse, read

if TYPE_CHECKING:
    from mooring.spec.model import SessionSpec

#: No variable names another one: it would be the user's.
POLICY_FILE = Path("/etc/mooring/policy.yml")
#: Who must own it, and the folder that it stands in.
OWNER = 0
BUILD = "build"

_HEX = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}")
_DEFAULT_REGISTRY = ("docker.io", "index.docker.io")
_ASK = "ask the administrator"
_UNITS = ((3600, "h"), (60, "m"))

Sources = Iterable[tuple[str, Path]]


def _limit(value: Any) -> float:
    seconds = parse_duration(value)
    if not seconds:
        raise ValueError("must be above 0; leave it out for no limit")
    return seconds


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(map(_is_text, value)):
        raise ValueError("must be a list of texts; [] allows none")
    return tuple(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


def _prefixes(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and None in value:
        raise ValueError("has an item without a value: ~ alone is that in YAML, write ~/")
    texts = _texts(value)
    if not all(text.startswith(("/", "~/")) or text == "~" for text in texts):
        raise ValueError("must be whole paths, or ~/ for each user's home")
    return texts


def _rank(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -100 <= value <= 100:
        raise ValueError("must be a whole number from -100 to 100")
    return value


_Gpus = Annotated[int | float, BeforeValidator(parse_gpu_count)]


class Limits(BaseModel):
    """The keys of a policy; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_gpus: _Gpus | None = None
    max_gpus_per_user: _Gpus | None = None
    max_duration: Annotated[float, BeforeValidator(_limit)] | None = None
    require_max_duration: Annotated[bool, BeforeValidator(_truth)] = False
    images: Annotated[tuple[str, ...], BeforeValidator(_texts)] | None = None
    host_paths: Annotated[tuple[str, ...], BeforeValidator(_prefixes)] | None = None
    max_priority: Annotated[int, BeforeValidator(_rank)] | None = None


@dataclass(frozen=True)
class Policy:
    """What the administrator allows; without a file, everything.

    Attributes:
        limits: the keys of the file.
        document: the file; None without one.
    """

    limits: Limits = field(default_factory=Limits)
    document: SpecDocument | None = None

    @property
    def max_gpus_per_user(self) -> int | float | None:
        """How many GPUs all sessions of one user may hold at a time: for the queue to see to."""
        return self.limits.max_gpus_per_user

    def told(self) -> dict[str, str]:
        """Each limit that is set, as a person writes it."""
        found = {}
        for key in self.document.data if self.document else ():
            value = getattr(self.limits, key)
            if value is not None and value is not False:
                found[key] = _shown(key, value)
        return found

    def place(self, key: str) -> str:
        """Where the policy sets a key: `/etc/mooring/policy.yml:3`."""
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
        """Hold a declaration against the policy.

        Args:
            sources: what it mounts: keys and real paths.
            origins: where its values came from, for the message.

        Raises:
            PolicyError: the first key that the policy does not allow, with what it does.
        """
        if self.document is None:
            return

        def said(key: str) -> str:
            return f" ({origins[key]})" if key in origins else ""

        self._check_gpus(spec, said("gpus"))
        self.check_duration(spec.max_duration, said("max_duration"))
        self._check_image(spec, said(BUILD if spec.build is not None else "image"))
        self._check_priority(spec, said("priority"))
        self.check_paths(sources, origins)

    def check_duration(self, seconds: float, said: str = "") -> None:
        """Hold a maximum duration against the policy.

        Args:
            seconds: 0 for never, which is longer than any.
            said: who said it, in brackets.

        Raises:
            PolicyError: it is too long, or is missing.
        """
        longest = self.limits.max_duration
        if longest is not None and not 0 < seconds <= longest:
            asked = format_duration(seconds) if seconds else "never"
            if seconds and asked == format_duration(longest):
                asked = f"{seconds:g}s"
            limit = _shown("max_duration", longest)
            raise self._error(
                "max_duration",
                f"max_duration is {asked}{said}, and the longest allowed is {limit}",
                f"say --max-duration {limit} or less, or put it into your configuration; for more "
                + _ASK,
            )
        if self.limits.require_max_duration and not seconds:
            raise self._error(
                "require_max_duration",
                f"max_duration is never{said}, and every session must have one",
                "say --max-duration 8h, or put it into your configuration",
            )

    def check_paths(
        self, sources: Sources, origins: Mapping[str, str] = types.MappingProxyType({})
    ) -> None:
        """Hold what is mounted against the policy.

        Args:
            sources: keys and real paths, links followed.

        Raises:
            PolicyError: one lies outside all that is allowed.
        """
        prefixes = self.limits.host_paths
        if prefixes is None:
            return
        tops = [Path(os.path.realpath(_home(prefix))) for prefix in prefixes]
        for key, source in sources:
            if any(top == source or top in source.parents for top in tops):
                continue
            said = f" ({origins[key]})" if key in origins else ""
            raise self._error(
                "host_paths",
                f"{key}{said}: {one_line(str(source))} lies outside the folders that may be "
                "mounted",
                f"allowed is what lies below {_listed(prefixes)}; for more {_ASK}",
            )

    def _check_gpus(self, spec: SessionSpec, said: str) -> None:
        most = self.limits.max_gpus
        count = spec.gpus if isinstance(spec.gpus, (int, float)) else spec.gpus.count
        if most is not None and count > most:
            raise self._error(
                "max_gpus",
                f"gpus is {count:g}{said}, and the most for a session is {most:g}",
                f"ask for {most:g} or fewer; for more {_ASK}",
            )

    def _check_image(self, spec: SessionSpec, said: str) -> None:
        patterns = self.limits.images
        if patterns is None:
            return
        image = BUILD if spec.build is not None else spec.image
        names = {BUILD} if spec.build is not None else set(spellings(spec.image))
        for pattern in map(_pattern, patterns):
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                return
        raise self._error(
            "images",
            f"image {one_line(image)}{said} is not among those allowed",
            f"allowed: {_listed(patterns)}; for another one {_ASK}",
        )

    def _check_priority(self, spec: SessionSpec, said: str) -> None:
        most, asked = self.limits.max_priority, spec.priority
        if most is not None and asked > most:
            raise self._error(
                "max_priority",
                f"priority is {asked}{said}, and the highest allowed is {most}",
                f"say --priority {most} or less; for more {_ASK}",
            )

    def _error(self, key: str, problem: str, hint: str) -> PolicyError:
        return PolicyError(f"{problem}: {key} in {self.place(key)}", hint)


def load(path: Path | None = None) -> Policy:
    """The policy in force, read anew.

    Args:
        path: default is /etc/mooring/policy.yml.

    Raises:
        PolicyError: it is there, and cannot be read, is wrong, or is not the administrator's
            alone; nothing is allowed then.
    """
    path = POLICY_FILE if path is None else path
    hint = "without a sound policy no session is made: " + _ASK
    try:
        if not _exists(path):
            return Policy()
        for place in {path.parent, Path(os.path.realpath(path)).parent}:
            _check_owner(place, os.stat(place))
        content = read(path, lambda found: _check_owner(path, found))
        document = parse(path, content, allow_empty=True)
        # a key without a value is no limit only where it is not there at all
        for key, value in document.data.items():
            if value is None:
                raise SpecError(f"{document.where((key,))}: {one_line(key)} has no value")
        return Policy(check(Limits, document.data, what="policy", where=document), document)
    except SpecError as error:
        nearest = f"{error.hint}; " if error.hint.startswith("did you mean") else ""
        raise PolicyError(error.message, nearest + hint) from None
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}", hint) from None


def check_again(
    public: Mapping[str, Any], sources: Sources, max_duration_s: float | None = None
) -> None:
    """Hold a session that was made before against the policy as it is now.

    Args:
        public: its spec, as its label has it.
        max_duration_s: as it stands now, 0 for never; None for the spec's.

    Raises:
        PolicyError: as `load` and `Policy.check`.
    """
    from mooring.spec.model import SessionSpec

    found = load()
    if found.document is None:
        return
    spec = SessionSpec.from_public_dict(public)
    if max_duration_s is not None:
        spec = spec.model_copy(update={"max_duration": max_duration_s})
    found.check(spec, sources)


def spellings(image: str) -> Iterator[str]:
    """All names of an image that a pattern may mean.

    `python:3.12` is also `docker.io/library/python:3.12` and, without its tag, `python`. What has
    a digest goes by that: its tag says nothing. An image's id has no other name.

    Args:
        image: as `SessionSpec.image` has it.
    """
    if image == HOST:
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
        if name not in (HOST, BUILD):
            yield name


def _repositories(name: str) -> Iterator[str]:
    """A repository's names: Docker Hub's have several."""
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


def _home(prefix: str) -> str:
    return prefix if prefix.startswith("/") else caller().home + prefix[1:]


def _exists(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid == OWNER and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    flaw = "belongs to somebody else than root" if found.st_uid != OWNER else "others may write it"
    raise PolicyError(
        f"{path}: {flaw}, so that it is no policy",
        f"no session is made until it is mended: chown root {path}; chmod go-w {path}",
    )


def _shown(key: str, value: Any) -> str:
    if key == "max_duration":
        size, unit = next((found for found in _UNITS if not value % found[0]), (1, "s"))
        return f"{value / size:g}{unit}"
    if isinstance(value, tuple):
        return _listed(value)
    return "yes" if value is True else f"{value:g}"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(one_line(text, 100) for text in texts) or "none"
