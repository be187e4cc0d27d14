"""What a session may see of this machine: the plan, before any engine is asked."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest

from mooring.engines.base import Bind
from mooring.errors import SpecError
from mooring.host import paths
from mooring.host.users import User, caller
from mooring.images import mounts
from mooring.images.mounts import MountPlan, SessionFolders, plan
from mooring.spec.model import SessionSpec


def grants(made: MountPlan) -> list[str]:
    return [str(grant) for grant in made.grants]


def at(made: MountPlan, target: object) -> Bind:
    (found,) = [bind for bind in (*made.binds, *made.on_top) if bind.target == str(target)]
    return found


# Where things are


def test_the_working_directory_is_at_its_own_path(
    lay, folders: SessionFolders, project: Path
) -> None:
    """The project is writable at its own path, and the working directory is where the caller is."""
    (project / "sub").mkdir()
    made = lay(folders, cwd=project / "sub")
    assert at(made, project) == Bind(str(project), str(project), False)
    assert made.workdir == str(project / "sub")
    assert made.grants == ()


def test_a_caller_elsewhere_starts_in_the_project(
    lay, folders: SessionFolders, outside: Path
) -> None:
    """A current directory outside the project is not granted and not entered."""
    made = lay(folders, cwd=outside)
    assert made.workdir != str(outside)
    assert str(outside) not in {bind.source for bind in made.binds}


def test_inputs_are_read_only_and_outputs_are_not(
    lay, folders: SessionFolders, project: Path
) -> None:
    """Inputs are under /mnt/inputs and read-only; outputs are under /mnt/outputs and writable."""
    (project / "corpus").mkdir()
    (project / "one.csv").touch()
    made = lay(folders, inputs=["./corpus", "one.csv"], outputs=["results"])
    assert at(made, "/mnt/inputs/corpus") == Bind(str(project / "corpus"), "/mnt/inputs/corpus")
    assert at(made, "/mnt/inputs/one.csv").read_only
    assert not at(made, "/mnt/outputs/results").read_only
    assert made.grants == ()


@pytest.mark.parametrize("top", ["/", "/usr", "/etc", "/home", "/tmp", "/proc/self", "/dev"])
def test_a_system_folder_is_no_working_directory(
    lay, folders: SessionFolders, user: User, top: str
) -> None:
    """If the project would hide the image's own folders, the home is the working directory."""
    made = lay(folders, at=Path(top))
    assert made.workdir == user.home
    assert not any(bind.source == top for bind in made.binds)


def test_every_target_is_once(lay, folders: SessionFolders, user: User) -> None:
    """Nothing is mounted twice at one place, even if the home is the project."""
    for home in (False, True):
        made = lay(folders, at=Path(user.home), home=home)
        targets = [bind.target for bind in made.binds]
        assert len(targets) == len(set(targets))
        assert at(made, user.home).source == user.home


def test_the_private_home_is_the_sessions(lay, folders: SessionFolders, user: User) -> None:
    """Without ``home: true`` the home in the session is not the caller's."""
    assert at(lay(folders), user.home).source == str(folders.home)
    assert at(lay(folders, home=True), user.home).source == user.home


# Homes


def test_a_home_that_is_the_project_is_mounted_once(
    folders: SessionFolders, tmp_path: Path
) -> None:
    """A session made from the home folder has that folder, and no private home over it."""
    user = dataclasses.replace(caller(), home=str(tmp_path))
    made = plan(SessionSpec(), project=tmp_path, cwd=tmp_path, user=user, folders=folders)
    assert [bind.source for bind in made.binds if bind.target == user.home] == [str(tmp_path)]


def test_a_home_that_is_not_asked_for_is_private(folders: SessionFolders, tmp_path: Path) -> None:
    """Without `home: true`, outside the home, the home in the session is a private one."""
    user = dataclasses.replace(caller(), home=str(tmp_path / "home"))
    project = tmp_path / "project"
    project.mkdir()
    made = plan(SessionSpec(), project=project, cwd=project, user=user, folders=folders)
    assert [bind.source for bind in made.binds if bind.target == user.home] == [str(folders.home)]


def note_of(folder: Path, home: Path, *, asked: bool = False) -> str:
    user = dataclasses.replace(caller(), home=str(home))
    return plan(SessionSpec(home=asked), project=folder, cwd=folder, user=user).note


@pytest.mark.parametrize("folder", ["/", "/tmp", "/var/tmp", "/usr", "/opt", "/mnt", "/etc"])
def test_a_folder_that_is_not_mounted_is_noted(state: Path, tmp_path: Path, folder: str) -> None:
    """A note says that a folder of the system is not mounted, and what the working directory is."""
    told = f"{folder} is not mounted; the working directory is {tmp_path}, "
    assert note_of(Path(folder), tmp_path) == f"{told}a private one"
    assert note_of(Path(folder), tmp_path, asked=True) == f"{told}your home"


def test_a_home_that_is_mounted_unasked_is_noted(state: Path, tmp_path: Path) -> None:
    """A note says that the current folder mounts the home, unless the home was requested."""
    home = tmp_path / "me"
    (home / "work").mkdir(parents=True)
    assert note_of(home, home).startswith(f"your home, {home}, is mounted writable")
    assert note_of(tmp_path, home).startswith(f"your home, {home}, lies in {tmp_path} and so is")
    assert note_of(home, home, asked=True) == ""
    assert note_of(home / "work", home) == ""


