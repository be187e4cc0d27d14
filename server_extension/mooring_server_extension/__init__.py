"""The web's door to mooring: a REST API, a stream of what happens, metrics and an audit trail.

An extension of Jupyter Server; ``app.MooringExtension`` holds its settings.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Asked by Jupyter Server when it starts."""
    from mooring_server_extension.app import MooringExtension

    return [{"module": "mooring_server_extension", "app": MooringExtension}]
