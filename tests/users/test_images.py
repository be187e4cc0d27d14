"""Any other image for a normal user: with or without a shell, a Python, a kernel, a name."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.docker import imported
from tests.users.people import ONE_CELL, Person

pytestmark = pytest.mark.engine

APPLETS = "sh cat ls id whoami stat sleep rm mv mkdir touch env pwd stty grep echo true date test"
Make = Callable[..., str]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def roots_own(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.mode = 0o755
    return entry


@pytest.fixture(scope="module")
def make_image() -> Iterator[Make]:
    """Imports a root of busybox and some files as an image; all are removed at the end."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox-static is not installed here: apt-get install busybox-static")
    made = contextlib.ExitStack()

    def make(name: str, files: dict[str, str], *changes: str, applets: str = APPLETS) -> str:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            for folder in ("bin", "etc", "tmp"):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
                tar.addfile(entry)
            tar.add(busybox, "bin/busybox", filter=roots_own)
            for applet in applets.split():
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(text.encode()), 0o755
                tar.addfile(entry, io.BytesIO(text.encode()))
        return made.enter_context(imported(data.getvalue(), name, *changes))

    with made:
        yield make


def create(user: Person, image: str, *words: str, check: int = 0, cwd: Path | None = None) -> str:
    """`mooring create` in the background; what it said on standard error."""
    flags = ["--image", image, "--pull", "never", "--name", "s"]
    return user.mooring("create", *flags, *words, check=check, cwd=cwd).stderr


@pytest.mark.parametrize("conflict", ["uid", "name", "both", "gid", "none", "garbage"])
def test_the_caller_has_a_name_on_any_image(alice: Person, make_image: Make, conflict: str) -> None:
    """Whatever the image's user databases say, the caller is there under the right name, uid, gid
    and home, and no shell says otherwise."""
    passwd, group = "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n"
    passwd += {
        "uid": f"squatter:x:{alice.uid}:100:Squatter:/squat:/bin/sh\n",
        "name": f"{alice.name}:x:4444:4444::/elsewhere:/bin/false\n",
        "both": f"squatter:x:{alice.uid}:7::/squat:/bin/sh\n{alice.name}:x:4444:7::/e:/bin/sh\n",
        "garbage": "\x00\xff:::\nnonsense\n\n:x:::::\n" + "x" * 5000 + "\n",
    }.get(conflict, "")
    group += {"gid": f"theirs:x:{alice.gid}:\n", "garbage": ":::\n\n"}.get(conflict, "")
    files = {} if conflict == "none" else {"etc/passwd": passwd, "etc/group": group}
    image = make_image(f"conflict-{conflict}", files)
    project = alice.folder(f"conflict-{conflict}")
    create(alice, image, "-d", "--", "sleep", "300", cwd=project)
    script = "whoami; id; echo ~; echo $HOME; pwd; touch here ~/there && stat -c %u here ~/there"
    told = alice.mooring("exec", "s", "--", "sh", "-c", script).stdout.splitlines()
    group_name = "theirs" if conflict == "gid" else alice.name
    home = str(alice.home)
    assert told[0] == alice.name
    assert told[1].startswith(f"uid={alice.uid}({alice.name}) gid={alice.gid}({group_name})")
    assert told[2:] == [home, home, str(project), str(alice.uid), str(alice.uid)]
    assert (project / "here").stat().st_uid == alice.uid
    assert not (alice.home / "there").exists()


@pytest.mark.parametrize("known", [True, False])
def test_root_can_add_users_to_an_image(make_image: Make, cli: Cli, known: bool) -> None:
    """In root's session new files can replace those of the users, as packages need (rover#549);
    an image that does not know root has mooring's instead."""
    if os.getuid() != 0:
        pytest.skip("only root can have root's sessions: run the tests as root, as .ci/run does")
    files = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}
    image = make_image(f"root-{known}".lower(), files if known else {})
    script = (
        "cat /etc/passwd >/etc/new && echo x:x:7:7::/:/bin/sh >>/etc/new && whoami "
        "&& mv /etc/new /etc/passwd && id -u x"
    )
    done = cli("run", "--rm", "--pull", "never", image, "--exec", script)
    assert done.stdout == ("root\n7\n" if known else "root\n"), done.stderr


