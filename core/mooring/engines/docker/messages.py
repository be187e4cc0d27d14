"""What is known by its words in an engine's messages.

Engines have no codes for these. Their versions write the same words in different cases (Docker 28
began its messages in lower case), so each pattern is searched for in any case.
"""

from __future__ import annotations

import re


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


#: A port of this machine, its only group, is in use by another container or program. The third
#: form is Docker 28's, with or without the container's address.
PORT_TAKEN = _words(
    r"(?:\b[\d.]+|\]):(\d+)(?: failed: port is already allocated|: bind: address already in use"
    r"|(?::[^ ]+)?/tcp: address already in use)"
)
UNREADABLE = _words(r"\bl?stat(?:fs)? (/.*?): permission denied")
ABSENT = _words(
    r"bind source path does not exist: (/.*)|\bl?stat(?:fs)? (/.*?): no such file or directory"
)
TOO_MANY_CPUS = _words(r"\brange of CPUs is from [\d.]+ to ([\d.]+)")
NO_GPU_DRIVER = _words(r"could not select device driver")
NO_IMAGE = _words(r"no such image")
IMAGE = _words(r"image")
REMOVAL_GOES_ON = _words(r"already in progress")
NETWORK_GONE = _words(r"\bnetwork \S+ (?:not found|is ambiguous)")
NO_BRIDGE_FILTER = _words(r"br_netfilter")
NO_ADDRESSES = _words(r"address pool")
EXITED = _words(r"Exited \((\d+)\)")
