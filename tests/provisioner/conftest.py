"""Mooring on the fake engine, as the unit tests have it."""

from __future__ import annotations

from tests.support.fake import clock, declare, engine, service

__all__ = ["clock", "declare", "engine", "service"]
