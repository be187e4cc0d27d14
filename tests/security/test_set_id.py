"""What code in a session leaves behind for other users of the machine: no group, no set-ID file.

Without this, a copy of a program in the project, set-group-ID to the engine's group or set-user-ID
to the session's owner, is the engine or the owner for every local user who runs it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Engine
from mooring.spec.resolve import resolve
from tests.support.docker import docker
from tests.support.images import image_maker
from tests.support.streams import output_of
from tests.support.wheel_env import InstalledWheel
from tests.users.people import Person, engine_group, open_to_all, person, remove_sessions

pytestmark = pytest.mark.engine

LAB = "mt-lab"
SET_ID = stat.S_ISUID | stat.S_ISGID

# Each line is one way to a set-ID file, as a call or as a program; all are tried, and each fails
ATTEMPTS = r"""
import ctypes, mmap, os, stat, struct, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p

def program(name):
    with open(name, "wb") as file:
        file.write(open("/usr/bin/id", "rb").read())
    os.chmod(name, 0o755)
    return name

def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def int80(number, path, mode):
    "A system call of a 32-bit program."
    child = os.fork()
    if child == 0:
        page = mmap.PAGESIZE
        at = libc.mmap(None, page, 7, 0x62, -1, 0)  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT
        ctypes.memmove(at + 64, path + b"\0", len(path) + 1)
        code = b"\x53\xb8" + struct.pack("<I", number) + b"\xbb" + struct.pack("<I", at + 64)
        code += b"\xb9" + struct.pack("<I", mode) + b"\xcd\x80\x5b\xc3"
        ctypes.memmove(at, code, len(code))
        os._exit(max(0, -ctypes.CFUNCTYPE(ctypes.c_int)(at)()))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(abs(code), "int 0x80")

def numbers(x86, other):
    return x86 if os.uname().machine == "x86_64" else other

def shell(*words):
    subprocess.run(words, check=True)

def unnamed(name, mode):
    file = os.open(".", os.O_TMPFILE | os.O_WRONLY, mode)
    if libc.linkat(CWD, b"/proc/self/fd/%d" % file, CWD, name.encode(), 0x400) < 0:
        raise OSError(ctypes.get_errno(), "linkat")

def high_bits(mode):
    return ctypes.c_long(mode | 1 << 40)

P = program
MODES = [0o4755, 0o2755, 0o6755]
CWD = -100
how = struct.pack("QQQ", os.O_CREAT | os.O_WRONLY, 0o6755, 0)
ways = {
    "chmod": lambda n, m: shell("chmod", oct(m)[2:], P(n)),
    "chmod-s": lambda n, m: shell("chmod", "ug+s", P(n)),
    "install": lambda n, m: shell("install", "-m", oct(m)[2:], P(n + "0"), n),
    "cp-a": lambda n, m: shell("cp", "-a", "/mnt/inputs/bait/set", n),
    "tar-p": lambda n, m: shell("tar", "-xpf", "/mnt/inputs/bait/set.tar"),
    "os.chmod": lambda n, m: os.chmod(P(n), m),
    "os.fchmod": lambda n, m: os.fchmod(os.open(P(n), os.O_RDONLY), m),
    "fd": lambda n, m: os.chmod("/proc/self/fd/%d" % os.open(P(n), os.O_RDONLY), m),
    "open": lambda n, m: os.open(n, os.O_CREAT | os.O_WRONLY, m),
    "tmpfile": unnamed,
    "mknod": lambda n, m: os.mknod(n, stat.S_IFREG | m),
    "fchmodat": lambda n, m: call(numbers(268, 53), CWD, P(n).encode(), m),
    "fchmodat2": lambda n, m: call(452, CWD, P(n).encode(), m, 0),
    "high bits": lambda n, m: call(numbers(268, 53), CWD, P(n).encode(), high_bits(m)),
    "mknodat": lambda n, m: call(numbers(259, 33), CWD, n.encode(), stat.S_IFREG | m, 0),
    "openat": lambda n, m: call(numbers(257, 56), CWD, n.encode(), os.O_CREAT | os.O_WRONLY, m),
    "openat2": lambda n, m: call(437, CWD, n.encode(), how, len(how)),
    "io_uring": lambda n, m: call(425, 1, bytes(120)),
    "capability": lambda n, m: os.setxattr(
        P(n), "security.capability", struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0, 0)
    ),
}
if os.uname().machine == "x86_64":
    ways |= {
        "creat": lambda n, m: call(85, n.encode(), m),
        "x32": lambda n, m: call(0x40000000 | 90, P(n).encode(), m),
        "int80 chmod": lambda n, m: int80(15, P(n).encode(), m),
        "int80 creat": lambda n, m: int80(8, n.encode(), m),
    }
