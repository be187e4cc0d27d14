"""Attacks on what mooring runs from, out of a session that may write to the folder around it.

The mooring of these users is that of ``installed_wheel``, in environments of their own: a person
keeps a project's environment in the project.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.security.owner import _owner, owner
from tests.users.people import Person

__all__ = ["_owner", "owner"]

pytestmark = pytest.mark.engine

MOORING = "#!{venv}/bin/python\nfrom mooring_cli.__main__ import main\nraise SystemExit(main())\n"


@dataclass(frozen=True)
class Environment:
    """A user's own Python environment with mooring in it.

    Attributes:
        env: more variables of its commands.
    """

    owner: Person
    path: Path
    env: Mapping[str, str]

    @property
    def packages(self) -> Path:
        (folder,) = self.path.glob("lib/python3*/site-packages")
        return folder

    def mooring(
        self, *words: str | Path, cwd: Path | None = None, check: int | None = 0
    ) -> tuple[str, str]:
        done = self.owner.run(
            self.path / "bin" / "mooring", *words, cwd=cwd, env=self.env, check=check
        )
        return done.stdout, done.stderr

    def inside(self, name: str, script: str) -> str:
        """Run a script of the attacker's in a session; its output and its errors."""
        return "".join(self.mooring("exec", name, "--", "sh", "-c", script, check=None))


Make = Callable[..., Environment]


@pytest.fixture
def environment(owner: Person) -> Iterator[Make]:
    """Makes environments that have the packages of the installed wheel's; their sessions are
    removed at the end."""
    variables: list[Mapping[str, str]] = []

    def make(path: Path, *, make: bool = True, **env: str) -> Environment:
        variables.append(env)
        made = Environment(owner, path, env)
        if make:
            owner.run(owner.wheel.python, "-m", "venv", "--without-pip", path)
            (wheels,) = owner.wheel.path.glob("lib/python3*/site-packages")
            owner.write(made.packages / "wheel.pth", f"{wheels}\n")
            owner.write(path / "bin" / "mooring", MOORING.format(venv=path), 0o755)
        return made

    yield make
    for env in variables:
        names = [row["name"] for row in json.loads(owner.mooring("ps", "--json", env=env).stdout)]
        if names:
            owner.mooring("rm", "-f", *names, env=env)


def create(own: Environment, project: Path, image: str, *words: str) -> None:
    own.mooring(
        *("create", "--name", "s", "--image", image, "--pull", "never", *words),
        *("-d", "--", "sleep", "300"),
        cwd=project,
    )


def identities(*paths: Path) -> list[tuple[int, int]]:
    return [(path.lstat().st_dev, path.lstat().st_ino) for path in paths]


@pytest.fixture(params=["host", "other"])
def image(request: pytest.FixtureRequest, bare_image: str) -> str:
    return bare_image if request.param == "other" else "host"


def test_nothing_is_planted_in_the_environment(
    owner: Person, environment: Make, image: str
) -> None:
    """A session cannot add or change a file of the environment in its project, on any image."""
    project = owner.folder(f"planted-{image == 'host'}")
    own = environment(project / ".venv")
    create(own, project, image)
    mark = owner.home / "planted-ran"
    line = f"import os; open('{mark}', 'w').close()"
    targets = [
        own.packages / "evil.pth",
        own.packages / "sitecustomize.py",
        own.path / "bin" / "mooring",
        own.path / "pyvenv.cfg",
        project / ".venv" / "lib" / "evil.py",
    ]
    script = "; ".join(f'(echo "{line}" >{path}) && echo wrote' for path in targets)
    assert "wrote" not in own.inside("s", script)
    own.inside("s", f"cd {project}; mv .venv v2; rm -rf .venv; ls -la; : >made")
    assert "s" in own.mooring("ps")[0]
    assert not mark.exists()
    assert (project / "made").exists()  # the project itself is writable


@pytest.mark.parametrize("deep", ["backend", "a/b/c"])
def test_the_folders_above_the_environment_stay(
    owner: Person, environment: Make, image: str, deep: str
) -> None:
    """No folder between a mount and the environment in it can be renamed, removed or replaced."""
    project = owner.folder(f"above-{deep.replace('/', '-')}-{image == 'host'}")
    folder = owner.folder(str((project / deep).relative_to(owner.home)))
    own = environment(folder / ".venv")
    way = [path for path in (own.path, *own.path.parents) if project in path.parents]
    before = identities(*way)
    create(own, project, image)
    for path in way:
        own.inside("s", f"cd {project}; mv {path} {project}/b2; rm -r {path}; ls {project}")
        own.inside("s", f"/bin/busybox mv {path} /tmp/b2 || rmdir {path}")
    assert identities(*way) == before
    own.inside("s", f": >{folder}/made; (: >{folder}/.venv/made)")
    assert (folder / "made").exists()
    assert not (folder / ".venv" / "made").exists()


def test_the_state_folder_in_a_project_stays(owner: Person, environment: Make, image: str) -> None:
    """A session can neither see, replace nor move mooring's state, so that nothing is planted as
    if it had been queued with consent."""
    project = owner.folder(f"state-{image == 'host'}")
    state = project / "var" / "state"
    owner.folder(str(state.parent.relative_to(owner.home)))
    own = environment(owner.folder(f"venv-{image == 'host'}") / ".venv")
    own = environment(own.path, make=False, MOORING_STATE_DIR=str(state))
    create(own, project, image)
    before = identities(state.parent, state, state / "sessions")
    told = own.inside(
        "s", f"cd {project}; mv var v2; rm -rf var; ls -A var/state; (: >var/state/x)"
    )
    own.inside("s", f"cd {project}/var; mv state s2; : >made")
    assert "sessions" not in told
    assert identities(state.parent, state, state / "sessions") == before
    assert (project / "var" / "made").exists()


