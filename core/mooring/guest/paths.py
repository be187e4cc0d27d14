"""The paths in a session's container that are mooring's."""

from __future__ import annotations

#: The run folder, which the session can write to.
GUEST_RUN = "/run/mooring"


def programs_folder(session_id: str) -> str:
    """The folder of mooring's programs and settings in a session's container, read-only.

    It lies at the top, because a folder above a mount point could be renamed from inside, and is
    named by the session, so that no image can have a link there.
    """
    return f"/.mooring-{session_id}"
