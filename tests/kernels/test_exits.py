"""Why a kernel's process ended, in words for users."""

from __future__ import annotations

import pytest

from mooring.kernels.exits import parse_exit

MIB = 1 << 20
FULL = f'{{"code": -7, "oom": false, "shm": [{64 * MIB}, {63 * MIB}]}}'
FREE = f'{{"code": -7, "oom": false, "shm": [{2048 * MIB}, 0]}}'

UNSURE = "killed by SIGBUS: a file in memory was cut short, or /dev/shm was full (limit 2 GiB)"


@pytest.mark.parametrize(
    ("text", "told", "key"),
    [
        ('{"code": 3, "oom": false}', "exit code 3", ""),
        ('{"code": -11, "oom": false}', "killed by SIGSEGV", ""),
        ('{"code": -63, "oom": false}', "killed by signal 63", ""),
        ('{"code": -9, "oom": true}', "out of memory (limit 1 GiB)", "--memory"),
        (FULL, "killed by SIGBUS: /dev/shm is full (limit 64 MiB)", "--shm"),
        (FREE, UNSURE, "--shm"),
        ('{"code": -7, "oom": false}', "killed by SIGBUS", ""),
        ('{"code": -7, "shm": [1, 2, 3]}', "killed by SIGBUS", ""),
        ('{"code": -7, "shm": [-1, 1e999]}', "killed by SIGBUS", ""),
    ],
)
def test_each_death_has_its_words(text: str, told: str, key: str) -> None:
    """Where something can be done about it, the hint names the key; pytorch#5040 is about SIGBUS,
    which by itself says nothing."""
    exited = parse_exit(text)
    assert exited.describe("1 GiB") == told
    assert key in exited.hint()
    assert bool(key) == bool(exited.hint())
