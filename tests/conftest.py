"""Fixtures for every test; those of one folder stand in its own conftest.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import hypothesis
import pytest
import structlog

from tests.support.clock import ManualClock
from tests.support.exactness import be_exact
from tests.support.hanging import Loops
from tests.support.needs import missing
from tests.support.recorder import MemoryRecorder
from tests.support.secrecy import Guard
from tests.support.valkey import Valkey

LOOPS: pytest.StashKey[Loops] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a machine that should have everything say so, and one with time take the long sizes."""
    parser.addoption("--leave-nothing-out", action="store_true", help="fail what this machine cannot run")
    parser.addoption("--standard-load", action="store_true", help="1,000 clients in fault tests, and exact times")


def pytest_configure(config: pytest.Config) -> None:
    """Let no test put a secret into a log; traces without what variables held, as the programs write them.

    An example that a busy machine takes long for says nothing of the code: Hypothesis judges no times.
    """
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("untimed")
    config.pluginmanager.register(Guard(config), "secrecy")
    loops = Loops(float(config.getini("faulthandler_timeout") or 0))
    config.stash[LOOPS] = loops
    config.add_cleanup(loops.close)
    be_exact(bool(config.getoption("--standard-load")))
    *usual, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*usual, plain])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out, and name, what this machine cannot run."""
    for mark in item.iter_markers("needs"):
        why = missing(mark.args[0])
        if why and item.config.getoption("--leave-nothing-out"):
            pytest.fail(why)
        if why:
            pytest.skip(why)


def pytest_asyncio_loop_factories(config: pytest.Config) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test on the loop that runs in production."""
    return {"uvloop": config.stash[LOOPS].new}


@pytest.fixture(scope="session", autouse=True)
def _no_secret_in_logs(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> None:
    guard = pytestconfig.pluginmanager.get_plugin("secrecy")
    assert isinstance(guard, Guard)
    guard.watch(tmp_path_factory.getbasetemp())


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
