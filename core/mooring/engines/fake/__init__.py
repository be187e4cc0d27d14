"""In-memory engines for tests.

``mooring.FakeEngine`` builds on them and can run sessions. It simulates programs of ``guest``, so
it is in ``guest/fake_engine.py``: ``engines`` cannot import that room.
"""

from mooring.engines.fake.engine import MemoryEngine
from mooring.engines.fake.minimum import MinimumEngine
from mooring.engines.fake.process import FakeContainer, FakeProcess, FakeStream, Program

__all__ = ["FakeContainer", "FakeProcess", "FakeStream", "MemoryEngine", "MinimumEngine", "Program"]
