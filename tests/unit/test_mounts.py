"""What of this machine a session may see: the plan, before any engine is asked."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from mooring.engines.base import Bind
from mooring.errors import PolicyError, SpecError
from mooring.host import paths
from mooring.host.users import User
from mooring.images import mounts
from mooring.images.mounts import MountPlan, plan
from mooring.sessions.record import Folder
from mooring.spec.model import SessionSpec


@pytest.fixture
def user(tmp_path: Path) -> User:
    home = tmp_path / "home"
    home.mkdir()
    return User(os.getuid(), os.getgid(), (), "ann", str(home))


@pytest.fixture
def folder() -> Folder:
    made = Folder.create("0123456789ab", {"id": "0123456789ab"})
    made.release()
    return made


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    return made


@pytest.fixture
def lay(project: Path, user: User):
    """``lay(inputs=[…])``: the plan of a spec in the project."""

    def make(
        folder: Folder | None = None, *, at: Path = project, cwd: Path | None = None, **spec: Any
    ) -> MountPlan:
        return plan(
            SessionSpec.model_validate(spec), project=at, cwd=cwd or at, user=user, folder=folder
        )

    return make


def grants(made: MountPlan) -> list[str]:
    return [str(grant) for grant in made.grants]


def at(made: MountPlan, target: object) -> Bind:
    (found,) = [bind for bind in made.binds if bind.target == str(target)]
    return found


# Where things are


def test_the_working_directory_is_at_its_own_path(lay, folder: Folder, project: Path) -> None:
    """The project is writable at its own path, and the working directory is where the caller is."""
    (project / "sub").mkdir()
    made = lay(folder, cwd=project / "sub")
    assert at(made, project) == Bind(str(project), str(project), False)
    assert made.workdir == str(project / "sub")
    assert made.grants == ()


def test_a_caller_elsewhere_starts_in_the_project(lay, folder: Folder, outside: Path) -> None:
    """A current directory outside the project is not granted and not entered."""
    made = lay(folder, cwd=outside)
    assert made.workdir != str(outside)
    assert str(outside) not in {bind.source for bind in made.binds}


def test_inputs_are_read_only_and_outputs_are_not(lay, folder: Folder, project: Path) -> None:
    """Inputs are under /mnt/inputs and read-only; outputs are under /mnt/outputs and writable."""
    (project / "corpus").mkdir()
    (project / "one.csv").touch()
    made = lay(folder, inputs=["./corpus", "one.csv"], outputs=["results"])
    assert at(made, "/mnt/inputs/corpus") == Bind(str(project / "corpus"), "/mnt/inputs/corpus")
    assert at(made, "/mnt/inputs/one.csv").read_only
    assert not at(made, "/mnt/outputs/results").read_only
    assert made.grants == ()


@pytest.mark.parametrize("top", ["/", "/usr", "/etc", "/home", "/tmp", "/proc/self", "/dev"])
def test_a_system_folder_is_no_working_directory(lay, folder: Folder, user: User, top: str) -> None:
    """Where the project would hide the image's own folders, the home is the working directory."""
    made = lay(folder, at=Path(top))
    assert made.workdir == user.home
    assert not any(bind.source == top for bind in made.binds)


def test_every_target_is_once(lay, folder: Folder, user: User) -> None:
    """Nothing is mounted twice at one place, also where the home is the project."""
    for home in (False, True):
        made = lay(folder, at=Path(user.home), home=home)
        targets = [bind.target for bind in made.binds]
        assert len(targets) == len(set(targets))
        assert at(made, user.home).source == user.home


def test_the_private_home_is_the_sessions(lay, folder: Folder, user: User) -> None:
    """Without ``home: true`` the home in the session is not the caller's."""
    assert at(lay(folder), user.home).source == str(folder.home)
    assert at(lay(folder, home=True), user.home).source == user.home


# What must be asked for


def test_the_home_is_a_grant(lay, user: User) -> None:
    """The real home is asked for, by its key or as the project itself, or above it."""
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


def test_the_real_path_is_mounted(lay, folder: Folder, project: Path, outside: Path) -> None:
    """The engine is given what the check saw, not the link."""
    (project / "link").symlink_to(outside)
    assert at(lay(folder, inputs=["link"]), "/mnt/inputs/link").source == str(outside)


def test_links_inside_are_nobodys_business(lay, project: Path) -> None:
    """A link from the project into the project is no grant."""
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
    """Each secret is asked for by its own key, with where it really comes from and no value."""
    (project / "token").symlink_to(project / "really")
    made = lay(secrets={"A": {"env": "MINE"}, "B": {"file": "token"}})
    assert grants(made) == [
        "secrets.A: from your variable MINE",
        f"secrets.B: from your file {project}/really",
    ]


