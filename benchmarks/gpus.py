"""Sessions with GPUs, where there are none: fake devices, and an engine that takes requests."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from timing import MOORING, row, run, session, timed

from mooring import LaunchOptions

sys.path.append(str(Path(__file__).resolve().parent.parent))
from tests.fakes.gpus import NVML, FakeGpus
from tests.gpus.observer import engine_client, why_no_requests

CLAIM_LIMIT_S = 0.1
GPUS_FOR_CLAIM, SESSIONS_FOR_CLAIM = 64, 200


@contextmanager
def machine(folder: Path, gpus: int) -> Iterator[FakeGpus]:
    """So many fake GPUs, for this process and the commands that it runs."""
    fake = FakeGpus(folder / f"gpus-{gpus}.json", gpus)
    before = {name: os.environ.get(name) for name in fake.environ}
    os.environ.update(fake.environ)
    sys.path.insert(0, str(NVML))
    try:
        yield fake
    finally:
        sys.path.remove(str(NVML))
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _possible(name: str) -> bool:
    why = why_no_requests()
    if why:
        print(f"{name} is left out: the engine takes no requests for GPUs ({why})")
    return not why


def gpu_start(rounds: int, folder: Path) -> dict[str, Any] | None:
    """A session on a free GPU, in the background, against the same container by docker run."""

    def create(name: str) -> None:
        run(*MOORING, "create", "-d", "--gpus", "1", "--name", name)

    return _against_docker("gpu_start", rounds, folder, create)


def gpu_create(rounds: int, folder: Path) -> dict[str, Any] | None:
    """The same by a process that is up already, as Jupyter's server is, against docker run."""
    from mooring import Mooring, resolve

    mooring = Mooring()

    def create(name: str) -> None:
        resolved = resolve(flags={"name": name, "gpus": "1"})
        mooring.sessions.create(resolved, LaunchOptions(tty=True), cwd=Path.cwd())

    try:
        return _against_docker("gpu_create", rounds, folder, create)
    finally:
        mooring.engine.close()


def _against_docker(
    what: str, rounds: int, folder: Path, create: Callable[[str], None]
) -> dict[str, Any] | None:
    if not _possible(what):
        return None
    with machine(folder, 8) as fake:
        word = what.replace("_", "-")
        _, container = session(f"{word}-like", "--gpus", "1")
        options, image, command = as_docker_run(container)
        run(*MOORING, "stop", f"{word}-like")  # its folders stay, for the container that is like it
        gpu = fake.uuids[0]
        sides: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 1):
            name, made = f"{word}{number}", []
            mine = timed(lambda n=name: create(n))
            run(*MOORING, "rm", "--force", name)
            theirs = ["docker", "run", "--detach", *options, "--gpus", f'"device={gpu}"']
            theirs += [image, *command]
            took = timed(lambda c=theirs, m=made: m.append(run(*c).stdout.strip()))
            run("docker", "rm", "--force", made[0])
            if number:  # the first warms caches
                sides[0].append(mine)
                sides[1].append(took)
    return row(what, *sides)


def as_docker_run(container: str) -> tuple[list[str], str, list[str]]:
    """The options, image and command with which docker would make the like of a session.

    Its network is the default one, as the session's.
    """
    like = json.loads(run("docker", "inspect", container).stdout)[0]
    host, config = like["HostConfig"], like["Config"]
    options = ["--init", "--tty", "--interactive", "--cap-drop", "ALL"]
    options += ["--security-opt", "no-new-privileges", "--user", config["User"]]
    options += ["--workdir", config["WorkingDir"], "--hostname", config["Hostname"]]
    options += ["--cgroupns", host["CgroupnsMode"] or "private"]
    options += ["--log-opt", "max-size=16m", "--log-opt", "max-file=2"]
    for capability in host["CapAdd"] or []:
        options += ["--cap-add", capability]
    for group in host["GroupAdd"] or []:
        options += ["--group-add", group]
    for pair in config["Env"]:
        options += ["--env", pair]
    for mount in host["Mounts"]:
        readonly = ",readonly" if mount.get("ReadOnly") else ""
        target = f"source={mount['Source']},target={mount['Target']}"
        options += ["--mount", f"type=bind,{target}{readonly}"]
    return options, config["Image"], ["/bin/sh"]


def gpu_claim(rounds: int, folder: Path) -> dict[str, Any] | None:
    """Who asks for a GPU of 64 while 200 sessions hold shares of most: how long until it has one.

    The reference is one listing of the engine's containers, without which nobody can know.
    """
    if not _possible("gpu_claim"):
        return None
    from mooring.launch.create import queue_of
    from mooring.sessions.context import Context

    with (
        machine(folder, GPUS_FOR_CLAIM) as fake,
        closing(engine_client(60)) as api,
        crowd(api, fake, SESSIONS_FOR_CLAIM),
    ):
        mine, theirs = [], []
        ctx = Context()
        queue = queue_of(ctx)
        for number in range(max(rounds, 7) + 1):
            took = timed(lambda: claim(queue))
            listing = timed(lambda: api.containers(filters={"status": ["running"]}))
            if number:
                mine.append(took)
                theirs.append(listing)
        ctx.engine.close()
    return row("gpu_claim", mine, theirs)


def claim(queue: Any) -> None:
    """Enqueue a ticket and be granted a whole GPU; then release both."""
    from mooring.gpus.claims import Request
    from mooring.gpus.tickets import Ticket

    ticket = Ticket(
        id="0" * 12,
        installation=queue.installation,
        user="nobody",
        session="one-more",
        request=Request(1),
        priority=0,
        since=0,
    )
    with queue.claim(ticket, tell=lambda text: None, max_wait_s=0.0) as claims:
        assert len(claims) == 1


@contextmanager
def crowd(api: Any, fake: FakeGpus, count: int) -> Iterator[None]:
    """So many containers that run, and claim a quarter of a GPU each, as sessions do."""
    from docker.types import DeviceRequest

    from mooring.engines.labels import container_name

    _, container = session("crowd", "--gpus", "0.25", "--", "sleep", "infinity")
    like = api.inspect_container(container)
    labels, mounts = like["Config"]["Labels"], like["HostConfig"]["Mounts"]
    programs = [mount for mount in mounts if mount["Target"] == "/usr"]
    made: list[str] = []

    def one(number: int) -> None:
        gpu = fake.uuids[number // 4]
        host = api.create_host_config(
            device_requests=[DeviceRequest(device_ids=[gpu], capabilities=[["gpu"]])],
            network_mode="none",
        )
        host["Mounts"] = programs
        found = api.create_container(
            like["Config"]["Image"],
            command=["/usr/bin/sleep", "infinity"],
            entrypoint=[],
            name=container_name(f"crowd-{number}", f"{number:012x}"),
            labels={
                **labels,
                "mooring.id": f"{number:012x}",
                "mooring.name": f"crowd-{number}",
                "mooring.installation": "0" * 16,
                "mooring.gpus": f"{gpu}:0.25",
            },
            host_config=host,
        )["Id"]
        made.append(found)
        api.start(found)

    def gone(container: str) -> None:
        with suppress(Exception):
            api.remove_container(container, force=True)

    run(*MOORING, "rm", "--force", "crowd")
    with ThreadPoolExecutor(4) as pool:
        try:
            list(pool.map(one, range(count)))
            time.sleep(2)  # the machine comes to rest
            yield
        finally:
            list(pool.map(gone, made))
