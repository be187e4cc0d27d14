"""What is asked for, what is chosen for it, and how it is written on a container."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mooring.gpus.claims import WHOLE, Claim, Request, choose, from_label, to_label
from mooring.gpus.inventory import Gpu

GIB = 2**30


def gpu(number: int, model: str = "NVIDIA A100", gib: int = 40, **more: object) -> Gpu:
    return Gpu(f"GPU-{number}", number, "nvidia", model, gib * GIB, "1", **more)  # type: ignore[arg-type]


FOUR = [gpu(number) for number in range(4)]


def free(*shares: int) -> dict[str, int]:
    return {f"GPU-{number}": share for number, share in enumerate(shares)}


@pytest.mark.parametrize(
    ("values", "request_"),
    [
        ((0,), None),
        ((2,), Request(2)),
        ((2.0,), Request(2)),
        ((0.5,), Request(1, 0.5)),
        ((0.3333,), Request(1, 0.333)),
        ((2, 40 * GIB, "A100"), Request(2, 1.0, 40 * GIB, "A100")),
        ((0.25, 0, ""), Request(1, 0.25)),
    ],
)
def test_requests(values: Any, request_: Request | None) -> None:
    """A request is a number of whole devices, or a share of one, of a kind."""
    assert Request.of(*values) == request_


def test_requests_go_through_a_ticket() -> None:
    """What is written on a ticket is read back as it was."""
    for request in (Request(2, 1.0, 5, "A100"), Request(1, 0.5), Request(1, before=("a", "b"))):
        assert Request.from_dict(request.to_dict()) == request


def test_whole_devices_are_the_first_free_ones() -> None:
    """Whole devices are given in their order, and only those of which nobody has a part."""
    assert choose(Request(2), FOUR, free(1000, 500, 1000, 1000)) == (
        Claim("GPU-0"), Claim("GPU-2"),
    )  # fmt: skip
    assert choose(Request(3), FOUR, free(1000, 500, 0, 1000)) is None


def test_a_share_goes_where_it_leaves_least() -> None:
    """Shares fill one device before they break into another."""
    assert choose(Request(1, 0.25), FOUR, free(1000, 500, 300, 200)) == (Claim("GPU-2", 0.25),)
    assert choose(Request(1, 0.5), FOUR, free(1000, 1000, 300, 200)) == (Claim("GPU-0", 0.5),)
    assert choose(Request(1, 0.5), FOUR, free(400, 300, 0, 499)) is None


def test_kind_of_device() -> None:
    """Model and memory select, whatever the case of the letters."""
    mixed = [gpu(0, "Tesla T4", 15), gpu(1, "NVIDIA A100", 40), gpu(2, "NVIDIA A100", 80)]
    everything = free(1000, 1000, 1000)
    assert choose(Request(1, model="a100"), mixed, everything) == (Claim("GPU-1"),)
    assert choose(Request(1, memory_bytes=60 * GIB), mixed, everything) == (Claim("GPU-2"),)
    assert choose(Request(2, model="T4"), mixed, everything) is None


def test_no_session_gets_two_kinds() -> None:
    """One program does not compute on two makers' devices at once."""
    mixed = [gpu(0), Gpu("GPU-1", 1, "amd", "MI300", GIB, "1"), gpu(2)]
    assert choose(Request(2), mixed, free(1000, 1000, 1000)) == (Claim("GPU-0"), Claim("GPU-2"))
    assert choose(Request(3), mixed, free(1000, 1000, 1000)) is None


def test_instances() -> None:
    """A divided GPU is had by its instances alone: for a share, or by the name of their kind."""
    split = [
        gpu(0, gib=40, split=True),
        Gpu("MIG-a", 0, "nvidia", "NVIDIA A100 MIG 1g.5gb", 5 * GIB, "1", parent="GPU-0"),
        Gpu("MIG-b", 0, "nvidia", "NVIDIA A100 MIG 3g.20gb", 20 * GIB, "1", parent="GPU-0"),
        gpu(1),
    ]
    everything = {"GPU-0": 1000, "MIG-a": 1000, "MIG-b": 1000, "GPU-1": 1000}
    assert choose(Request(2), split, everything) is None
    assert choose(Request(1), split, everything) == (Claim("GPU-1"),)
    assert choose(Request(1, 0.1), split, everything) == (Claim("MIG-a"),)
    assert choose(Request(1, 0.5), split, everything) == (Claim("MIG-b"),)
    assert choose(Request(1, 0.75), split, everything) == (Claim("GPU-1", 0.75),)
    assert choose(Request(1, model="1g.5gb"), split, everything) == (Claim("MIG-a"),)
    assert choose(Request(1, 0.5), split, everything | {"MIG-b": 0, "GPU-1": 0}) is None


