"""An image with Python, for a user who cannot write to the image's own folders of packages."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.python_images import conda_like_image
from tests.support.wheels import OFFLINE, tiny_wheel
from tests.users.people import ONE_CELL, Person

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with conda_like_image() as reference:
        yield reference


def test_what_is_installed_is_there_at_once(alice: Person, image: str) -> None:
    """`%pip install X; import X` works although pip installs into a folder of the user's, which
    there was not when the session began, and X's programs are on PATH (ipython#12613,
    jupyterhub#2539)."""
    project = alice.folder("installs")
    os.chown(tiny_wheel(project), alice.uid, alice.gid)
    words = ["--image", image, "--pull", "never"]
    alice.mooring("kernel", "install", "--name", "host", *words, cwd=project)
    cell = (
        f"%pip install -q {OFFLINE} --no-warn-script-location --find-links . mt-tiny\n"
        "import mt_tiny\ntold = !mt-tiny\n"
        "open('told', 'w').write(f'{mt_tiny.__file__} {told[0]}')"
    )
    alice.run(alice.wheel.python, "-c", ONE_CELL, cell, cwd=project)
    place, version = (project / "told").read_text().split()
    assert place.startswith(f"{alice.home}/.local/lib/python3")
    assert version == "1.0"
    alice.mooring("kernel", "remove", "host")
