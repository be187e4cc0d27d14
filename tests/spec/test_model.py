"""The declaration: what it accepts, what it refuses, and what it shows to others."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mooring.errors import NotSupported, SpecError
from mooring.spec.model import GpuRequest, Mount, SecretSource, SessionSpec, refuse_unsupported

FULL = """
name: bert-finetune
image: host
pull: missing
kernel: python3
command: bash
gpus: 1
cpus: 4
memory: 16GiB
shm: 8GiB
inputs:
  - ./corpus
  - name: weights
    source: s3://bucket/weights
outputs:
  - name: checkpoints
    source: ./checkpoints
home: true
env: {WANDB_MODE: offline}
secrets: {HF_TOKEN: {env: HF_TOKEN}}
idle_timeout: 30m
max_duration: 8h
target: local
"""


def spec(**keys: Any) -> SessionSpec:
    return SessionSpec.model_validate(keys)


def test_defaults() -> None:
    """An empty declaration is a shell in the host image, for an hour of idleness, without GPUs."""
    empty = SessionSpec()
    assert (empty.image, empty.pull, empty.target, empty.encrypt) == (
        "host",
        "missing",
        "local",
        "auto",
    )
    assert (empty.idle_timeout, empty.max_duration, empty.gpus) == (3600.0, 0.0, 0)
    assert (empty.inputs, empty.env, empty.argv, empty.home) == ((), {}, None, False)


def test_full_example() -> None:
    """The design's example means what it says."""
    full = spec(**yaml.safe_load(FULL))
    assert full.memory == 16 * 2**30
    assert full.shm == 8 * 2**30
    assert full.cpus == 4.0
    assert full.inputs == (
        Mount(name="corpus", source="./corpus"),
        Mount(name="weights", source="s3://bucket/weights"),
    )
    assert full.secrets == {"HF_TOKEN": SecretSource(env="HF_TOKEN")}
    assert (full.idle_timeout, full.max_duration) == (1800.0, 28800.0)


def test_frozen() -> None:
    """A spec does not change after it was judged."""
    key = "image"
    with pytest.raises(ValidationError):
        setattr(SessionSpec(), key, "other")


@pytest.mark.parametrize(
    ("written", "image"),
    [
        ("host", "host"),
        ("docker://python:3.12", "python:3.12"),
        ("python:3.12", "python:3.12"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("azureml/dask", "azureml/dask"),
        ("x@sha256:" + "a" * 64, "x@sha256:" + "a" * 64),
        ("docker://host", "docker.io/library/host"),
        ("beaker://me/it", "beaker://me/it"),
    ],
)
def test_images(written: str, image: str) -> None:
    """docker:// is optional, and never turns a registry's image into this machine."""
    assert spec(image=written).image == image


@pytest.mark.parametrize(
    "keys",
    [
        {"image": ""},
        {"image": "docker://"},
        {"image": "-v"},
        {"image": "a b"},
        {"image": "a\nb"},
        {"image": "a//b"},
        {"image": "a/../../containers/json"},
        {"image": "docker://../x"},
        {"image": "Python"},
        {"image": "a?b"},
        {"image": "%2e%2e/a"},
        {"image": None},
        {"image": 3.12},
        {"image": "a", "environment": "a"},
        {"environment": {"A": "1"}},
        {"image": "a", "build": "Dockerfile"},
        {"image": {"build": "Dockerfile"}, "build": "Dockerfile"},
        {"name": "Upper"},
        {"name": "-a"},
        {"name": "a" * 41},
        {"name": "a\n"},
        {"name": 5},
        {"kernel": "../x"},
        {"kernel": ""},
        {"command": ""},
        {"command": []},
        {"command": [""]},
        {"command": "a\0b"},
        {"command": [1]},
        {"command": {"a": "b"}},
        {"pull": "often"},
        {"gpus": -1},
        {"gpus": 1.5},
        {"gpus": 0.0001},
        {"gpus": 0.9996},
        {"gpus": {"count": "0.3333"}},
        {"gpus": True},
        {"gpus": math.nan},
        {"gpus": math.inf},
        {"gpus": {"count": 0}},
        {"gpus": {"kind": "A100"}},
        {"cpus": 0},
        {"cpus": math.inf},
        {"cpus": True},
        {"memory": 16},
        {"memory": "16"},
        {"shm": 0},
        {"pids_limit": 99},
        {"pids_limit": -2},
        {"pids_limit": 2**22 + 1},
        {"pids_limit": True},
        {"pids_limit": 4096.0},
        {"pids_limit": "many"},
        {"groups": "lab"},
        {"groups": [5]},
        {"groups": ["a\nb"]},
        {"preload": "torch"},
        {"preload": ["torch;x"]},
        {"preload": ["a..b"]},
        {"preload": ["a\nb"]},
        {"preload": [""]},
        {"preload": ["torch"], "kernel": "ir"},
        {"home": "yes"},
        {"home": 1},
        {"env": {"1A": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A\n": "x"}},
        {"env": {"A": None}},
        {"env": {"A": ["x"]}},
        {"env": {"A": "x\0"}},
        {"env": ["A=x"]},
        {"secrets": {"A": "value"}},
        {"secrets": {"A": {}}},
        {"secrets": {"A": {"env": "A", "file": "a"}}},
        {"secrets": {"A": {"env": "A"}}, "env": {"A": "x"}},
        {"idle_timeout": "0.5s"},
        {"idle_timeout": 1800},
        {"max_duration": "8"},
        {"max_duration": "5ms"},
        {"idle_timeout": None},
        {"encrypt": "never"},
        {"record": "64KiB"},
        {"record": "65MiB"},
        {"record": "never"},
        {"record": True},
        {"target": ""},
        {"distribution": "dask"},
        {"unknown": 1},
    ],
)
def test_refused(keys: dict[str, Any]) -> None:
    """A value that could be misread is refused, not guessed."""
    with pytest.raises(ValidationError):
        spec(**keys)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["./corpus", "data/", "/a/b.txt"], ["corpus", "data", "b.txt"]),
        ("mydata,otherdata", ["mydata", "otherdata"]),
        ([{"name": "x", "source": "."}], ["x"]),
        ([{"source": "s3://bucket/weights/"}], ["weights"]),
        (None, []),
        ([], []),
    ],
)
def test_mounts(written: Any, names: list[str]) -> None:
    """A mount is named after the last component of its path, or as it says."""
    assert [mount.name for mount in spec(inputs=written).inputs] == names
    assert [mount.name for mount in spec(outputs=written).outputs] == names


