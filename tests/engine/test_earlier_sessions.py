"""Sessions that an earlier version made, whose clock.sh was also the main process and the exec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.guest import bundle
from mooring.guest.channel import Guest
from mooring.sessions.model import Session, State
from mooring.spec.resolve import resolve
from tests.support.sessions import session_folder
from tests.support.streams import read_all
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine

EARLIER = Path(__file__).parents[1] / "earlier" / "clock.sh"


def earlier_programs(guest: Guest) -> None:
    guest.write("clock.sh", EARLIER.read_text())
    for name in bundle.PROGRAMS:
        if name.endswith(".py"):
            guest.write(name, (resources.files("mooring") / "guest" / name).read_text())


def earlier_main_argv(
    command: Sequence[str] | None, size: tuple[int, int] | None
) -> tuple[str, ...]:
    clock = ("/bin/sh", "/run/mooring/clock.sh")
    if command is None:
        return (*clock, "main")
    if size is not None:
        return (*clock, "main", "--", *clock, "shell", *map(str, size), "--", *command)
    return (*clock, "main", "--", *command)


@pytest.fixture
def create_earlier(
    mooring: Mooring, project: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Session]:
    """Makes a session as that version did."""

    def create(*, tty: bool = False, **flags: object) -> Session:
        with monkeypatch.context() as patch:
            patch.setattr(bundle, "write_programs", earlier_programs)
            patch.setattr(bundle, "main_argv", earlier_main_argv)
            session = mooring.sessions.create(
                resolve(flags=flags), LaunchOptions(name="earlier", tty=tty)
            ).session
        assert not (session_folder(session.id).run / "init.sh").exists()
        return session

    return create


@pytest.mark.parametrize("tty", [False, True])
def test_a_session_of_an_earlier_version_starts_again(
    cli, mooring: Mooring, create_earlier: Callable[..., Session], tty: bool
) -> None:
    """Its container runs the programs that lie in its folder, and the clock of that version."""
    session = create_earlier(command=["sh", "-c", "echo begun; exec sleep 1000"], tty=tty)
    cli("stop", "earlier", check=0)
    cli("start", "earlier", check=0)
    assert mooring.sessions.get("earlier").state is State.RUNNING
    printed = b"".join(mooring.sessions.logs(mooring.sessions.get("earlier")))
    eventually(lambda: session_folder(session.id).clock.status() is not None, timeout=20)
    assert printed.count(b"begun") == 2


def test_a_command_runs_in_a_session_of_an_earlier_version(
    cli, mooring: Mooring, create_earlier: Callable[..., Session]
) -> None:
    """An exec is asked for in that version's words: it is counted, has its code and its size."""
    session = create_earlier(command=["sleep", "1000"])
    assert cli("exec", "earlier", "--", "sh", "-c", "exit 7").returncode == 7
    look = """
        for file in /run/mooring/x/*; do
            read -r pid _ <"$file"
            [ "$pid" != $$ ] || echo counted
        done
    """
    assert cli("exec", "earlier", "--", "sh", "-c", look, check=0).stdout == "counted\n"
    argv = bundle.terminal_argv(session_folder(session.id).guest, (33, 97), ["stty", "size"])
    stream = mooring.engine.exec(session.container, argv, tty=True, stdin=True)
    assert read_all(stream) == b"33 97\r\n"
    stream.close()


def test_a_session_of_an_earlier_version_stops(
    cli, mooring: Mooring, create_earlier: Callable[..., Session]
) -> None:
    """Its own clock ends it, and says why."""
    create_earlier(kernel="python3")
    cli("stop", "earlier", check=0)
    session = mooring.sessions.get("earlier")
    assert (session.state, session.exit_code) == (State.STOPPED, 0)
    end = session_folder(session.id).clock.end()
    assert end is not None
    assert end.reason == "stopped"
    assert end.signals.startswith("kernel=never terminal=never exec=never hold=never cpu=")
