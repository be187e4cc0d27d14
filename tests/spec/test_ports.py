"""Ports: how they are written, and what a spec makes of them."""

from __future__ import annotations

from typing import Any

import pytest

from mooring.errors import SpecError
from mooring.spec.model import SessionSpec
from mooring.spec.ports import canonical, pairs, parse
from mooring.spec.resolve import resolve


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (8080, "0:8080"),
        ("8080", "0:8080"),
        (":8080", "0:8080"),
        ("0:8080", "0:8080"),
        ("6006:6006", "6006:6006"),
        ("8080:80/tcp", "8080:80"),
        ("127.0.0.1:6006:80", "6006:80"),
        ("127.0.0.1::80", "0:80"),
    ],
)
def test_a_port_is_written_as_for_docker(given: object, meant: str) -> None:
    """THERE alone is any free port here; an address may be 127.0.0.1."""
    assert canonical(given) == meant
    assert canonical(meant) == meant


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.0.1", "[::]", "[::1]", "localhost", "::"])  # noqa: S104
def test_another_address_is_named(address: str) -> None:
    """The error says which address it was."""
    with pytest.raises(ValueError, match=r"must be on 127\.0\.0\.1") as caught:
        canonical(f"{address}:80:80")
    assert address.strip("[]") in str(caught.value)


@pytest.mark.parametrize(
    "given", ["", "x", "80:", "0", 0, -1, 65536, "65536:1", True, None, 1.5, "1-2", "²", "80 80"]
)
def test_what_is_no_port_is_refused(given: object) -> None:
    """Text, ranges, zero and numbers beyond 65535."""
    with pytest.raises(ValueError, match="must be a port"):
        canonical(given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (80, (None, 80)),
        ("80/tcp", (None, 80)),
        (":80", (0, 80)),
        ("0:80", (0, 80)),
        ("1:2", (1, 2)),
    ],
)
def test_a_port_alone_is_not_any_free_one(given: object, meant: tuple[int | None, int]) -> None:
    """Who reads a port sees whether one of this machine was given: a forward takes the same."""
    assert parse(given) == meant


def test_udp_is_refused_by_name() -> None:
    """The error says that the protocol is the reason."""
    with pytest.raises(ValueError, match="must be a TCP port"):
        canonical("53:53/udp")


def test_a_file_keeps_what_yaml_would_count_to_base_60(tmp_path: Any) -> None:
    """`22:22` without quotes is a port, not 1342."""
    file = tmp_path / "session.yml"
    file.write_text("ports: [22:22, 8080]\n")
    spec = resolve(flags={}, file=file, environ={}, user_config=tmp_path / "none").spec
    assert spec.ports == ("22:22", "0:8080")
    assert pairs(spec.ports) == ((22, 22), (0, 8080))
    assert SessionSpec.from_public_dict(spec.public_dict()) == spec


def test_one_port_twice_is_refused(tmp_path: Any) -> None:
    """Two free ports for one service are fine, one port here for two are not."""
    assert SessionSpec(ports=("80", "80")).ports == ("0:80", "0:80")
    with pytest.raises(SpecError, match="has port 80 of this machine twice"):
        resolve(flags={"ports": ["80:80", "80:81"]}, file=None, environ={})
