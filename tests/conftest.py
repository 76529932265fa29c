"""Fixtures for every test; those of one folder stand in its own conftest.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import uvloop

from tests.support.clock import ManualClock
from tests.support.needs import missing
from tests.support.recorder import MemoryRecorder
from tests.support.valkey import Valkey


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a machine that should have everything say so."""
    parser.addoption("--leave-nothing-out", action="store_true", help="fail what this machine cannot run")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out, and name, what this machine cannot run."""
    for mark in item.iter_markers("needs"):
        why = missing(mark.args[0])
        if why and item.config.getoption("--leave-nothing-out"):
            pytest.fail(why)
        if why:
            pytest.skip(why)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test on the loop that runs in production; its transports differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="recorder")
def _recorder() -> MemoryRecorder:
    return MemoryRecorder()


@pytest.fixture(scope="session", name="valkey")
def _valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Run one server for all tests of this process; a test that stops or stalls it starts its own instead."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="redis_url")
def _redis_url(valkey: Valkey) -> str:
    return valkey.url


@pytest.fixture(name="engine_prefix")
def _engine_prefix() -> str:
    """Return a prefix that no other test uses, so that tests share a server without meeting."""
    return f"test-{uuid4().hex}"
