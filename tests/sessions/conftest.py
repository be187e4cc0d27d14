"""Unit tests run on the fake engine."""

from tests.support.fake import clock, declare, engine, service
from tests.support.sessions import folder

__all__ = ["clock", "declare", "engine", "folder", "service"]
