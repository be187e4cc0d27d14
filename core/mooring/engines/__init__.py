"""Container engines: a minimal protocol that every engine implements, and optional capabilities."""

from mooring.engines.targets import (
    local_address,
    local_socket_names,
    local_sockets,
    open_engine,
)

__all__ = ["local_address", "local_socket_names", "local_sockets", "open_engine"]