for way, attempt in ways.items():
    for mode in MODES:
        try:
            attempt("%s-%o" % (way.replace(" ", "-"), mode), mode)
        except (OSError, subprocess.CalledProcessError) as error:
            print("failed", way, oct(mode), str(error)[:60], file=sys.stderr)
        else:
            print(way, oct(mode))
print("tried", len(ways))
"""

# What people do in a session all the time
ORDINARY = r"""
set -e
python3 -c '
import asyncio, multiprocessing, socket, subprocess, threading
thread = threading.Thread(target=subprocess.run, args=(["true"],))
thread.start(); thread.join(); socket.socket(); asyncio.run(asyncio.sleep(0))
multiprocessing.Pool(2).map(abs, [1])'
mkdir -p work/deep; echo x >work/file; ln -s file work/link
chmod 700 work/deep; chmod +x work/file
chmod 1777 work/deep
tar -cf work.tar work; mkdir out; tar -xf work.tar -C out; tar -xpf work.tar -C out
cp -a work copy; cp -r work again; mv again again2; rm -r again2; install -m 755 work/file installed
python3 -c 'import shutil; shutil.copytree("work", "tree", symlinks=True)'
mktemp -d -p . >/dev/null; mkfifo pipe
if command -v git >/dev/null; then
    export HOME=$PWD; git init -q repo; cd repo; git config user.email a@b; git config user.name a
    cp ../work/file .; git add .; git commit -qm x; git clone -q . ../clone; git gc -q; cd ..
fi
echo all
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[int]:
    """A group of this machine that people share files with."""
    if os.geteuid() != 0:
        pytest.skip("only root can make groups: run the tests as root, as .ci/run does")
    subprocess.run(["groupadd", "-f", LAB], check=True)
    yield int(subprocess.check_output(["getent", "group", LAB], text=True).split(":")[2])
    subprocess.run(["groupdel", LAB], check=True)


@pytest.fixture(scope="module")
def _dora(installed_wheel: InstalledWheel, real_engine: Engine, lab: int) -> Iterator[Person]:
    groups = (engine_group(), lab, gid_of("adm"))
    with person("mt-dora", installed_wheel, groups=groups) as user:
        yield user


