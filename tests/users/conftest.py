"""Two people who share a machine and its engine, and one who may not use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mooring.engines.base import Engine
from tests.support.wheel_env import InstalledWheel
from tests.users.people import Person, engine_group, person, remove_sessions


@pytest.fixture(scope="session")
def _alice(installed_wheel: InstalledWheel, real_engine: Engine) -> Iterator[Person]:
    with person("mt-alice", installed_wheel, groups=(engine_group(),)) as user:
        yield user


@pytest.fixture(scope="session")
def _bob(installed_wheel: InstalledWheel, real_engine: Engine) -> Iterator[Person]:
    with person("mt-bob", installed_wheel, groups=(engine_group(),)) as user:
        yield user


@pytest.fixture
def alice(_alice: Person) -> Iterator[Person]:
    """A user who may use the engine. After each test nothing of hers is left, and nothing of
    anybody else's lies in her home: no file of root's either."""
    yield _alice
    left = remove_sessions(_alice)
    assert not left, "\n".join(left)


@pytest.fixture
def bob(_bob: Person) -> Iterator[Person]:
    """Another one."""
    yield _bob
    left = remove_sessions(_bob)
    assert not left, "\n".join(left)


@pytest.fixture(scope="session")
def carol(installed_wheel: InstalledWheel, real_engine: Engine) -> Iterator[Person]:
    """A user who is not in the engine's group."""
    with person("mt-carol", installed_wheel, groups=()) as user:
        yield user
