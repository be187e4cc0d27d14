"""ps: order, filters, columns."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mooring import Claim, State
from mooring.errors import SpecError
from mooring_cli import columns, ps
from tests.support.cli import clock, plain, session


def test_the_newest_change_comes_first(stage: Any) -> None:
    """ps sorts by the last change of state, not by the creation; other people's too."""
    said = stage.said("mooring ps -q", 80).split()
    assert said == [
        "genome", "sweep-07", "bert-finetune", "data-prep", "vision-lab", "eval-nightly",
        "diffusion-xl", "notes",
    ]  # fmt: skip
    assert stage.said("mooring ps -q -n 2", 80).split() == ["genome", "sweep-07"]
    everybody = stage.said("mooring ps -q --all-users", 80).split()
    assert everybody[2:4] == ["viz", "tutorial"]
    table = plain(stage.said("mooring ps --all-users", 200))
    assert re.search(r"^llama-serve +bob +running +2 +- +- +- +7h ago", table, re.MULTILINE)
    assert table.endswith("1 more: mooring ps --all-users --all\n")


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        ("E" * 12, "E" * 10),
        ("R" * 12, "R" * 12),
        ("E" * 12 + "R" * 3, "E" * 7 + "R" * 3),
        ("RE" * 8, "RE" * 2 + "R" * 6),
        ("PE" * 11, "P" * 11),
        ("REP", "REP"),
    ],
)
def test_what_runs_is_never_hidden(states: str, shown: str) -> None:
    """The first page has all that runs or waits, in order, and others up to ten in all."""
    kinds = {"E": State.STOPPED, "R": State.RUNNING, "P": State.PENDING}
    rows = [session(id=f"{n:012x}", state=kinds[kind]) for n, kind in enumerate(states)]
    page = ps.first_page(rows)
    assert [row.state for row in page] == [kinds[kind] for kind in shown]
    assert [row for row in rows if row in page] == page


def test_filters(stage: Any) -> None:
    """Patterns on JSON fields: any of one key's, all of the keys."""
    for arguments, names in (
        ("--state pending,starting", "genome sweep-07"),
        ("--state stopped", "data-prep eval-nightly"),
        ("--filter name=d*", "data-prep diffusion-xl"),
        ("--filter name=d* --filter name=g*", "genome data-prep diffusion-xl"),
        ("--filter name=d* --filter degraded=?*", "diffusion-xl"),
        ("--filter gpus=0.5", "vision-lab"),
        ("--filter exit_code=3", "eval-nightly"),
        ("--filter active_signals=gpu", "bert-finetune"),
        ("--running --filter image=*pytorch*", "bert-finetune vision-lab diffusion-xl"),
    ):
        assert stage.said(f"mooring ps -q {arguments}", 80).split() == names.split(), arguments


@pytest.mark.parametrize(
    ("said", "message"),
    [("foo=1", "--filter: no field 'foo'"), ("running", "--filter: 'running' is not KEY=VALUE")],
)
def test_a_filter_that_is_none(said: str, message: str) -> None:
    """It is told whether the field or the form is wrong, and which fields there are."""
    with pytest.raises(SpecError) as caught:
        ps.patterns_of([said], [])
    assert caught.value.message == message
    assert caught.value.hint.startswith("choose from: name, id, ")


def test_names_give_way_last(terminal: pytest.MonkeyPatch) -> None:
    """In a narrow terminal a long name is whole as long as another column can be shortened."""
    terminal.setenv("COLUMNS", "80")
    name = "a-name-of-forty-characters-at-the-most-x"
    said = ps.table(
        [session(name, waiting="w" * 90, claims=(Claim("GPU-1"),), clock=clock())],
        columns.DEFAULT_COLUMNS,
    )
    assert name in said
    assert "running" in said
    assert max(map(len, plain(said).splitlines())) <= 80


def test_chosen_columns_are_never_left_out(terminal: pytest.MonkeyPatch) -> None:
    """--format is kept to: columns are shortened, and all of them are there."""
    terminal.setenv("COLUMNS", "60")
    columns = ("name", "image", "activity", "stops_in", "created")
    said = plain(ps.table([session(image="i" * 90, clock=clock())], columns, cut=False))
    assert said.split("\n")[0].split() == ["NAME", "IMAGE", "ACTIVITY", "STOPS", "IN", "CREATED"]
