"""The declaration: what it accepts, what it refuses, and what it shows to others."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mooring.errors import NotSupported, SpecError
from mooring.spec.model import GpuRequest, Mount, SecretSource, SessionSpec, refuse_unsupported
from mooring.spec.schema import SCHEMA_FILE, json_schema, main
from mooring.spec.units import (
    format_duration,
    format_size,
    parse_cpus,
    parse_duration,
    parse_gpu_count,
    parse_size,
)

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


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30m", 1800),
        ("1h30m", 5400),
        ("8h", 28800),
        ("90s", 90),
        ("2d 3h", 183600),
        ("1.5h", 5400),
        ("90", 90),
        (" 5M ", 300),
        (2.5, 2.5),
        (60, 60),
        ("off", 0),
        ("Never", 0),
        ("0", 0),
        (0, 0),
        (False, 0),
        ("10y", 10 * 365 * 86400),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    """Every spelling of a duration is seconds, and off, never, 0 and False are 0."""
    parsed = parse_duration(value)
    assert parsed == seconds
    assert isinstance(parsed, float)


@pytest.mark.parametrize(
    "value",
    ["", " ", "-5m", "+5m", "1:30", "1.1.1w", "soon", "5 parsecs", "11y", "nan", "inf",
     "\uff130m", "m", "1" * 5000, "1h" * 40, -1, math.nan, math.inf, 10**400, True, None,
     [], {}, b"1m"],
)  # fmt: skip
def test_durations_refused(value: object) -> None:
    """What is not clearly a duration is refused, never read as 0, and the message tells what is."""
    with pytest.raises(ValueError, match="such as 90s, 30m"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("16GiB", 16 * 2**30),
        ("512m", 512 * 2**20),
        ("1.5g", 1536 * 2**20),
        ("40 GB", 40 * 2**30),
        ("16Gi", 16 * 2**30),
        ("512", 512),
        ("1e", 2**60),
        (512, 512),
        (1024.0, 1024),
        (0, 0),
    ],
)
def test_sizes(value: object, size: int) -> None:
    """Every spelling of a size is bytes, in powers of 1024, as Docker reads them."""
    parsed = parse_size(value)
    assert parsed == size
    assert isinstance(parsed, int)


@pytest.mark.parametrize(
    "value",
    ["", "big", "-1g", "1.5", "0.5", "0.0001k", "5 mangos", "2e", "1e3g", "g", "1 2", "nan", "inf",
     "9" * 500, "1." + "9" * 500 + "g", -1, 1.5, math.nan, math.inf, 2**60 + 1, True, False, None],
)  # fmt: skip
def test_sizes_refused(value: object) -> None:
    """What is not a size, or not whole bytes, is refused, and the message tells what is."""
    with pytest.raises(ValueError, match="such as 512m"):
        parse_size(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45.9, "45s"), (60, "1m"), (1799, "29m"), (3600, "1h"), (3900, "1h 5m"),
     (28800, "8h"), (183600, "2d 3h"), (172800, "2d"), (-5, "0s")],
)  # fmt: skip
def test_durations_are_written_briefly(seconds: float, text: str) -> None:
    """A duration is shown with its two greatest units, rounded down."""
    assert format_duration(seconds) == text


def test_sizes_are_written_in_binary_units() -> None:
    """A size is shown in the units in which it is read."""
    assert format_size(16 * 2**30) == "16 GiB"
    assert parse_size(format_size(512 * 2**20)) == 512 * 2**20


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.none())
def test_quantities_only_raise_value_error(value: object) -> None:
    """No value makes a quantity's parser fail in any other way than ValueError."""
    for parse in (parse_duration, parse_size, parse_gpu_count, parse_cpus):
        with contextlib.suppress(ValueError):
            assert parse(value) >= 0


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
        {"idle_timeout": 0.5},
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