@pytest.mark.parametrize(
    "item",
    [".", "..", "/", "~", "a/..", "", "a\0", "a\nb", 5, None, {"name": "x"},
     {"name": "a/b", "source": "a"}, {"name": "..", "source": "a"}, {"name": "", "source": "a"},
     {"name": "x" * 101, "source": "a"}, {"name": "é" * 100 + "é" * 30, "source": "a"},
     {"name": "a\x1b", "source": "a"}, {"name": "x", "source": ""}, {"name": "x", "path": "a"}],
)  # fmt: skip
def test_mounts_refused(item: Any) -> None:
    """A mount's name is one safe path component, whoever chose it."""
    with pytest.raises(ValidationError):
        spec(inputs=[item])


def test_mounts_are_unique() -> None:
    """Two inputs, or two outputs, never share a folder; an input and an output may."""
    with pytest.raises(ValidationError, match="data twice"):
        spec(outputs=["a/data", "b/data"])
    assert spec(inputs=["data"], outputs=["data"]).inputs


def test_a_session_is_only_for_kernels_if_it_has_no_command() -> None:
    """There is nothing to attach to then, neither a command nor the shell of other sessions."""
    assert spec(kernel="python3").only_kernels
    assert not spec(kernel="python3", command="sh").only_kernels
    assert not spec().only_kernels


def test_argv() -> None:
    """A line is the shell's, a list is taken word by word."""
    assert spec(command="echo $HOME").argv == ["/bin/sh", "-c", "echo $HOME"]
    assert spec(command=["python", "-c", "1"]).argv == ["python", "-c", "1"]


def test_environment_scalars_become_text() -> None:
    """Numbers and truth values in env arrive as text."""
    env = spec(env={"A": 1, "B": 1.5, "C": True, "D": ""}).env
    assert env == {"A": "1", "B": "1.5", "C": "true", "D": ""}


def test_gpus() -> None:
    """A count stays a number, a mapping is a request, and the command line's text is read."""
    assert spec(gpus=2.0).gpus == 2
    assert spec(gpus="0.5").gpus == 0.5
    request = spec(gpus={"count": 2, "memory": "40GiB", "model": "A100"}).gpus
    assert request == GpuRequest(count=2, memory=40 * 2**30, model="A100")


def test_gpus_as_plain_values() -> None:
    """A number of GPUs and a request for a kind of them are read the same way."""
    assert spec().gpu_request == (0, 0, "")
    assert spec(gpus=0.5).gpu_request == (0.5, 0, "")
    kind = {"count": 2, "memory": "40GiB", "model": "A100"}
    assert spec(gpus=kind).gpu_request == (2, 40 * 2**30, "A100")


def test_the_host_image_is_not_a_registrys() -> None:
    """`host` alone is this machine's software: not an image of that name, and not a build."""
    assert spec().uses_host_image
    assert not spec(image="docker://host").uses_host_image
    assert not spec(build="Dockerfile").uses_host_image


