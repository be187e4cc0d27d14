"""Kill a kernel's process."""

from __future__ import annotations

import signal
import time

from mooring.kernels.kernel import KernelHandle

# Timeout for the exit of a killed process
KILL_PATIENCE_S = 2.0
KILL_POLL_S = 0.002


def kill_kernel(handle: KernelHandle, deadline: float | None = None) -> bool:
    """Send SIGKILL to a kernel and its children and wait until it exits. Idempotent.

    Args:
        handle: the kernel.
        deadline: when to give up, by the monotonic clock; None to wait for the kernel host's
            answer, and then ``KILL_PATIENCE_S`` for the exit.

    Returns:
        Whether it has exited, according to its kernel host.
    """
    if deadline is None:
        handle.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + KILL_PATIENCE_S
    else:
        handle.send_signal(signal.SIGKILL, timeout_s=deadline - time.monotonic())
    while handle.poll() is None and time.monotonic() < deadline:
        time.sleep(KILL_POLL_S)
    return handle.poll() is not None
