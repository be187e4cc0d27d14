"""A policy in force, and the errors that come of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mooring.errors import PolicyError

Plant = Callable[[str], Path]


def refusal(act: Callable[[], Any]) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 1
    return caught.value
