"""``python -m mooring_cli`` is ``mooring``."""

from mooring_cli.main import run

run()
