"""What a run of the suite leaves when it is killed goes when the next one begins."""

from __future__ import annotations

import pytest

from mooring.engines.base import Engine
from tests.contract.support import root_tar
from tests.support.docker import RUN, docker, imported, sweep, this_run

pytestmark = pytest.mark.engine
DEAD = f"{2**22 + 1}:1"  # above the largest process id there can be, see proc_sys_kernel(5)


def exists(name: str) -> bool:
    return docker("inspect", name).returncode == 0


def make(image: str, run: str) -> str:
    """A container of a run of the suite."""
    made = docker("create", "--label", f"{RUN}={run}", image, "/none")
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_what_a_killed_run_left_goes(real_engine: Engine) -> None:
    """Containers and images of a process that is gone, and not those of one that lives or that
    another machine has."""
    here = this_run().partition(" ")[0]
    label, dead = f'LABEL {RUN}="{here} {DEAD}"', "mooring-test/dead:1"
    with imported(root_tar(b"living"), "living") as living:
        docker("import", "--change", label, "-", dead, stdin=root_tar(b"dead"))
        ours = make(living, this_run())
        theirs = make(living, f"elsewhere {DEAD}")
        left = make(dead, f"{here} {DEAD}")
        try:
            sweep()
            assert [exists(one) for one in (living, ours, theirs)] == [True] * 3
            assert [exists(one) for one in (left, dead)] == [False] * 2
        finally:
            docker("rm", "--force", ours, theirs, left)
            docker("rmi", "--force", dead)
