"""Puts the built JupyterLab panel into the wheel, where Jupyter looks for panels.

``make panel`` builds it, which needs Node; the wheel that it is in needs none. Without it the
wheel is whole but for the panel, and the build says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PANEL = Path("server_extension", "mooring_server_extension", "labextension")


class PanelHook(BuildHookInterface):  # type: ignore[type-arg] # hatchling is no typed dependency
    """Called by hatchling for each wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the panel's files; an editable install reads them from the clone instead."""
        if version == "editable":
            return  # `make panel` links them
        panel = Path(self.root) / PANEL
        if not (panel / "package.json").is_file():
            self.app.display_warning(
                "mooring: the JupyterLab panel is not built and will be missing; with Node 18 or"
                " newer, `make panel` in a clone builds it"
            )
            return
        build_data["shared_data"][str(panel)] = "share/jupyter/labextensions/mooring"
