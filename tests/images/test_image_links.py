"""Links of an image on the way to a session's mounts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mooring import FakeEngine
from mooring.engines.base import Bind
from mooring.errors import ImageError
from mooring.host.paths import Installation
from mooring.host.users import User
from mooring.images.image_links import check_places, refuse_links
from mooring.images.images import ImageFacts

ANN = User(1000, 1000, (), "ann", "/home/ann")
BINDS = (
    Bind("/p", "/p", False),
    Bind("/o", "/mnt/outputs/o", False),
    Bind("/h", "/home/ann", False),
    Bind("/x", "/home/ann/x", False),
    Bind("/e/passwd", "/etc/passwd"),
)


def check(links: Mapping[str, str | None], *volumes: str) -> None:
    check_places(BINDS, volumes, lambda path: links.get(path, ""), "i")


@pytest.mark.parametrize(
    "links",
    [
        {},
        {"/mnt": "/var/mnt", "/home": "/var/home"},
        {"/mnt": None, "/home": None},
        {"/home/ann/x": "/p"},  # under a mount: not the image's
        {"/etc/passwd": "/nix/store/passwd"},
    ],
)
def test_places_that_do_not_meet(links: Mapping[str, str | None]) -> None:
    """Links inside the image, and what a mount hides, are its own business."""
    check(links, "/data", "/var/lib/x", "/home/ann/volume")


@pytest.mark.parametrize(
    ("links", "volume"),
    [
        ({"/mnt": "/p"}, ""),
        ({"/mnt/outputs": "/p/deep"}, ""),
        ({"/mnt/outputs/o": "/p"}, ""),
        ({"/etc/passwd": "/p/passwd"}, ""),
        ({"/mnt": "/two/ann", "/home": "/two"}, ""),
        ({"/data": "/home/ann"}, "/data/x"),
        ({"/data": "/p"}, "/data"),
        ({"/p": "/mnt"}, ""),  # the outer mount is moved around the inner one
    ],
)
def test_places_that_meet(links: Mapping[str, str | None], volume: str) -> None:
    """A link that brings one mount into another, or a volume into one, is refused by name."""
    with pytest.raises(ImageError, match="image i has a symbolic link that brings"):
        check(links, *filter(None, [volume]))


def test_an_image_is_asked_once() -> None:
    """What was found is remembered by the image's id; without an id nobody is asked."""
    engine = FakeEngine(images=["i"])
    facts = ImageFacts("i", "", "", "", image_id="sha256:1")
    for _ in range(2):
        refuse_links(engine, Installation.here(), facts, BINDS, ANN)
        assert engine.containers == {}
    assert engine.calls.count("create") == 1
    engine.links = {"/mnt": "/p"}
    other = ImageFacts("i", "", "", "", image_id="sha256:2")
    with pytest.raises(ImageError, match="/mnt/outputs/o into the mount at /p"):
        refuse_links(engine, Installation.here(), other, BINDS, ANN)
    refuse_links(engine, Installation.here(), ImageFacts("i", "", "", ""), BINDS, ANN)
    assert list(Installation.here().images.glob("mooring-probe-*")) == []
