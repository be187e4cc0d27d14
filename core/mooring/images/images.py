"""Pull images, and probe them for what creating a session requires."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mooring.engines.base import Bind, ContainerConfig, Engine, PullProgress
from mooring.engines.capabilities import SupportsVolumes
from mooring.engines.labels import LABEL_INSTALLATION, LABEL_PROBE
from mooring.errors import EngineError, EngineUnavailable, ImageError
from mooring.host.atomic import write_text
from mooring.host.paths import Installation
from mooring.host.processes import process_mark
from mooring.host.text import one_line, quoted
from mooring.host.untrusted import parse_json
from mooring.host.users import User

#: The name of the image of this machine, see ``mooring.images.host_image``.
HOST = "host"
PULL_POLL_S = 0.2
PROBE_TIMEOUT_S = 60.0

# The probe prints the user databases and PATH, then the interpreter or why there is none
_GROUP, _PATH, _PYTHON = "--- group\n", "--- path\n", "--- python\n"
_PROBE = """
cat /etc/passwd 2>/dev/null; echo '--- group'; cat /etc/group 2>/dev/null
echo '--- path'; echo "$PATH"; echo '--- python'
for p in python3 python; do
  if command -v $p >/dev/null 2>&1; then
    $p -c 'import sys, ipykernel.kernelapp; print(sys.executable)' 2>&1 | tail -n 1
    exit 0
  fi
done
echo 'no python3 on its PATH'
"""


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image that creating a session requires.

    Attributes:
        reference: the image's reference for the engine.
        path: the image's PATH; empty for the image of this machine, whose ``env`` has it.
        passwd, group: the contents of the image's ``/etc/passwd`` and ``/etc/group``.
        python: the path of the interpreter that can import ipykernel; empty if there is none.
        kernel_problem: why the image cannot run a Python kernel; empty if it can.
        env: environment variables that a container of the image needs, as pairs.
        binds: mounts that the image needs.
        volumes: the paths at which the image declares volumes, absolute and normalized.
        image_id: the engine's id of the image; empty for the image of this machine.
    """

    reference: str
    passwd: str
    group: str
    python: str
    kernel_problem: str = ""
    env: tuple[tuple[str, str], ...] = ()
    binds: tuple[Bind, ...] = ()
    volumes: tuple[str, ...] = ()
    path: str = ""
    image_id: str = ""


def ensure_image(
    engine: Engine, reference: str, policy: str, progress: Callable[[PullProgress], None]
) -> str:
    """Ensure that the engine has an image, pulling it according to the pull policy.

    Args:
        engine: the engine.
        reference: ``repository/name:tag``.
        policy: ``always``, ``missing`` or ``never``.
        progress: called at least every ``PULL_POLL_S`` seconds during a pull, with the last
            progress if there is no new one; an exception from it ends the wait.

    Returns:
        The image's id.

    Raises:
        ImageError: the image is missing, and the policy forbids pulling it or the pull failed.
    """
    image_id = engine.image_id(reference)
    if policy == "never" and image_id is None:
        raise missing_image(reference)
    if policy == "always" or image_id is None:
        _pull(engine, reference, progress)
        image_id = engine.image_id(reference)
    if image_id is None:
        raise ImageError(f"No such image: {reference}", "check its name and tag")
    return image_id


def missing_image(reference: str) -> ImageError:
    """The error of an image that is not there and may not be pulled."""
    return ImageError(
        f"No such image: {reference}",
        f"pull: never forbids pulling it; run docker pull {quoted(reference)}, "
        "or use pull: missing",
    )


def _pull(engine: Engine, reference: str, progress: Callable[[PullProgress], None]) -> None:
    """Pull in a thread, so that ``progress`` can end the wait while no data arrives."""
    steps: queue.Queue[PullProgress | BaseException | None] = queue.Queue()
    abandoned = threading.Event()

    def work() -> None:
        try:
            for step in engine.pull(reference):
                if abandoned.is_set():
                    return
                steps.put(step)
            steps.put(None)
        except BaseException as error:  # re-raised in the waiting thread
            steps.put(error)

    threading.Thread(target=work, name="mooring-pull", daemon=True).start()
    last = PullProgress("waiting for the registry", 0, 0)
    try:
        while True:
            progress(last)
            try:
                step = steps.get(timeout=PULL_POLL_S)
            except queue.Empty:
                continue
            if step is None:
                return
            if isinstance(step, BaseException):
                raise step
            last = step
    finally:
        abandoned.set()


