"""Images out of files."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from mooring.engines.capabilities import SupportsImport, SupportsRecreate
from tests.contract.support import Make, root_tar


class TestImport:
    """An image that comes from no registry."""

    capability = SupportsImport

    def test_import(self, engine: Any, request: pytest.FixtureRequest) -> None:
        """An imported root filesystem is an image under the name that was asked for."""
        reference = f"mooring-contract/{secrets.token_hex(4)}:1"
        request.addfinalizer(lambda: engine.remove_image(reference))
        made = engine.import_image(root_tar(secrets.token_bytes(8)), reference)
        assert engine.image_id(reference) == made

    def test_older_images_go(self, engine: Any, make: Make, request: pytest.FixtureRequest) -> None:
        """Of a repository, the images before the newest go, unless a container uses them."""
        repository = f"mooring-contract/{secrets.token_hex(4)}"
        names = [f"{repository}:{number}" for number in range(3)]
        for name in (*names, f"{repository}-other:0"):
            request.addfinalizer(lambda name=name: engine.remove_image(name))
            engine.import_image(root_tar(secrets.token_bytes(8)), name)
        container = make(start=False, image=names[0])
        engine.remove_older_images(names[2])
        there = [engine.image_id(name) is not None for name in (*names, f"{repository}-other:0")]
        assert there == [True, False, True, True]
        engine.remove(container)

    def test_only_imported_images_go(
        self, engine: Any, make: Make, request: pytest.FixtureRequest
    ) -> None:
        """An image that somebody else has made, by a name of the same repository, stays."""
        if not isinstance(engine, SupportsRecreate):
            pytest.skip("the engine makes images in no other way")
        repository = f"mooring-contract/{secrets.token_hex(4)}"
        names = [f"{repository}:{name}" for name in ("precious", "old", "new")]
        for name in names:
            request.addfinalizer(lambda name=name: engine.remove_image(name))
        container = make(start=False)
        made = engine.recreate(
            container,
            image=names[0],
            name=f"{repository.rpartition('/')[2]}-recreated",
            labels={},
            env={},
            binds={},
            groups=(),
            gpus=(),
            devices=(),
        )
        engine.remove(made)
        for name in names[1:]:
            engine.import_image(root_tar(secrets.token_bytes(8)), name)
        engine.remove_older_images(names[2])
        assert [engine.image_id(name) is not None for name in names] == [True, False, True]
