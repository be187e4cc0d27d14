"""Unit tests run on the fake engine."""

from __future__ import annotations

import pytest

from mooring import LaunchOptions
from mooring.client import Mooring
from mooring.sessions.model import Session
from tests.support.fake import clock, declare, engine, service
from tests.support.sessions import folder

__all__ = ["clock", "declare", "engine", "folder", "service"]


@pytest.fixture
def session(service: Mooring, declare) -> Session:
    """A running one."""
    return service.sessions.create(declare(command="x"), LaunchOptions(name="train")).session
