"""Who holds which GPU by the engine's own account, and whether two ever held the same.

Nothing here asks mooring: what a container was granted is its device request, when it held that is
from the engine's ``start`` event to its ``die``. Only a share is read from mooring's label, as the
engine knows of none.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docker.api.client import APIClient
from docker.errors import APIError, DockerException, NotFound
from docker.types import DeviceRequest

from mooring.engines import local_address
from mooring.gpus.tickets import open_ticket_queue
from tests.support.docker import run_label

LABEL_GPUS = "mooring.gpus"
WHOLE = 1000  # shares are added up in thousandths


def engine_client(timeout_s: float = 30) -> APIClient:
    """The engine that mooring would use, and without mooring."""
    return APIClient(base_url=local_address(os.environ), version="1.41", timeout=timeout_s)


def why_no_requests() -> str:
    """Why the engine takes no requests for GPUs, in its own words; empty where it does.

    It tells only when a container starts; one without any program in it is enough.
    """
    with contextlib.closing(engine_client()) as api:
        # a name of its own: workers of the suite ask at the same time
        repository, tag = "mooring-test/nothing", secrets.token_hex(4)
        image = f"{repository}:{tag}"
        changes = [run_label()]
        api.import_image_from_data(bytes(10240), repository=repository, tag=tag, changes=changes)
        request = DeviceRequest(device_ids=["GPU-none"], capabilities=[["gpu"]])
        host = api.create_host_config(device_requests=[request], network_mode="none")
        container = api.create_container(image, command=["/nothing"], host_config=host)["Id"]
        try:
            api.start(container)
        except APIError as error:
            told = str(error.explanation)
            return told if "device driver" in told or "no known GPU vendor" in told else ""
        finally:
            api.remove_container(container, force=True)
            api.remove_image(image, force=True)
    return ""


@contextlib.contextmanager
def own_socket() -> Iterator[str]:
    """Another name for the engine's socket, and so a queue of its own; the address it has there.

    Where the caller may not make one, the engine's own.
    """
    address = local_address(os.environ)
    socket = Path(os.path.realpath(address.removeprefix("unix://")))
    other = socket.with_name(f"mt-{secrets.token_hex(4)}.sock")
    try:
        os.link(socket, other)
    except OSError:
        yield address
        return
    try:
        yield f"unix://{other}"
    finally:
        folder = open_ticket_queue(f"unix://{other}").folder
        other.unlink()
        if folder.name.startswith("mooring-"):  # else it is the installation's own
            shutil.rmtree(folder)


@dataclass
class Holding:
    """A container that was granted GPUs, and when it ran (the engine's time, seconds)."""

    name: str
    container: str
    shares: dict[str, int]  # thousandths, by UUID
    started: float
    ended: float | None = None

    def runs_at(self, moment: float) -> bool:
        return self.started <= moment and (self.ended is None or self.ended > moment)


def granted(api: APIClient, container: str) -> dict[str, int]:
    """What a container was granted, in thousandths by UUID; empty for none, or no container.

    Raises:
        AssertionError: mooring's label claims other devices than the engine gave, or the
            program inside would see others.
    """
    try:
        said = api.inspect_container(container)
    except NotFound:
        return {}
    requests = said["HostConfig"].get("DeviceRequests") or []
    ids = [one for request in requests for one in request.get("DeviceIDs") or []]
    shares = dict.fromkeys(ids, WHOLE)
    label = said["Config"]["Labels"].get(LABEL_GPUS)
    if label is not None:
        claims = dict(part.partition(":")[::2] for part in label.split(",") if part)
        name = said["Name"]
        assert sorted(claims) == sorted(ids), f"{name}: the label says {label}, the engine {ids}"
        shares = {uuid: round(float(share or 1) * WHOLE) for uuid, share in claims.items()}
    return shares


@dataclass
class Observer:
    """Follows the engine's events in a thread, from ``with`` to its end.

    Attributes:
        gpus: UUIDs of those it looks at; others on the engine are others' business.
        holdings: every container with GPUs that ran meanwhile, in the order of their starts.
        doubled: a line for each moment at which a GPU was given out more than once.
    """

    gpus: Sequence[str]
    holdings: list[Holding] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _running: dict[str, Holding] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Observer:
        self._since = time.time()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Ends when every event until now was seen."""
        self._done.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive(), "the engine's events did not end"

    def _follow(self) -> None:
        """In slices of time, each whole: a slice that the engine's restart cut off is asked for
        again from where it broke off, and nothing is seen twice."""
        since, last = self._since, False
        while not last:
            last = self._done.is_set()
            until = time.time()
            try:
                with contextlib.closing(engine_client()) as api:
                    for event in self._events(api, since, until):
                        with self._faults_told():
                            self._seen(api, event)
                since = until
            except (DockerException, OSError) as error:
                if last:
                    self.faults.append(f"events were lost: {error}")
            if not last:
                self._done.wait(0.25)

    @contextlib.contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            self.faults.append(str(error))

    def _events(self, api: APIClient, since: float, until: float) -> Iterator[dict[str, Any]]:
        found = api.events(
            since=f"{since:.9f}",
            until=f"{until:.9f}",
            filters={"type": "container", "event": ["start", "die"]},
            decode=True,
        )
        with contextlib.closing(found):
            yield from sorted(found, key=lambda event: event["timeNano"])

    def _seen(self, api: APIClient, event: dict[str, Any]) -> None:
        container, at = event["id"], event["timeNano"] / 1e9
        if event["Action"] == "die":
            held = self._running.pop(container, None)
            if held is not None:
                held.ended = at
            return
        if container in self._running:
            return
        attributes = event["Actor"]["Attributes"]
        name = attributes.get("name", container)
        shares = granted(api, container)
        if not shares and attributes.get(LABEL_GPUS):  # removed since: only its label is left
            claims = (part.partition(":") for part in attributes[LABEL_GPUS].split(","))
            shares = {uuid: round(float(share or 1) * WHOLE) for uuid, _, share in claims}
        if not shares.keys() & set(self.gpus):
            return
        holding = Holding(name, container, shares, at)
        self._running[container] = holding
        self.holdings.append(holding)
        for uuid in shares:
            holders = [one for one in self._running.values() if uuid in one.shares]
            if sum(one.shares[uuid] for one in holders) > WHOLE:
                names = ", ".join(f"{one.name} ({one.shares[uuid] / WHOLE:g})" for one in holders)
                self.doubled.append(f"{uuid} was held by {names} at {at:.3f}")
