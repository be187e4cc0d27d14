"""References of images: Docker's grammar, and nothing that would lead elsewhere in a URL."""

from __future__ import annotations

import posixpath
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mooring.spec.references import is_reference

A = "a" * 64


@pytest.mark.parametrize(
    "text",
    [
        "python",
        "python:3.12",
        "library/python:3.12-slim",
        "docker.io/library/python",
        "quay.io/org/name:tag",
        "localhost:5000/a/b:c",
        "Registry.example:443/a",
        "[::1]:5000/a",
        "a.b_c__d-e---f/0",
        f"x@sha256:{A}",
        f"x:1@sha256:{A}",
        f"sha256:{A}",
        "mooring/host:0123456789ab",
        "x:" + "t" * 128,
        "a" * 255,
    ],
)
def test_what_docker_takes(text: str) -> None:
    """Names with a registry, a tag or a digest are references."""
    assert is_reference(text)


HOSTILE = [
    "",
    "..",
    "../x",
    "a/../../containers/json",
    "a/..",
    "a/./b",
    "a/.b",
    "./a",
    "a//b",
    "/a",
    "a/",
    "a?b=c",
    "a#b",
    "a%2e%2e/b",
    "%2e%2e/containers/json",
    "a b",
    " a",
    "a\n",
    "a\0b",
    "A",
    "a/B",
    "Ab/C",
    "a:",
    "a:..",
    "a:" + "t" * 129,
    "a:b/c:d:e",
    "a@sha256:1",
    "a@b",
    "a.",
    "a..b",
    "a___b",
    "-a",
    "--privileged",
    "\uff41",
    "x:\uff11",
    "a" * 256,
    "a/" * 5000 + "a",
    "a" * 10_000,
    "a\\..\\b",
    "a;b",
    "http://a/b",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_docker_does_not_take(text: str) -> None:
    """Odd paths, queries, escapes, spaces, NUL, upper case and lengths are none."""
    assert not is_reference(text)


@given(st.text(max_size=40) | st.text("aA0./:@-_%2e", max_size=40))
@example("a/../b")
def test_a_reference_leads_nowhere_else(text: str) -> None:
    """In the path of a URL, a reference is what it is: nothing of it is removed, or ends it."""
    if is_reference(text):
        path = f"/images/{text}/json"
        assert posixpath.normpath(urllib.parse.urlsplit(path).path) == path
        assert urllib.parse.unquote(path) == path
