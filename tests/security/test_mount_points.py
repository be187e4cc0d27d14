"""Attacks that make the engine, as root, create files in a user's folders.

The mooring of this user is that of ``installed_wheel``. After each test her fixture finds every
file in her home that is not hers, in mooring's own folders too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.security.owner import _owner, owner
from tests.support.docker import docker, inspect
from tests.support.images import busybox_image
from tests.users.people import Person, foreign_files

__all__ = ["_owner", "owner"]

pytestmark = pytest.mark.engine

Declare = Callable[..., str]


@pytest.fixture
def declare(owner: Person) -> Iterator[Declare]:
    """Makes images that declare volumes; they are removed after her sessions."""
    with contextlib.ExitStack() as stack:

        def make(*volumes: str | Path) -> str:
            words = " ".join(f'"{path}",' for path in volumes).rstrip(",")
            return stack.enter_context(busybox_image(f"VOLUME [{words}]"))

        yield make
        for row in owner.sessions():
            owner.mooring("rm", "-f", row["name"])


def create(owner: Person, *words: str | Path, image: str = "host", cwd: Path | None = None) -> None:
    flags = ["--name", "s", "--image", image, "--pull", "never"]
    owner.mooring("create", *flags, *words, "-d", "--", "sleep", "300", cwd=cwd)


def inside(owner: Person, script: str) -> str:
    done = owner.mooring("exec", "s", "--", "sh", "-c", script, check=None)
    return done.stdout + done.stderr


def volumes() -> list[str]:
    return docker("volume", "ls", "-q").stdout.split()


@pytest.mark.parametrize("home", [False, True], ids=["private", "real"])
def test_volumes_of_an_image_leave_nothing_behind(
    owner: Person, declare: Declare, home: bool
) -> None:
    """Volumes that an image declares in the home, the project, an output or the run folder, however
    deep, are folders of the user's there; those elsewhere are removed with the container."""
    project = owner.folder(f"volumes-{home}")
    own = owner.home / f".mt-volumes-{home}"
    image = declare(
        *(own / "cache", own / "de" / "ep" / "er", f"{own}//odd/../odd/"),
        *(project / "data", project / "some" / "data", "/mnt/outputs/out/db/files"),
        *("/run/mooring/k", "/run/mooring/new", "/elsewhere/data"),
    )
    words = ["--home"] if home else []
    create(owner, *words, "--output", "out", image=image, cwd=project)
    mounts = inspect(owner.container("s"))["Mounts"]
    engines = [mount for mount in mounts if mount["Type"] == "volume"]
    assert [mount["Destination"] for mount in engines] == ["/elsewhere/data"]
    script = f"for d in {own}/cache {own}/de/ep/er {own}/odd {project}/some/data; do : >$d/x; done"
    assert inside(owner, f"{script}; : >/mnt/outputs/out/db/files/x") == ""
    assert (project / "some" / "data" / "x").stat().st_uid == owner.uid
    assert (project / "out" / "db" / "files" / "x").stat().st_uid == owner.uid
    assert own.exists() is home
    owner.mooring("stop", "s")
    owner.mooring("start", "s")
    assert foreign_files(owner.home, owner.uid) == []
    owner.mooring("rm", "-f", "s")
    assert engines[0]["Name"] not in volumes()
    owner.run("rm", "-r", project, *([own] if home else []))


def test_a_volume_at_a_mount_is_that_mount(owner: Person, declare: Declare) -> None:
    """A volume at the target of a mount, or over mooring's own files, hides nothing of it."""
    project = owner.folder("covered")
    owner.write(project / "file", "mine")
    owner.folder("covered/out")
    targets = [project, f"{project}/", owner.home, "/mnt/outputs/out", "/run/mooring", "/mnt"]
    image = declare(*targets)
    create(owner, "--output", "out", image=image, cwd=project)
    assert inside(owner, f"cat {project}/file; : >/mnt/outputs/out/x") == "mine"
    assert (project / "out" / "x").exists()
    owner.mooring("rm", "-f", "s")


def test_a_volume_in_what_is_read_only_is_refused(owner: Person, declare: Declare) -> None:
    """A volume at a missing folder of an input, or through a link or a file in the project, is one
    error, and nothing is made."""
    project = owner.folder("refused")
    owner.folder("refused/data")
    owner.write(project / "file", "")
    elsewhere = owner.folder("refused-elsewhere")
    owner.run("ln", "-s", elsewhere, project / "link")
    for volume, why in (
        ("/mnt/inputs/data/new", "read-only"),
        (project / "link" / "new", "a link or a file"),
        (project / "link", "a link or a file"),
        (project / "file" / "new", "a link or a file"),
    ):
        words = ["create", "--image", declare(volume), "--pull", "never", "--input", "data"]
        told = owner.mooring(*words, "-d", "--", "true", cwd=project, check=1).stderr
        assert f"{volume} cannot be mounted in " in told
        assert why in told
    assert os.listdir(elsewhere) == os.listdir(project / "data") == []


