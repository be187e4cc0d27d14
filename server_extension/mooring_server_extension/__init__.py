"""Jupyter Server extension: a REST API, an event stream, metrics and an audit log.

``app.MooringExtension`` defines its settings.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Return the extension's entry point; called by Jupyter Server."""
    from mooring_server_extension.app import MooringExtension

    return [{"module": "mooring_server_extension", "app": MooringExtension}]
