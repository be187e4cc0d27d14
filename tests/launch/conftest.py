"""Unit tests run on the fake engine."""

from tests.support.fake import clock, declare, engine, service

__all__ = ["clock", "declare", "engine", "service"]
