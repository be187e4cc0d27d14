"""A keeper's helper process: gets exit codes from the engine while no client is connected.

``python -m mooring.terminals.exit_codes FOLDER`` gets the exit code of each terminal of the session
whose output has ended, sends them to the keeper and exits; it retries until the engine answers.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from mooring.errors import MooringError
from mooring.terminals.terminal import settle_all

RETRY_S = 2.0


def main() -> None:
    from mooring.engines import open_engine

    session_dir = Path(sys.argv[1])
    with contextlib.suppress(OSError, MooringError):  # the keeper has exited: no one to report to
        while not settle_all(open_engine(), session_dir):
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main()