def test_a_shell_knows_who_it_talks_to(alice: Person, make_image: Make) -> None:
    """An interactive shell in an image of another world works, and greets nobody without name."""
    image = make_image("shell", {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"})
    project = alice.folder("shell")
    words = ["create", "--image", image, "--pull", "never", "--name", "s"]
    program, *arguments = alice.command(alice.wheel.mooring, *words)
    child = pexpect.spawn(
        program,
        arguments,
        cwd=str(project),
        env={**alice.env, "TERM": "dumb"},
        encoding="utf-8",
        timeout=60,
        dimensions=(33, 101),
    )
    child.expect_exact("$ ")
    child.sendline("echo I am $(whoami) at $(stty size)")
    child.expect_exact(f"I am {alice.name} at 33 101")
    child.sendline("exit 7")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 7
    assert "no name" not in str(child.before)


def test_an_entrypoint_does_not_stand_in_the_way(alice: Person, make_image: Make) -> None:
    """The image's ENTRYPOINT, CMD, USER and WORKDIR give way; its ENV stays."""
    changes = (
        'ENTRYPOINT ["/bin/false"]',
        'CMD ["no"]',
        "USER 12:34",
        "WORKDIR /nowhere",
        "ENV COLOUR=blue",
    )
    image = make_image("entrypoint", {}, *changes)
    project = alice.folder("entrypoint")
    create(alice, image, "-d", "--", "sleep", "300", cwd=project)
    script = "whoami; pwd; echo $COLOUR"
    told = alice.mooring("exec", "s", "--", "sh", "-c", script).stdout
    assert told == f"{alice.name}\n{project}\nblue\n"


def test_an_image_without_a_shell_is_refused(alice: Person, make_image: Make) -> None:
    """An image that has no working /bin/sh is one clear error, and leaves nothing."""
    image = make_image("shell-less", {}, applets="cat ls")
    said = create(alice, image, "-d", "--", "/bin/cat", check=1)
    assert said.startswith(f"error: image {image} has no working /bin/sh")
    assert "hint: " in said
    assert alice.sessions() == []


def test_an_image_needs_neither_stat_nor_ls(alice: Person, make_image: Make) -> None:
    """What is mounted is checked from outside, without a program of the image's."""
    # not busybox, whose shell finds its applets without any path
    with tempfile.TemporaryDirectory() as build:
        libraries = dict.fromkeys(
            word
            for line in subprocess.run(
                ["ldd", "/bin/dash"], capture_output=True, text=True, check=True
            ).stdout.splitlines()
            for word in line.split()
            if word.startswith("/")
        )
        for path in ("/bin/dash", "/bin/cat", "/bin/rm", *libraries):
            target = Path(build + path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        os.symlink("dash", f"{build}/bin/sh")
        tar = subprocess.run(["tar", "-C", build, "-c", "."], capture_output=True, check=True)
    with imported(tar.stdout, "blind") as reference:
        create(alice, reference, "-d", "--", "/bin/cat")
        assert "running" in alice.run(alice.wheel.mooring, "ps").stdout
        alice.run(alice.wheel.mooring, "rm", "-f", "s")


PYTHONS = {
    "python-less": ({}, "no python3 on its PATH"),
    "kernel-less": (
        {"bin/python3": "#!/bin/sh\necho \"No module named 'ipykernel'\" >&2\nexit 1\n"},
        "No module named 'ipykernel'",
    ),
    "silent": ({"bin/python3": "#!/bin/sh\nexit 1\n"}, "python3 did not start"),
}


@pytest.mark.parametrize("kind", PYTHONS)
def test_a_kernel_needs_ipykernel_in_the_image(alice: Person, make_image: Make, kind: str) -> None:
    """Where the image has no Python, or no ipykernel, the error says so and how to add it; the same
    image is a shell session all the same."""
    files, problem = PYTHONS[kind]
    image = make_image(kind, files)
    said = create(alice, image, "--kernel", "python3", check=1)
    assert f"error: image {image} cannot run a Jupyter kernel: {problem}" in said
    assert "hint: add ipykernel to it (RUN pip install ipykernel)" in said
    assert alice.sessions() == []
    create(alice, image, "-d", "--", "sleep", "300")
    assert alice.mooring("exec", "s", "--", "whoami").stdout == f"{alice.name}\n"


def test_an_image_that_is_not_here(alice: Person) -> None:
    """`pull: never` and no such image: one error that says what to do."""
    said = create(alice, "mooring-test/none:1", "-d", check=1)
    assert said.startswith("error: No such image: mooring-test/none:1\nhint: pull: never")
    assert alice.sessions() == []


@pytest.fixture(scope="module")
def debian_image() -> Iterator[str]:
    """Debian's own Python and its own ipykernel, older than ours: made of its packages."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed here: apt-get install mmdebstrap")
    packages = "python3-ipykernel,dash,bash,coreutils,base-files"
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/var/tmp") as folder:
        tar = f"{folder}/root.tar"
        built = subprocess.run(
            ["mmdebstrap", "--variant=extract", f"--include={packages}", "bookworm", tar],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            pytest.skip(f"no Debian packages can be reached: {built.stderr.splitlines()[-1]}")
        root = Path(tar).read_bytes()
    with imported(root, "debian-ipykernel") as reference:
        yield reference


@pytest.mark.timeout(300)
def test_a_kernel_of_the_images_own_python(alice: Person, debian_image: str) -> None:
    """An image's own Python and ipykernel (version 6) run the notebook: none of the machine's is
    used; the caller's name, home and working directory are right, and files are the caller's."""
    project = alice.folder("debian")
    words = ["kernel", "install", "--name", "host", "--image", debian_image, "--pull", "never"]
    alice.mooring(*words, cwd=project)
    cell = (
        "import sys, os, getpass, ipykernel; open('made', 'w').close(); "
        "print(sys.executable, ipykernel.version_info[0], getpass.getuser(), os.getuid(), "
        "os.getcwd(), os.path.expanduser('~'), 'mooring' in sys.modules)"
    )
    done = alice.run(alice.wheel.python, "-c", ONE_CELL, cell, cwd=project)
    told = ["/usr/bin/python3", "6", alice.name, str(alice.uid), str(project), str(alice.home)]
    assert done.stdout.split() == [*told, "False"]
    assert (project / "made").stat().st_uid == alice.uid
    words[-1] = "never"
    alice.mooring(*words, "--encrypt", "always", cwd=project)
    done = alice.run(alice.wheel.python, "-c", ONE_CELL, cell, cwd=project, check=None)
    assert done.returncode != 0
    assert "encryption needs ipykernel 7 or newer in the image" in done.stderr
    assert alice.sessions() == []
    alice.mooring("kernel", "remove", "host")
