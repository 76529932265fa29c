"""The engine for one process: nothing to install, the same history, recovery and presence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.memory.broker import MemoryBroker, MemoryHistory
from gateway.engines.memory.control import MemoryControl
from gateway.engines.memory.presence import MemoryPresence
from gateway.engines.memory.streams import Streams
from gateway.errors import OperatorError

SWEEP_EVERY: Final = 5.0  # seconds; what has expired is invisible before, this only frees it

log = structlog.get_logger(__name__)


class MemoryEngine:
    """All state of the one node; see `contracts.engine.Engine`."""

    def __init__(self, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> None:
        self._loop = asyncio.get_running_loop()
        self._streams = Streams(clock.monotonic)
        self.node = options.node
        self.broker = MemoryBroker(self._streams, sink=sink, clock=clock, idempotency_ttl=options.idempotency_ttl)
        self.history = MemoryHistory(self._streams)
        self.presence = MemoryPresence(self.broker, sink=sink)
        self.control = MemoryControl(options.node, sink=sink)
        self._sweep()

    def faults(self) -> Sequence[str]:
        """See the contract: what this engine needs is always there."""
        return ()

    def outages(self) -> Sequence[str]:
        """See the contract: nor does it ever go."""
        return ()

    def close(self) -> None:
        """Stop sweeping."""
        self._timer.cancel()

    def _sweep(self) -> None:
        self._streams.sweep()
        self.broker.sweep()
        self._timer = self._loop.call_later(SWEEP_EVERY, self._sweep)


def check(url: str) -> None:
    """Take `memory://` only. Raises OperatorError."""
    if url.removeprefix("memory:").strip("/"):
        raise OperatorError(f"engine.url: memory:// takes nothing after it, not {url!r}")


@asynccontextmanager
async def create(url: str, *, sink: EngineSink, clock: Clock, options: EngineOptions) -> AsyncIterator[MemoryEngine]:
    """Begin with nothing in store; see `contracts.engine`. Raises OperatorError for anything but `memory://`."""
    check(url)
    log.warning("engine.memory", why="one process only: a second node would be an island; set engine.url to share")
    engine = MemoryEngine(sink=sink, clock=clock, options=options)
    try:
        yield engine
    finally:
        engine.close()
