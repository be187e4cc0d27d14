"""Folders of this machine in a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import Bind
from mooring.engines.capabilities import SupportsBinds
from mooring.errors import EngineError
from mooring.images.host_image import host_image
from tests.contract.support import Make
from tests.support.waiting import eventually


class TestBinds:
    """An engine of this machine."""

    capability = SupportsBinds

    def test_a_missing_source_is_refused(self, engine: Any, make: Make, tmp_path: Path) -> None:
        """A bind's source is never made by the engine: a missing one is an error."""
        missing = tmp_path / "missing"
        with pytest.raises(EngineError, match="missing"):
            make(binds=(Bind(str(missing), "/mnt/x"),), start=False)
        assert not missing.exists()
        with pytest.raises(EngineError, match="missing"):
            engine.check_source(str(missing))
        engine.check_source(str(tmp_path))

    def test_its_address_is_a_socket_of_this_machine(self, engine: Any) -> None:
        """What commands the engine is a socket that is here, if there is one."""
        address = engine.address
        assert not address or Path(address.removeprefix("unix://")).is_socket()

    def test_it_tells_what_is_mounted(self, engine: Any, make: Make, tmp_path: Path) -> None:
        """A running container's mounts are told by their identity and access, without a process
        in it; a path at which there is nothing is None."""
        (tmp_path / "a").mkdir()
        (tmp_path / "file").touch()
        binds = (
            Bind(str(tmp_path / "a"), "/mnt/a"),
            Bind(str(tmp_path / "file"), "/mnt/file", read_only=False),
        )
        given = host_image(engine).binds
        container = make(binds=(*given, *binds))
        assert set(engine.binds(container)) == {*given, *binds}
        eventually(lambda: engine.mounted(container, ["/mnt/a"]) is not None)
        a, file, nothing = engine.mounted(container, ["/mnt/a", "/mnt/file", "/mnt/nothing"])
        for found, path in ((a, tmp_path / "a"), (file, tmp_path / "file")):
            assert (found.device, found.inode) == (path.stat().st_dev, path.stat().st_ino)
        assert (a.writable, file.writable, nothing) == ("", "/mnt/file", None)
        engine.stop(container, grace_s=0.0)
        with pytest.raises(EngineError, match="not running"):
            engine.mounted(container, ["/mnt/a"])