def facts_of(
    engine: Engine, installation: Installation, reference: str, image_id: str, user: User
) -> ImageFacts:
    """Return the facts of an image, cached by image id; a short-lived container determines them.

    Args:
        engine: an engine that has the image.
        installation: the caller's, which has the cache.
        reference: the image's reference for sessions.
        image_id: the image's id.
        user: the user that the container runs as.

    Raises:
        ImageError: the image has no usable ``/bin/sh``, or declares an invalid volume.
        SessionTimeout: the container did not exit within ``PROBE_TIMEOUT_S``.
        EngineError
    """
    store = installation.images / (image_id.rpartition(":")[2] + ".json")
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # also another version's
        known = parse_json(store.read_text())
        # the image may have several names
        named = {"reference": reference, "volumes": tuple(known["volumes"]), "path": known["path"]}
        return ImageFacts(**known | named)
    volumes = _volumes(engine, reference, image_id)
    argv = ("/bin/sh", "-c", _PROBE)
    with probe_container(engine, installation, reference, argv, user) as container:
        facts = _parse(reference, _output_of(engine, reference, container))
    facts = replace(facts, volumes=volumes, image_id=image_id)
    _remember(store, facts)
    return facts


def _volumes(engine: Engine, reference: str, image_id: str) -> tuple[str, ...]:
    """Return the volumes of an image, normalized.

    Raises:
        ImageError: a path is not absolute: engines disagree about where that is.
    """
    if not isinstance(engine, SupportsVolumes):
        return ()
    declared = engine.image_volumes(image_id)
    for path in declared:
        if not path.startswith("/"):
            raise ImageError(
                f"image {reference} declares a volume at {one_line(path)}, which is not absolute",
                "use another image",
            )
    return tuple(sorted({f"/{os.path.normpath(path).strip('/')}" for path in declared}))


@contextlib.contextmanager
def probe_container(
    engine: Engine, installation: Installation, reference: str, argv: tuple[str, ...], user: User
) -> Iterator[str]:
    """Context manager that creates a container without mounts, and removes it at the end.

    Args:
        engine: an engine that has the image.
        installation: the caller's; a file in its cache of facts exists as long as the container
            may, so that the reconciler removes it if this process dies.
        reference: the image.
        argv: the main process, in case that the container is started.
        user: the user that it runs as.

    Yields:
        The container's id.
    """
    name = f"mooring-probe-{secrets.token_hex(4)}"
    config = ContainerConfig(
        name=name,
        image=reference,
        argv=argv,
        user=f"{user.uid}:{user.gid}",
        env={"HOME": "/tmp"},
        labels={LABEL_INSTALLATION: installation.id, LABEL_PROBE: process_mark(os.getpid())},
        network=False,
    )
    mark = installation.images / name
    mark.touch()
    container = engine.create(config)
    try:
        yield container
    finally:
        engine.remove(container)
        mark.unlink(missing_ok=True)


def _output_of(engine: Engine, reference: str, container: str) -> str:
    """Run a container until it exits, and return its output.

    Raises:
        ImageError: it cannot be started.
    """
    try:
        engine.start(container)
    except EngineUnavailable:
        raise
    except EngineError as error:
        raise _no_shell(reference, error.message) from error
    engine.wait(container, timeout_s=PROBE_TIMEOUT_S)
    output = b"".join(engine.logs(container, tty=False, follow=False, tail=None))
    return output.decode(errors="replace")


def _parse(reference: str, output: str) -> ImageFacts:
    """Parse the output of the probe.

    Raises:
        ImageError: the probe did not run: the engine's init started but found no shell.
    """
    if _PYTHON not in output:
        why = one_line(" ".join(output.split()))
        raise _no_shell(reference, why or "it does not start")
    passwd, _, rest = output.partition(_GROUP)
    rest, _, python = rest.partition(_PYTHON)
    group, _, path = rest.partition(_PATH)
    last = python.strip().splitlines()[-1] if python.strip() else "python3 did not start"
    has_kernel = last.startswith("/")
    return ImageFacts(
        reference=reference,
        passwd=passwd,
        group=group,
        path=path.strip(),
        python=last if has_kernel else "",
        kernel_problem="" if has_kernel else last,
    )


def _remember(store: Path, facts: ImageFacts) -> None:
    """Cache the facts; ``env`` and ``binds`` are omitted, because only the host image has them."""
    fields = {key: value for key, value in asdict(facts).items() if key not in ("env", "binds")}
    write_text(store, json.dumps(fields))


def _no_shell(reference: str, why: str) -> ImageError:
    return ImageError(
        f"image {reference} has no working /bin/sh: {why}",
        "use an image that has a shell",
    )
