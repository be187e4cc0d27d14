"""Flags become the keys of a spec."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.errors import SpecError
from mooring_cli.spec_flags import spec_flags


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"environment": "a:1"}, {"image": "a:1"}),
        ({"gpus": "2"}, {"gpus": 2}),
        ({"gpus": "0.5"}, {"gpus": 0.5}),
        (
            {"gpus": "count=1, memory=40GiB,model=A100"},
            {"gpus": {"count": 1, "memory": "40GiB", "model": "A100"}},
        ),
        ({"resources": ["cpu=4", "mem=8g", "cuda.shares=0.5"]},
         {"cpus": 4, "memory": "8g", "gpus": 0.5}),
        ({"inputs": ["a,b", "name=c"]}, {"inputs": ["a", "b", {"name": "name", "source": "c"}]}),
        ({"ports": ["6006"]}, {"ports": ["6006"]}),
        ({"groups": ["lab", "staff"]}, {"groups": ["lab", "staff"]}),
        ({"preload": ["torch", "pandas"]}, {"preload": ["torch", "pandas"]}),
        ({"pids_limit": "off"}, {"pids_limit": "off"}),
        ({"env": ["A=1=2", "HERE"]}, {"env": {"A": "1=2", "HERE": "there"}}),
        ({"secret": ["T", "U=V"]}, {"secrets": {"T": {"env": "T"}, "U": {"env": "V"}}}),
        ({"home": False, "idle_timeout": "30m", "max_duration": "0"},
         {"home": False, "idle_timeout": "30m", "max_duration": "0"}),
        ({"profile": "mine", "unknown": 1}, {}),
    ],
)  # fmt: skip
def test_flags_as_keys(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], flags: dict[str, Any]
) -> None:
    """Each flag sets its key; what was not given sets none."""
    monkeypatch.setenv("HERE", "there")
    assert spec_flags(values) == flags


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": "a", "environment": "b"}, "--environment and --image mean the same"),
        ({"resources": ["cpu=1"], "cpus": "2"}, "-r cpu and --cpus mean the same"),
        ({"resources": ["cuda.device=1", "cuda.shares=1"]},
         "-r cuda.device and -r cuda.shares mean the same"),
        ({"resources": ["tpu=1"]}, "flag -r: no resource 'tpu'"),
        ({"resources": ["cpu"]}, "flag -r: 'cpu' is not NAME=VALUE"),
        ({"gpus": "count=1,count=2"}, "flag --gpus: 'count=2' is not one KEY=VALUE"),
        ({"gpus": "many"}, "flag --gpus: 'many' is not a number"),
        ({"env": ["SURELY_NOT_SET"]}, "flag --env: SURELY_NOT_SET is not set in the environment"),
    ],
)  # fmt: skip
def test_flags_that_are_wrong(values: dict[str, Any], message: str) -> None:
    """A flag that cannot be read, or that contradicts another, is an error that names it."""
    with pytest.raises(SpecError) as caught:
        spec_flags(values)
    assert caught.value.message == message
