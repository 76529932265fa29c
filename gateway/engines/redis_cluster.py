"""`redis+cluster://`: the Redis engine over the primaries of a cluster, with sharded pub/sub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis import RedisEngine, running
from gateway.engines.redis.address import parse_cluster
from gateway.engines.redis.cluster import Cluster


def check(url: str) -> None:
    """Read `engine.url` as `create` would. Raises OperatorError."""
    parse_cluster(url)


@asynccontextmanager
async def create(url: str, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> AsyncIterator[RedisEngine]:
    """Connect to a cluster of which these are some nodes; see `contracts.engine`. Raises OperatorError.

    `redis+cluster://[user:password@]host[:port],host[:port]...`
    """
    layout = Cluster(parse_cluster(url), clock=clock, options=options)
    async with running(layout, sink=sink, clock=clock, options=options) as engine:
        yield engine
