"""An in-memory engine with every capability.

::

    engine = MemoryEngine(images=["python:3.12"])
    engine.fail("start", EngineUnavailable("no engine"))   # the next start, once

Containers, images and streams behave like those of a real engine; the same contract tests run on
both.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from mooring.engines.base import Bind, DeviceRequest, Process, ResourceLimits
from mooring.engines.fake.minimum import MinimumEngine, digest
from mooring.engines.fake.process import SIGKILLED, FakeContainer, FakeStream
from mooring.engines.mounted import Mounted
from mooring.errors import EngineError, ImageError, PortTaken

FIRST_FREE_PORT = 49153


class MemoryEngine(MinimumEngine):
    """A MinimumEngine with every capability of ``mooring.engines.capabilities``.

    Attributes:
        address: empty, because it has no socket.
        volumes: the volumes that images declare, by id; a test may replace it.
        links: the symbolic links of all images; a test may replace it.
    """

    address = ""
    publish_address = "127.0.0.1"
    init = "/sbin/init"
    volumes: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    links: Mapping[str, str] = MappingProxyType({})
    _imported: frozenset[str] = frozenset()

    def binds(self, container: str) -> tuple[Bind, ...]:
        return self._find(container).config.binds

    def check_source(self, source: str) -> None:
        with self._call("check_source"):
            if not os.path.lexists(source):
                raise EngineError(f"the engine does not see {source}")

    def mounted(self, container: str, paths: Sequence[str]) -> list[Mounted | None]:
        with self._call("mounted"):
            self._running(container)
            sources = {bind.target: bind for bind in self.binds(container)}
            return [
                _mounted(number, sources[path]) if path in sources else None
                for number, path in enumerate(paths)
            ]

    def processes(self, container: str) -> Sequence[Process]:
        with self._call("processes"):
            one = self._running(container)
            return [
                Process(" ".join(process.argv), process.exit_code is not None)
                for process in (one.main, *one.execs)
            ]

    def import_image(self, tar: bytes, reference: str) -> str:
        with self._call("import_image"):
            self.images[reference] = digest(tar)
            self._imported |= {reference}
            return self.images[reference]

    def remove_older_images(self, reference: str) -> None:
        with self._call("remove_older_images"):
            repository = reference.rpartition(":")[0]
            used = {one.config.image for one in self.containers.values()}
            for name in self._imported & self.images.keys():
                if name.rpartition(":")[0] == repository and name not in (reference, *used):
                    del self.images[name]

    def attach(self, container: str, *, tty: bool, detach_keys: str = "") -> FakeStream:
        with self._call("attach"):
            main = self._find(container).main
        return FakeStream(main, tty)

    def exec_detached(self, container: str, argv: Sequence[str]) -> str:
        with self._call("exec_detached"):
            exec_id, process = self._process(container, argv)
            process.finish(process.play(self.execute))
            return exec_id

    def exec_exit_code(self, exec_id: str) -> int | None:
        with self._call("exec_exit_code"):
            process = self._execs.get(exec_id)
            return SIGKILLED if process is None else process.exit_code

    def resize(self, container: str, rows: int, columns: int, *, exec_id: str = "") -> None:
        with self._call("resize"):
            process = self._execs.get(exec_id) if exec_id else self._find(container).main
            if process is not None and rows > 0 and columns > 0:
                process.size = (rows, columns)

    def attach_network(self, container: str) -> None:
        with self._call("attach_network"):
            self._find(container).network = True

    def device_requests(self, container: str) -> tuple[DeviceRequest, ...]:
        with self._call("device_requests"):
            one = self.containers.get(container)
            wanted = (one.config.gpus, one.config.devices) if one else ()
            return tuple(DeviceRequest(0, ids) for ids in wanted if ids)

    def why_no_mode_filter(self) -> str:
        return ""

    def update_limits(self, container: str, limits: ResourceLimits) -> None:
        with self._call("update_limits"):
            one = self._find(container)
            changes = {key: value for key, value in limits._asdict().items() if value is not None}
            one.config = replace(one.config, **changes)

    def out_of_memory(self, container: str, since: float, until: float | None = None) -> bool:
        with self._call("out_of_memory"):
            return self._find(container).oom_killed

    def recreate(
        self,
        container: str,
        *,
        image: str,
        name: str,
        labels: Mapping[str, str],
        env: Mapping[str, str | None],
        binds: Mapping[str, Bind | None],
        groups: Sequence[int],
        gpus: Sequence[str],
        devices: Sequence[str],
        cdi_devices: Sequence[str] = (),
    ) -> str:
        with self._call("recreate"):
            old = self._find(container).config
            self.images[image] = digest(image.encode())
            self._imported -= {image}
            kept = (bind for bind in old.binds if bind.target not in binds)
            variables = {**old.env, **env}
            config = replace(
                old,
                image=image,
                name=name,
                labels={**old.labels, **labels},
                env={key: value for key, value in variables.items() if value is not None},
                binds=(*kept, *filter(None, binds.values())),
                groups=tuple(sorted({*old.groups, *groups})),
                gpus=tuple(gpus),
                devices=tuple(devices),
                cdi_devices=tuple(cdi_devices),
                network=True,
            )
            return self.create(config)

    def image_names(self) -> list[str]:
        with self._call("image_names"):
            return sorted(self.images)

    def link_target(self, container: str, path: str) -> str | None:
        with self._call("link_target"):
            self._find(container)
            return self.links.get(path)

    def image_volumes(self, reference: str) -> tuple[str, ...]:
        with self._call("image_volumes"):
            image_id = self.images.get(reference, reference)
            if image_id not in self.images.values():
                raise ImageError(f"No such image: {reference}", "pull it first")
            return tuple(sorted(self.volumes.get(image_id, ())))

    def rename(self, container: str, name: str) -> None:
        with self._call("rename"), self._lock:
            renamed = self._find(container)
            if any(other.config.name == name for other in self.containers.values()):
                raise EngineError(f"renaming the container: the name {name} is taken")
            renamed.config = replace(renamed.config, name=name)

    def remove_image(self, reference: str) -> None:
        with self._call("remove_image"):
            self.images.pop(reference, None)

    def _published(self, starting: FakeContainer) -> tuple[tuple[int, int], ...]:
        others = [one for one in self.containers.values() if one.state == "running"]
        taken = {local for one in others for local, _ in one.ports}
        published = []
        for local, inside in starting.config.ports:
            port = local or next(n for n in itertools.count(FIRST_FREE_PORT) if n not in taken)
            if port in taken:
                raise PortTaken(f"port {port} of this machine is taken", port=port)
            taken.add(port)
            published.append((port, inside))
        return tuple(published)


def _mounted(number: int, bind: Bind) -> Mounted:
    status = os.stat(bind.source)
    return Mounted(status.st_dev, status.st_ino, number, "" if bind.read_only else bind.target)
