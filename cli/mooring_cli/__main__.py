"""``python -m mooring_cli``, and the console script ``mooring``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import NoReturn

#: Most commands end before they leave garbage worth a collection; those that stay still collect.
THRESHOLD = 20_000


def main() -> NoReturn:
    """Run a command and end the process at once: taking the interpreter apart takes 30 ms."""
    gc.set_threshold(THRESHOLD)
    from mooring_cli.main import run

    try:
        run()
        code = 0
    except SystemExit as error:
        if not isinstance(error.code, int):
            raise
        code = error.code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = 128 + signal.SIGPIPE
        except OSError as error:
            if not code:  # else it has been told
                os.write(2, f"error: the output cannot be written: {error.strerror}\n".encode())
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    main()
