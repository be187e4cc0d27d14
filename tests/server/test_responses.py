"""The bodies of errors."""

from __future__ import annotations

import pytest
from tornado.web import HTTPError

from mooring_server_extension.responses import error_body


@pytest.mark.parametrize(
    "error",
    [HTTPError(500, "41% of x, 5%"), HTTPError(500, "%d%% of %s", 41, "x, 5%")],
    ids=["plain", "arguments"],
)
def test_a_percent_sign_is_said_once(error: HTTPError) -> None:
    """Tornado doubles it in a message without arguments."""
    assert error_body(error, 500, signed_in=True)["message"] == "41% of x, 5%"


def test_a_message_that_is_no_format_is_said_as_it_is() -> None:
    """A failure to tell of a failure would tell nothing."""
    error = HTTPError(500, "41% of x\nhint: wait 5%", "unused")
    reply = error_body(error, 500, signed_in=True)
    assert (reply["message"], reply["hint"]) == ("41% of x", "wait 5%")
