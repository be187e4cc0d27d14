"""Facts about an image: this machine as an image, or one of the engine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mooring.engines.base import Engine, PullProgress
from mooring.host.paths import Installation
from mooring.host.users import User
from mooring.images import images

if TYPE_CHECKING:
    from mooring.images.host_environment import HostEnvironment


def image_facts(
    engine: Engine,
    installation: Installation,
    reference: str,
    policy: str,
    user: User,
    progress: Callable[[str], None],
    host: HostEnvironment | None = None,
) -> images.ImageFacts:
    """Pull an image if needed, and inspect it.

    Args:
        engine: the engine that is to run it.
        installation: the caller's, which caches what is found.
        reference: the image.
        policy: the pull policy: always, missing or never.
        user: the user that the session will run as.
        progress: called with a line during a pull, repeatedly even without news; what it raises
            aborts the pull.
        host: what the user's environment adds to this machine as an image; None for the calling
            one's, without a kernel.

    Raises:
        ImageError: it cannot be pulled, or has no shell.
        SessionTimeout, EngineError
    """
    from mooring.spec.units import format_size

    if reference == images.HOST:
        from mooring.images.host_image import host_image

        return host_image(engine, host)

    def show(step: PullProgress) -> None:
        text = step.status.lower()
        if step.total_bytes:
            percent = step.done_bytes * 100 // step.total_bytes
            text = f"{percent}% of {format_size(step.total_bytes)}"
        progress(f"pulling {reference}: {text}")

    image_id = images.ensure_image(engine, reference, policy, show)
    return images.facts_of(engine, installation, reference, image_id, user)