@pytest.fixture
def dora(_dora: Person) -> Iterator[Person]:
    """A user in the engine's group, and in others."""
    yield _dora
    for path in _dora.home.glob("[!.]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    left = remove_sessions(_dora)
    assert not left, "\n".join(left)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can reach."""
    with open_to_all() as folder:
        yield folder


def gid_of(group: str) -> int:
    return int(subprocess.check_output(["getent", "group", group], text=True).split(":")[2])


def groups_in(user: Person, *words: str, cwd: Path | None = None, **options: object) -> list[int]:
    """The groups of a session's processes, by its own account and, of each, by the kernel's."""
    user.mooring("create", "--name", "s", "-d", *words, "--", "sleep", "300", cwd=cwd, **options)
    told = user.mooring("exec", "s", "--", "id", "-G", cwd=cwd, **options).stdout.split()
    rows = json.loads(user.mooring("ps", "--json", **options).stdout)
    pids = docker("top", rows[0]["container"], "-eo", "pid").stdout.split()[1:]
    for pid in pids:
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        carried = {int(gid) for gid in status["Groups"].split() + status["Gid"].split()}
        assert carried == set(map(int, told)), status["Name"]
    user.mooring("rm", "-f", "s", **options)
    return sorted(map(int, told))


def owned(path: Path, uid: int, gid: int, mode: int) -> Path:
    path.mkdir(parents=True)
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def set_id_files(top: Path) -> list[str]:
    found = [path for path in top.rglob("*") if not path.is_symlink()]
    return [str(path) for path in found if path.is_file() and path.stat().st_mode & SET_ID]


def test_a_session_has_no_group_but_the_users_own(dora: Person) -> None:
    """Of a user's groups a session's processes have the primary one: not the engine's, which is
    root on the machine, and none that nothing mounted belongs to."""
    assert groups_in(dora, cwd=dora.folder("project")) == [dora.gid]


def test_a_group_comes_with_what_it_owns(dora: Person, lab: int, open_folder: Path) -> None:
    """The group that a mounted folder belongs to comes along if it gives rights that others do not
    have; a powerful group never does."""
    for name, gid, mode, there in (
        ("shared", lab, 0o2770, True),
        ("readable", lab, 0o750, True),
        ("open", lab, 0o755, False),
        ("engine", engine_group(), 0o770, False),
        ("logs", gid_of("adm"), 0o750, False),
        ("roots", 0, 0o770, False),
    ):
        source = owned(open_folder / name, 0, gid, mode)
        (source / "file").write_text("x")
        expected = sorted({dora.gid, *([gid] if there else [])})
        assert groups_in(dora, "--input", str(source), cwd=dora.folder(f"p-{name}")) == expected
    project = owned(dora.home / "work", dora.uid, lab, 0o2775)
    assert groups_in(dora, cwd=project) == sorted([dora.gid, lab])


def test_a_group_can_be_asked_for(dora: Person, lab: int) -> None:
    """A person can take a group of theirs along, for what lies deeper; a spec file needs trust for
    that; groups that are root, and those of others, are refused."""
    project = dora.folder("asking")
    assert groups_in(dora, "--group-add", LAB, cwd=project) == sorted([dora.gid, lab])
    dora.write(project / "session.yml", f"groups: [{LAB}]\ncommand: sleep 300\n")
    done = dora.mooring("create", "-f", "session.yml", "-d", cwd=project, check=1)
    assert f"groups: your group {LAB}" in done.stderr
    dora.mooring("trust", "session.yml", cwd=project)
    dora.mooring("create", "-f", "session.yml", "-d", "--name", "trusted", cwd=project)
    assert str(lab) in dora.mooring("exec", "trusted", "--", "id", "-G").stdout.split()
    engine = subprocess.check_output(["getent", "group", str(engine_group())], text=True)
    for name, told in (
        (engine.partition(":")[0], "would expose the host"),
        ("adm", "would expose the host"),
        ("root", "would expose the host"),
        ("users", "you are not in the group users"),
        ("mt-none", "there is no group mt-none"),
    ):
        words = ["create", "-d", "--group-add", name, "--", "true"]
        done = dora.mooring(*words, cwd=project, check=None)
        assert done.returncode in (1, 2)
        assert told in done.stderr


def test_a_primary_group_with_power_is_refused(dora: Person) -> None:
    """Where a user's own group is root in effect, no session starts with it, and nothing is left;
    what they have can still be looked at."""
    for gid in (engine_group(), gid_of("adm"), 0):
        powerful = dataclasses.replace(dora, gid=gid)
        words = ["create", "--name", "s", "-d", "--", "sleep", "300"]
        done = powerful.mooring(*words, cwd=dora.folder(f"primary-{gid}"), check=1)
        assert "your primary group" in done.stderr
        assert "newgrp" in done.stderr  # it is not the one that she logs in with
        assert powerful.sessions() == []


def test_no_set_id_file_can_be_made(dora: Person) -> None:
    """Neither a set-user-ID nor a set-group-ID file comes out of a session, by whatever call and
    in whatever mode of the processor; nor does one with capabilities."""
    project, bait = dora.folder("attack"), dora.folder("bait")
    shutil.copy("/usr/bin/id", bait / "set")
    (bait / "set").chmod(0o6755)
    subprocess.run(["tar", "-C", bait, "-cf", bait / "set.tar", "set"], check=True)
    for path in bait.iterdir():
        os.chown(path, dora.uid, dora.gid)
    (bait / "set").chmod(0o6755)
    dora.write(project / "attempts.py", ATTEMPTS)
    words = ["--input", f"bait={bait}", "--", "sleep", "300"]
    dora.mooring("create", "--name", "s", "-d", *words, cwd=project)
    done = dora.mooring("exec", "s", "--", "python3", "attempts.py", cwd=project)
    tried = int(done.stdout.split()[-1])
    assert tried >= 19
    assert done.stdout == f"tried {tried}\n", done.stderr
    assert set_id_files(project) == []


def test_the_attempts_would_succeed(dora: Person) -> None:
    """The same attempts outside a session leave many such files: the attack above works."""
    project = dora.folder("outside")
    dora.write(project / "attempts.py", ATTEMPTS)
    done = dora.run("python3", "attempts.py", cwd=project)
    assert len(set_id_files(project)) > 20, done.stderr


def test_a_shared_folder_stays_one(dora: Person, lab: int) -> None:
    """In a project that is set-group-ID, as shared folders are, folders can be made and copied so;
    a set-user-ID file cannot."""
    project = owned(dora.home / "ours", dora.uid, lab, 0o2775)
    dora.mooring("create", "--name", "s", "-d", "--", "sleep", "300", cwd=project)
    script = (
        'mkdir -m 2775 a && cp -a a b && python3 -c \'import shutil; shutil.copytree("a", "c")\''
    )
    dora.mooring("exec", "s", "--", "sh", "-c", script, cwd=project)
    for name in "abc":
        assert (project / name).stat().st_mode & SET_ID == stat.S_ISGID
    for mode in ("4755", "6755", "u+s"):
        words = ["sh", "-c", f"cp /usr/bin/id id; chmod {mode} id"]
        assert "not permitted" in dora.mooring("exec", "s", "--", *words, check=1).stderr
    assert set_id_files(project) == []


def test_ordinary_programs_run(dora: Person) -> None:
    """Threads, processes, sockets, archives, copies and git do not notice the filter."""
    project = dora.folder("ordinary")
    dora.mooring("create", "--name", "s", "-d", "--", "sleep", "300", cwd=project)
    done = dora.mooring("exec", "s", "--", "sh", "-c", ORDINARY, cwd=project, check=None)
    assert done.stdout == "all\n", done.stderr


MAKE = "exec 2>&1; cp $(command -v cp) {0} && chmod {1} {0}; stat -c %a {0}"


@pytest.mark.skipif(os.getuid() != 0, reason="sessions are those of root")
@pytest.mark.parametrize("mode", ["4755", "2755", "6755"])
@pytest.mark.parametrize("where", ["here", "/tmp/id"])
def test_a_session_of_root_leaves_none_either(
    mooring: Mooring, project: Path, where: str, mode: str
) -> None:
    """In the host image there is nothing to install; a program that is root's for everybody would
    be all that it could make (a newcomer did, in an output)."""
    session = mooring.sessions.create(resolve(flags={"command": ["sleep", "60"]})).session
    made = output_of(mooring, session, "sh", "-c", MAKE.format(where, mode))
    assert made.endswith("755\n")
    assert not made.endswith(f"{mode}\n")
    assert set_id_files(project) == []


@pytest.mark.skipif(os.getuid() != 0, reason="sessions are those of root")
def test_roots_package_managers_go_on(mooring: Mooring, project: Path) -> None:
    """In an image of its own, a session of root can make set-ID files, because packages have them:
    the machine's own root has to mind what others can reach of what it mounts."""
    with image_maker() as make:
        image = make("cp", "chmod", name="packages")
        resolved = resolve(flags={"command": ["sleep", "60"], "image": image, "pull": "never"})
        session = mooring.sessions.create(resolved).session
        assert output_of(mooring, session, "sh", "-c", MAKE.format("/id", "4755")) == "4755\n"
        mooring.sessions.remove(session, force=True)
