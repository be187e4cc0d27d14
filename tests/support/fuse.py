"""A FUSE file system that only its owner may use, as those of sshfs or rclone: not even root may.

    with private_folder(uid) as folder: …

It is an empty folder, served by a process of its own. Mounting needs root and ``/dev/fuse``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_MNT_DETACH = 2
_HEADER = struct.Struct("<IIQQIIII")  # fuse_in_header of linux/fuse.h
_GETATTR, _INIT, _OPENDIR, _READDIR = 3, 26, 27, 28
_FORGET, _BATCH_FORGET = 2, 42
_ENOENT = 2


@contextlib.contextmanager
def private_folder(uid: int) -> Iterator[Path]:
    """The mounted folder of a user; it is unmounted and removed at the end."""
    if os.getuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip(
            "only root can mount a FUSE file system: run the tests as root, as .ci/run does"
        )
    folder = Path(tempfile.mkdtemp(prefix="mt-fuse-", dir="/var/tmp"))
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={uid},group_id={uid}".encode()
    if libc.mount(b"mooring-test", bytes(folder), b"fuse.test", 0, options):
        os.close(device)
        folder.rmdir()
        pytest.skip(f"FUSE cannot be mounted here: {os.strerror(ctypes.get_errno())}")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fuse", str(device), str(uid)],
        pass_fds=[device],
        stdout=subprocess.PIPE,
    )
    os.close(device)
    try:
        assert server.stdout is not None
        assert server.stdout.readline(), "the file system is not there"
        yield folder
    finally:
        libc.umount2(bytes(folder), _MNT_DETACH)
        server.kill()
        server.communicate()
        folder.rmdir()


def serve(device: int, uid: int) -> None:
    """Answer what the kernel asks about an empty folder, until it is unmounted."""
    attributes = struct.pack("<Q52x4I12x", 1, 0o40700, 2, uid, uid)
    answers = {
        _INIT: struct.pack("<4I2HI", 7, 22, 0, 0, 12, 10, 65536),
        _GETATTR: struct.pack("<QII", 1, 0, 0) + attributes,
        _OPENDIR: struct.pack("<QII", 0, 0, 0),
        _READDIR: b"",
    }
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError:  # unmounted
            return
        _, operation, unique, *_ = _HEADER.unpack_from(request)
        if operation in (_FORGET, _BATCH_FORGET):
            continue
        answer = answers.get(operation)
        error = 0 if answer is not None else -_ENOENT
        body = answer or b""
        with contextlib.suppress(OSError):
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        if operation == _INIT:
            print("mounted", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
