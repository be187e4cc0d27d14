"""What a command gets of its session's environment, and what the scripts take from it: nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.guest_scripts import (
    ENVIRONMENT,
    HOSTILE,
    SHELLS,
    caged,
    environment_after,
    make_run_folder,
    parsed,
    script_names,
    shell_named,
)

SETTINGS = {"sample_s": 60, "grace_s": 1}
# The ways in which a command of the user's begins
WAYS: dict[str, Callable[[Path], list[object]]] = {
    "init command": lambda run: [*caged(), run / "init.sh", "command", "--"],
    "init terminal": lambda run: [*caged(), run / "init.sh", "terminal", 24, 80, "--"],
    "exec counted": lambda run: [run / "exec.sh", "counted", "one", "--"],
    "exec terminal": lambda run: [run / "exec.sh", "terminal", 24, 80, "--"],
}
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,15}", fullmatch=True)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return shell_named(request.param)


def words_for(way: str, run: Path, shell: list[str]) -> list[object]:
    """Start the script by that shell, in its namespace if it has one."""
    words = WAYS[way](run)
    at = next(i for i, word in enumerate(words) if isinstance(word, Path))
    return [*words[:at], *shell, *words[at:], *ENVIRONMENT]


def assert_handed_on(way: str, run: Path, shell: list[str], env: dict[str, str]) -> None:
    """The command has what it has of a shell that does nothing but become it."""
    cage = caged() if way.startswith("init") else ()
    plain = environment_after([*cage, *shell, "-c", 'exec "$@"', "sh", *ENVIRONMENT], env)
    assert environment_after(words_for(way, run, shell), env) == plain


@pytest.mark.parametrize("way", WAYS)
def test_every_name_that_the_scripts_use_is_handed_on(
    tmp_path: Path, shell: list[str], way: str
) -> None:
    """A spec's variables reach the command, also those that have a name of the scripts' own."""
    own = [name for name in script_names() if name not in HOSTILE]
    assert {"folder", "idle", "name", "mode", "now"} <= set(own)
    env = {"PATH": "/usr/bin:/bin"} | {name: f"theirs of\n{name} " for name in own}
    run = make_run_folder(tmp_path / "run", **SETTINGS)
    assert_handed_on(way, run, shell, env)
    environment = environment_after(words_for(way, run, shell), env)
    assert env.items() <= environment.items()
    assert environment.keys() - env.keys() <= {"PWD", "SHLVL"}  # the shell's own


@pytest.mark.parametrize("way", WAYS)
def test_hostile_variables_are_handed_on(tmp_path: Path, shell: list[str], way: str) -> None:
    """What a shell gives a meaning to has none for the scripts, and reaches the command as through
    any shell, one variable at a time and all at once."""
    run = make_run_folder(tmp_path / "run", **SETTINGS)
    assert_handed_on(way, run, shell, HOSTILE)
    for name, value in HOSTILE.items():
        assert_handed_on(way, run, shell, {"PATH": "/usr/bin:/bin", name: value})


@pytest.mark.parametrize("way", ["init command", "exec counted"])
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(env=st.dictionaries(names, values, max_size=20))
def test_any_variable_is_handed_on(
    tmp_path: Path, shell: list[str], way: str, env: dict[str, str]
) -> None:
    """Whatever names and values an environment has, the command gets them."""
    run = make_run_folder(tmp_path / "run", **SETTINGS)
    assert_handed_on(way, run, shell, env)


def test_the_kernel_host_has_the_environment_of_the_session(
    tmp_path: Path, shell: list[str]
) -> None:
    """The parent of the kernels gets the spec's variables as the command does."""
    run = make_run_folder(tmp_path / "run", **SETTINGS)
    (run / "kernelhost").write_text(f"{ENVIRONMENT[0]}\n")
    (run / "kernelhost.py").symlink_to(ENVIRONMENT[1])
    own = [name for name in script_names() if name not in HOSTILE]
    env = {"PATH": "/usr/bin:/bin"} | {name: f"theirs of {name}" for name in own}
    waiting = ["/bin/sh", "-c", 'until [ -s "$0" ]; do sleep 0.01; done', run / "kernelhost.log"]
    subprocess.run(
        [*caged(), *shell, run / "init.sh", "command", "--", *waiting],
        env=env, stdin=subprocess.DEVNULL, check=True, timeout=60,
    )  # fmt: skip
    environment = parsed((run / "kernelhost.log").read_bytes())
    assert env.items() <= environment.items()
    assert environment.keys() - env.keys() <= {"PWD", "SHLVL"}


@pytest.mark.parametrize("script", ["init.sh", "exec.sh"])
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["command"],
        ["command", "--"],
        ["command", "true"],
        ["clock", "--", "true"],
        ["terminal", "24"],
        ["terminal", "24", "80", "true"],
        ["counted", "../one", "--", "true"],
        ["counted", ".one", "--", "true"],
        ["counted", "", "--", "true"],
        ["counted", "one", "--"],
        ["counted", "one", "true", "--"],
    ],
)
def test_usage_is_refused_before_anything_is_done(
    tmp_path: Path, shell: list[str], script: str, words: list[str]
) -> None:
    """A call that is not one of the known fails with mooring's own code and touches nothing."""
    run = make_run_folder(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [*shell, run / script, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert done.stderr.startswith(f"mooring: usage: {script}")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("first", "code", "told"),
    [
        (b"#!/bin/sh\n", 0, ""),
        (b"#! /bin/sh -e\n", 0, ""),
        (b"#!\t/bin/sh\n", 0, ""),
        (b"#!\t/bin/sh\t-e \n", 0, ""),
        (b"#!/bin/sh\r\n", 126, "its first line ends in a carriage return (Windows line endings)"),
        (b"#!/usr/bin/env sh\r\n", 126, "its first line ends in a carriage return (Windows line "),
        (b"#!/no/such -x\n", 126, "there is no /no/such here, which its first line names"),
    ],
)
def test_the_first_line_of_a_script(
    tmp_path: Path, shell: list[str], first: bytes, code: int, told: str
) -> None:
    """A script whose first line names no program is told as such, and not as a line of mooring's
    own scripts."""
    run = make_run_folder(tmp_path / "run", **SETTINGS)
    script = tmp_path / "a script"
    script.write_bytes(first + b"exit 0\n")
    script.chmod(0o755)
    words = [*shell, run / "exec.sh", "counted", "one", "--", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(f"{script}: {told}") if told else not done.stderr