def refused(own: Environment, project: Path, *words: str) -> str:
    """What a creation that is refused says; nothing is created."""
    command = ["create", *words, "-d", "--", "true"]
    told = own.mooring(*command, cwd=project, check=1)[1]
    assert json.loads(own.mooring("ps", "--json")[0]) == []
    assert "hint: " in told
    return told


def test_a_part_of_the_environment_is_not_mounted(owner: Person, environment: Make) -> None:
    """An output in the environment, the environment as the project, and a project in it are
    refused."""
    project = owner.folder("parts")
    own = environment(project / ".venv")
    for words, cwd in (
        (["--output", ".venv/lib"], project),
        (["--output", "new=.venv/lib/new/er"], project),
        (["--output", "all=.venv"], project),
        ([], own.path),
        ([], own.packages),
    ):
        assert f"belongs to the Python that mooring runs from, {own.path}" in refused(
            own, cwd, *words
        )
    owner.run("ln", "-s", ".venv/lib", project / "link")
    assert "belongs to the Python" in refused(own, project, "--output", "link")


def test_a_link_to_what_mooring_runs_from_is_refused(owner: Person, environment: Make) -> None:
    """Where a session could exchange a link that leads to the environment, to its interpreter or to
    the state folder, it is not created; by the real path it is."""
    project, elsewhere = owner.folder("links"), owner.folder("links-elsewhere")
    real = environment(elsewhere / ".venv")
    owner.run("ln", "-s", real.path, project / ".venv")
    linked = environment(project / ".venv", make=False)
    assert f"could replace the link {project}/.venv" in refused(linked, project)
    python = [project / ".venv" / "bin" / "python", "-m", "mooring_cli", "create", "-d"]
    told = owner.run(*python, "--", "true", cwd=project, check=1).stderr
    assert f"could replace the link {project}/.venv" in told
    owner.run("ln", "-s", owner.folder("links-state"), project / "state")
    linked = environment(real.path, make=False, MOORING_STATE_DIR=str(project / "state"))
    told = refused(linked, project)
    assert f"could replace the link {project}/state" in told
    create(real, project, "host")


def test_folders_that_python_imports_from_are_read_only(
    owner: Person, environment: Make, bare_image: str
) -> None:
    """A folder of an editable install, or of PYTHONPATH, is read-only inside a project, on another
    image too, and the user is told; one that is the project itself stays writable, and they are
    told as well."""
    project = owner.folder("editable")
    source = owner.folder("editable/src/deep")
    own = environment(owner.folder("editable-venv") / ".venv")
    owner.write(own.packages / "mine.pth", f"{source}\n")
    words = ["create", "--image", bare_image, "--pull", "never", "--name", "s"]
    told = own.mooring(*words, "-d", "--", "sleep", "300", cwd=project)[1]
    assert f"mounted read-only, because the Python that runs mooring imports from it: {source}" in (
        told
    )
    told = own.inside("s", f"(: >{source}/sitecustomize.py) || mv {project}/src {project}/s2")
    assert "Read-only" in told
    assert os.listdir(source) == []
    assert source.exists()
    flat = environment(own.path, make=False, PYTHONPATH=f"{project}/missing:{project}")
    words[-1] = "flat"
    told = flat.mooring(*words, "-d", "--", "sleep", "300", cwd=project)[1]
    assert "the session can change" in told
    assert f"{project}, which the Python" in told
    flat.inside("flat", f": >{project}/made")
    assert (project / "made").exists()


def test_a_mounted_home_protects_too(owner: Person, environment: Make, bare_image: str) -> None:
    """With `home: true`, the environment and the state in the home stay as they are."""
    own = environment(owner.folder("tools/py") / ".venv")
    create(own, owner.folder("homely"), bare_image, "--home")
    state = owner.state
    paths = [own.path, own.path.parent, own.path.parent.parent, state, state.parent]
    before = identities(*paths)
    for path in paths:
        own.inside("s", f"mv {path} {owner.home}/away; (: >{path}/evil.pth)")
    own.inside("s", f"(: >{own.packages}/evil.pth); : >{owner.home}/made")
    assert identities(*paths) == before
    assert not list(own.path.rglob("evil.pth"))
    assert not list(state.rglob("evil.pth"))
    assert (owner.home / "made").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting folders needs root")
@pytest.mark.parametrize("how", ["above", "itself", "part"])
def test_another_path_to_the_environment_protects_too(
    owner: Person, environment: Make, bare_image: str, how: str
) -> None:
    """Where a bind mount of the machine's shows the environment at another path, it cannot be
    changed through that either."""
    own = environment(owner.folder(f"real-{how}") / "a" / ".venv")
    project = owner.folder(f"alias-{how}")
    point = owner.folder(f"alias-{how}/x")
    source = {"itself": own.path, "part": own.packages}.get(how, own.path.parents[1])
    subprocess.run(["mount", "--bind", source, point], check=True)
    try:
        if how != "above":
            assert "belongs to the Python" in refused(own, project, "--output", f"o={point}")
        create(own, project, bare_image)
        before = identities(own.path, own.path.parent)
        own.inside("s", f"cd {point}; mv a b; mv .venv v2; ls")
        own.inside("s", f"for d in {point} {point}/a/.venv/bin; do (: >$d/evil.pth); done")
        assert identities(own.path, own.path.parent) == before
        assert not list(own.path.rglob("evil.pth"))
        own.mooring("rm", "-f", "s")
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
