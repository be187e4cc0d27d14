"""What a spec file builds on: other files and the user's profiles, by its key `extends`.

A file may come from a stranger, and so may what it names: files are few and shallow, devices and
the kernel's own files are not read, and of a file outside the project's folder no error shows a
word.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mooring.errors import SpecError
from mooring.spec.fields import scheme_of
from mooring.spec.model import EXTENDS, SessionSpec, canonical
from mooring.spec.yamlfile import KeyPath, SpecDocument, one_line, parse, read, validate

MAX_FILES = 32
MAX_DEPTH = 8
#: Keys whose values a session can read: with them a file tells what stands in it.
TELLING = frozenset({"env", "command"})
#: A key of these belongs to one session, so that no profile can set it.
NOT_IN_PROFILE = frozenset({"name"})

_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KERNELS_OWN = tuple(map(Path, ("/dev", "/proc", "/sys")))
_ACCEPTS = "must be a path, a profile's name, or a list of them"


@dataclass(frozen=True)
class Layer:
    """One file, judged.

    Attributes:
        document: it, with the places of its keys.
        data: its keys, without `extends`; None for one that has its default again. Relative paths
            are absolute where the file stands in another folder than the project's.
    """

    document: SpecDocument
    data: dict[str, Any]


@dataclass(frozen=True)
class Chain:
    """A file and all that it builds on.

    Attributes:
        layers: the lowest first, the file itself last.
        reaches: what of it needs the user's consent if the file is not the user's own, in words.
        sha256: of all files' bytes; of one file alone it is that file's own.
    """

    layers: tuple[Layer, ...]
    reaches: tuple[str, ...]
    sha256: str


@dataclass(frozen=True)
class _Base:
    """What a file names under `extends`."""

    path: Path
    profile: str  # its name, or that of the one it was reached through
    outside: bool  # of the project's folder, and named by a file that is not the user's own


def load_chain(path: Path, *, project: Path, profiles: Path, own: bool = False) -> Chain:
    """Read a file, what it extends, what that extends, and so on.

    Args:
        path: of the file.
        project: absolute; relative paths of files in this very folder stay as they are.
        profiles: the folder of the user's profiles.
        own: the file is the user's own configuration or profile, and may be empty.

    Raises:
        SpecError: the first problem, with `file:line:column` of the file that has it.
    """
    walk = _Walk(project, profiles, own)
    walk.add(_Base(path, "", False), ())
    hashes = [layer.document.sha256 for layer in reversed(walk.layers)]
    whole = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return Chain(
        tuple(walk.layers),
        tuple(dict.fromkeys(walk.reaches)),
        whole if hashes[1:] else hashes[0],
    )


def profile_file(name: str, profiles: Path, label: str) -> Path:
    """The file of a profile.

    Args:
        name: letters, digits, `-` and `_`.
        label: who named it, for errors: `flag --profile`.

    Raises:
        SpecError: there is none of that name; the hint tells the nearest, or all.
    """
    if not _PROFILE.fullmatch(name):
        raise SpecError(
            f"{label}: {one_line(name, 100)!r} is no profile's name",
            "a profile's name is letters, digits, - and _; for a file say -f FILE",
        )
    path = profiles / f"{name}.yml"
    if os.path.lexists(path):
        return path
    known = profile_names(profiles)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"write it to {path}"
    if known:
        hint = f"did you mean {close[0]}?" if close else f"the profiles are {', '.join(known)}"
    raise SpecError(f"{label}: there is no profile {name}", hint)


def profile_names(profiles: Path) -> list[str]:
    """The names of the user's profiles, in order."""
    try:
        stems = [path.stem for path in profiles.iterdir() if path.suffix == ".yml"]
    except OSError:
        return []
    return sorted(stem for stem in stems if _PROFILE.fullmatch(stem))


