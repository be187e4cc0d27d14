"""Parse what other programs, sessions included, may have written.

The terminals' keeper imports this, and few modules, so it does not use typing.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_json(content: str | bytes, **options: Any) -> Any:
    """Parse JSON, as `json.loads` does with the same options.

    Raises:
        ValueError: it is not JSON, or is nested too deeply for Python's stack.
    """
    try:
        return json.loads(content, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None
