"""Volumes that images declare."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from mooring.engines.capabilities import SupportsVolumes
from mooring.engines.docker import DockerEngine
from mooring.engines.fake import MemoryEngine
from mooring.errors import ImageError
from mooring.images.host_image import host_image
from tests.contract.support import Make, root_tar
from tests.support.docker import imported


class TestVolumes:
    """The paths at which an image has volumes."""

    capability = SupportsVolumes

    def test_an_image_without_volumes(self, engine: Any, make: Make) -> None:
        """An image that declares no volume has none, and one that is not here is an ImageError."""
        assert engine.image_volumes(host_image(engine).reference) == ()
        with pytest.raises(ImageError, match=r"mooring\.invalid/nothing:here"):
            engine.image_volumes("mooring.invalid/nothing:here")

    def test_an_image_with_volumes(self, engine: Any) -> None:
        """The volumes of an image are found by its name and by its id."""
        if isinstance(engine, MemoryEngine):
            engine.images["v"] = "sha256:v"
            engine.volumes = {"sha256:v": ("/b", "/a")}
            assert engine.image_volumes("v") == engine.image_volumes("sha256:v") == ("/a", "/b")
            return
        assert isinstance(engine, DockerEngine)
        with imported(root_tar(secrets.token_bytes(8)), "volumes", "VOLUME /b /a") as reference:
            image = engine.image_id(reference)
            assert image
            assert engine.image_volumes(reference) == engine.image_volumes(image) == ("/a", "/b")
