"""One primary that Sentinel names: asked at each dial, when a sentinel announces a change, and every now and then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions
from gateway.contracts.recorder import Recorder
from gateway.engines.redis.address import Address, Sentinels
from gateway.engines.redis.chores import Chores
from gateway.engines.redis.greeting import greet
from gateway.engines.redis.layout import CONTROL, Layout
from gateway.engines.redis.library import Library
from gateway.engines.redis.partition import Partition
from gateway.engines.redis.server import Server
from gateway.engines.redis.topology import TAGS, names
from gateway.engines.redis.visit import ANSWERED_WITHIN, canvass
from gateway.engines.redis.wire import Wire
from gateway.errors import EngineFault

ASKED_EVERY: Final = 10.0  # seconds, while no sentinel announces anything
LISTENED_AGAIN: Final = 1.0  # seconds after a sentinel was lost
BELIEVED: Final = 60.0  # seconds that the newest word outlasts older ones; sentinels need 2 to agree again
# The first comes when a replica has become the primary. The old one may go on taking writes for 8 s, which it forgets.
ANNOUNCED: Final = ("+promoted-slave", "+switch-master")

log = structlog.get_logger(__name__)


class Finder:
    """Finds the primary of a service."""

    def __init__(self, sentinels: Sentinels, recorder: Recorder, clock: Callable[[], float]) -> None:
        self.sentinels = sentinels
        self.recorder = recorder
        self._clock = clock
        self._newest = (0, "", 0)  # epoch, host and port that were believed last
        self._heard_at = 0.0  # when somebody last named them

    async def find(self) -> Address:
        """Return where the primary is, whether it answers or not. Raises OSError.

        Where sentinels differ, in the middle of a failover or because one was cut off, the highest epoch wins; also
        when who named it is too slow this time.
        """
        words = await canvass(self.sentinels.addresses, self._ask, self.recorder)
        named = Counter(word.answer for word in words if isinstance(word.answer, tuple))
        if not named:
            refusals = [f"{word.source}: {word.answer}" for word in words if word.answer]
            raise OSError("; ".join(refusals) or f"no sentinel knows the service {self.sentinels.service!r}")
        _, host, port = self._settle(max(named, key=lambda it: (it[0], named[it])), answers=len(words))
        return self.sentinels.primary.at(host, port)

    def _settle(self, best: tuple[int, str, int], *, answers: int) -> tuple[int, str, int]:
        """Return what to believe: what is older than before, only if nobody is missing who might know better."""
        now = self._clock()
        missing = answers < len(self.sentinels.addresses)
        if best[0] >= self._newest[0] or not missing or now - self._heard_at >= BELIEVED:
            self._newest, self._heard_at = best, now
        return self._newest

    async def _ask(self, wire: Wire, _sentinel: Address) -> tuple[int, str, int] | str:
        """Return epoch, host and port of the primary; "" if the sentinel has never heard of it, or why it won't say."""
        service = self.sentinels.service
        try:
            place = await wire.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
            if place is None:
                return ""
            facts = await wire.ask("SENTINEL", "MASTER", service)
        except EngineFault as fault:
            return fault.detail
        return int(facts[b"config-epoch"]), place[0].decode(), int(place[1])


class Located(Layout):
    """Everything on the one server that is the primary."""

    def __init__(self, server: Server, finder: Finder, *, clock: Clock, options: EngineOptions) -> None:
        db = finder.sentinels.primary.db
        control = Partition(names(f"{options.prefix}.{CONTROL}", TAGS[0], db), server)
        super().__init__([server], [Partition(names(options.prefix, TAGS[0], db), server)], control)
        self._server = server
        self._finder = finder
        self._clock = clock
        self._announced = asyncio.Event()

    def open(self, chores: Chores) -> None:
        """See the base."""
        super().open(chores)
        chores.start("redis sentinel", self._follow())
        for sentinel in self._finder.sentinels.addresses:
            chores.start(f"redis sentinel {sentinel}", self._listen(sentinel))

    async def _follow(self) -> None:
        """Leave a server that is not the primary any more, though it may answer and take writes."""
        while True:
            try:
                async with asyncio.timeout(ASKED_EVERY):
                    await self._announced.wait()
            except TimeoutError:
                pass
            self._announced.clear()
            try:
                primary = await self._finder.find()
            except OSError as error:
                log.warning("redis.sentinels_silent", why=str(error))
                continue
            for link in self._server.links.values():
                if link.up and link.address != primary:
                    link.abort(f"the primary is {primary} now")

    async def _listen(self, sentinel: Address) -> None:
        """Hear what a sentinel announces. It may be lost in silence: then asking finds out."""
        while True:
            wire = Wire(
                clock=self._clock.monotonic,
                timeout=ANSWERED_WITHIN,
                recorder=self._finder.recorder,
                pushed=self._hear,
                lost=_nothing,
            )
            try:
                async with asyncio.timeout(ANSWERED_WITHIN):
                    await greet(wire, sentinel, "sentinel")
                wire.tell(("SUBSCRIBE", *ANNOUNCED))
                await asyncio.shield(wire.gone)
            except (OSError, EngineFault):
                pass  # asking says what is wrong with it
            finally:
                await wire.close()
            await asyncio.sleep(LISTENED_AGAIN)

    def _hear(self, _push: list[Any]) -> None:
        # Also once it listens: what was announced before was for others.
        self._announced.set()


def located(sentinels: Sentinels, *, clock: Clock, options: EngineOptions) -> Located:
    """Lay everything out on the primary of a service."""
    finder = Finder(sentinels, options.recorder, clock.monotonic)
    server = Server(sentinels.service, finder.find, library=Library(), clock=clock, options=options)
    return Located(server, finder, clock=clock, options=options)


def _nothing(_why: str) -> None:
    """A sentinel that is lost is tried again."""
