"""Where each value of a spec comes from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import SpecError
from mooring.spec.model import SessionSpec
from mooring.spec.resolve import (
    ENVIRONMENT,
    NOT_IN_USER_CONFIG,
    ResolvedSpec,
    resolve,
    user_config_path,
)


@pytest.fixture(autouse=True)
def _in_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)


def go(
    *,
    flags: Mapping[str, object] | None = None,
    file: str | None = None,
    environ: Mapping[str, str] | None = None,
    user: str | None = None,
) -> ResolvedSpec:
    if file is not None:
        Path("session.yml").write_text(file)
    if user is not None:
        Path("config.yml").write_text(user)
    return resolve(
        flags=flags or {},
        file=None if file is None else Path("session.yml"),
        environ=environ or {},
        user_config=Path("config.yml"),
    )


def refusal(**sources: Any) -> str:
    with pytest.raises(SpecError) as caught:
        go(**sources)
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_precedence() -> None:
    """Flags win over the environment, that over the file, that over the user's configuration."""
    sources: dict[str, Any] = {
        "user": "image: user",
        "file": "\nimage: file",
        "environ": {"MOORING_IMAGE": "environment"},
        "flags": {"image": "flag"},
    }
    origins = ["user config config.yml:1", "file session.yml:2", "environment MOORING_IMAGE",
               "flag --image"]  # fmt: skip
    given: dict[str, Any] = {}
    assert go().origins["image"] == "default"
    for (source, value), origin in zip(sources.items(), origins, strict=True):
        given[source] = value
        resolved = go(**given)
        assert (resolved.spec.image, resolved.origins["image"]) == (source_value(source), origin)


def source_value(source: str) -> str:
    return {"environ": "environment", "flags": "flag"}.get(source, source)


def test_nothing_given(tmp_path: Path) -> None:
    """Without any source every key is its default, and the project is the current folder."""
    Path("session.yml").write_text("image: not-read-implicitly")
    resolved = go()
    assert resolved.spec == SessionSpec()
    assert dict(resolved.origins) == dict.fromkeys(SessionSpec.model_fields, "default")
    assert (resolved.path, resolved.sha256) == (None, None)
    assert resolved.project == tmp_path / "project"


def test_file_and_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is the folder of the file, absolute, wherever the caller stands."""
    Path("session.yml").write_text("home: true")
    monkeypatch.chdir(tmp_path)
    resolved = resolve(
        flags={}, file=Path("project/session.yml"), environ={}, user_config=tmp_path / "none"
    )
    assert resolved.path == tmp_path / "project" / "session.yml"
    assert resolved.project == tmp_path / "project"
    assert resolved.origins["home"] == "file project/session.yml:1"
    assert resolved.sha256 is not None
    assert len(resolved.sha256) == 64


def test_env_merges_by_name() -> None:
    """Variables of several sources add up, and each keeps its origin."""
    resolved = go(
        user="env: {A: user, B: user}",
        file="env:\n  B: file\n",
        flags={"env": {"C": "flag"}},
    )
    assert resolved.spec.env == {"A": "user", "B": "file", "C": "flag"}
    assert resolved.origins["env.A"] == "user config config.yml:1"
    assert resolved.origins["env.B"] == "file session.yml:2"
    assert resolved.origins["env.C"] == resolved.origins["env"] == "flag --env"


def test_secrets_merge_by_name() -> None:
    """Secrets of several sources add up."""
    resolved = go(
        file="secrets: {A: {env: A}, B: {env: B}}",
        flags={"secrets": {"B": {"file": "b"}}},
    )
    assert resolved.spec.secrets["A"].env == "A"
    assert resolved.spec.secrets["B"].file == "b"


def test_lists_replace() -> None:
    """A higher source's list takes the lower one's place."""
    resolved = go(file="inputs: [a, b]", flags={"inputs": ["c"]})
    assert [mount.name for mount in resolved.spec.inputs] == ["c"]
    assert resolved.origins["inputs"] == "flag --input"


def test_image_and_build_replace_each_other() -> None:
    """A flag's image takes the place of the file's build, and the file's build of the user's."""
    resolved = go(user="image: mine", file="build: Dockerfile")
    assert resolved.spec.build is not None
    assert (resolved.spec.image, resolved.origins["image"]) == ("host", "default")
    resolved = go(file="image: {build: Dockerfile}", flags={"environment": "theirs"})
    assert (resolved.spec.image, resolved.spec.build) == ("theirs", None)
    assert resolved.origins["image"] == "flag --environment"
    assert resolved.origins["build"] == "default"


def test_absent_flags() -> None:
    """None is a flag that was not given; False, 0 and empty are values."""
    resolved = go(file="home: true\ngpus: 1", flags={"home": None, "gpus": 0, "name": None})
    assert (resolved.spec.home, resolved.spec.gpus) == (True, 0)


def test_null_undoes() -> None:
    """An empty key in the file takes back what the user's configuration set."""
    assert go(user="memory: 1g", file="memory:").spec.memory is None


