"""Folders of this machine in a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import Bind
from mooring.engines.capabilities import SupportsBinds
from mooring.errors import EngineError
from tests.contract.support import Make


class TestBinds:
    """An engine of this machine."""

    capability = SupportsBinds

    def test_a_missing_source_is_refused(self, engine: Any, make: Make, tmp_path: Path) -> None:
        """A bind's source is never made by the engine: a missing one is an error."""
        missing = tmp_path / "missing"
        with pytest.raises(EngineError, match="missing"):
            make(binds=(Bind(str(missing), "/mnt/x"),), start=False)
        assert not missing.exists()

    def test_its_address_is_a_socket_of_this_machine(self, engine: Any) -> None:
        """What commands the engine is a socket that is here, if there is one."""
        address = engine.address
        assert not address or Path(address.removeprefix("unix://")).is_socket()
