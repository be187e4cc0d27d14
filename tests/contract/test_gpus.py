"""GPUs that containers were created with."""

from __future__ import annotations

from typing import Any

from mooring.engines.base import DeviceRequest
from mooring.engines.capabilities import SupportsGpus
from tests.contract.support import GONE, Make


class TestGpus:
    """The engine's own record of who was given which GPU."""

    capability = SupportsGpus

    def test_requests_are_told_of_any_container(self, engine: Any, make: Make) -> None:
        """A container's requests are those that it was created with, running or not."""
        container = make(start=False, gpus=("GPU-0123",))
        assert engine.device_requests(container) == (DeviceRequest(0, ("GPU-0123",)),)

    def test_no_gpus_are_no_requests(self, engine: Any, make: Make) -> None:
        """A container that asked for no GPU, and one that is gone, have no request."""
        assert engine.device_requests(make(start=False)) == ()
        assert engine.device_requests(GONE) == ()
