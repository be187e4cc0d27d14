"""What the user allowed a file to reach. Flags are the user's own words and need no consent."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mooring.errors import ConsentRequired
from mooring.host import paths

if TYPE_CHECKING:
    from mooring.images.mounts import Grant
    from mooring.spec.resolve import ResolvedSpec


def needed(resolved: ResolvedSpec, grants: Sequence[Grant]) -> list[Grant]:
    """Those grants that a file asks for and that nobody has allowed yet.

    Consent is to a file's content and to that of all that it extends (their SHA-256), and to what
    that reached when it was given: a changed file asks again, and so does one whose paths have
    come to lead elsewhere.
    """
    if resolved.sha256 is None:
        return []
    allowed = _allowed(resolved.sha256)
    return [
        grant
        for grant in grants
        if resolved.origins.get(grant.key, "file").startswith("file") and str(grant) not in allowed
    ]


def require(resolved: ResolvedSpec, grants: Sequence[Grant]) -> None:
    """Refuse what needs consent and has none.

    Raises:
        ConsentRequired: names everything that is asked for.
    """
    missing = needed(resolved, grants)
    if missing:
        what = "; ".join(map(str, missing))
        more = f" and what it extends ({', '.join(resolved.extended)})" if resolved.extended else ""
        raise ConsentRequired(
            f"{resolved.path} reaches beyond its folder: {what}",
            f"read it{more}, then allow it: mooring trust {resolved.path}",
        )


def give(resolved: ResolvedSpec, grants: Sequence[Grant]) -> None:
    """Remember that the user allows this file and what it extends, as they stand now."""
    if resolved.sha256 is None:
        return
    allowed = _allowed(resolved.sha256) | set(map(str, grants))
    path = paths.consents_dir() / resolved.sha256
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps({"file": str(resolved.path), "allowed": sorted(allowed)}))
    draft.replace(path)


def _allowed(sha256: str) -> set[str]:
    try:
        return set(json.loads((paths.consents_dir() / sha256).read_text())["allowed"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
