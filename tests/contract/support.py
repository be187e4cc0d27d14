"""What runs in the containers of contract tests, and how their output is read."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable

from mooring.engines.base import STDERR, STDOUT, Container, ContainerConfig, Engine, Stream
from mooring.engines.fake import FakeProcess
from mooring.images.images import ImageFacts
from tests.support.docker import RUN, this_run
from tests.support.waiting import eventually

DEADLINE_S = 30.0
SIGTERMED, SIGKILLED = 143, 137
GONE = "f" * 64

# What runs, as a real engine runs it, and as Python plays it in the fake one
SLEEP = "echo up; exec sleep 1000"
DEAF = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
EXIT_3 = "echo out; echo err >&2; exit 3"
CAT = "exec cat"
CAT_THEN_7 = "cat; exit 7"
SAY_SIZE = "while read -r line; do stty size; done"
SAY_WHERE = 'echo "$GREETING"; pwd'
LINES = "for n in 1 2 3 4 5; do echo line $n; done"

Make = Callable[..., str]


def declare(name: str, script: str, facts: ImageFacts) -> ContainerConfig:
    """A container of the host image, which runs a script of this module."""
    return ContainerConfig(
        name=name,
        image=facts.reference,
        argv=("/bin/sh", "-c", script),
        user=f"{os.getuid()}:{os.getgid()}",
        env=dict(facts.env),
        labels={RUN: this_run()},
        binds=facts.binds,
        network=False,
    )


def play(process: FakeProcess) -> int:
    script = process.argv[2]
    if script == SLEEP:
        process.write(b"up\n")
        process.terminated.wait(DEADLINE_S)
        return SIGTERMED
    if script == DEAF:
        process.write(b"deaf\n")
        eventually(lambda: process.exit_code is not None, DEADLINE_S)
    if script == EXIT_3:
        process.write(b"out\n")
        process.write(b"err\n", stderr=True)
        return 3
    if script in (CAT, CAT_THEN_7):
        while data := process.stdin.read1(65536):  # type: ignore[attr-defined]
            process.write(data)
        return 7 if script == CAT_THEN_7 else 0
    if script == SAY_SIZE:
        while process.stdin.readline():
            process.write("{} {}\r\n".format(*process.size).encode())
    if script == SAY_WHERE:
        process.write(f"{process.env['GREETING']}\n{process.workdir}\n".encode())
    if script == LINES:
        for number in range(1, 6):
            process.write(f"line {number}\n".encode())
    return 0


def outputs(stream: Stream) -> dict[int, bytes]:
    """All of a process's standard output and error, from now to their end."""
    stream.socket().settimeout(DEADLINE_S)
    printed = {STDOUT: b"", STDERR: b""}
    while pieces := stream.recv():
        for number, piece in pieces:
            printed[number] += piece
    return printed


def first_byte(stream: Stream) -> bytes:
    """Waits until the process prints something; the first piece of that."""
    stream.socket().settimeout(DEADLINE_S)
    return bytes(stream.recv()[0][1])


def code_of(ask: Callable[[], int | None]) -> int:
    """The exit code of a process, as soon as the engine knows it."""
    eventually(lambda: ask() is not None, DEADLINE_S, "the process has not ended")
    code = ask()
    assert code is not None
    return code


def row_of(engine: Engine, container: str) -> Container | None:
    return next((row for row in engine.list({"mooring.contract": ""}) if row.id == container), None)


def logged(engine: Engine, container: str, tail: int | None = None) -> bytes:
    return b"".join(engine.logs(container, tty=False, follow=False, tail=tail))


def await_output(engine: Engine, container: str) -> None:
    """Waits until the main process prints something: then it heeds signals, too."""
    eventually(lambda: logged(engine, container), DEADLINE_S, "it prints nothing")


def root_tar(text: bytes) -> bytes:
    """A root filesystem with one file."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return data.getvalue()
