"""Entry point of ``python -m mooring_cli`` and of the console script ``mooring``."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn

#: Garbage collection threshold: short commands exit before any collection, long ones still collect.
THRESHOLD = 20_000


def main() -> NoReturn:
    """Run a command and exit without finalizing the interpreter, which would take 30 ms."""
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
            if not code:  # otherwise an error was already printed
                with contextlib.suppress(OSError):
                    os.write(2, f"error: cannot write the output: {error.strerror}\n".encode())
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    main()
