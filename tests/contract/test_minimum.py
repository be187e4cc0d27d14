"""What every engine does alike."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable

import pytest

from mooring.engines.base import STDERR, STDOUT, Engine
from mooring.engines.fake import MemoryEngine
from mooring.errors import EngineError, EngineUnavailable, ImageError, SessionTimeout
from mooring.images.host_image import host_image
from tests.contract.conftest import ENGINES
from tests.contract.support import (
    CAT_THEN_7,
    DEADLINE_S,
    DEAF,
    EXIT_3,
    GONE,
    LINES,
    SAY_SIZE,
    SAY_WHERE,
    SIGKILLED,
    SIGTERMED,
    SLEEP,
    Make,
    await_output,
    code_of,
    first_byte,
    logged,
    outputs,
    row_of,
)


@pytest.mark.parametrize("engine", ["minimum", *ENGINES], indirect=True)
class TestMinimum:
    """What every engine does."""

    # Life

    def test_info_names_the_engine(self, engine: Engine) -> None:
        """Who answers is said with a kind and a version."""
        info = engine.info()
        assert info.kind in ("docker", "podman", "fake")
        assert info.version
        assert info.os == "linux"

    def test_created_then_running_then_exited(self, engine: Engine, make: Make) -> None:
        """A container is created, running and exited in turn, in a list and on inspection alike."""
        container = make(EXIT_3, start=False)
        for look in (row_of, lambda e, c: e.inspect(c)):
            assert look(engine, container).state == "created"
            assert look(engine, container).exit_code is None
        engine.start(container)
        assert engine.wait(container, timeout_s=DEADLINE_S) == 3
        for look in (row_of, lambda e, c: e.inspect(c)):
            assert look(engine, container).state == "exited"
            assert look(engine, container).exit_code == 3
        detail = engine.inspect(container)
        assert detail is not None
        # the engine stamps a start after the fact: a short life may end before it
        assert 0 < detail.started_at <= detail.finished_at + 1.0
        assert not detail.oom_killed

    def test_start_is_idempotent(self, engine: Engine, make: Make) -> None:
        """Starting what runs changes nothing."""
        container = make()
        before = engine.inspect(container)
        engine.start(container)
        assert engine.inspect(container) == before

    def test_an_exited_container_starts_again(self, engine: Engine, make: Make) -> None:
        """An exited container can be started again and keeps its id."""
        container = make(SLEEP)
        engine.stop(container, grace_s=5.0)
        engine.start(container)
        assert engine.inspect(container).state == "running"  # type: ignore[union-attr]

    def test_list_needs_every_label(self, engine: Engine, make: Make) -> None:
        """A listing holds the containers with all of the labels, in any state, and no others."""
        mark = secrets.token_hex(4)
        both = make(labels={"one": mark, "two": mark})
        stopped = make(labels={"one": mark, "two": mark}, start=False)
        make(labels={"one": mark}, start=False)
        make(labels={"one": mark, "two": "another"}, start=False)

        found = engine.list({"one": mark, "two": mark})

        assert {row.id for row in found} == {both, stopped}
        assert {row.state for row in found} == {"running", "created"}
        assert found[0].labels["one"] == mark
        assert len(engine.list({"one": mark, "two": ""})) == 3

    def test_list_of_those_that_live(self, engine: Engine, make: Make) -> None:
        """A listing of what is alive holds what has processes, and nothing made or ended."""
        mark = secrets.token_hex(4)
        running = make(labels={"alive": mark})
        make(labels={"alive": mark}, start=False)
        ended = make(EXIT_3, labels={"alive": mark})
        engine.wait(ended, timeout_s=DEADLINE_S)
        assert [row.id for row in engine.list({"alive": mark}, alive=True)] == [running]
        assert running in [row.id for row in engine.list({}, alive=True)]

    def test_list_tells_the_newest_first(self, engine: Engine, make: Make) -> None:
        """A listing holds names without a slash, and the newest container first."""
        mark = secrets.token_hex(4)
        names = [f"order-{mark}-{number}" for number in range(3)]
        for name in names:
            make(name=name, labels={"order": mark}, start=False)
        assert [row.name for row in engine.list({"order": mark})] == names[::-1]

    def test_stop_asks_first(self, engine: Engine, make: Make) -> None:
        """Stopping is SIGTERM to the main process, whose own exit code counts."""
        container = make(SLEEP)
        await_output(engine, container)
        engine.stop(container, grace_s=DEADLINE_S)
        assert engine.inspect(container).exit_code == SIGTERMED  # type: ignore[union-attr]

    def test_stop_kills_what_does_not_listen(self, engine: Engine, make: Make) -> None:
        """A main process that ignores SIGTERM is killed when the grace is over."""
        container = make(DEAF)
        await_output(engine, container)  # its trap is set
        log = engine.logs(container, tty=False, follow=True, tail=None)
        engine.stop(container, grace_s=1.0)
        detail = engine.inspect(container)
        assert detail is not None
        assert (detail.state, detail.exit_code) == ("exited", SIGKILLED)
        assert list(log) == [b"deaf\n"]

    def test_stop_is_idempotent(self, engine: Engine, make: Make) -> None:
        """Stopping what has ended, was never started or is gone is no error."""
        container, never = make(EXIT_3), make(start=False)
        engine.wait(container, timeout_s=DEADLINE_S)
        engine.stop(container, grace_s=1.0)
        assert engine.inspect(container).exit_code == 3  # type: ignore[union-attr]
        engine.stop(never, grace_s=1.0)
        engine.stop(GONE, grace_s=1.0)

    def test_remove_takes_a_running_one_and_is_idempotent(self, engine: Engine, make: Make) -> None:
        """Removing kills first; removing what is gone is no error."""
        container = make()
        engine.remove(container)
        assert row_of(engine, container) is None
        assert engine.inspect(container) is None
        engine.remove(container)

    def test_inspect_of_nothing(self, engine: Engine) -> None:
        """What is gone is None on inspection, not an error."""
        assert engine.inspect(GONE) is None

    @pytest.mark.parametrize(
        "act",
        [
            lambda engine, container: engine.start(container),
            lambda engine, container: engine.wait(container, timeout_s=1.0),
            lambda engine, container: list(
                engine.logs(container, tty=False, follow=False, tail=None)
            ),
            lambda engine, container: engine.exec(container, ["true"]),
        ],
        ids="start wait logs exec".split(),
    )
    def test_nothing_can_be_done_with_nothing(
        self, engine: Engine, act: Callable[[Engine, str], object]
    ) -> None:
        """Acting on a container that is gone is an EngineError, and not an unavailable engine."""
        with pytest.raises(EngineError) as caught:
            act(engine, GONE)
        assert not isinstance(caught.value, EngineUnavailable)

    def test_a_name_is_taken_once(self, engine: Engine, make: Make) -> None:
        """Two containers cannot have one name."""
        name = f"twice-{secrets.token_hex(4)}"
        make(name=name, start=False)
        with pytest.raises(EngineError, match="in use"):
            make(name=name, start=False)

    # Waiting

    @pytest.mark.parametrize("timeout_s", [0, 0.3])
    def test_wait_times_out(self, engine: Engine, make: Make, timeout_s: float) -> None:
        """Waiting longer than asked for is a SessionTimeout, for no time at all too."""
        container = make()
        began = time.monotonic()
        with pytest.raises(SessionTimeout):
            engine.wait(container, timeout_s=timeout_s)
        assert time.monotonic() - began >= timeout_s
        assert engine.inspect(container).state == "running"  # type: ignore[union-attr]

    def test_wait_ends_with_the_container(self, engine: Engine, make: Make) -> None:
        """Who waits without a limit is told the exit code once the container ends."""
        container = make()
        codes: list[int] = []
        waiting = threading.Thread(target=lambda: codes.append(engine.wait(container)))
        waiting.start()
        await_output(engine, container)
        engine.stop(container, grace_s=DEADLINE_S)
        waiting.join(DEADLINE_S)
        assert codes == [SIGTERMED]

    # Processes

    def test_exec_exit_codes(self, engine: Engine, make: Make) -> None:
        """An exec's output, its error stream and its exit code are told apart."""
        container = make()
        stream = engine.exec(container, ["/bin/sh", "-c", EXIT_3])
        assert outputs(stream) == {STDOUT: b"out\n", STDERR: b"err\n"}
        assert code_of(stream.exit_code) == 3
        stream.close()

    def test_exec_reads_to_the_end_of_input(self, engine: Engine, make: Make) -> None:
        """A half-close is an end of file to the process, whose output still comes to the end."""
        container = make()
        stream = engine.exec(container, ["/bin/sh", "-c", CAT_THEN_7], stdin=True)
        sent = os.urandom(300_000)

        def send() -> None:
            stream.socket().sendall(sent)
            stream.close_stdin()

        sending = threading.Thread(target=send)
        sending.start()
        received = outputs(stream)
        sending.join(DEADLINE_S)
        assert received[STDOUT] == sent
        assert code_of(stream.exit_code) == 7
        stream.close()

    def test_exec_environment_and_folder(self, engine: Engine, make: Make) -> None:
        """An exec gets the variables and the working directory that were asked for."""
        container = make()
        stream = engine.exec(
            container, ["/bin/sh", "-c", SAY_WHERE], env={"GREETING": "ahoy"}, workdir="/usr"
        )
        assert outputs(stream)[STDOUT] == b"ahoy\n/usr\n"
        stream.close()

    def test_exec_terminal_has_its_size(self, engine: Engine, make: Make) -> None:
        """A terminal's new size is what the process sees; nonsense sizes are ignored."""
        container = make()
        stream = engine.exec(container, ["/bin/sh", "-c", SAY_SIZE], tty=True, stdin=True)
        stream.socket().settimeout(DEADLINE_S)
        seen = b""
        for rows, columns in ((41, 132), (10, 20)):
            stream.resize(rows, columns)
            stream.resize(0, 0)
            stream.socket().sendall(b"\n")
            wanted, deadline = f"{rows} {columns}".encode(), time.monotonic() + DEADLINE_S
            while wanted not in seen:
                assert time.monotonic() < deadline, seen
                seen += b"".join(piece for _, piece in stream.recv())
        stream.close()

    def test_no_exec_in_what_does_not_run(self, engine: Engine, make: Make) -> None:
        """An exec in a container that does not run is an EngineError."""
        container = make(start=False)
        with pytest.raises(EngineError, match="not running"):
            engine.exec(container, ["true"])

    def test_execs_end_with_their_container(self, engine: Engine, make: Make) -> None:
        """Stopping a container ends its execs and closes their streams."""
        container = make()
        stream = engine.exec(container, ["/bin/sh", "-c", SLEEP])
        assert first_byte(stream) == b"up\n"
        engine.stop(container, grace_s=1.0)
        assert outputs(stream) == {STDOUT: b"", STDERR: b""}
        assert code_of(stream.exit_code) != 0
        stream.close()

    # Output

    def test_logs(self, engine: Engine, make: Make) -> None:
        """The log holds what the main process printed; a tail holds its last lines."""
        container = make(LINES)
        engine.wait(container, timeout_s=DEADLINE_S)
        assert logged(engine, container) == b"".join(b"line %d\n" % n for n in range(1, 6))
        assert logged(engine, container, tail=2) == b"line 4\nline 5\n"

    # Images

    def test_image_id_of_what_is_here(self, engine: Engine, make: Make) -> None:
        """An image that is here has an id, and one that is not has none."""
        assert engine.image_id(host_image(engine).reference)
        assert engine.image_id("mooring.invalid/nothing:here") is None

    def test_missing_image(self, engine: Engine, make: Make) -> None:
        """A container of an image that is not here is an ImageError that names it."""
        with pytest.raises(ImageError, match=r"mooring\.invalid/nothing:here"):
            make(image="mooring.invalid/nothing:here", start=False)

    def test_a_failed_pull_is_an_image_error(self, engine: Engine) -> None:
        """A reference that no registry has is an ImageError that names it, with a hint."""
        with pytest.raises(ImageError, match="nothing:here") as caught:
            list(engine.pull("127.0.0.1:1/nothing:here"))
        assert caught.value.hint

    def test_closing_an_execs_stream_ends_nothing(self, engine: Engine, make: Make) -> None:
        """A process goes on without its client, to its own end."""
        container = make()
        stream = engine.exec(container, ["/bin/sh", "-c", CAT_THEN_7], stdin=True)
        stream.close()
        assert code_of(stream.exit_code) == 7


def test_pull_tells_its_progress() -> None:
    """A pull says how far it is, and then the image is here (real registries are not asked)."""
    engine = MemoryEngine(registry=["python:3.12"])
    steps = list(engine.pull("python:3.12"))
    assert [step.done_bytes for step in steps] == sorted(step.done_bytes for step in steps)
    assert steps[-1].done_bytes == steps[-1].total_bytes > 0
    assert engine.image_id("python:3.12")
