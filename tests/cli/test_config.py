"""config show: the spec that create would use, and what create would refuse."""

from __future__ import annotations

import pytest

from tests.support.command_lines import Line, Runner


@pytest.mark.parametrize(
    ("spec", "key", "error"),
    [
        ("build: .", "build", "error: session.yml:1: build is not supported by this version\n"),
        ("inputs: [./no]", "inputs", "error: session.yml:1: inputs: no: "),
        ("memory: 900TiB", "memory", "error: memory is 900 TiB (file session.yml:1), and this mac"),
        ("distribution: {}", "distribution", "error: session.yml:1: distribution is not support"),
        ("image: Python:3.12", "", "error: session.yml:1:1: image must be host or an image such"),
        ("home: 1\nzz: 1", "", "be true or false\nerror: session.yml:2:1: zz is not a key"),
        ("cpus: 2", "cpus", ""),
    ],
)
def test_what_create_refuses_is_shown_and_an_error(
    runner: Runner, spec: str, key: str, error: str
) -> None:
    """config show prints what it can, and fails as create would, with the place in the file."""
    outcome = runner.run(Line(("config", "show", "-f", "session.yml"), spec))
    assert error in outcome.text
    assert bool(outcome.status) is bool(error)
    assert f"\n{key} " in outcome.text if key else "KEY" not in outcome.text
