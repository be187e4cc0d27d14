"""Trust in spec files: what a file may use outside its own folder.

Trust is given to bytes in a place. It holds for the content and the real paths of a file and of all
files that it extends, for the real path and the identity of its folder, and for the paths that it
resolved to. The same bytes elsewhere, or in a folder that was put in the place of the trusted one,
need it again: what lies beside them may be somebody else's.

Command-line flags come from the user and need no trust.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mooring.errors import TrustRequired
from mooring.host import atomic
from mooring.host.identity import folder_identity
from mooring.host.paths import Installation
from mooring.host.text import quoted
from mooring.host.untrusted import parse_json

if TYPE_CHECKING:
    from mooring.images.mounts import Grant
    from mooring.spec.resolve import ResolvedSpec


def missing(resolved: ResolvedSpec, grants: Sequence[Grant]) -> list[Grant]:
    """Return the grants that a spec file needs and the user has not trusted it with.

    All of them, if its folder is not the one any more in which it was read.

    Args:
        resolved: the spec, and where its values came from.
        grants: everything that it uses outside its folder.
    """
    if resolved.sha256 is None:
        return []
    needed = [
        grant for grant in grants if resolved.origins.get(grant.key, "file").startswith("file")
    ]
    if not needed or not _is_in_place(resolved):
        return needed
    trusted = _trusted(resolved)
    return [grant for grant in needed if str(grant) not in trusted]


def require(resolved: ResolvedSpec, grants: Sequence[Grant]) -> None:
    """Check that the user trusts a spec file with everything that it uses outside its folder.

    Raises:
        TrustRequired: names everything that the user has not trusted the file with.
    """
    untrusted = missing(resolved, grants)
    if untrusted:
        raise refusal(resolved, untrusted)


def refusal(resolved: ResolvedSpec, untrusted: Sequence[Grant]) -> TrustRequired:
    """Return the error for a spec file that the user has not trusted with some grants."""
    what = "; ".join(map(str, untrusted))
    more = f" and what it extends ({', '.join(resolved.extended)})" if resolved.extended else ""
    return TrustRequired(
        f"{resolved.path} uses paths outside its folder: {what}",
        f"read it{more}, then trust it: mooring trust {quoted(resolved.path)}",
    )


def record(resolved: ResolvedSpec, grants: Sequence[Grant]) -> None:
    """Record that the user trusts a spec file, and those that it extends, as they were read."""
    if resolved.sha256 is None:
        return
    trusted = _trusted(resolved) | set(map(str, grants))
    path = _path(resolved)
    text = json.dumps({"file": str(resolved.path), "allowed": sorted(trusted)})
    atomic.write_text(path, text)


def digest(resolved: ResolvedSpec, grants: Sequence[Grant]) -> str:
    """Return a hash of everything that ``record`` would record trust in, in hexadecimal.

    A client that shows it to the user and gets it back knows that the user was asked about this.
    """
    content = json.dumps([_path(resolved).name, sorted(map(str, grants))])
    return hashlib.sha256(content.encode()).hexdigest()


def _is_in_place(resolved: ResolvedSpec) -> bool:
    try:
        return folder_identity(resolved.project) == resolved.folder
    except OSError:
        return False


def _path(resolved: ResolvedSpec) -> Path:
    """Return the path of the record, which is named by the hash of everything that trust holds for.

    The paths that a spec resolved to are in the record itself.
    """
    place = [os.fsencode(os.path.realpath(resolved.project)).hex(), resolved.folder]
    key = json.dumps([resolved.sha256, *place])
    return Installation.here().trusted / hashlib.sha256(key.encode()).hexdigest()


def _trusted(resolved: ResolvedSpec) -> set[str]:
    try:
        return set(parse_json(_path(resolved).read_text())["allowed"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
