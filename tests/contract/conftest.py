"""The engine suite runs over every engine found on disk; here is how each is reached."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

import gateway.engines
from tests.support.clock import ManualClock
from tests.support.engines import GENEROUS, Node, RealClock, running
from tests.support.rediscluster import RedisCluster, TlsCluster
from tests.support.restricted import Restricted
from tests.support.sentinel import TlsWatched, Watched, made
from tests.support.tlsredis import TlsRedis
from tests.support.valkey import Valkey


class Servers(Protocol):
    """What an engine needs to run."""

    @property
    def url(self) -> str:
        """Return its address as `engine.url`."""

    def start(self) -> None:
        """Start, and wait until it works."""

    def stop(self) -> None:
        """Kill it."""


class Several:
    """Two servers in a row."""

    def __init__(self, folder: Path) -> None:
        self._servers = [Valkey(made(folder / str(n))) for n in range(2)]

    @property
    def url(self) -> str:
        """Return both."""
        return ",".join(server.url for server in self._servers)

    def start(self) -> None:
        """Start both."""
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        """Kill both."""
        for server in self._servers:
            server.stop()


ON_DISK = sorted(module.name for module in pkgutil.iter_modules(gateway.engines.__path__))
ENGINES = [*ON_DISK, "redis_list", "redis_restricted"]
SHARED = [name for name in ENGINES if name != "memory"]  # those that join several nodes
_NEEDS = {name: pytest.mark.needs("redis-tls") for name in ENGINES if name.startswith("rediss")}
_SERVERS: dict[str, Callable[[Path], Servers]] = {
    "redis": Valkey,
    "redis_list": Several,
    "redis_restricted": Restricted,
    "redis_sentinel": partial(Watched, down_after=GENEROUS),  # nobody is to take over
    "redis_cluster": partial(RedisCluster, timeout=5.0),  # or a machine that stands still parts them
    "rediss": TlsRedis,
    "rediss_sentinel": TlsWatched,
    "rediss_cluster": TlsCluster,
}


def parametrised(names: list[str]) -> list[object]:
    """Return the parameters of tests over these engines."""
    return [pytest.param(name, marks=_NEEDS.get(name, ())) for name in names]


@pytest.fixture(scope="session", name="url_of")
def _url_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Return where each engine finds its servers; they start when the first test needs them."""
    started: dict[str, Servers] = {}

    def url_of(engine: str) -> str:
        if engine == "memory":
            return "memory://"
        if engine not in started:
            assert engine in _SERVERS, f"say in {__name__} how to reach engine {engine!r}"
            started[engine] = _SERVERS[engine](tmp_path_factory.mktemp(engine))
            started[engine].start()
        return started[engine].url

    yield url_of
    for servers in started.values():
        servers.stop()


def patient(url: str, **options: Any) -> AbstractAsyncContextManager[Node]:
    """Run an engine that waits for its server as long as a test does: what is promised here has no time limits."""
    return running(url, command_timeout=GENEROUS, subscribe_timeout=GENEROUS, **options)


Start = Callable[[], Awaitable[Node]]


@pytest.fixture(name="engine_prefix")
def _engine_prefix() -> str:
    """Return a prefix that no other test uses, among the names that the user we deploy may touch."""
    return f"gateway.{uuid4().hex}"


@pytest.fixture(name="start", params=parametrised(ENGINES))
async def _start(
    request: pytest.FixtureRequest, url_of: Callable[[str], str], clock: ManualClock, engine_prefix: str
) -> AsyncIterator[Start]:
    """Start one node, ready; the engine's own clock is `clock` where it has no server with a time of its own."""
    url = url_of(request.param)
    async with AsyncExitStack() as stack:

        async def start() -> Node:
            chosen = clock if request.param == "memory" else RealClock()
            return await stack.enter_async_context(patient(url, clock=chosen, prefix=engine_prefix))

        yield start


@pytest.fixture(name="node")
async def _node(start: Start) -> Node:
    return await start()


@pytest.fixture(name="pair", params=parametrised(SHARED))
async def _pair(
    request: pytest.FixtureRequest, url_of: Callable[[str], str], engine_prefix: str
) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes that know each other."""
    url = url_of(request.param)
    async with patient(url, prefix=engine_prefix) as one, patient(url, prefix=engine_prefix) as two:
        yield one, two