def test_public_dict_withholds_secrets() -> None:
    """A label names the secrets and holds neither their values nor where they come from."""
    secret = spec(
        secrets={"B": {"file": "/home/me/.token"}, "A": {"env": "MY_VARIABLE"}}, image="python:3"
    )
    public = secret.public_dict()
    assert public == {"image": "python:3", "secrets": ["A", "B"]}
    back = SessionSpec.from_public_dict(public)
    assert all(source.is_withheld for source in back.secrets.values())
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


def test_supported() -> None:
    """The example, without what this version cannot do, is not refused."""
    keys = yaml.safe_load(FULL)
    refuse_unsupported(spec(**{**keys, "inputs": ["./a:b", "host:x"]}))


def test_every_key_has_a_verdict() -> None:
    """A key that is added to the model has to be honoured or refused; this list is the promise."""
    honoured = {
        "name", "image", "pull", "kernel", "command", "cpus", "memory", "shm", "inputs", "outputs",
        "home", "env", "secrets", "idle_timeout", "max_duration", "encrypt", "target",
        "record", "ports", "gpus", "priority",
    }  # fmt: skip
    assert honoured | UNSUPPORTED.keys() == set(SessionSpec.model_fields)


def test_shipped_schema_is_current() -> None:
    """Editors complete what this version accepts; `python -m mooring.spec.schema` writes it."""
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json_schema()


def test_schema_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing the schema again changes nothing."""
    monkeypatch.setattr("mooring.spec.schema.SCHEMA_FILE", tmp_path / "schema.json")
    main()
    assert (tmp_path / "schema.json").read_bytes() == SCHEMA_FILE.read_bytes()


@pytest.mark.parametrize(
    ("value", "size"),
    [("off", 0), ("OFF", 0), (False, 0), (0, 0), ("0", 0), ("4m", 4 << 20), (2**26, 2**26)],
)
def test_record_is_a_size_or_off(value: object, size: int) -> None:
    """How much output is kept is said as a size; YAML reads a bare off as False."""
    assert spec(record=value).record == size


def test_schema_describes_every_key() -> None:
    """An editor can explain every key."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == "urn:mooring:session"
    for part in (schema, *schema["$defs"].values()):
        assert all(key["description"] for key in part["properties"].values())


@pytest.mark.parametrize(
    "keys",
    [
        yaml.safe_load(FULL),
        {},
        {"environment": "azureml/dask", "inputs": "a,b", "distribution": {"nodes": 10}},
        {"image": {"build": {"dockerfile": "D"}}},
        {"build": "Dockerfile"},
        {"gpus": {"count": 2, "memory": "40GiB", "model": "A100"}},
        {"idle_timeout": False, "max_duration": 60, "memory": 2**30},
        {"record": False},
        {"record": "off"},
        {"command": ["sleep", 5], "env": {"A": 1, "B": True}},
        {"secrets": {"A": {"file": "a"}}, "inputs": [{"source": "a"}]},
        {"extends": "gpu"},
        {"extends": ["../base.yml", "gpu"], "image": None, "env": None, "memory": None},
    ],
)
def test_schema_accepts(keys: dict[str, Any]) -> None:
    """The schema accepts what a file may hold."""
    jsonschema.validate(keys, json_schema())


@pytest.mark.parametrize(
    "keys",
    [
        {"imagge": "x"},
        {"gpus": {"kind": "x"}},
        {"secrets": {"A": "x"}},
        {"secrets": {"A": {"env": "A", "file": "a"}}},
        {"name": "Upper"},
        {"pull": "often"},
        {"inputs": [{"name": "x"}]},
        {"home": "yes"},
        {"extends": 5},
        {"env": {"A": None}},
    ],
)
def test_schema_refuses(keys: dict[str, Any]) -> None:
    """The schema shows the common mistakes while they are typed."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(keys, json_schema())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(SessionSpec.model_fields)), JSON, max_size=4))
def test_any_value_is_judged(keys: dict[str, Any]) -> None:
    """Any JSON under any key is a spec or a ValidationError; a spec's label can be read back."""
    try:
        accepted = SessionSpec.model_validate(keys)
    except ValidationError:
        return
    public = accepted.public_dict()
    assert SessionSpec.from_public_dict(public).public_dict() == public
