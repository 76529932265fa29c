"""Fixtures for every test; those of one folder stand in its own conftest.py."""

from __future__ import annotations

import pytest

from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="recorder")
def _recorder() -> MemoryRecorder:
    return MemoryRecorder()
