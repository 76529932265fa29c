"""One process that tells the gateway what it must know, with a clock that a test turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from auth_service.audit import Audit
from auth_service.metrics import Metrics
from auth_service.models import Base, Closure
from auth_service.telling.closures import Closures, Kind
from auth_service.telling.gateways import GatewayFault, Gateways
from tests.support.clock import ManualClock
from tests.support.deadlines import PATIENCE
from tests.support.taker import KEY

LIFE = 660.0  # of an access token, with the leeway
Sessions: TypeAlias = async_sessionmaker[AsyncSession]


@dataclass
class Teller:
    """One process that tells, as far as a test sees it."""

    sessions: Sessions
    gateways: Gateways
    clock: ManualClock
    poll_seconds: float = 3600.0  # of a clock that stands still nothing comes by waiting
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        """Put it together."""
        self.closures = Closures(
            sessions=self.sessions,
            gateways=self.gateways,
            metrics=self.metrics,
            audit=Audit(metrics=self.metrics, clock=self.clock.wall),
            clock=self.clock.wall,
            poll_seconds=self.poll_seconds,
        )

    async def enter(self, value: str, kind: Kind = "sid", *, life: float = LIFE) -> None:
        """Commit a row."""
        async with self.sessions.begin() as session:
            self.closures.enter(session, kind, value, self.clock.wall() + life)

    async def run(self, seconds: float) -> None:
        """Let time go by, and deliver whenever that is due."""
        until = self.clock.monotonic() + seconds
        give_up = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < give_up, "there is always more to tell"
            rest = await self.closures.deliver()
            if rest > 0 and self.clock.monotonic() >= until:
                return
            # Less than a wall clock can show would be asked for again and again.
            self.clock.advance(max(0.001, min(rest, until - self.clock.monotonic())))

    def count(self, result: str) -> float:
        """Return how many had this result."""
        return self.metrics.registry.get_sample_value("auth_closures_total", {"result": result}) or 0.0


class Mute(Gateways):
    """The gateway without a network: up, or not."""

    def __init__(self) -> None:
        super().__init__(["http://gateway"], SecretStr(KEY))
        self.up = True
        self.tries: list[tuple[str, bool]] = []

    async def revoke(self, order: Mapping[str, Any]) -> None:
        """Take an order, or fail."""
        self.tries.append((order["sid"], self.up))
        await asyncio.sleep(0)
        if not self.up:
            raise GatewayFault("down")


async def opened(url: str) -> tuple[AsyncEngine, Sessions]:
    """Open a database with the tables."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return engine, async_sessionmaker(engine, expire_on_commit=False)


async def left(sessions: Sessions) -> int:
    """Return how many rows there are."""
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(Closure)) or 0


def at(*urls: str) -> Gateways:
    """Return the gateway at these URLs, with the right key."""
    return Gateways(urls, SecretStr(KEY))