def test_public_dict_withholds_secrets() -> None:
    """A label names the secrets and holds neither their values nor where they come from."""
    secret = spec(
        secrets={"B": {"file": "/home/me/.token"}, "A": {"env": "MY_VARIABLE"}}, image="python:3"
    )
    public = secret.public_dict()
    assert public == {"image": "python:3", "secrets": ["A", "B"]}
    back = SessionSpec.from_public_dict(public)
    assert {(source.env, source.file) for source in back.secrets.values()} == {(None, None)}
    assert back.public_dict() == public


def test_public_dict_round_trip() -> None:
    """What was declared comes back from the label, through JSON."""
    declared = spec(
        **{**yaml.safe_load(FULL), "secrets": {}, "gpus": {"count": 2, "model": "A100"}}
    )
    public = json.loads(json.dumps(declared.public_dict()))
    assert SessionSpec.from_public_dict(public) == declared
    assert SessionSpec.from_public_dict({}) == SessionSpec()
    assert SessionSpec().public_dict() == {}


@pytest.mark.parametrize(
    "public", [{"secrets": 5}, {"secrets": [["a"]]}, {"secrets": ["a b"]}, {"x": 1}, [], "a", None]
)
def test_forged_labels(public: Any) -> None:
    """A label that mooring did not write is one error, not a crash."""
    with pytest.raises(SpecError) as caught:
        SessionSpec.from_public_dict(public)
    assert "\n" not in str(caught.value)


UNSUPPORTED: dict[str, list[dict[str, Any]]] = {
    "build": [{"build": "Dockerfile"}, {"build": {}}, {"image": {"build": {"context": "."}}}],
    "image": [{"image": "beaker://me/it"}, {"environment": "azureml:curated@latest"}],
    "distribution": [{"distribution": {"type": "dask"}}, {"distribution": {}}],
    "target": [{"target": "ssh://box"}],
    "inputs": [{"inputs": ["s3://b/w"]}, {"inputs": ["azureml:data:1"]}],
    "outputs": [{"outputs": ["gs://b/w"]}, {"outputs": ["https://h/w"]}],
}


@pytest.mark.parametrize(
    ("key", "keys"), [(key, keys) for key, cases in UNSUPPORTED.items() for keys in cases]
)
def test_unsupported_by_name(key: str, keys: dict[str, Any]) -> None:
    """What this version cannot do is refused under the key's own name, in one line with a hint."""
    with pytest.raises(NotSupported) as caught:
        refuse_unsupported(spec(**keys))
    assert caught.value.message.startswith(key)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_unsupported_with_its_place() -> None:
    """What is refused by name is refused with the place that it came from."""
    for origin, place in (("file s.yml:3", "s.yml:3: "), ("flag --target", "flag --target: ")):
        with pytest.raises(NotSupported) as caught:
            refuse_unsupported(spec(target="k8s"), {"target": origin})
        assert caught.value.message.startswith(f"{place}target: k8s is not supported")


def test_supported() -> None:
    """The example, without what this version cannot do, is not refused."""
    keys = yaml.safe_load(FULL)
    refuse_unsupported(spec(**{**keys, "inputs": ["./a:b", "host:x"]}))


def test_every_key_has_a_verdict() -> None:
    """A key that is added to the model has to be honoured or refused; this list is the promise."""
    honoured = {
        "name", "image", "pull", "kernel", "command", "cpus", "memory", "shm", "inputs", "outputs",
        "home", "env", "secrets", "idle_timeout", "max_duration", "encrypt", "target",
        "record", "ports", "gpus", "priority", "pids_limit", "groups",
        "preload",
    }  # fmt: skip
    assert honoured | UNSUPPORTED.keys() == set(SessionSpec.model_fields)


@pytest.mark.parametrize(
    ("value", "size"),
    [("off", 0), ("OFF", 0), (False, 0), (0, 0), ("0", 0), ("4m", 4 << 20), (2**26, 2**26)],
)
def test_record_is_a_size_or_off(value: object, size: int) -> None:
    """How much output is kept is said as a size; YAML reads a bare off as False."""
    assert spec(record=value).record == size


@pytest.mark.parametrize(
    ("value", "limit"),
    [("off", 0), (False, 0), (0, 0), (-1, 0), ("-1", 0), (100, 100), ("5000", 5000)],
)
def test_pids_limit_is_a_number_or_off(value: object, limit: int) -> None:
    """No limit is said as mooring says it, and as Docker does; the default is a limit."""
    assert spec(pids_limit=value).pids_limit == limit
    assert spec().pids_limit == 4096


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(SessionSpec.model_fields)), JSON, max_size=4))
def test_any_value_is_judged(keys: dict[str, Any]) -> None:
    """Any JSON under any key is a spec or a ValidationError; a spec's label can be read back."""
    try:
        accepted = SessionSpec.model_validate(keys)
    except ValidationError:
        return
    public = accepted.public_dict()
    assert SessionSpec.from_public_dict(public).public_dict() == public
