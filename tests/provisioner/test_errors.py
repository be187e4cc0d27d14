"""The error of a kernel that did not start."""

from __future__ import annotations

from mooring import ImageError
from mooring_provisioner.errors import LaunchFailed


def test_the_hint_is_a_line_of_its_own_wherever_it_is_shown() -> None:
    """Jupyter Server shows the message of a start as it is, and of a change of kernels its repr."""
    error = LaunchFailed(ImageError("no image a/b:1", "pull it: docker pull a/b:1"))
    text = "no image a/b:1\nhint: pull it: docker pull a/b:1"
    assert error.log_message == text
    assert f"could not be started: {str(error)!r}" == f"could not be started: {text}"
