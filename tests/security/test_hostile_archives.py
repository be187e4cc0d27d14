"""What comes out of a session by cp may be anything: it stays below its target, and is bounded."""

from __future__ import annotations

import io
import os
import resource
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooring.files.unpack import MAX_HEADER_BYTES, HostileArchive, Unpacker

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **facts: object) -> Entry:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, len(content)
    for key, value in facts.items():
        setattr(made, key, value)
    return made, content


def link(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> Entry:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def folder(name: str, mode: int = 0o755) -> Entry:
    return entry(name, tarfile.DIRTYPE, mode=mode)


def archive(*entries: Entry, form: int = tarfile.GNU_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for made, content in entries:
            tar.addfile(made, io.BytesIO(content))
    return data.getvalue()


class Ground:
    """A folder to unpack in, and beside it what must not be touched."""

    def __init__(self, top: Path) -> None:
        self.inside, self.outside = top / "inside", top / "outside"
        self.inside.mkdir()
        self.outside.mkdir()
        (self.outside / "precious").write_text("precious")
        (self.outside / "precious").chmod(0o600)
        self.warnings: list[str] = []

    def unpack(self, data: bytes) -> None:
        root = os.open(self.inside, os.O_RDONLY | os.O_DIRECTORY)
        stream = io.BytesIO(data)
        try:
            Unpacker(
                root,
                place=lambda path: ("x", *path),
                warn=self.warnings.append,
                progress=lambda count: None,
            ).unpack(stream.read)
        finally:
            os.close(root)

    def untouched(self) -> bool:
        precious = self.outside / "precious"
        same = precious.read_text() == "precious" and precious.stat().st_nlink == 1
        return (
            same
            and stat.S_IMODE(precious.stat().st_mode) == 0o600
            and len(os.listdir(self.outside)) == 1
        )


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    yield made
    assert made.untouched()
    assert sorted(os.listdir(tmp_path)) == ["inside", "outside"]


OUT = "../../outside"
HOSTILE: dict[str, Callable[[Path], tuple[Entry, ...]]] = {
    "absolute": lambda top: (entry(f"{top}/outside/new", content=b"x"),),
    "climbing": lambda top: (entry(f"./{OUT}/new", content=b"x"),),
    "climbing within": lambda top: (folder("./a"), entry("./a/../../../outside/new"),),
    "through a link": lambda top: (link("./l", f"{top}/outside"), entry("./l/new", content=b"x")),
    "through a relative link": lambda top: (link("./l", OUT), entry("./l/precious", content=b"x")),
    "a link for the root": lambda top: (link(".", f"{top}/outside"), entry("./precious")),
    "a folder over a link": lambda top: (link("./l", f"{top}/outside"), folder("./l", 0o777)),
    "through a link of a link": lambda top: (
        folder("./d"), link("./d/l", "../.."), link("./m", "d/l/../outside"), entry("./m/new"),
    ),
    "a hard link out": lambda top: (hard("./h", f"{top}/outside/precious"),),
    "a hard link climbing": lambda top: (hard("./h", f"{OUT}/precious"),),
    "a hard link through a link": lambda top: (
        link("./l", f"{top}/outside"), hard("./h", "./l/precious"),
    ),
    "a hard link to a link": lambda top: (
        link("./l", f"{top}/outside/precious"), hard("./h", "./l"),
    ),
    "a hard link to a folder": lambda top: (folder("./d"), hard("./h", "./d")),
    "a hard link to itself": lambda top: (entry("./f"), hard("./f", "./f")),
    "a hard link to nothing": lambda top: (hard("./f", "./nothing"),),
    "a folder for a file": lambda top: (folder("./d"), entry("./d")),
    "a file for a folder": lambda top: (entry("./d"), entry("./d/f")),
    "an empty link": lambda top: (link("./l", ""),),
    "very deep": lambda top: (folder("./" + "d/" * 300),),
}  # fmt: skip


@pytest.mark.parametrize("how", HOSTILE)
def test_nothing_leads_out(ground: Ground, how: str) -> None:
    """Each way out of the folder is refused in one line, and nothing outside has changed."""
    with pytest.raises(HostileArchive) as caught:
        ground.unpack(archive(folder("."), *HOSTILE[how](ground.inside.parent)))
    assert "\n" not in caught.value.message


def test_a_file_takes_a_links_place_and_is_not_written_through_it(ground: Ground) -> None:
    """A link, then a file of the same name: the link is gone, what it led to is as it was."""
    target = str(ground.outside / "precious")
    ground.unpack(archive(folder("."), link("./l", target), entry("./l", content=b"mine")))
    assert (ground.inside / "x" / "l").read_bytes() == b"mine"
    assert not (ground.inside / "x" / "l").is_symlink()


def test_a_link_itself_may_lead_anywhere(ground: Ground) -> None:
    """A link is a name: it is made as it is, and nothing is read or changed through it."""
    ground.unpack(archive(folder("."), link("./l", str(ground.outside / "precious"))))
    assert os.readlink(ground.inside / "x" / "l") == str(ground.outside / "precious")


def test_devices_and_setuid_bits_do_not_come(ground: Ground) -> None:
    """Devices and pipes are left out with a line each; set-id and sticky bits are dropped."""
    ground.unpack(
        archive(
            folder(".", 0o7777),
            entry("./sda", tarfile.BLKTYPE, devmajor=8, devminor=0),
            entry("./null", tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("./pipe", tarfile.FIFOTYPE),
            entry("./odd", b"V"),
            entry("./su", content=b"x", mode=0o6755, uid=0, gid=0, uname="root"),
        )
    )
    assert os.listdir(ground.inside / "x") == ["su"]
    assert stat.S_IMODE((ground.inside / "x").stat().st_mode) == 0o777
    assert stat.S_IMODE((ground.inside / "x" / "su").stat().st_mode) == 0o755
    assert (ground.inside / "x" / "su").stat().st_uid == os.getuid()
    assert [line.split()[2] for line in ground.warnings] == ["sda", "null", "pipe", "odd"]


def test_hard_links_within_are_kept(ground: Ground) -> None:
    """Two names of one file come out as two names of one file."""
    ground.unpack(archive(folder("."), entry("./a", content=b"x"), hard("./b", "./a")))
    a, b = ground.inside / "x" / "a", ground.inside / "x" / "b"
    assert a.stat().st_ino == b.stat().st_ino


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_every_tars_long_names_are_read(ground: Ground, form: int) -> None:
    """GNU, pax and ustar headers: names beyond 100 characters, as far as the format has them."""
    name = "d" * 90 + "/" + "f" * 95 if form == tarfile.USTAR_FORMAT else "n" * 255
    ground.unpack(archive(folder("."), entry(f"./{name}", content=b"x"), form=form))
    assert (ground.inside / "x" / name).read_bytes() == b"x"


def broken(change: Callable[[bytearray], object]) -> bytes:
    data = bytearray(archive(folder("."), entry("./f", content=b"x" * 5000)))
    change(data)
    return bytes(data)


def sparse() -> bytes:
    made = tarfile.TarInfo("./sparse")
    made.type, made.size = tarfile.GNUTYPE_SPARSE, 512
    return made.tobuf(tarfile.GNU_FORMAT) + bytes(1536)


def endless(kind: bytes, size: int) -> bytes:
    made = tarfile.TarInfo("././@LongLink")
    made.type, made.size = kind, size
    return made.tobuf(tarfile.GNU_FORMAT)


def pax(**headers: str) -> bytes:
    made = tarfile.TarInfo("./f")
    made.pax_headers = headers
    return made.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


BROKEN = {
    "empty": b"",
    "noise": os.urandom(4096),
    "cut in a header": archive(folder("."))[:700],
    "cut in a file": broken(lambda data: data.__delitem__(slice(2048, None))),
    "a wrong sum": broken(lambda data: data.__setitem__(3, 7)),
    "sparse": sparse(),
    "pax sparse": pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    "pax without numbers": pax(size="many"),
    "pax without time": pax(mtime="nan"),
    "pax with a huge time": pax(mtime="1e999"),
    "pax with a negative size": pax(size="-5"),
    "a header without end": endless(tarfile.XHDTYPE, MAX_HEADER_BYTES + 1),
    "a name without end": endless(tarfile.GNUTYPE_LONGNAME, 10 << 30),
    "headers without end": archive(folder("."))[:512]
    + (endless(tarfile.GNUTYPE_LONGNAME, 4) + b"abc\0" + bytes(508)) * 1000,
    "a header of nothing": endless(tarfile.XHDTYPE, 100),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_no_archive_is_refused(ground: Ground, how: str) -> None:
    """Noise, cut streams, headers without end and odd numbers: one line, and no memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HostileArchive) as caught:
        ground.unpack(BROKEN[how])
    assert "\n" not in caught.value.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


TAR = """#!/bin/sh
cat "$(dirname "$0")/hostile.tar"
"""


@pytest.mark.engine
@pytest.mark.parametrize("how", ["climbing", "through a link", "a hard link out", "absolute"])
def test_a_sessions_own_tar_cannot_write_outside(
    cli: Callable[..., subprocess.CompletedProcess[str]], project: Path, tmp_path: Path, how: str
) -> None:
    """A session whose tar is the attacker's: cp refuses, and leaves nothing where it was to go."""
    bin_folder = project / "bin"
    bin_folder.mkdir()
    (bin_folder / "tar").write_text(TAR)
    (bin_folder / "tar").chmod(0o755)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (bin_folder / "hostile.tar").write_bytes(archive(folder("."), *HOSTILE[how](tmp_path)))
    cli(
        "create", "-d", "--name", "evil",
        "--env", f"PATH={bin_folder}:{os.path.dirname(sys.executable)}:/usr/bin:/bin",
        check=0,
    )  # fmt: skip
    target = tmp_path / "target"
    target.mkdir()
    done = cli("cp", "evil:/etc", str(target), check=1)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 2
    assert os.listdir(target) == []
    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_text() == "precious"
    done = cli("cp", "evil:/etc/passwd", str(target / "passwd"), check=1)
    assert os.listdir(target) == []


@pytest.mark.engine
def test_links_below_the_target_are_not_followed(
    cli: Callable[..., subprocess.CompletedProcess[str]], project: Path, tmp_path: Path
) -> None:
    """A link planted where a copy goes is replaced by a file, and refused for a folder."""
    cli("create", "-d", "--name", "box", check=0)
    make = "mkdir -p /tmp/d/sub; echo new >/tmp/d/f; echo new >/tmp/d/sub/f"
    cli("exec", "box", "--", "sh", "-c", make, check=0)
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    (outside / "f").write_text("old")
    (target / "d").mkdir(parents=True)
    (target / "d" / "sub").symlink_to(outside)
    assert "is a link here" in cli("cp", "box:/tmp/d", str(target), check=1).stderr
    (target / "d" / "sub").unlink()
    (target / "d" / "f").unlink(missing_ok=True)
    (target / "d" / "f").symlink_to(outside / "f")
    cli("cp", "box:/tmp/d", str(target), check=0)
    assert (outside / "f").read_text() == "old"
    assert (target / "d" / "f").read_text() == "new\n"
    assert not (target / "d" / "f").is_symlink()
