"""The life of one client of a crowd: connect, stay, lose the link, back off with full jitter, recover."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from loadtests.oracle import Ledger, Log
from tests.support.crowd_client import Link, RefusedError
from tests.support.crowd_records import Close, Records, Refusal, Return

BACKOFF: Final = 0.5  # seconds; doubles with each try
STEADY: Final = 30.0  # connected for so long: the back-off begins anew
HANDSHAKE_SECONDS: Final = 10.0
PER_ADDRESS: Final = 150  # connections; nodes refuse an address beyond 200
STAY, AWAY = (1.0, 4.0), (0.1, 1.0)  # seconds; how those that churn spend their time
SETTLING: Final = 1.0  # seconds away at most when the run is over
NO_TCP, NO_ANSWER = 0, 1  # where a refusal has no status


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a crowd is and does; times in seconds. Every channel is `<namespace>:<n>`."""

    clients: int = 120
    ramp: float = 500.0  # first connections a second
    channels: int = 12
    publishes: float = 40.0  # a second, over all channels
    churn: float = 0.05  # share of the clients that come and go all the time
    stay: tuple[float, float] = STAY  # between which lies how long they stay each time
    channels_each: int = 1
    namespace: str = "load"
    cap: float = 30.0  # of the back-off between two tries to connect
    retry: bool = False  # publishers repeat what was not acknowledged, with an idempotency key
    by_command: bool = False  # publish as clients do, not through the server API
    publish_timeout: float = 5.0
    ping_delay: float = 10.0  # a client gives up so long after a ping was due
    padding: int = 0  # bytes more in each message
    token_seconds: int = 3600  # until a client's token expires


SMALL: Final = Load()
STANDARD: Final = Load(clients=1000, channels=100, publishes=200.0)


class Home(Protocol):
    """What a client asks of its crowd."""

    load: Load
    ledger: Ledger
    records: Records
    settling: asyncio.Future[None]  # done: everybody shall come and stay

    def new_link(self, client: Client) -> Link:
        """Return a link to a random node, not yet opened."""


class Client:
    """One client for the whole run, over many links; `link` is the one that stands, if one does."""

    def __init__(self, crowd: Home, number: int, channels: Sequence[str]) -> None:
        self.name = f"client-{number}"
        self.nodes: Sequence[str] = ()  # where it connects; empty: where all do
        self.make_socket: Callable[[], socket.socket] = partial(_bound, f"127.0.0.{2 + number // PER_ADDRESS}")
        self.logs: Mapping[str, Log] = {it: Log(self.name, it, crowd.ledger) for it in channels}
        self.link: Link | None = None
        self.over = ""  # why it will not come back
        self.churns = False
        self.on_leave = False  # away, by its own will
        self._crowd = crowd
        self._lost = 0.0
        self._tries = 0

    @property
    def ready(self) -> bool:
        """Connected, and subscribed to everything."""
        return self.link is not None and all(log.listening for log in self.logs.values())

    async def live(self, delay: float) -> None:
        """Connect, stay, come back; until cancelled, or told not to come back."""
        await asyncio.sleep(delay)
        while not self.over:
            await self._rest(await self._once())
            self.on_leave = False

    def look(self, now: float, ping_delay: float) -> None:
        """Give up on a link that went silent, and note a return that is complete."""
        link = self.link
        if link is not None and link.ping and now - link.heard > link.ping + ping_delay:
            link.cut()
        if self._lost and self.ready:
            self._crowd.records.returns.append(Return(self._lost, now))
            self._lost = 0.0

    # --- inside

    async def _rest(self, wait: float) -> None:
        """Stay away for so long, or, once the run settles, for a second: how long is no question any more."""
        settling = self._crowd.settling
        if not settling.done():
            await asyncio.wait({settling}, timeout=wait)
        if settling.done():
            await asyncio.sleep(min(wait, SETTLING))

    async def _once(self) -> float:
        """Live through one connection; return the seconds to wait before the next."""
        crowd = self._crowd
        link, started = crowd.new_link(self), time.monotonic()
        try:
            await link.open(self.make_socket(), HANDSHAKE_SECONDS)
        except (OSError, RefusedError) as error:
            link.cut()
            crowd.records.refusals.append(Refusal(time.monotonic(), _status(error), link.node))
            return self._back_off() + (error.retry_after if isinstance(error, RefusedError) else 0.0)
        opened = time.monotonic()
        crowd.records.handshakes.append((opened, opened - started))
        self.link = link
        try:
            left = await self._stay(link)
        finally:
            self.link = None
            link.cut()
        if left:
            self.on_leave = True
            return random.uniform(*AWAY)
        return self._cut_off(link, time.monotonic() - opened)

    async def _stay(self, link: Link) -> bool:
        """Wait for the end of a link; return whether it was the client who left."""
        while self.churns and not link.lost.done():
            await asyncio.wait({link.lost}, timeout=random.uniform(*self._crowd.load.stay))
            if self._may_go() and not link.lost.done():
                link.leave()
                await link.lost
                return True
        await link.lost
        return False

    def _may_go(self) -> bool:
        return self.churns and self.ready

    def _cut_off(self, link: Link, stood: float) -> float:
        now = time.monotonic()
        self._lost = self._lost or now
        self._crowd.records.closes.append(Close(now, link.closed, link.node))
        if 3500 <= link.closed < 4000 or 4500 <= link.closed < 5000:
            self.over = f"{self.name} was told not to come back: {link.closed}"
            self._crowd.records.failures.append(self.over)
        if stood > STEADY:
            self._tries = 0
        return self._back_off()

    def _back_off(self) -> float:
        """Full jitter, as the official SDKs do it."""
        most = min(self._crowd.load.cap, BACKOFF * 2.0**self._tries)
        self._tries += 1
        return random.uniform(0, most)


def _bound(address: str) -> socket.socket:
    """Make a socket with an address of this machine."""
    made = socket.socket()
    made.setblocking(False)
    made.bind((address, 0))
    return made


def _status(error: OSError | RefusedError) -> int:
    if isinstance(error, RefusedError):
        return error.status
    return NO_ANSWER if isinstance(error, TimeoutError) else NO_TCP
