"""What a kernelspec's ``argv`` runs in clients that ignore kernel provisioners.

This version has no relay for them. It says so, instead of running a kernel outside the container.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Explain, and fail. Returns the exit code."""
    print(
        "error: this client ignores kernel provisioners, so it cannot run a mooring kernel\n"
        "hint: connect it to a Jupyter server (jupyter server), and pick the kernel there",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
