"""The engine suite runs over every engine found on disk; here is how each is reached."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack

import pytest

import gateway.engines
from tests.support.clock import ManualClock
from tests.support.engines import Node, RealClock, running
from tests.support.tlsredis import TlsRedis
from tests.support.valkey import Valkey

ENGINES = sorted(module.name for module in pkgutil.iter_modules(gateway.engines.__path__))
SHARED = [name for name in ENGINES if name != "memory"]  # those that join several nodes
_NEEDS = {"rediss": pytest.mark.needs("redis-tls")}


def parametrised(names: list[str]) -> list[object]:
    """Return the parameters of tests over these engines."""
    return [pytest.param(name, marks=_NEEDS.get(name, ())) for name in names]


@pytest.fixture(scope="session", name="tls_redis")
def _tls_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    server = TlsRedis(tmp_path_factory.mktemp("tls-redis"))
    server.start()
    yield server
    server.stop()


def _url(scheme: str, request: pytest.FixtureRequest) -> str:
    match scheme:
        case "memory":
            return "memory://"
        case "redis":
            server: Valkey = request.getfixturevalue("valkey")
            return server.url
        case "rediss":
            secure: TlsRedis = request.getfixturevalue("tls_redis")
            return secure.url
        case _:
            pytest.fail(f"say in {__name__} how to reach engine {scheme!r}")


Start = Callable[[], Awaitable[Node]]


@pytest.fixture(name="start", params=parametrised(ENGINES))
async def _start(request: pytest.FixtureRequest, clock: ManualClock, engine_prefix: str) -> AsyncIterator[Start]:
    """Start one node, ready; the engine's own clock is `clock` where it has no server with a time of its own."""
    url = _url(request.param, request)
    async with AsyncExitStack() as stack:

        async def start() -> Node:
            chosen = clock if request.param == "memory" else RealClock()
            return await stack.enter_async_context(running(url, clock=chosen, prefix=engine_prefix))

        yield start


@pytest.fixture(name="node")
async def _node(start: Start) -> Node:
    return await start()


@pytest.fixture(name="pair", params=parametrised(SHARED))
async def _pair(request: pytest.FixtureRequest, engine_prefix: str) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes that know each other."""
    url = _url(request.param, request)
    async with running(url, prefix=engine_prefix) as one, running(url, prefix=engine_prefix) as two:
        yield one, two