# What must be asked for


def test_the_home_is_a_grant(lay, user: User) -> None:
    """The real home is a grant, by its key, as the project, or below the project."""
    assert grants(lay(home=True)) == [f"home: your home, {user.home}, writable"]
    as_project = lay(at=Path(user.home))
    assert grants(as_project) == [f"working directory: your home, {user.home}, writable"]
    assert grants(lay(at=Path(user.home).parent)) == grants(as_project)


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_a_sibling_with_the_same_beginning_is_outside(lay, project: Path, kind: str) -> None:
    """``project-evil`` does not lie in ``project``."""
    evil = project.with_name(project.name + "-evil")
    evil.mkdir()
    for source in (f"../{evil.name}", str(evil)):
        (grant,) = grants(lay(**{kind: [source]}))
        assert grant.endswith(str(evil))


@pytest.mark.parametrize(
    "source",
    ["..", "../outside", "sub/../../outside", "./link", "link/../outside", "sub/up/outside"],
)
def test_every_way_out_is_seen(lay, project: Path, outside: Path, source: str) -> None:
    """Dots and links that lead out of the project are grants of what is really there."""
    (project / "sub").mkdir()
    (project / "link").symlink_to(outside)
    (project / "sub" / "up").symlink_to(project.parent)
    real = str(outside.parent if source == ".." else outside)
    made = lay(inputs=[{"name": "x", "source": source}])
    assert grants(made) == [f"inputs: read {real}"]


def test_the_real_path_is_mounted(
    lay, folders: SessionFolders, project: Path, outside: Path
) -> None:
    """The engine is given what the check saw, not the link."""
    (project / "link").symlink_to(outside)
    assert at(lay(folders, inputs=["link"]), "/mnt/inputs/link").source == str(outside)


def test_links_inside_are_nobodys_business(lay, project: Path) -> None:
    """A link from the project into the project needs no grant."""
    (project / "data").mkdir()
    (project / "link").symlink_to("data")
    assert grants(lay(inputs=["link"])) == []


@pytest.mark.parametrize("name", [".ssh", ".aws", ".config/gcloud", ".docker", ".gnupg", ".kube"])
def test_sensitive_folders_are_grants_wherever_the_project_is(lay, user: User, name: str) -> None:
    """A project in the home does not make the home's secrets its own."""
    secret = Path(user.home) / name
    secret.mkdir(parents=True)
    made = lay(at=Path(user.home), inputs=[{"name": "x", "source": f"./{name}"}])
    assert f"inputs: read {secret}" in grants(made)


def test_secrets_are_grants_by_their_names(lay, project: Path) -> None:
    """Each secret is a grant by its own key, with its real origin and without its value."""
    (project / "token").symlink_to(project / "really")
    made = lay(secrets={"A": {"env": "MINE"}, "B": {"file": "token"}})
    assert grants(made) == [
        "secrets.A: from your variable MINE",
        f"secrets.B: from your file {project}/really",
    ]


# What is hidden


def test_moorings_own_folder_is_no_project(
    lay, folders: SessionFolders, state: Path, user: User
) -> None:
    """In the state folder the working directory is the home instead."""
    made = lay(folders, at=state / "sessions")
    assert made.workdir == user.home
    assert str(state / "sessions") not in {bind.source for bind in made.binds}


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("how", ["home", "input", "project"])
def test_the_state_folder_is_masked(
    lay,
    folders: SessionFolders,
    user: User,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    through_a_link: bool,
) -> None:
    """An empty folder hides the state folder, whichever mount would show it."""
    home = Path(user.home)
    real = home / ".local" / "state" / "mooring"
    real.mkdir(parents=True)
    if through_a_link:
        (tmp_path / "link").symlink_to(real)
    monkeypatch.setenv("MOORING_STATE_DIR", str(tmp_path / "link" if through_a_link else real))
    seen, spec = {
        "home": (home, {"home": True}),
        "input": (Path("/mnt/inputs/x"), {"inputs": [{"name": "x", "source": str(home)}]}),
        "project": (home, {"at": home}),
    }[how]
    made = lay(folders, **spec)
    mask = at(made, seen / ".local" / "state" / "mooring")
    assert mask.read_only
    assert mask.source == str(folders.empty)
    assert list(Path(mask.source).iterdir()) == []


def test_the_state_folder_is_private_already(lay, folders: SessionFolders) -> None:
    """Without a mount that shows it, there is nothing to mask."""
    empty = str(folders.empty)
    assert empty not in {bind.source for bind in lay(folders).binds}
    assert paths.state_dir().stat().st_mode & 0o77 == 0


# Outputs


def test_outputs_are_the_callers_own(lay, project: Path, user: User) -> None:
    """Outputs are created beforehand, with their parents, and belong to the user."""
    planned = lay(outputs=["deep/er/results"])
    mounts.create_outputs(planned)
    mounts.create_outputs(planned)
    for path in (project / "deep", project / "deep" / "er" / "results"):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (user.uid, user.gid)
        assert stat.S_ISDIR(found.st_mode)


def test_an_output_that_cannot_be_made(lay, project: Path) -> None:
    """An output below what is a file by now is an error that names it."""
    planned = lay(outputs=["file/below"])
    (project / "file").touch()
    with pytest.raises(SpecError, match=f"outputs: cannot create {project}/file/below"):
        mounts.create_outputs(planned)
