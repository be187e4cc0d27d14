"""The names of images."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.engines.capabilities import SupportsImageNames
from mooring.engines.docker.images import names_of
from mooring.images.host_image import host_image


class TestImageNames:
    """What completion offers."""

    capability = SupportsImageNames

    def test_names(self, engine: Any) -> None:
        """Each with its tag, in order."""
        reference = host_image(engine).reference
        names = engine.image_names()
        assert reference in names
        assert list(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        (["b:2", "a:1"], ["a:1", "b:2"]),
        (["<none>:<none>"], []),
        ([], []),
        (None, []),
        (["host.example:5000/a/b:1"], ["host.example:5000/a/b:1"]),
    ],
)
def test_only_images_with_a_tag(tags: list[str] | None, names: list[str]) -> None:
    assert names_of([{"RepoTags": tags}, {"RepoTags": tags}]) == names
