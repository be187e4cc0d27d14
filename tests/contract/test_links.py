"""Symbolic links in the files of an image."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from mooring.engines.base import ContainerConfig
from mooring.engines.capabilities import SupportsLinks
from mooring.engines.fake import MemoryEngine
from mooring.errors import EngineError
from tests.support.images import busybox_image

LINKS = {"here": "mnt", "there/up": "../etc/./passwd", "nowhere": "/no/such"}


class TestLinks:
    """What lies at a path of a container that was not started."""

    capability = SupportsLinks

    def test_links(self, engine: Any) -> None:
        """A link's target is resolved; a folder has none, and what is missing is None."""
        if isinstance(engine, MemoryEngine):
            engine.images["l"] = "sha256:l"
            engine.links = {"/here": "/mnt", "/there/up": "/etc/passwd", "/nowhere": "/no/such"}
            self._check(engine, "l")
            return
        with busybox_image(links=LINKS) as reference:
            self._check(engine, reference)

    def _check(self, engine: Any, reference: str) -> None:
        config = ContainerConfig(f"links-{secrets.token_hex(4)}", reference, ("sh",), "0:0")
        container = engine.create(config)
        try:
            targets = [engine.link_target(container, path) for path in ("/here", "/there/up")]
            assert targets == ["/mnt", "/etc/passwd"]
            assert engine.link_target(container, "/nowhere") == "/no/such"
            assert engine.link_target(container, "/none") is None
            assert engine.link_target(container, "/none/er") is None
            if not isinstance(engine, MemoryEngine):
                assert engine.link_target(container, "/mnt") == ""
        finally:
            engine.remove(container)

    def test_a_container_that_is_gone(self, engine: Any) -> None:
        """Of a container that does not exist nothing is told."""
        if isinstance(engine, MemoryEngine):
            with pytest.raises(EngineError):
                engine.link_target("0" * 64, "/mnt")
