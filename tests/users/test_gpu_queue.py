"""The GPU queue's path, taken by a user who may not use the engine."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.users.people import ENGINE_SOCKET, Person, engine_group, open_to_all

pytestmark = pytest.mark.engine

# The machine's own queue is in use by others: these have one below another parent
LOOK = """
import json, sys
from mooring.gpus import place
place.SHARED_FOLDERS = (sys.argv[1],)
from mooring import examine
from mooring.gpus.tickets import open_ticket_queue
print(json.dumps([vars(one) for one in examine() if one.subject == "queue"]))
"""
USE = """
import sys
from mooring.gpus import place
place.SHARED_FOLDERS = (sys.argv[1],)
from mooring import MooringError
from mooring.gpus.claims import Request
from mooring.gpus.tickets import Ticket, open_ticket_queue
try:
    queue = open_ticket_queue("unix://" + sys.argv[2])
    with queue.locked():
        queue.enqueue(Ticket(sys.argv[3], "i", "u", "s", Request(1), 0, 0)).release()
    print("queued")
except MooringError as error:
    print(error.message)
"""


@pytest.fixture
def lock() -> Iterator[Path]:
    """A folder like /run/lock."""
    with open_to_all(0o1777) as folder:
        yield folder


def test_a_strangers_queue_is_named_and_mended(
    alice: Person, bob: Person, carol: Person, lock: Path
) -> None:
    """Carol, who is not in the engine's group, makes the folder first: nobody queues in it, doctor
    names her, and root's command makes one queue for alice and bob, and not for her."""

    def python(user: Person, program: str, *arguments: object) -> str:
        words = [user.wheel.python, "-c", program, *map(str, arguments)]
        return user.run(*words).stdout

    assert python(alice, USE, lock, ENGINE_SOCKET, "0" * 12) == "queued\n"
    (folder,) = lock.iterdir()
    shutil.rmtree(folder)
    carol.run("mkdir", "-m", "777", folder)
    for user in (alice, bob):
        told = python(user, USE, lock, ENGINE_SOCKET, "0" * 12)
        assert f"{folder} belongs to {carol.name} and is not the GPU queue" in told
    (finding,) = json.loads(python(alice, LOOK, lock))
    assert finding["level"] == "problem"
    assert carol.name in finding["text"]
    subprocess.run(["sh", "-c", finding["hint"].removeprefix("as root: ")], check=True)
    status = folder.stat()
    assert (status.st_uid, status.st_gid) == (0, engine_group())
    assert stat.S_IMODE(status.st_mode) == 0o3770
    for number, user in enumerate((alice, bob)):
        assert python(user, USE, lock, ENGINE_SOCKET, f"{number:012x}") == "queued\n"
    assert len(os.listdir(folder)) == 2
    carol.run("ls", folder, check=2)
    carol.run("rmdir", folder, check=1)
    carol.run("mv", folder, f"{folder}-away", check=1)
    (finding,) = json.loads(python(bob, LOOK, lock))
    assert finding["level"] == "ok"
