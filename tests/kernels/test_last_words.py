"""What a dead kernel's clients see in the cell that it was running."""

from __future__ import annotations

from pathlib import Path

import pytest
from jupyter_client.blocking import BlockingKernelClient

from mooring.guest.shared import SharedGuest
from mooring.kernels import last_words
from mooring.kernels.kernel import KernelHandle


@pytest.mark.parametrize("encrypt", [False, True])
def test_every_client_reads_them(run: Path, encrypt: bool) -> None:
    """Clients that were connected connect again; the message is signed with the kernel's key."""
    handle = KernelHandle(SharedGuest(run), "a")
    connection = handle.write_connection(key=b"k", encrypt=encrypt, kernel_name="python3")
    Path(connection.ip).parent.mkdir(parents=True, exist_ok=True)
    clients = [BlockingKernelClient() for _ in range(2)]
    try:
        for client in clients:
            client.load_connection_info(connection.info())
            client.start_channels(shell=False, stdin=False, hb=False, control=False)
        last_words.publish(connection, "m-1", "why \ud800\n")
        for client in clients:
            message = client.get_iopub_msg(timeout=10)
            assert message["parent_header"]["msg_id"] == "m-1"
            assert message["content"] == {"name": "stderr", "text": "why ?\n"}
    finally:
        for client in clients:
            client.stop_channels()
            client.context.destroy(linger=0)


def test_nobody_is_waited_for_long(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without a client dies as one with clients; one without a folder is an OSError."""
    monkeypatch.setattr(last_words, "FIRST_CLIENT_MS", 10)
    handle = KernelHandle(SharedGuest(run), "a")
    connection = handle.write_connection(key=b"k", encrypt=False, kernel_name="python3")
    folder = Path(connection.ip).parent
    folder.mkdir(parents=True, exist_ok=True)
    last_words.publish(connection, "m-1", "why\n")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    with pytest.raises(OSError, match="No such file"):
        last_words.publish(connection, "m-1", "why\n")


@pytest.mark.parametrize(
    ("text", "request_id"),
    [
        ("busy 3           \nabc-1_2     \n", "abc-1_2"),
        ("busy 3           \n            \n", ""),
        ("busy 3           \n", ""),  # of an earlier version
        ("idle 3           \nabc         \n", ""),
        ("busy 3           \n\x1b[2J\n", ""),
        ("busy 3\n" + "x" * 101, ""),
        ("", ""),
    ],
)
def test_a_cell_that_ran_is_known(run: Path, text: str, request_id: str) -> None:
    """Only what can be a message's id counts: the session can write the file."""
    (run / "k" / "a").mkdir()
    (run / "k" / "a" / "busy").write_text(text)
    assert last_words.running_request(SharedGuest(run), "a") == request_id