def test_moved_mount_points_leave_nothing_behind(owner: Person) -> None:
    """What a session did to the mount points in its private home while it ran is not followed when
    it starts again: missing ones are made as the user, links and files are refused. In a hidden
    folder, because others that lead to a mount are mount points themselves."""
    project = owner.folder(".work/deep/project")
    elsewhere = owner.folder("elsewhere")
    create(owner, "--output", f"out={elsewhere}", cwd=project)
    (private,) = (owner.state / "sessions").glob("*/home")
    inside(owner, "mv ~/.work ~/moved")
    owner.mooring("stop", "s")
    owner.mooring("start", "s")
    assert (private / ".work" / "deep" / "project").stat().st_uid == owner.uid
    for attack in (
        "mv ~/.work ~/m2; ln -s /mnt/outputs/out ~/.work",
        "rm ~/.work; ln -s / ~/.work",
        "rm ~/.work; : >~/.work",
        "rm ~/.work; mkdir ~/.work; ln -s /mnt/outputs/out ~/.work/deep",
    ):
        script = attack.replace("~", str(private))
        if "m2" in attack:
            inside(owner, attack)
            owner.mooring("stop", "s")
        else:
            owner.run("sh", "-c", script)
        told = owner.mooring("start", "s", check=1).stderr
        assert "a link or a file is in the place of a folder" in told
        assert os.listdir(elsewhere) == []
    owner.run("rm", "-r", private / ".work")
    owner.mooring("start", "s")
    assert foreign_files(owner.home, owner.uid) == []


def test_a_folder_that_leads_to_a_mount_cannot_be_moved(owner: Person) -> None:
    """It is a mount point, read-only with all that is in it but the mount."""
    project = owner.folder("work/deep/project")
    create(owner, cwd=project)
    script = "mv ~/work ~/moved; rmdir ~/work; touch ~/work/x; mv ~/work/deep ~/work/moved"
    told = owner.mooring("exec", "s", "--", "sh", "-c", script, check=1).stderr.splitlines()
    busy, full, *read_only = told
    assert "busy" in busy
    assert "busy" in full
    assert len(read_only) == 2
    assert all("Read-only" in line for line in read_only)
    assert foreign_files(owner.home, owner.uid) == []


def test_a_missing_working_directory_is_not_the_engines_to_make(owner: Person) -> None:
    """A working directory that is gone when a session starts again is made as the user; one that
    became a link is refused, and nothing is made where it leads."""
    project, elsewhere = owner.folder("dirs"), owner.folder("dirs-elsewhere")
    cwd = owner.folder("dirs/a/b")
    owner.write(project / "session.yml", "command: [sleep, '300']\nname: s\n")
    owner.mooring("create", "-f", project / "session.yml", "-d", cwd=cwd)
    assert inside(owner, "pwd") == f"{cwd}\n"
    owner.mooring("stop", "s")
    owner.run("rm", "-r", project / "a")
    owner.mooring("start", "s")
    assert cwd.stat().st_uid == cwd.parent.stat().st_uid == owner.uid
    owner.mooring("stop", "s")
    owner.run("rm", "-r", project / "a")
    owner.run("ln", "-s", elsewhere, project / "a")
    assert "a link or a file" in owner.mooring("start", "s", check=1).stderr
    owner.run("rm", project / "a")
    owner.run("mkdir", project / "a")
    owner.run("ln", "-s", f"{elsewhere}/new", cwd)
    assert "a link or a file" in owner.mooring("start", "s", check=1).stderr
    assert os.listdir(elsewhere) == []


@pytest.mark.parametrize("how", ["outputs", "volume", "chain", "file", "parent", "home"])
def test_links_of_an_image_lead_no_mount_astray(owner: Person, how: str) -> None:
    """An image whose links bring a mount or a volume into a folder of the user's is refused before
    the engine creates anything there."""
    project = owner.folder(f"astray-{how}")
    output = owner.folder(f"astray-{how}-output")
    links = {
        "outputs": {"mnt": str(project)},
        "volume": {"x": str(project)},
        "chain": {"mnt": "/one", "one": "../two", "two": f"./{project.relative_to('/')}"},
        "file": {"etc/passwd": f"{project}/passwd"},
        "parent": {"mnt": "/two/me", "home": "/two", "two/me": str(owner.home)},
        "home": {"home": "/mnt/outputs/out/deep"},
    }[how]
    volumes = ["VOLUME /x/vol/ume"] if how == "volume" else []
    with busybox_image(*volumes, links=links) as image:
        words = ["create", "--image", image, "--pull", "never", "--output", f"out={output}", "-d"]
        told = owner.mooring(*words, "--", "true", cwd=project, check=None)
        assert "has a symbolic link that brings" in told.stderr
    assert told.returncode == 1
    assert os.listdir(project) == os.listdir(output) == []


def test_links_of_an_image_that_lead_elsewhere_are_its_own(owner: Person) -> None:
    """An image in which /mnt or /home is a link to another of its folders is used as it is."""
    project = owner.folder("own-links")
    with busybox_image(links={"mnt": "var/mnt", "home": "/var/home"}) as image:
        create(owner, "--output", "out", image=image, cwd=project)
        told = inside(owner, ": >/mnt/outputs/out/x; : >~/x; : >here")
        owner.mooring("rm", "-f", "s")
    assert told == ""
    assert (project / "out" / "x").exists()
    assert (project / "here").exists()
