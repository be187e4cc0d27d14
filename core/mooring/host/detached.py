"""Start processes that outlive this one."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from mooring.host.environment import minimal_environment
from mooring.host.paths import state_dir


def start_detached(argv: Sequence[str], *, log: str = "/dev/null") -> None:
    """Start a program in the background, in a process session of its own; do not wait for it.

    It is not a child of this process, and has none of its streams and few of its variables.

    Args:
        argv: the program's absolute path, and its arguments.
        log: the file to which its output is appended.

    Raises:
        OSError: no process can be started.
    """
    command = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 &'
    subprocess.run(
        ["/bin/sh", "-c", command, "sh", log, *argv],
        cwd="/",
        env=minimal_environment() | {"MOORING_STATE_DIR": str(state_dir())},
        start_new_session=True,
        check=False,
    )
