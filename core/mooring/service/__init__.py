"""What all doors call: create, list, start, stop, remove, exec, attach, hold, update, why.

Synchronous and thread-safe. A door that lives in an event loop calls it in a thread.

One class, with a file for each part of what it does: ``sessions``, ``lifecycle``, ``inside`` and
``creating``.
"""

from __future__ import annotations

from mooring.service.creating import Created, Mooring

__all__ = ["Created", "Mooring"]
