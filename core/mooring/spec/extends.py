"""The key `extends` of a spec file: other files and profiles that it is based on.

A spec file and the files that it names may be untrusted. Their number and depth are limited,
devices and files of /dev, /proc and /sys are not read, and no error contains text of a file outside
the project's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mooring.errors import SpecError
from mooring.host.text import one_line, quoted
from mooring.spec.fields import scheme_of
from mooring.spec.model import EXTENDS, SessionSpec, canonical
from mooring.spec.profiles import NAME, check_owner, is_system, profile_file
from mooring.spec.validation import validate
from mooring.spec.yamlfile import FileContent, KeyPath, SpecDocument, parse, read_file

MAX_FILES = 32
MAX_DEPTH = 8
#: Keys whose values a session can read, and which could reveal the text of another file.
TELLING = frozenset({"env", "command"})
#: Keys of a single session, which a profile cannot set.
NOT_IN_PROFILE = frozenset({"name"})
_KERNELS_OWN = tuple(map(Path, ("/dev", "/proc", "/sys")))
_ACCEPTS = "must be a path, a profile's name, or a list of them"


@dataclass(frozen=True)
class Layer:
    """A validated file.

    Attributes:
        document: the file, with the positions of its keys.
        data: its keys without `extends`; None resets a key to its default. Relative paths are made
            absolute if the file is not in the project's folder.
    """

    document: SpecDocument
    data: dict[str, Any]


@dataclass(frozen=True)
class Chain:
    """A file and all files that it extends.

    Attributes:
        layers: in ascending precedence; the file itself is last.
        reaches: descriptions of the accesses that require the user's trust.
        sha256: a hash of the contents and the real paths of all files, in hexadecimal.
        files: the real paths of all files; the file itself is first.
    """

    layers: tuple[Layer, ...]
    reaches: tuple[str, ...]
    sha256: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Base:
    """A file that another names under `extends`."""

    path: Path
    profile: str  # the name of the profile that it is or that extends it; empty for neither
    named_by_user: bool  # by the user, or in one of the user's own files
    of_system: bool = False  # it is an administrator's profile, or one extends it


def load_chain(path: Path, *, project: Path, profiles: Path, own: bool = False) -> Chain:
    """Read a file and, recursively, the files that it extends.

    Args:
        path: the file.
        project: an absolute path; relative paths in files of this folder are not changed.
        profiles: the folder of the user's profiles.
        own: the file is the user's own configuration or profile, and may be empty.

    Raises:
        SpecError: the first problem, with `file:line:column` of its file.
    """
    walk = _Walk(project, Path(os.path.realpath(project)), profiles, own)
    walk.add(_Base(path, "", True, is_system(path)), {})
    return Chain(
        tuple(walk.layers),
        tuple(dict.fromkeys(walk.reaches)),
        _hash(walk.files),
        tuple(dict.fromkeys(real for real, _ in walk.files)),
    )


def _hash(files: list[tuple[Path, str]]) -> str:
    """The hash of files in which any other path or content of one makes another hash.

    Args:
        files: the real path, and the hash of the content, of each.
    """
    content = json.dumps([(os.fsencode(path).hex(), sha256) for path, sha256 in files])
    return hashlib.sha256(content.encode()).hexdigest()


@dataclass
class _Walk:
    """A depth-first traversal of the files.

    Where a file lies is what its open descriptor says: its name may lead elsewhere by then.
    """

    project: Path
    real_project: Path
    profiles: Path
    own: bool
    layers: list[Layer] = field(default_factory=list)
    reaches: list[str] = field(default_factory=list)
    files: list[tuple[Path, str]] = field(default_factory=list)
    count: int = 0

    def add(self, base: _Base, trail: Mapping[Path, Path], place: str = "") -> None:
        """Add the layers of the files that a file extends, then its own.

        Args:
            base: the file.
            trail: the files that led to it, and their real paths.
            place: the position where the last of them names it; empty for the first file.
        """
        self.count += 1
        names = " → ".join(one_line(str(path), 60) for path in (*trail, base.path))
        self._check_limits(len(trail) + 1, names, place)
        content, real = _read(base, place)
        if real in trail.values():
            raise SpecError(f"{place}: {EXTENDS} is circular: {names}", "remove one of them")
        outside = not base.named_by_user and self.real_project not in real.parents
        try:
            document = parse(base.path, content, allow_empty=self.own or bool(base.profile))
            bases = list(self._bases(document, base))
            data = _validated(document, profile=bool(base.profile))
            self.files.append((real, document.sha256))
            for next_base, where in bases:
                self.add(next_base, {**trail, base.path: real}, where)
        except SpecError as error:
            raise _without_text(base.path, error, place) if outside else error from None
        if (outside or (base.profile and not self.own)) and TELLING & data.keys():
            whose = "the" if base.of_system else "your"
            what = f"{whose} profile {base.profile}, " if base.profile else ""
            self.reaches.append(f"read {what}{one_line(str(real), 4096)}")
        folder = os.path.abspath(base.path.parent)
        if folder != str(self.project):
            data = _from_folder(data, folder)
        self.layers.append(Layer(document, data))

    def _check_limits(self, depth: int, names: str, place: str) -> None:
        if depth > MAX_DEPTH:
            raise SpecError(
                f"{place}: {EXTENDS} is nested deeper than {MAX_DEPTH} files: {names}",
                "combine some of the files",
            )
        if self.count > MAX_FILES:
            raise SpecError(
                f"{place}: {EXTENDS} reads more than {MAX_FILES} files",
                "combine some of the files",
            )

    def _bases(self, document: SpecDocument, base: _Base) -> Iterator[tuple[_Base, str]]:
        """The files that a file extends, with the positions where it names them."""
        value = document.data.get(EXTENDS)
        if value is None:
            return
        keys: list[KeyPath] = [(EXTENDS,)]
        if isinstance(value, list):
            keys = [(EXTENDS, index) for index in range(len(value))]
        texts = value if isinstance(value, list) else [value]
        if not texts:
            raise SpecError(f"{document.where((EXTENDS,))}: {EXTENDS} {_ACCEPTS}")
        for key, text in zip(keys, texts, strict=True):
            place = document.where(key)
            plain = isinstance(text, str) and 0 < len(text) <= 4096 and text.isprintable()
            if not plain:
                raise SpecError(f"{place}: {EXTENDS} {_ACCEPTS}", "put it in quotes if it is text")
            yield self._base(text, document, base, place), place

    def _base(self, text: str, document: SpecDocument, base: _Base, place: str) -> _Base:
        if NAME.fullmatch(text):
            try:
                path = profile_file(text, self.profiles, f"{place}: {EXTENDS}")
            except SpecError as error:
                beside = document.path.parent / text
                if not os.path.lexists(beside):
                    raise
                raise SpecError(
                    error.message, f"for the file of that name in this folder, write ./{text}"
                ) from None
            return _Base(path, base.profile or text, True, base.of_system or is_system(path))
        if scheme_of(text):
            raise SpecError(
                f"{place}: {EXTENDS} reads files, not URLs", "save a copy beside this file"
            )
        path = _tidy(os.path.join(document.path.parent, os.path.expanduser(text)))
        if _is_kernels_own(Path(os.path.realpath(path))):  # opening one may have an effect
            raise SpecError(
                f"{place}: {EXTENDS} {one_line(text)}: not a regular file",
                "use a file on disk",
            )
        return _Base(path, base.profile, self.own or bool(base.profile), base.of_system)


def _read(base: _Base, place: str) -> FileContent:
    """Read a file; ``place`` is the position where another names it, empty for none."""

    def inspect(info: os.stat_result, real: Path) -> None:
        if base.of_system:
            check_owner(base.path, info, real)
        if place and _is_kernels_own(real):
            raise SpecError(f"{one_line(base.path)}: not a regular file")

    try:
        return read_file(base.path, inspect)
    except SpecError as error:
        if not place:
            raise
        hint = "correct the path, which is relative to the folder of the file that extends it"
        raise SpecError(f"{place}: {EXTENDS} {error.message}", hint) from None


def _is_kernels_own(real: Path) -> bool:
    return any(top == real or top in real.parents for top in _KERNELS_OWN)


def _tidy(path: str) -> Path:
    """Normalize a path if the result refers to the same file."""
    shorter = os.path.normpath(path)
    return Path(shorter if os.path.realpath(shorter) == os.path.realpath(path) else path)


def _without_text(path: Path, error: SpecError, place: str) -> SpecError:
    """Replace an error about a file outside the project's folder by one without the file's text."""
    name = one_line(str(path))
    position = re.match(re.escape(name) + r"(:\d+:\d+)", error.message)
    return SpecError(
        f"{name}{position.group(1) if position else ''}: not a valid spec, and {place} extends it; "
        "details are omitted because it is outside the project's folder",
        f"to see the error: mooring config show -f {quoted(path)}",
    )


def _validated(document: SpecDocument, *, profile: bool) -> dict[str, Any]:
    """The validated keys of a file in canonical form; None for keys without a value."""
    keys = {key: value for key, value in document.data.items() if key != EXTENDS}
    known = SessionSpec.model_fields.keys() | {"environment"}
    empty = [key for key, value in keys.items() if value is None and key in known]
    given = {key: value for key, value in keys.items() if key not in empty}
    validate(given, where=document)
    if profile:
        refuse_keys(document, NOT_IN_PROFILE)
    nulls = dict.fromkeys("image" if key == "environment" else key for key in empty)
    return {**nulls, **canonical(given)}


def refuse_keys(document: SpecDocument, keys: frozenset[str]) -> None:
    """Refuse keys of a single session in a file for all sessions.

    Args:
        document: the file.
        keys: the keys to refuse.

    Raises:
        SpecError: the file has such a key; the message has the position of the first by name.
    """
    misplaced = sorted(keys & document.data.keys())
    if misplaced:
        key = misplaced[0]
        raise SpecError(
            f"{document.where((key,))}: {key} is specific to one session",
            f"move {', '.join(misplaced)} to a session.yml",
        )


def _from_folder(data: dict[str, Any], folder: str) -> dict[str, Any]:
    """Make the relative paths of validated keys absolute."""

    def absolute(path: str) -> str:
        if path.startswith("~") or scheme_of(path):
            return path
        return os.path.join(folder, path.removeprefix("./"))

    def mount(item: Any) -> Any:
        if isinstance(item, str):
            return absolute(item)
        return {**item, "source": absolute(item["source"])}

    result = dict(data)
    for key in ("inputs", "outputs"):
        mounts = data.get(key)
        if isinstance(mounts, str):
            mounts = [part.strip() for part in mounts.split(",")]
        if mounts:
            result[key] = [mount(item) for item in mounts]
    if data.get("secrets"):
        result["secrets"] = {
            name: {**source, "file": absolute(source["file"])} if source.get("file") else source
            for name, source in data["secrets"].items()
        }
    build = data.get("build")
    if build is not None:
        build = {"dockerfile": build} if isinstance(build, str) else build
        result["build"] = {**build, "context": absolute(build.get("context", "."))}
    return result
