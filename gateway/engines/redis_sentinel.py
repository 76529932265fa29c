"""`redis+sentinel://`: the Redis engine on whatever server Sentinel names as the primary."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis import RedisEngine, running
from gateway.engines.redis.address import parse_sentinel
from gateway.engines.redis.sentinel import located


def check(url: str) -> None:
    """Read `engine.url` as `create` would. Raises OperatorError."""
    parse_sentinel(url)


@asynccontextmanager
async def create(url: str, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> AsyncIterator[RedisEngine]:
    """Connect to the primary of a service; see `contracts.engine`. Raises OperatorError.

    `redis+sentinel://[user:password@]host[:port],host[:port].../service[/db]`, with `sentinel_username` and
    `sentinel_password` as options.
    """
    layout = located(parse_sentinel(url), clock=clock, options=options)
    async with running(layout, sink=sink, clock=clock, options=options) as engine:
        yield engine
