"""What a keeper of terminals starts when no client is there to ask the engine.

``python -m mooring.terminals.keeper.exit_codes FOLDER``: asks how the session's terminals ended,
tells the keeper and ends; tries again for as long as the engine does not answer.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from mooring.errors import MooringError
from mooring.sessions.record import Folder
from mooring.terminals.terminal import settle_all

AGAIN_S = 2.0


def main() -> None:
    from mooring.engines import open_engine

    folder = Folder(Path(sys.argv[1]))
    container = str(folder.record().get("container", ""))
    with contextlib.suppress(OSError, MooringError):  # the keeper is gone: nobody waits
        while not settle_all(open_engine(), container, folder):
            time.sleep(AGAIN_S)


if __name__ == "__main__":
    main()
