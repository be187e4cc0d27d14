"""Images out of files."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from mooring.engines.capabilities import SupportsImport
from tests.contract.support import root_tar


class TestImport:
    """An image that comes from no registry."""

    capability = SupportsImport

    def test_import(self, engine: Any, request: pytest.FixtureRequest) -> None:
        """An imported root filesystem is an image under the name that was asked for."""
        reference = f"mooring-contract/{secrets.token_hex(4)}:1"
        request.addfinalizer(lambda: engine.remove_image(reference))
        made = engine.import_image(root_tar(secrets.token_bytes(8)), reference)
        assert engine.image_id(reference) == made
