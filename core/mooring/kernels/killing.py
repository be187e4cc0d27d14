"""Kill a kernel's process."""

from __future__ import annotations

import signal
import time

from mooring.kernels.kernel import KernelHandle

# Timeout for the exit of a killed process
KILL_PATIENCE_S = 2.0
KILL_POLL_S = 0.002


def kill_kernel(handle: KernelHandle) -> bool:
    """Send SIGKILL to a kernel and its children and wait until it exits. Idempotent.

    Returns:
        Whether it has exited, within ``KILL_PATIENCE_S``.
    """
    handle.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + KILL_PATIENCE_S
    while handle.poll() is None and time.monotonic() < deadline:
        time.sleep(KILL_POLL_S)
    return handle.poll() is not None
