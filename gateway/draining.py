"""How a node ends its service: newcomers are welcome for a while, then refused; who is here is moved away in turn."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import structlog

from gateway.contracts.transport import Transport
from gateway.disconnects import SHUTDOWN, Disconnect
from gateway.timers import TICK

LEAST_RATE: Final = 10.0  # moved away per second at least: three connections are not worth the whole window
CATCH_UP: Final = 0.25  # seconds of turns that are kept when the loop stalled or nobody was ready: no burst after it
ANSWER_SECONDS: Final = 2.0  # for the answers a connection waits for when its turn comes; then it goes without
SLICE: Final = 512  # closed per turn of the loop when there is no time for taking turns
POLL: Final = 0.02  # seconds between two looks at what is still there

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DrainRules:
    """How long each part of a drain takes; in seconds."""

    delay: float = 0.0  # newcomers are still let in: load balancers have not noticed yet
    window: float = 30.0  # over which everybody is moved away; 0: at once
    timeout: float = 30.0  # for the close handshakes after that


class Movable(Protocol):
    """A connection, as its drain sees it."""

    gone: bool

    @property
    def unanswered(self) -> bool:
        """Whether the client waits for the answer to something it has asked for."""

    def read_no_more(self) -> None:
        """Take no more of what the client asks."""

    @property
    def transport(self) -> Transport:
        """Its link."""

    def close(self, disconnect: Disconnect) -> None:
        """End the connection."""


class Pace:
    """Turns per second: `count` of them spread over `window` seconds, but never slower than LEAST_RATE.

    In no second are there more than 1.25 times that, plus one: what was missed is made up for in small part only.
    """

    __slots__ = ("_at", "_most", "rate", "turns")

    def __init__(self, *, count: int, window: float, now: float, phase: float) -> None:
        """Begin at `now`; the first turn comes `phase` of a turn late, 0 to 1, so that nodes do not move in step."""
        self.rate = max(count / window, LEAST_RATE)
        self.turns = -phase  # that may be taken now
        self._most = max(1.0, self.rate * CATCH_UP)
        self._at = now

    def advance(self, now: float) -> None:
        """Let time pass."""
        self.turns = min(self.turns + self.rate * (now - self._at), self._most)
        self._at = now


class Mover:
    """Closes a crowd with 3001, in random order and at a pace. Who comes meanwhile has a turn after all others.

    Shortly before its turn a connection is not read any more, so that by then what it has asked for is answered.
    """

    def __init__(self, crowd: Mapping[Any, Movable], *, window: float, now: float, chance: random.Random) -> None:
        self.moved = 0
        self._crowd = crowd
        self._chance = chance
        self._pace = Pace(count=len(crowd), window=window, now=now, phase=chance.random())
        self._order: list[Movable] = []  # the next one is the last
        self._held: deque[tuple[Movable, float]] = deque()  # and until when they may wait for their answers
        self._hold(now)

    def step(self, now: float) -> bool:
        """Close those whose turn has come; False when nobody is left to be closed. To be called every TICK."""
        self._pace.advance(now)
        self._close(now)
        self._hold(now)
        return bool(self._held)

    def _close(self, now: float) -> None:
        waiting: deque[tuple[Movable, float]] = deque()
        for connection, until in self._held:
            if connection.gone:
                continue
            if self._pace.turns >= 1.0 and (not connection.unanswered or until <= now):
                self._pace.turns -= 1.0
                self.moved += 1
                connection.close(SHUTDOWN)
            else:
                waiting.append((connection, until))
        self._held = waiting

    def _hold(self, now: float) -> None:
        """Choose who is closed at the next step: as many as will have a turn then, beside those without answers."""
        ready = sum(not connection.unanswered for connection, _ in self._held)
        for connection in self._next(int(self._pace.turns + self._pace.rate * TICK) + 1 - ready):
            connection.read_no_more()
            self._held.append((connection, now + ANSWER_SECONDS))

    def _next(self, count: int) -> Iterator[Movable]:
        while count > 0:
            if not self._order and not self._look_again():
                return
            connection = self._order.pop()
            if not connection.gone:
                count -= 1
                yield connection

    def _look_again(self) -> bool:
        held = {id(connection) for connection, _ in self._held}
        self._order = [it for it in self._crowd.values() if not it.gone and id(it) not in held]
        self._chance.shuffle(self._order)
        return bool(self._order)


class Stage(Enum):
    """How far a drain has come."""

    SERVING = "serving"
    WAITING = "waiting"  # not ready any more, and yet open to newcomers
    MOVING = "moving"  # newcomers are refused
    CLOSING = "closing"  # everybody was asked to go
    DRAINED = "drained"


async def _nothing() -> None:
    """Refuse nobody: there is no server of ours in front."""


class Drain:
    """Empties a node, once. Begun by a signal or by a call; whoever else wants it joins.

    `settle` is awaited when the last link is gone. `refuse` is the server's, awaited after the delay: when it returns
    newcomers are turned away.
    """

    def __init__(
        self, crowd: Mapping[Any, Movable], *, rules: DrainRules, settle: Callable[[], Awaitable[None]] = _nothing
    ) -> None:
        self.rules = rules
        self.refuse: Callable[[], Awaitable[None]] = _nothing
        self.stage = Stage.SERVING
        self._crowd = crowd
        self._settle = settle
        self._hurried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether newcomers had better go elsewhere."""
        return self._task is not None

    @property
    def over(self) -> bool:
        """Whether everybody was asked to go: who comes now is sent on at once."""
        return self.stage in (Stage.CLOSING, Stage.DRAINED)

    @property
    def remaining(self) -> int:
        """How many are still to go; 0 while there is no drain."""
        return len(self._crowd) if self.begun else 0

    def begin(self) -> None:
        """Begin, unless it has begun."""
        if self._task is None:
            self.stage = Stage.WAITING
            self._task = asyncio.create_task(self._run(), name="drain")

    def hurry(self) -> None:
        """Take no more turns: close everybody who is left."""
        self._hurried.set()

    async def ended(self) -> bool:
        """Wait for the end of a drain that has begun; False if it failed. Cancelling leaves it running."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        return self.stage is Stage.DRAINED

    async def at_once(self) -> None:
        """Begin and hurry, and wait for the end, whatever comes of it."""
        self.begin()
        self.hurry()
        await self.ended()

    async def progress(self, every: float) -> AsyncIterator[int]:
        """Yield how many are still to go, now and every so many seconds until the drain has ended."""
        while self._task is not None and not self._task.done():
            yield self.remaining
            await asyncio.wait((self._task,), timeout=every)

    async def _run(self) -> None:
        try:
            await self._empty()
        except Exception:  # the root of the drain: the server closes who is left, and the node still ends
            log.exception("node.drain_failed")

    async def _empty(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        log.info("node.draining", connections=len(self._crowd), delay=self.rules.delay, window=self.rules.window)
        await self._pause(self.rules.delay)
        await self.refuse()
        try:
            moved = await self._move()
            await self._gone()
        finally:
            await self._settle()
        self.stage = Stage.DRAINED
        log.info("node.drained", connections=moved, seconds=round(loop.time() - began, 3))

    async def _move(self) -> int:
        self.stage = Stage.MOVING
        moved = 0
        if self.rules.window:
            now = asyncio.get_running_loop().time
            chance = random.Random()  # noqa: S311 - spreads the load, keeps no secret
            mover = Mover(self._crowd, window=self.rules.window, now=now(), chance=chance)
            while not self._hurried.is_set() and mover.step(now()):
                await self._pause(TICK)
            moved = mover.moved
        self.stage = Stage.CLOSING
        left = [it for it in self._crowd.values() if not it.gone]
        random.shuffle(left)
        for index, connection in enumerate(left, 1):
            connection.close(SHUTDOWN)
            if not index % SLICE:
                await asyncio.sleep(0)
        return moved + len(left)

    async def _gone(self) -> None:
        """Wait for the close handshakes; whoever takes too long is cut off."""
        try:
            async with asyncio.timeout(self.rules.timeout):
                while self._crowd:  # noqa: ASYNC110 - a mapping tells nobody, and it is once in a node's life
                    await asyncio.sleep(POLL)
        except TimeoutError:
            log.warning("node.drain_timeout", left=len(self._crowd))
            for connection in tuple(self._crowd.values()):
                connection.transport.abort()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
