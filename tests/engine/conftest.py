"""What tests of this folder share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.support.docker import RUN, docker
from tests.support.yard import SHELLS, Yard


@pytest.fixture(scope="module", params=SHELLS)
def yard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    """Where containers of one shell are started, and removed at the end of the module."""
    shell: str = request.param
    if docker("version").returncode != 0:
        pytest.skip("no docker engine answers")
    if shutil.which(shell) is None:
        package = "busybox-static" if shell == "busybox" else shell
        pytest.skip(f"{shell} is not installed (apt-get install {package})")
    yard = Yard(shell, tmp_path_factory.mktemp(shell))
    yield yard
    yard.close()
    left = docker("ps", "-aq", "--no-trunc", "--filter", f"label={RUN}").stdout.split()
    assert not set(left) & set(yard.ids)