VALUES: dict[str, tuple[str, object]] = {
    "name": ("mine", "mine"),
    "image": ("python:3", "python:3"),
    "pull": ("never", "never"),
    "kernel": ("python3", "python3"),
    "command": ("echo {a: b}", "echo {a: b}"),
    "gpus": ("0.5", 0.5),
    "cpus": ("2", 2.0),
    "memory": ("1GiB", 2**30),
    "pids_limit": ("off", 0),
    "shm": ("1g", 2**30),
    "home": ("true", True),
    "idle_timeout": ("off", 0.0),
    "max_duration": ("8h", 28800.0),
    "target": ("local", "local"),
    "encrypt": ("always", "always"),
    "record": ("off", 0),
    "priority": ("-5", -5),
}


@pytest.mark.parametrize(("variable", "key"), ENVIRONMENT.items())
def test_environment(variable: str, key: str) -> None:
    """Every scalar key has its variable, whose value is read as YAML reads it without quotes."""
    text, value = VALUES[key]
    resolved = go(environ={variable: text})
    assert getattr(resolved.spec, key) == value
    assert resolved.origins[key] == f"environment {variable}"


def test_environment_covers_every_scalar() -> None:
    """Only keys that hold more than a scalar have no variable."""
    compound = {"build", "inputs", "outputs", "ports", "env", "secrets", "distribution", "groups"}
    compound |= {"preload"}
    assert set(ENVIRONMENT.values()) | compound == set(SessionSpec.model_fields)


def test_empty_variables_are_absent() -> None:
    """A variable that is empty says nothing."""
    assert go(environ={"MOORING_IMAGE": "", "MOORING_GPUS": " "}).spec == SessionSpec()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"environ": {"MOORING_GPUS": "many"}}, "environment MOORING_GPUS: gpus must be"),
        ({"environ": {"MOORING_CPUS": "9" * 5000}}, "environment MOORING_CPUS: cpus "),
        ({"environ": {"MOORING_PULL": "12"}}, "environment MOORING_PULL: pull must be always"),
        ({"flags": {"idle_timeout": "soon"}}, "flag --idle-timeout: idle_timeout must be"),
        ({"flags": {"imagge": "x"}}, "flag --imagge: imagge is not a key"),
        ({"flags": {"ports": ["80", "99999"]}}, "flag --port: 99999 must be a port such as 8080"),
        ({"flags": {"ports": ["80:80:80"]}}, "flag --port: 80:80:80 must be a port such as 8080"),
        ({"flags": {"inputs": ["/"]}}, "flag --input: / would expose the host"),
        ({"flags": {"inputs": [".."]}}, "flag --input: .. has no name of its own; write NAME="),
        (
            {"flags": {"outputs": [{"name": "a/b", "source": "x"}]}},
            "flag --output: name must be a plain name",
        ),
        ({"flags": {"inputs": "a,.."}}, "flag --input: has no name of its own"),
        (
            {"flags": {"gpus": "0.0001"}},
            "flag --gpus: gpus must be a share with at most three decimals",
        ),
        ({"file": "gpus: 0\nhome: 5"}, "session.yml:2:1: home must be"),
        ({"user": "gpus: 0\nhome: 5"}, "config.yml:2:1: home must be"),
        ({"user": "- a"}, "config.yml:1:1: not a mapping"),
        ({"file": "image: a\nenvironment: b"}, "session.yml: image and environment"),
        ({"user": "env: {A: x}", "file": "secrets: {A: {env: A}}"}, "A is both in env and in"),
    ],
)
def test_errors_name_their_source(sources: dict[str, Any], message: str) -> None:
    """A wrong value names the flag, the variable or the place in the file."""
    assert refusal(**sources).startswith(message)


def test_lower_sources_are_judged_too() -> None:
    """A mistake in a file is told even when a flag would hide it."""
    assert refusal(file="home: 5", flags={"home": True}).startswith("session.yml:1:1")


@pytest.mark.parametrize("key", sorted(NOT_IN_USER_CONFIG))
def test_user_config_is_for_all_sessions(key: str) -> None:
    """What belongs to one session is refused in the user's configuration."""
    message = refusal(user=f"image: a\n{key}:")
    assert message == f"config.yml:2:1: {key} is specific to one session"


def test_empty_user_config() -> None:
    """A configuration with every line commented out is no mistake."""
    assert go(user="# image: mine\n").spec == SessionSpec()


def test_user_config_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's configuration is read from its usual place, shown with ~ for the home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    path = user_config_path()
    path.parent.mkdir(parents=True)
    path.write_text("\nhome: true")
    resolved = resolve(flags={}, environ={})
    assert resolved.spec.home
    assert resolved.origins["home"] == f"user config ~/{path.relative_to(tmp_path)}:2"


def test_folder_is_gone(tmp_path: Path) -> None:
    """A current folder that was deleted is an explained error."""
    (tmp_path / "project").rmdir()
    with pytest.raises(SpecError, match="current folder no longer exists"):
        resolve(flags={}, environ={}, user_config=tmp_path / "none")


def test_imports_are_lazy() -> None:
    """Importing the configuration costs none of the libraries that only some values need."""
    code = "import sys, mooring.spec.resolve; print(*{'yaml', 'platformdirs'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(sys.modules["mooring"].__file__ or "").parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
