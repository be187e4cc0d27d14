"""The docker command, and what tests make with it, marked with the run that made it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

from mooring.engines.docker import DockerEngine
from mooring.host.boot import boot_id
from mooring.host.processes import alive, process_mark

# A label of containers and images; they and what is made of them go when their run is over
RUN = "mooring.test"
_numbers = itertools.count()


def this_run() -> str:
    """The value of ``RUN`` for what this process makes: where it runs, and which process it is."""
    return f"{_here()} {process_mark(os.getpid())}"


def run_label() -> str:
    """The mark of this run as an instruction of a Dockerfile."""
    return f'LABEL {RUN}="{this_run()}"'


def docker(
    *words: str, stdin: bytes | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run the docker command; its output is text, its exit code is the caller's to look at."""
    done = subprocess.run(
        ["docker", *words], input=stdin, capture_output=True, timeout=timeout_s, check=False
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def inspect(container: str) -> dict[str, Any]:
    """What the engine says of a container."""
    done = docker("inspect", "--type", "container", container)
    assert done.returncode == 0, done.stderr
    description: dict[str, Any] = json.loads(done.stdout)[0]
    return description


def docker_api(engine: Any) -> Any:
    """The SDK's own client of a real engine: for what only it can show."""
    from docker.api.client import APIClient

    assert isinstance(engine, DockerEngine)
    return APIClient(base_url=engine.address, version="1.41")


@contextlib.contextmanager
def imported(tar: bytes, name: str, *changes: str) -> Iterator[str]:
    """An image of a root filesystem, and its reference, which is this call's own.

    At the end it is removed. That fails while a container is made of it: the image would stay,
    without a name.

    Args:
        tar: the root filesystem.
        name: what the reference is to say.
        changes: instructions of a Dockerfile.
    """
    reference = f"mooring-test/{name}:{os.getpid()}-{next(_numbers)}"
    words = [word for change in (*changes, run_label()) for word in ("--change", change)]
    done = docker("import", *words, "-", reference, stdin=tar)
    assert done.returncode == 0, done.stderr
    try:
        yield reference
    finally:
        done = docker("rmi", reference)
        assert done.returncode == 0, done.stderr


def sweep() -> None:
    """Remove the containers and images of runs that were killed, on this machine."""
    containers = docker("ps", "-aq", "--no-trunc", "--filter", f"label={RUN}").stdout.split()
    for container in filter(_is_left, containers):
        docker("rm", "--force", "--volumes", container)
    images = docker("images", "-aq", "--no-trunc", "--filter", f"label={RUN}").stdout.split()
    for image in filter(_is_left, images):
        docker("rmi", "--force", image)


def _is_left(made: str) -> bool:
    label = docker("inspect", "--format", f'{{{{index .Config.Labels "{RUN}"}}}}', made).stdout
    here, _, mark = label.strip().partition(" ")
    return here == _here() and not alive(mark)


def _here() -> str:
    return f"{boot_id()}/{os.readlink('/proc/self/ns/pid')}"
