"""Stopped containers that are replaced, with their files."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import Bind
from mooring.engines.capabilities import SupportsRecreate
from mooring.engines.docker import DockerEngine
from mooring.engines.fake import MemoryEngine
from mooring.errors import EngineError
from mooring.images.host_image import host_image
from tests.contract.support import DEADLINE_S, Make, declare, logged
from tests.support.docker import docker_api

SAME: dict[str, Any] = {key: {} for key in ("labels", "env", "binds")}
SAME |= dict.fromkeys(("groups", "gpus", "devices"), ())


class TestRecreate:
    """Another container over the same files."""

    capability = SupportsRecreate

    def test_remade_with_its_files(self, engine: Any, make: Make, tmp_path: Path) -> None:
        """A stopped container is recreated with what it wrote, other labels and another
        environment, other binds, and groups beside its own."""
        script = "cat /kept; echo ${C-none}; id -G; ls /bound/*/mark; echo treasure >/kept; exit 0"
        (tmp_path / "mark").touch()
        tmp_path.chmod(0o755)  # a container's root has no capabilities to enter it with
        bound = [Bind(str(tmp_path), f"/bound/{name}") for name in ("a", "b", "c")]
        container = make(
            script,
            user="0:0",
            env={"A": "1", "B": "2", "C": "3"},
            groups=(4241,),
            binds=(*host_image(engine).binds, *bound[:2]),
        )
        engine.wait(container, timeout_s=DEADLINE_S)
        image = f"mooring-contract:{secrets.token_hex(4)}"
        made = engine.recreate(
            container,
            image=image,
            name=f"contract-{secrets.token_hex(4)}",
            labels={"new": "yes"},
            env={"B": "3", "C": None},
            binds={"/bound/a": None, "/bound/c": bound[2]},
            groups=(4242,),
            gpus=(),
            devices=(),
        )
        try:
            engine.remove(container)
            engine.rename(made, f"contract-{secrets.token_hex(4)}")
            (row,) = (row for row in engine.list({"new": "yes"}) if row.id == made)
            assert "mooring.contract" in row.labels
            if isinstance(engine, MemoryEngine):
                config = engine.containers[made].config
                assert config.env.items() >= {("A", "1"), ("B", "3")}
                assert "C" not in config.env
                assert config.groups == (4241, 4242)
                assert config.binds[-2:] == tuple(bound[1:])
                assert bound[0] not in config.binds
            else:
                with pytest.raises(EngineError):
                    engine.remove_image(image)  # it is in use
                engine.start(made)
                assert engine.wait(made, timeout_s=DEADLINE_S) == 0
                env = docker_api(engine).inspect_container(made)["Config"]["Env"]
                assert {"A=1", "B=3"} <= set(env)
                assert "B=2" not in env
                printed = logged(engine, made).split()
                assert printed == b"treasure none 0 4241 4242 /bound/b/mark /bound/c/mark".split()
        finally:
            engine.remove(made)
            engine.remove_image(image)
            engine.remove_image(image)
        assert engine.image_id(image) is None

    def test_a_taken_name_is_given_to_no_other(self, engine: Any, make: Make) -> None:
        """A container cannot be renamed to what another one is called."""
        name = f"contract-{secrets.token_hex(4)}"
        make(start=False, name=name)
        with pytest.raises(EngineError):
            engine.rename(make(start=False), name)


@pytest.mark.engine
def test_remade_with_its_volumes(real_engine: DockerEngine) -> None:
    """What was written where the image declares a volume is a file of the container's too."""
    facts, api = host_image(real_engine), docker_api(real_engine)
    mark = f"contract-{secrets.token_hex(4)}"
    config = declare(mark, "cat /data/kept || echo first >/data/kept", facts)
    config = dataclasses.replace(config, user="0:0")  # whose folder the volume is
    made = [real_engine.create(config)]
    tags = [f"{mark}:1", f"{mark}:2", f"{mark}:3"]
    try:
        api.commit(made[0], repository=mark, tag="1", changes="VOLUME /data")
        made.append(real_engine.create(dataclasses.replace(config, name="v" + mark, image=tags[0])))
        for number, tag in enumerate(tags[1:]):
            real_engine.start(made[-1])
            assert real_engine.wait(made[-1], timeout_s=DEADLINE_S) == 0
            made.append(real_engine.recreate(made[-1], image=tag, name=f"v{number}{mark}", **SAME))
            real_engine.remove(made[-2])
        volumes = [
            one["Name"] for one in api.inspect_container(made[-1])["Mounts"] if "Name" in one
        ]
        assert len(volumes) == 1
        real_engine.start(made[-1])
        assert real_engine.wait(made[-1], timeout_s=DEADLINE_S) == 0
        assert b"first" in logged(real_engine, made[-1])
        real_engine.remove(made[-1])
        left = {one["Name"] for one in api.volumes()["Volumes"] or []}
        assert not left.intersection(volumes), "they go with the session"
    finally:
        for container in made:
            real_engine.remove(container)
        for tag in reversed(tags):
            real_engine.remove_image(tag)
        api.close()
