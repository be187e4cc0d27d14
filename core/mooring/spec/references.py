"""References of images, by the grammar that Docker and its registries use."""

from __future__ import annotations

import re

# github.com/distribution/reference: regexp.go and normalize.go. ASCII only: \w and [0-9] are not.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_DOMAIN = rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_ALGORITHM = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*"
_DIGEST = rf"{_ALGORITHM}:[0-9a-fA-F]{{32,}}"
#: A regular expression, also of the JSON Schema, for the whole text of a reference.
PATTERN = rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::{_TAG})?(?:@{_DIGEST})?"
_REFERENCE = re.compile(PATTERN)
_NAME_MAX = 255
_MAX = 512


def is_reference(text: str) -> bool:
    """Whether a text is the reference of an image: ``[domain/]path[:tag][@digest]``.

    The path is lowercase, and none of its components is ``.`` or ``..``: what else is in it, it
    leads nowhere in a URL.
    """
    if len(text) > _MAX or not _REFERENCE.fullmatch(text):
        return False
    name = text.partition("@")[0]
    tag = name.rfind(":")
    return len(name[:tag] if tag > name.rfind("/") else name) <= _NAME_MAX