def test_the_same_devices_again() -> None:
    """A session that had devices gets those if all are free, and else as many others."""
    again = Request(2).preferring((Claim("GPU-2"), Claim("GPU-1")))
    assert choose(again, FOUR, free(1000, 1000, 1000, 1000)) == (Claim("GPU-1"), Claim("GPU-2"))
    assert choose(again, FOUR, free(1000, 500, 1000, 1000)) == (Claim("GPU-0"), Claim("GPU-2"))
    assert choose(again, FOUR, free(1000, 500, 0, 0)) is None
    half = Request(1, 0.5).preferring((Claim("GPU-3", 0.5),))
    assert choose(half, FOUR, free(1000, 500, 1000, 600)) == (Claim("GPU-3", 0.5),)
    assert choose(half, FOUR, free(1000, 500, 1000, 400)) == (Claim("GPU-1", 0.5),)
    part = Gpu("MIG-a", 0, "nvidia", "A100 MIG 3g.20gb", 20 * GIB, "1", parent="GPU-0")
    split = [gpu(0, split=True), part, gpu(1)]
    had = Request(1, 0.5).preferring((Claim("MIG-a"),))
    assert choose(had, split, {"MIG-a": 1000, "GPU-1": 1000}) == (Claim("MIG-a"),)
    assert choose(had, split, {"MIG-a": 0, "GPU-1": 1000}) == (Claim("GPU-1", 0.5),)


shares = st.sampled_from([1.0, 0.5, 0.25, 0.333, 0.1])


@given(st.lists(st.tuples(st.integers(1, 3), shares), max_size=40), st.integers(1, 8))
def test_never_more_than_there_is(wanted: list[tuple[int, float]], number: int) -> None:
    """However requests come, a device is never given more than once over."""
    gpus = [gpu(one) for one in range(number)]
    left = {one.uuid: WHOLE for one in gpus}
    for count, share in wanted:
        claims = choose(Request(count if share == 1 else 1, share), gpus, left)
        for claim in claims or ():
            left[claim.gpu] -= claim.thousandths
        assert all(0 <= some <= WHOLE for some in left.values())
        if claims:
            assert len({claim.gpu for claim in claims}) == len(claims)


@given(
    st.lists(
        st.builds(Claim, st.from_regex("[A-Za-z0-9-]{1,40}", fullmatch=True), shares), max_size=8
    )
)
def test_labels(claims: list[Claim]) -> None:
    """What is written on a container is read back as it was."""
    assert from_label(to_label(claims)) == tuple(claims)


@pytest.mark.parametrize("text", ["", ",", "a b", "GPU-a:2", "GPU-a:0.5:1", "x" * 200, "GPU-é"])
def test_forged_labels(text: str) -> None:
    """A label of another form claims nothing."""
    assert from_label(text) == ()


def test_requests_are_told_in_words() -> None:
    """What is waited for is said as a person would."""
    assert str(Request(1)) == "1 GPU"
    assert str(Request(2, 1.0, 40 * GIB, "A100")) == (
        "2 GPUs with A100 in the model's name with 40 GiB or more"
    )
    assert str(Request(1, 0.5)) == "0.5 of a GPU"


def test_shares_add_up() -> None:
    """Ten tenths fill a device, and three thirds do, to a thousandth."""
    left = {"GPU-0": WHOLE}
    for _ in range(10):
        claims = choose(Request(1, 0.1), FOUR[:1], left)
        assert claims is not None
        left["GPU-0"] -= claims[0].thousandths
    assert left["GPU-0"] == 0
    assert sum(Claim("a", share).thousandths for share in itertools.repeat(0.333, 3)) == 999
