"""Symbolic links of an image on the way to the mounts of a session.

The engine follows them when it mounts, as root: with a link from ``/mnt`` to the user's project, it
would create the mount point of an output there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable

from mooring.engines.base import Bind, Engine
from mooring.engines.capabilities import SupportsLinks
from mooring.errors import ImageError, PolicyError
from mooring.host.atomic import write_text
from mooring.host.paths import Installation
from mooring.host.untrusted import parse_json
from mooring.host.users import User
from mooring.images.images import ImageFacts, probe_container
from mooring.images.overmounts import enclosing, in_mount_order

# A path's link target; empty if it is not a link, None if it does not exist
Links = dict[str, str | None]


def refuse_links(
    engine: Engine,
    installation: Installation,
    facts: ImageFacts,
    binds: Iterable[Bind],
    user: User,
) -> None:
    """Refuse an image in which a mount would lie in another one because of a symbolic link.

    What was found in an image is cached. The host image has no such links.

    Args:
        engine: an engine that has the image.
        installation: the caller's, which has the cache.
        facts: the facts about the image.
        binds: all binds of the container.
        user: the user that the container runs as.

    Raises:
        ImageError: names the mount.
        EngineError
    """
    if not facts.image_id or not isinstance(engine, SupportsLinks):
        return
    store = installation.images / f"{facts.image_id.rpartition(':')[2]}.links.json"
    links: Links = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        stored = parse_json(store.read_text()).items()
        links = {path: target for path, target in stored if isinstance(target, str | None)}
    known = len(links)
    with contextlib.ExitStack() as stack:
        container = ""

        def link_at(path: str) -> str | None:
            nonlocal container
            if path not in links:
                container = container or stack.enter_context(
                    probe_container(engine, installation, facts.reference, ("/bin/sh",), user)
                )
                links[path] = engine.link_target(container, path)
            return links[path]

        check_places(binds, (*facts.volumes, engine.init), link_at, facts.reference)
    if len(links) > known:
        write_text(store, json.dumps(links))


def refuse_led_away(engine: Engine, container: str, binds: Iterable[Bind]) -> None:
    """Refuse a container in which links of its own move a mount or the init into another mount.

    A session that could write to the folders of its image may have left such links for its next
    start.

    Args:
        engine: the engine.
        container: the id of a container that does not run.
        binds: its binds.

    Raises:
        PolicyError: names the mount.
        EngineError
    """
    if not isinstance(engine, SupportsLinks):
        return
    links: Links = {}

    def link_at(path: str) -> str | None:
        if path not in links:
            links[path] = engine.link_target(container, path)
        return links[path]

    try:
        check_places(binds, (engine.init,), link_at, "of this session")
    except ImageError as error:
        raise PolicyError(error.message, "remove the session, and create it again") from None


def check_places(
    binds: Iterable[Bind],
    volumes: Iterable[str],
    link_at: Callable[[str], str | None],
    reference: str,
) -> None:
    """Check that links of an image move no mount into another one.

    Args:
        binds: all binds of the container.
        volumes: the paths at which the image declares volumes, and that of the engine's init.
        link_at: returns the target of a link in the image, resolved; empty if the path is not a
            link, None if it does not exist.
        reference: the image, for the error.

    Raises:
        ImageError: names the mount.
    """
    by_target = {bind.target: bind for bind in in_mount_order(binds)}
    places: dict[str, Bind] = {}  # where the mounts that lie in the image really are
    outer = [target for target in by_target if enclosing(target, by_target) is None]
    others = [path for path in volumes if enclosing(path, by_target) is None]
    for target in dict.fromkeys((*outer, *others)):
        place = _place(target, link_at)
        if place in places and places[place].source:
            raise _refusal(reference, target, places[place])
        places[place] = by_target.get(target, Bind("", target))  # a volume has no source
    for place, bind in places.items():
        other = enclosing(place, places)
        if other is not None and other.source:
            raise _refusal(reference, bind.target, other)


def _place(target: str, link_at: Callable[[str], str | None]) -> str:
    """Return where a path of an image leads."""
    here = "/"
    for number, name in enumerate(names := target.strip("/").split("/"), 1):
        here = os.path.join(here, name)
        link = link_at(here)
        if link is None:
            return os.path.join(here, *names[number:])
        here = link or here
    return here


def _refusal(reference: str, target: str, other: Bind) -> ImageError:
    return ImageError(
        f"image {reference} has a symbolic link that brings {target} into the mount at "
        f"{other.target}",
        "use another image",
    )
