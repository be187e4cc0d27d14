"""People for attacks: one who may use the engine, and a stranger who may not.

They have the mooring of ``installed_wheel``, and names of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mooring.engines.base import Engine
from tests.support.wheel_env import InstalledWheel
from tests.users.people import Person, engine_group, person, remove_sessions

__all__ = ["_owner", "owner", "stranger"]


@pytest.fixture(scope="module")
def _owner(installed_wheel: InstalledWheel, real_engine: Engine) -> Iterator[Person]:
    with person("mt-olga", installed_wheel, groups=(engine_group(),)) as user:
        yield user


@pytest.fixture
def owner(_owner: Person) -> Iterator[Person]:
    """A user in the engine's group. After each test no session of hers is left, and no file that is
    not hers lies in her home."""
    yield _owner
    left = remove_sessions(_owner)
    assert not left, "\n".join(left)


@pytest.fixture(scope="module")
def stranger(installed_wheel: InstalledWheel) -> Iterator[Person]:
    """A user who is not in the engine's group."""
    with person("mt-sven", installed_wheel, groups=()) as user:
        yield user