# What nobody gets


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
@pytest.mark.parametrize(
    "source",
    "/ /../ /proc /proc/self //proc /usr/../proc /sys /dev /boot /run /var/run /var /var/lib "
    "/var/lib/docker/volumes".split(),
)
def test_the_machine_itself_is_refused(lay, kind: str, source: str) -> None:
    """What would give the machine away is refused in every spelling, whoever asks."""
    if kind == "inputs" and not os.path.exists(source):
        pytest.skip(f"this machine has no {source}")
    with pytest.raises(PolicyError, match="give this machine away"):
        lay(**{kind: [{"name": "x", "source": source}]})


def test_a_link_to_the_machine_is_refused(lay, project: Path) -> None:
    """A link does not make it another thing."""
    (project / "link").symlink_to("/proc")
    with pytest.raises(PolicyError):
        lay(inputs=["link"])


def test_the_engines_socket_is_refused(
    lay, project: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's socket, wherever it is, and the folder that holds it, are refused."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(outside / "docker.sock"))
        with pytest.raises(PolicyError):
            lay(inputs=[str(outside / "docker.sock")])
        monkeypatch.setenv("DOCKER_HOST", f"unix://{outside}/docker.sock")
        with pytest.raises(PolicyError):
            lay(inputs=[str(outside)])


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_refused(lay, project: Path, kind: str) -> None:
    """Only files and folders are inputs."""
    path = project / "special"
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "fifo":
            os.mkfifo(path)
        else:
            listening.bind("special")
        with pytest.raises(PolicyError):
            lay(inputs=["special"])


@pytest.mark.parametrize("below", ["", "sessions", "consents"])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_moorings_own_folder_is_refused(
    lay, state: Path, outside: Path, below: str, through_a_link: bool
) -> None:
    """Nobody mounts the state folder or what is in it, also where it is configured by a link."""
    (state / "sessions").mkdir(exist_ok=True)
    (state / "consents").mkdir(exist_ok=True)
    source = state
    if through_a_link:
        source = outside / "link"
        source.symlink_to(state)
    with pytest.raises(PolicyError, match="mooring's own"):
        lay(inputs=[{"name": "x", "source": str(source / below)}])


def test_moorings_own_folder_is_no_project(lay, folder: Folder, state: Path, user: User) -> None:
    """Who stands in the state folder gets a home instead."""
    made = lay(folder, at=state / "sessions")
    assert made.workdir == user.home
    assert str(state / "sessions") not in {bind.source for bind in made.binds}


@pytest.mark.parametrize("through_a_link", [False, True])
@pytest.mark.parametrize("how", ["home", "input", "project"])
def test_the_state_folder_is_masked(
    lay,
    user: User,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    through_a_link: bool,
) -> None:
    """Through whatever mount the state folder could be seen, an empty folder is seen instead."""
    home = Path(user.home)
    real = home / ".local" / "state" / "mooring"
    real.mkdir(parents=True)
    if through_a_link:
        (tmp_path / "link").symlink_to(real)
    monkeypatch.setenv("MOORING_STATE_DIR", str(tmp_path / "link" if through_a_link else real))
    folder = Folder.create("0123456789ab", {"id": "0123456789ab"})
    folder.release()
    seen, spec = {
        "home": (home, {"home": True}),
        "input": (Path("/mnt/inputs/x"), {"inputs": [{"name": "x", "source": str(home)}]}),
        "project": (home, {"at": home}),
    }[how]
    made = lay(folder, **spec)
    mask = at(made, seen / ".local" / "state" / "mooring")
    assert mask.read_only
    assert mask.source == str(folder.path / "empty")
    assert list(Path(mask.source).iterdir()) == []
    order = [bind.target for bind in made.binds]
    assert order.index(str(seen)) < order.index(mask.target)


def test_the_state_folder_is_private_already(lay, folder: Folder) -> None:
    """Without a mount that shows it, there is nothing to mask."""
    empty = str(folder.path / "empty")
    assert empty not in {bind.source for bind in lay(folder).binds}
    assert paths.state_dir().stat().st_mode & 0o77 == 0


# Sources that are not there


def test_missing_sources(lay, project: Path) -> None:
    """A missing input is an error that names it; a missing output is made; a file is no output."""
    with pytest.raises(SpecError, match=r"inputs: nowhere: .*nowhere does not exist"):
        lay(inputs=["nowhere"])
    lay(outputs=["nowhere"])
    assert not (project / "nowhere").exists()
    (project / "file").touch()
    with pytest.raises(SpecError, match="is not a folder"):
        lay(outputs=["file"])


@pytest.mark.parametrize(
    "source", ["loop", "~nobody-of-that-name/x", "file/below", "x" * 300, "a\u202eb", "new\x7fline"]
)
def test_sources_that_lead_nowhere(lay, project: Path, source: str) -> None:
    """Whatever is wrong with a path is one printable SpecError."""
    (project / "loop").symlink_to("loop")
    (project / "file").touch()
    with pytest.raises((SpecError, ValueError)) as caught:
        lay(inputs=[{"name": "x", "source": source}])
    assert isinstance(caught.value, ValueError) or str(caught.value).isprintable()


def test_outputs_are_the_callers_own(lay, project: Path, user: User) -> None:
    """Outputs are made beforehand, with all folders above them, and belong to the caller."""
    spec = SessionSpec.model_validate({"outputs": ["deep/er/results"]})
    mounts.create_outputs(spec, project)
    mounts.create_outputs(spec, project)
    for path in (project / "deep", project / "deep" / "er" / "results"):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (user.uid, user.gid)
        assert stat.S_ISDIR(found.st_mode)


def test_an_output_that_cannot_be_made(project: Path) -> None:
    """An output below a file is an error that names it."""
    (project / "file").touch()
    spec = SessionSpec.model_validate({"outputs": ["file/below"]})
    with pytest.raises(SpecError, match="outputs: below: cannot make"):
        mounts.create_outputs(spec, project)


# What the container compares


def test_identities(lay, folder: Folder, project: Path) -> None:
    """Each mount that was asked for is told with the device and the inode that were checked."""
    (project / "data").mkdir()
    lines = mounts.identities(folder, lay(folder, inputs=["data"]).granted).splitlines()
    found = (project / "data").stat()
    assert lines[-1] == f"{found.st_dev}:{found.st_ino} /mnt/inputs/data"
    assert [line.split(" ", 1)[1] for line in lines] == [
        "/run/mooring",
        str(project),
        "/mnt/inputs/data",
    ]


@pytest.mark.parametrize("how", ["itself", "above", "gone"])
def test_what_was_exchanged_has_no_identity(
    lay, folder: Folder, project: Path, outside: Path, how: str
) -> None:
    """A source that became a link, or lies behind one now, or is gone, is refused."""
    (project / "a" / "b").mkdir(parents=True)
    (outside / "b").mkdir()
    granted = lay(folder, inputs=["a/b"]).granted
    swapped = project / "a" / "b" if how != "above" else project / "a"
    swapped.rename(project / "aside")
    if how != "gone":
        swapped.symlink_to(outside)
    with pytest.raises(PolicyError):
        mounts.identities(folder, granted)


def test_mount_points_in_the_private_home_are_the_callers(lay, folder: Folder, user: User) -> None:
    """Where a mount lies inside the private home, its place is made by us and not by the engine."""
    project = Path(user.home) / "work" / "project"
    project.mkdir(parents=True)
    made = lay(folder, at=project)
    mounts.prepare_home(folder, made.binds, user)
    assert (folder.home / "work" / "project").is_dir()
    assert (folder.home / "work").stat().st_uid == os.getuid()


# Secrets


def test_secrets_are_read_and_written(folder: Folder, project: Path) -> None:
    """A secret is a variable's value or a file's text, in a file that only the caller can read."""
    (project / "token").write_text("from a file\n")
    spec = SessionSpec.model_validate({"secrets": {"A": {"env": "MINE"}, "B": {"file": "token"}}})
    values = mounts.read_secrets(spec, project, {"MINE": "from a variable"})
    assert values == {"A": "from a variable", "B": "from a file"}
    mounts.write_secrets(folder, values)
    for name, value in values.items():
        assert (folder.secrets / name).read_text() == value
        assert stat.S_IMODE((folder.secrets / name).stat().st_mode) == 0o400


@pytest.mark.parametrize("kind", ["variable", "file", "folder", "binary", "huge", "fifo"])
def test_a_secret_that_is_not_there(project: Path, kind: str) -> None:
    """A secret that cannot be read is an error that names it and holds nothing of a value."""
    sentinel = b"s3ntinel\xff"
    path = project / "token"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(sentinel)
    elif kind == "huge":
        path.write_bytes(b"s3ntinel" * 100_000)
    elif kind == "fifo":
        os.mkfifo(path)
    source = {"env": "MINE"} if kind == "variable" else {"file": "token"}
    spec = SessionSpec.model_validate({"secrets": {"TOKEN": source}})
    with pytest.raises(SpecError, match="secrets: TOKEN") as caught:
        mounts.read_secrets(spec, project, {"OTHER": "s3ntinel"})
    assert "s3ntinel" not in str(caught.value)
    assert caught.value.__cause__ is None
