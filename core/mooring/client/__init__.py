"""``Mooring``: the client that the CLI, the Jupyter extensions and scripts use."""

from __future__ import annotations

from mooring.client.client import Mooring

__all__ = ["Mooring"]