@dataclass
class _Walk:
    """One way through the files, depth first."""

    project: Path
    profiles: Path
    own: bool
    layers: list[Layer] = field(default_factory=list)
    reaches: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, base: _Base, trail: tuple[Path, ...], place: str = "") -> None:
        """Add the layers of a file, after those of what it extends.

        Args:
            trail: the files that led here.
            place: where the last of them names it; empty for the first.
        """
        self.count += 1
        self._check_way((*trail, base.path), place)
        try:
            content = read(base.path)
        except SpecError as error:
            if not place:
                raise
            hint = "correct the path: it starts from the folder of the file that says it"
            raise SpecError(f"{place}: {EXTENDS} {error.message}", hint) from None
        try:
            document = parse(base.path, content, allow_empty=self.own or bool(base.profile))
            named = list(self._named(document, base))
            data = _judged(document, profile=bool(base.profile))
            for found, where in named:
                self.add(found, (*trail, base.path), where)
        except SpecError as error:
            raise _silent(base.path, error, place) if base.outside else error from None
        if (base.outside or (base.profile and not self.own)) and TELLING & data.keys():
            what = f"your profile {base.profile}, " if base.profile else ""
            self.reaches.append(f"read {what}{one_line(os.path.realpath(base.path), 4096)}")
        folder = os.path.abspath(base.path.parent)
        if folder != str(self.project):
            data = _from_folder(data, folder)
        self.layers.append(Layer(document, data))

    def _check_way(self, way: tuple[Path, ...], place: str) -> None:
        real = [os.path.realpath(path) for path in way]
        names = " → ".join(one_line(str(path), 60) for path in way)
        if real[-1] in real[:-1]:
            raise SpecError(
                f"{place}: {EXTENDS} goes round in circles: {names}", "take one of them out"
            )
        if len(way) > MAX_DEPTH:
            raise SpecError(
                f"{place}: {EXTENDS} goes deeper than {MAX_DEPTH} files: {names}",
                "put what they share into fewer files",
            )
        if self.count > MAX_FILES:
            raise SpecError(
                f"{place}: {EXTENDS} leads to more than {MAX_FILES} files",
                "put what they share into fewer files",
            )

    def _named(self, document: SpecDocument, base: _Base) -> Iterator[tuple[_Base, str]]:
        """What a file extends, and where it says so."""
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
        if _PROFILE.fullmatch(text):
            try:
                path = profile_file(text, self.profiles, f"{place}: {EXTENDS}")
            except SpecError as error:
                beside = document.path.parent / text
                if not os.path.lexists(beside):
                    raise
                raise SpecError(error.message, f"for the file beside it say ./{text}") from None
            return _Base(path, base.profile or text, False)
        if scheme_of(text):
            raise SpecError(
                f"{place}: {EXTENDS} reads files, and no URLs", "keep a copy beside this file"
            )
        path = _tidy(os.path.join(document.path.parent, os.path.expanduser(text)))
        real = Path(os.path.realpath(path))
        if any(top == real or top in real.parents for top in _KERNELS_OWN):
            raise SpecError(
                f"{place}: {EXTENDS} {one_line(text)}: no file to build on",
                "a spec is a file on a disk",
            )
        project = Path(os.path.realpath(self.project))
        inside = self.own or bool(base.profile) or project in real.parents
        return _Base(path, base.profile, not inside)


def _tidy(path: str) -> Path:
    """A path without `..`, where that leads to the same file."""
    shorter = os.path.normpath(path)
    return Path(shorter if os.path.realpath(shorter) == os.path.realpath(path) else path)


def _silent(path: Path, error: SpecError, place: str) -> SpecError:
    """The error about a file that the project has no claim to: where, and not a word of it."""
    name = one_line(str(path))
    found = re.match(re.escape(name) + r"(:\d+:\d+)", error.message)
    return SpecError(
        f"{name}{found.group(1) if found else ''}: not a spec, and {place} extends it; its text is "
        "not shown, for it lies outside the project's folder",
        f"see for yourself: mooring config show -f {path}",
    )


def _judged(document: SpecDocument, *, profile: bool) -> dict[str, Any]:
    """A file's keys in their canonical form; those without a value are None."""
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
    """Refuse keys of one session in a file for all of them.

    Raises:
        SpecError: with the first one's place.
    """
    misplaced = sorted(keys & document.data.keys())
    if misplaced:
        key = misplaced[0]
        raise SpecError(
            f"{document.where((key,))}: {key} belongs to one session, not to all",
            f"move {', '.join(misplaced)} to a session.yml",
        )


def _from_folder(data: dict[str, Any], folder: str) -> dict[str, Any]:
    """Judged keys with their relative paths made absolute."""

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
