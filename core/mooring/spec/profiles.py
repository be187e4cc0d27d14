"""Profiles: specs with a name, the user's own and the administrator's for everybody."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from mooring.errors import SpecError
from mooring.host.ownership import flaw_as_roots
from mooring.host.text import one_line, quoted

#: The folder of the administrator's profiles, NAME.yml. Not configurable by an environment
#: variable, as the policy is not.
SYSTEM = Path("/etc/mooring/profiles")
#: The user id that must own it and its files.
OWNER = 0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def profile_files(own: Path) -> dict[str, Path]:
    """The files of all profiles by their names, sorted. A user's own precedes one for everybody.

    Args:
        own: the folder of the user's profiles.
    """
    found: dict[str, Path] = {}
    for folder in (SYSTEM, own):
        try:
            paths = [path for path in folder.iterdir() if path.suffix == ".yml"]
        except OSError:
            continue
        found |= {path.stem: path for path in paths if NAME.fullmatch(path.stem)}
    return dict(sorted(found.items()))


def profile_file(name: str, own: Path, label: str) -> Path:
    """The path of a profile's file.

    Args:
        name: the profile's name: letters, digits, `-` and `_`.
        own: the folder of the user's profiles.
        label: where the name was given, for errors, such as `flag --profile`.

    Raises:
        SpecError: the name is invalid, or the profile does not exist; then the hint has the nearest
            name, or all names.
    """
    if not NAME.fullmatch(name):
        raise SpecError(
            f"{label}: {one_line(name, 100)!r} is not the name of a profile",
            "use letters, digits, - and _; for a file use -f FILE",
        )
    for folder in (own, SYSTEM):
        if os.path.lexists(folder / f"{name}.yml"):
            return folder / f"{name}.yml"
    known = profile_files(own)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"to create it, write a spec to {own / name}.yml"
    if known:
        hint = f"did you mean {close[0]}?" if close else f"choose from: {', '.join(known)}"
    raise SpecError(f"{label}: there is no profile {name}", hint)


def is_system(path: Path) -> bool:
    """Whether a file is an administrator's profile."""
    return path.parent == SYSTEM


def check_owner(path: Path, info: os.stat_result, real: Path) -> None:
    """Check that an administrator's profile, or a file that it extends, is the administrator's.

    Args:
        path: the file's path.
        info: the status of the open file.
        real: its real path.

    Raises:
        SpecError: others can write to it or to its folder.
    """
    owned = [(path, info), *((folder, folder.stat()) for folder in {path.parent, real.parent})]
    for place, status in owned:
        if flaw := flaw_as_roots(status, OWNER):
            raise SpecError(
                f"{one_line(place)} {flaw}, so it is no profile for everybody",
                f"ask the administrator: chown root {quoted(place)}; chmod go-w {quoted(place)}",
            )
