"""What the user allowed a file to reach. Flags are the user's own words and need no consent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mooring import paths
from mooring.errors import ConsentRequired

if TYPE_CHECKING:
    from mooring.config import ResolvedSpec
    from mooring.mounts import Grant


def needed(resolved: ResolvedSpec, grants: Sequence[Grant]) -> list[Grant]:
    """Those grants that a file asks for and that nobody has allowed yet.

    Consent is to a file's content: its SHA-256. A changed file asks again.
    """
    if resolved.sha256 is None or (paths.consents_dir() / resolved.sha256).exists():
        return []
    return [grant for grant in grants if resolved.origins.get(grant.key, "file").startswith("file")]


def require(resolved: ResolvedSpec, grants: Sequence[Grant]) -> None:
    """Refuse what needs consent and has none.

    Raises:
        ConsentRequired: names everything that is asked for.
    """
    missing = needed(resolved, grants)
    if missing:
        what = "; ".join(f"{grant.key}: {grant.what}" for grant in missing)
        raise ConsentRequired(
            f"{resolved.path} reaches beyond its folder: {what}",
            f"read it, then allow it: mooring trust {resolved.path}",
        )


def give(resolved: ResolvedSpec, grants: Sequence[Grant]) -> None:
    """Remember that the user allows this file, as it stands now."""
    if resolved.sha256 is not None:
        lines = [str(resolved.path), *(f"{grant.key}: {grant.what}" for grant in grants)]
        (paths.consents_dir() / resolved.sha256).write_text("\n".join(lines) + "\n")
