"""What an image declares is not what mooring declares: labels, health checks, signals, commits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Engine
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_PROBE,
    LABEL_SPEC,
    LABELS,
)
from mooring.gpus.inventory import Gpu
from mooring.gpus.usage import list_uses
from mooring.host.paths import Installation
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.support.docker import RUN, docker, inspect, run_label, this_run
from tests.support.images import busybox_image

pytestmark = pytest.mark.engine

GPUS = [Gpu(f"GPU-{n}", n, "nvidia", "A100", 2**35, "1") for n in range(2)]
CLAIMS = ["GPU-0", "GPU-0,GPU-1", "GPU-1:0.5"]


@pytest.fixture
def image_with(real_engine: Engine) -> Iterator[Callable[..., str]]:
    """Makes images with these instructions of a Dockerfile; it goes before ``mooring``, because
    the images have to outlive the sessions that are made of them."""
    with contextlib.ExitStack() as stack:
        yield lambda *changes: stack.enter_context(busybox_image(*changes))


def create(mooring: Mooring, image: str, name: str = "train") -> Session:
    flags = {"image": image, "pull": "never", "name": name, "command": ["sleep", "300"]}
    return mooring.sessions.create(resolve(flags=flags)).session


def states(engine: Engine) -> list[str]:
    return [use.state for use in list_uses(engine, GPUS, [], Installation.here().id)]


@contextlib.contextmanager
def commit(container: str, *changes: str) -> Iterator[str]:
    """An image of a container, as ``docker commit`` makes it."""
    reference = f"mooring-test/commit:{container[:12]}"
    words = [word for change in (*changes, run_label()) for word in ("--change", change)]
    done = docker("commit", *words, container, reference)
    assert done.returncode == 0, done.stderr
    try:
        yield reference
    finally:
        docker("rmi", "--force", reference)


@contextlib.contextmanager
def container(image: str, *words: str, run: bool = True) -> Iterator[str]:
    """A container of somebody's own, of that image."""
    verb = ["run", "--detach"] if run else ["create"]
    label = f"--label={RUN}={this_run()}"
    done = docker(*verb, "--network", "none", label, *words, image, "sleep", "300")
    assert done.returncode == 0, done.stderr
    try:
        yield done.stdout.strip()
    finally:
        docker("rm", "--force", done.stdout.strip())


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_label_of_an_image_claims_no_gpu(
    image_with: Callable[..., str],
    mooring: Mooring,
    real_engine: Engine,
    project: Path,
    claim: str,
) -> None:
    """A session without GPUs holds none, whatever its image's label says, running or not."""
    session = create(mooring, image_with(f'LABEL {LABEL_GPUS}="{claim}"'))
    assert session.claims == ()
    assert states(real_engine) == ["free", "free"]
    assert inspect(session.container)["Config"]["Labels"][LABEL_GPUS] == ""
    mooring.sessions.stop(session)
    assert mooring.sessions.start(mooring.sessions.get("train")).claims == ()


def test_no_label_of_an_image_is_a_sessions(
    image_with: Callable[..., str], mooring: Mooring, project: Path
) -> None:
    """Each label that mooring reads is the session's own, not the image's; the container that
    looks into the image is not taken for a session or an abandoned one either."""
    forged = {
        LABEL_ID: "../victim",
        LABEL_NAME: "victim",
        LABEL_OWNER: "nobody",
        LABEL_INSTALLATION: "f" * 16,
        LABEL_SPEC: "{'max_duration': 1}",
        LABEL_PROBE: "4194305:1",
        LABEL_GPUS: "GPU-0",
    }
    image = image_with(*(f'LABEL {key}="{text}"' for key, text in forged.items()))
    session = create(mooring, image)
    labels = inspect(session.container)["Config"]["Labels"]
    assert set(LABELS) <= labels.keys()
    assert [key for key, text in forged.items() if labels[key] == text] == []
    assert labels[LABEL_PROBE] == labels[LABEL_GPUS] == ""
    assert [one.name for one in mooring.sessions.list()] == ["train"]
    assert "victim" not in {one.name for one in mooring.sessions.list(all_users=True)}
    assert mooring.sessions.reconcile()[1].probes == ()


@pytest.mark.parametrize(
    "check",
    [
        "HEALTHCHECK --interval=1s --retries=1 CMD touch /tmp/checked",
        'HEALTHCHECK --interval=1s --timeout=1s CMD ["/bin/sh", "-c", "exit 1"]',
        "HEALTHCHECK --start-period=1s --interval=1s CMD kill -9 1",
    ],
)
def test_an_images_health_check_does_not_run(
    image_with: Callable[..., str], mooring: Mooring, project: Path, check: str
) -> None:
    """The engine runs nothing of an image's beside what mooring asked for, not even while the
    mounts are still being compared."""
    found = inspect(create(mooring, image_with(check)).container)
    assert found["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in found["State"]


@pytest.mark.parametrize("signal", ["SIGCONT", "SIGUSR1", "SIGWINCH"])
def test_an_images_signal_does_not_keep_a_session_alive(
    mooring: Mooring, project: Path, bare_image: str, signal: str
) -> None:
    """What ends a session is SIGTERM, also where its image says another signal."""
    with (
        container(bare_image, "--stop-signal", signal, run=False) as made,
        commit(made) as image,
    ):
        session = create(mooring, image)
        assert inspect(session.container)["Config"]["StopSignal"] == "SIGTERM"
        began = time.monotonic()
        docker("stop", "--time", "30", session.container)
        assert time.monotonic() - began < 20
        assert mooring.sessions.get("train").state is State.STOPPED
        mooring.sessions.remove(mooring.sessions.get("train"), force=True)


@pytest.mark.parametrize("name", ["", "mooring-train", "mooring-train-0000"])
def test_a_commit_of_a_session_is_not_the_session(
    mooring: Mooring, real_engine: Engine, project: Path, bare_image: str, name: str
) -> None:
    """A container of an image that was committed from a session has the session's labels, and is
    not listed, stopped or removed as it, nor listed as another user's, nor a holder of its GPUs."""
    session = create(mooring, bare_image)
    named = ["--name", name] if name else []
    with (
        commit(session.container, f'LABEL {LABEL_GPUS}="GPU-0"') as image,
        container(image, *named) as copy,
    ):
        labels = inspect(copy)["Config"]["Labels"]
        assert (labels[LABEL_ID], labels[LABEL_GPUS]) == (session.id, "GPU-0")
        assert [one.container for one in mooring.sessions.list()] == [session.container]
        assert copy not in {one.container for one in mooring.sessions.list(all_users=True)}
        assert states(real_engine) == ["free", "free"]
        again = create(mooring, image, "again")  # mooring's own labels replace them
        assert inspect(again.container)["Config"]["Labels"][LABEL_ID] == again.id
        for one in (mooring.sessions.get("train"), again):
            mooring.sessions.stop(one)
            mooring.sessions.remove(mooring.sessions.get(one.name), force=True)
        assert mooring.sessions.list() == []
        assert inspect(copy)["State"]["Running"]
        assert inspect(copy)["Id"] == copy


def test_a_commit_is_not_anothers_session_either(
    mooring: Mooring, project: Path, bare_image: str
) -> None:
    """Another user of the engine does not see such a container as somebody's session."""
    session = create(mooring, bare_image)
    with commit(session.container) as image, container(image) as copy:
        other = {LABEL_INSTALLATION: "f" * 16}
        with container(image, *(f"--label={key}={text}" for key, text in other.items())) as third:
            listed = {one.container for one in mooring.sessions.list(all_users=True)}
            assert session.container in listed
            assert not listed & {copy, third}
