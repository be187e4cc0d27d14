"""Trust in spec files: what a file may use outside its own folder.

Command-line flags come from the user and need no trust.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mooring.errors import TrustRequired
from mooring.host import atomic
from mooring.host.paths import Installation
from mooring.host.text import quoted

if TYPE_CHECKING:
    from mooring.images.mounts import Grant
    from mooring.spec.resolve import ResolvedSpec


def missing(resolved: ResolvedSpec, grants: Sequence[Grant]) -> list[Grant]:
    """Return the grants that a spec file needs and the user has not trusted it with.

    Trust applies to the content of the file and of all files that it extends (by SHA-256), and to
    the paths that it resolved to: it is needed again when the file changes, or when its paths
    resolve differently.

    Args:
        resolved: the spec, and where its values came from.
        grants: everything that it uses outside its folder.
    """
    if resolved.sha256 is None:
        return []
    trusted = _trusted(resolved.sha256)
    return [
        grant
        for grant in grants
        if resolved.origins.get(grant.key, "file").startswith("file") and str(grant) not in trusted
    ]


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
    """Record that the user trusts a spec file, and those that it extends, as they are now."""
    if resolved.sha256 is None:
        return
    trusted = _trusted(resolved.sha256) | set(map(str, grants))
    path = Installation.here().trusted / resolved.sha256
    text = json.dumps({"file": str(resolved.path), "allowed": sorted(trusted)})
    atomic.write_text(path, text)


def _trusted(sha256: str) -> set[str]:
    try:
        return set(json.loads((Installation.here().trusted / sha256).read_text())["allowed"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
