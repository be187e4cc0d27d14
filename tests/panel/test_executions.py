"""An output is its execution's: the panel never offers an older one for a newer one's cell.

The panel's own module runs in Node; the notebook, its kernel and what becomes of both is played.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MODULE = Path(__file__).parents[2] / "server_extension" / "panel" / "lib" / "executions.js"
DRIVER = """
import { createInterface } from 'node:readline';
const { Executions } = await import(process.argv[1]);
let page = new Executions();
for await (const line of createInterface({ input: process.stdin })) {
  const [method, ...given] = JSON.parse(line);
  if (method === 'reload') {
    page = new Executions();
  }
  const result = method === 'reload' ? null : page[method](...given);
  console.log(JSON.stringify(result instanceof Map ? [...result] : result ?? null));
}
"""
CELLS = ("a", "b", "c")
SOURCES = ("1", "2", "  ")


class Page:
    """What the panel knows, in a process of Node."""

    def __init__(self) -> None:
        self._node = subprocess.Popen(
            ["node", "--input-type=module", "--eval", DRIVER, MODULE.as_uri()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __getattr__(self, method: str) -> Any:
        def call(*given: object) -> Any:
            assert self._node.stdin is not None
            assert self._node.stdout is not None
            self._node.stdin.write(json.dumps([method, *given]) + "\n")
            self._node.stdin.flush()
            return json.loads(self._node.stdout.readline())

        return call

    def end(self) -> None:
        with self._node:
            assert self._node.stdin is not None
            self._node.stdin.close()
        assert self._node.returncode == 0


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    missing = "node" if shutil.which("node") is None else "" if MODULE.exists() else "the panel"
    if missing:
        why = f"{missing} is missing: make panel"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    page = Page()
    yield page
    page.end()


@dataclass
class Execution:
    """One that was requested; ``received``: all of its messages so far reached this page."""

    number: int
    cell_id: str
    code: str
    here: bool
    received: bool

    def recorded(self) -> dict[str, str]:
        return {"msg_id": str(self.number), "cell_id": self.cell_id, "code": self.code}


@dataclass
class World:
    """A notebook in a page, and its kernel."""

    page: Page
    source: dict[str, str] = field(default_factory=lambda: dict.fromkeys(CELLS, "1"))
    shown: dict[str, Execution | None] = field(default_factory=lambda: dict.fromkeys(CELLS))
    saved: dict[str, Execution | None] = field(default_factory=lambda: dict.fromkeys(CELLS))
    asked: dict[str, Execution] = field(default_factory=dict)  # by this page, since it was loaded
    queue: list[Execution] = field(default_factory=list)
    recorded: list[Execution] = field(default_factory=list)
    running: Execution | None = None
    connected: bool = True
    count: int = 0

    def request(self, cell_id: str, code: str, here: bool) -> Execution:
        self.count += 1
        made = Execution(self.count, cell_id, code, here, here and self.connected)
        self.queue.append(made)
        return made

    # what may happen

    def run_here(self, cell: str) -> None:
        if cell in self.source:
            made = self.asked[cell] = self.request(cell, self.source[cell], True)
            self.shown[cell] = None  # cleared
            self.page.requested(str(made.number), cell)
            if not self.connected:
                self.page.disconnected()  # it is sent later, or never

    def run_elsewhere(self, cell: str) -> None:
        self.request(cell, self.source.get(cell, "1"), False)

    def run_without_a_cell(self, cell: str) -> None:
        self.request("", self.source.get(cell, "1"), False)

    def begin(self, _: str) -> None:
        if self.queue and self.running is None:
            self.running = self.queue.pop(0)
            self.recorded.append(self.running)
            self.receive(self.running)

    def receive(self, one: Execution) -> None:
        """What this page is sent of an execution of its own is in its cell."""
        if one.here and self.connected and self.asked.get(one.cell_id) is one:
            self.shown[one.cell_id] = one

    def finish(self, _: str) -> None:
        if self.running is not None:
            self.receive(self.running)
            if self.connected:
                self.page.finished(str(self.running.number))
            self.running = None

    def restart(self, _: str) -> None:
        self.running, self.queue = None, []

    def disconnect(self, _: str) -> None:
        self.connected = False
        self.page.disconnected()
        for one in (*self.queue, *filter(None, [self.running])):
            one.received = False

    def reconnect(self, _: str) -> None:
        self.connected = True

    def edit(self, cell: str) -> None:
        if cell in self.source:
            self.source[cell] = SOURCES[(SOURCES.index(self.source[cell]) + 1) % len(SOURCES)]

    def delete(self, cell: str) -> None:
        self.source.pop(cell, None)

    def save(self, _: str) -> None:
        self.saved = dict(self.shown)

    def reload(self, _: str) -> None:
        self.page.reload()
        self.shown, self.asked, self.connected = dict(self.saved), {}, True
        for one in (*self.queue, *self.recorded):
            one.received = False

    def apply(self, _: str) -> None:
        for cell, one in self.missed().items():
            self.shown[cell] = one

    # what the panel says

    def missed(self) -> dict[str, Execution]:
        cells = [{"id": cell, "source": source} for cell, source in self.source.items()]
        found = self.page.missed(cells, [one.recorded() for one in self.recorded])
        by_number = {str(one.number): one for one in self.recorded}
        return {cell: by_number[execution["msg_id"]] for cell, execution in found}

    def check(self) -> None:
        missed = self.missed()
        for cell, one in missed.items():
            shown, asked = self.shown[cell], self.asked.get(cell)
            assert shown is None or one.number >= shown.number, "older than what is shown"
            assert asked is None or one.number >= asked.number, "older than what was asked for"
            same = [each for each in self.source if self.source[each].strip() == one.code.strip()]
            assert one.cell_id == cell or (not one.cell_id and same == [cell]), "of another cell"
        for cell in self.source:
            of_it = [one for one in self.recorded if one.cell_id == cell and one.code.strip()]
            newest = of_it[-1] if of_it else None
            asked = self.asked.get(cell)
            if newest and not newest.received and (asked is None or asked in self.recorded):
                assert missed.get(cell, newest).number >= newest.number
                assert cell in missed, "what was missed is not offered"


ACTIONS = tuple(
    "run_here run_elsewhere run_without_a_cell begin begin finish finish restart disconnect "
    "reconnect edit delete save reload apply".split()
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(CELLS)), max_size=40))
def test_no_output_is_offered_over_a_newer_one(page: Page, steps: list[tuple[str, str]]) -> None:
    """Whatever is run, restarted, reloaded, edited and missed, here and elsewhere."""
    page.reload()
    world = World(page)
    for action, cell in steps:
        getattr(world, action)(cell)
        world.check()


def test_a_restart_and_a_new_run(page: Page) -> None:
    """While a cell's new execution is on its way, the one before the restart is not offered."""
    page.reload()
    world = World(page)
    for action in "run_here begin finish restart disconnect reconnect run_here".split():
        getattr(world, action)("a")
        assert world.missed() == {}
    world.begin("a")
    assert world.missed() == {}


def test_two_cells_of_the_same_code(page: Page) -> None:
    """A client that names no cell could mean either."""
    page.reload()
    world = World(page, source={"a": "1", "b": "1"})
    world.run_without_a_cell("a")
    world.begin("a")
    assert world.missed() == {}
    world.edit("b")
    assert list(world.missed()) == ["a"]
