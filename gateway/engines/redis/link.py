"""A lasting link to one Redis server: dials, checks, dials again; while it is down every command fails at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

import structlog

from gateway.contracts.recorder import Recorder
from gateway.engines.redis.address import Address
from gateway.engines.redis.greeting import greet, plainly
from gateway.engines.redis.packing import Args
from gateway.engines.redis.wire import Answered, Pushed, Wire
from gateway.errors import EngineFault

Role: TypeAlias = Literal["command", "pubsub"]
Prepare: TypeAlias = Callable[[Wire], Awaitable[None]]
Locate: TypeAlias = Callable[[], Awaitable[Address]]
"""Finds the server to dial. Raises OSError or EngineFault."""

DIAL_TIMEOUT: Final = 3.0  # seconds from the first packet to a link that may be used
BACKOFF: Final = 0.05  # seconds before the second try at most; doubles
BACKOFF_MAX: Final = 1.0
# Seconds before trying again who refuses us: both links together at most one try a second, and both are back before the
# others, who may have been let in at once, have waited out the patience of presence (see lease.py).
REFUSED: Final = (2.0, 2.5)
STEADY: Final = 5.0  # a link that lived so many seconds starts again at the fast end of the backoff

_ELSEWHERE: Final = ("lost", "readonly", "moved")  # refusals of a server that somebody else may have replaced by now
_FINAL: Final = ("WRONGPASS", "NOAUTH", "NOPERM", "ERR")

log = structlog.get_logger(__name__)


class Link:
    """Two per server: one for commands, one for pub/sub. `run` is its life; the owner sees that it runs.

    `locate` is asked for the address at each dial; `name` stands for it in what people read before it is known.

    `prepare` is awaited on each new connection before any other command; it raises EngineFault if the server will not
    do. `came_up` and `went_down` follow. Nothing is ever sent twice: what was in flight when a connection went is
    answered with EngineFault("lost"). A server that leaves a command unanswered is asked nothing more until it answers
    (`answers`): calls fail at once, so that nobody waits for the timeout in vain.
    """

    def __init__(
        self,
        name: str,
        locate: Locate,
        role: Role,
        *,
        clock: Callable[[], float],
        timeout: float,
        recorder: Recorder,
        prepare: Prepare,
    ) -> None:
        self.name = name
        self.role = role
        self._locate = locate
        self._where = name  # host:port of the server that was dialled last
        self.address: Address | None = None  # of that server
        self.pushed: Pushed = lambda _push: None
        self.came_up: Callable[[], None] = lambda: None
        self.went_down: Callable[[str], None] = lambda _why: None
        self.astray: Callable[[], None] = lambda: None  # see Wire
        self.untold: Callable[[EngineFault], bool] = lambda _fault: False
        self._fault = f"redis: connecting to {name}"
        self.built = 0  # connections so far
        self.last_fault = ""  # stays: a link that comes up and is refused again and again is up now and then
        self._clock = clock
        self._timeout = timeout
        self._recorder = recorder
        self._prepare = prepare
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._logged = ""
        self._closing = False
        self._settled = asyncio.Event()  # up, or refused for good

    @property
    def up(self) -> bool:
        """Whether commands are taken."""
        return self._wire is not None

    @property
    def answers(self) -> bool:
        """Whether commands are taken and the server is not known to leave them unanswered."""
        return self._wire is not None and not self._wire.silent

    @property
    def fault(self) -> str:
        """What is wrong, in one line; "" while the link works."""
        if self._wire is not None and self._wire.silent:
            return f"redis: {self._where} does not answer"
        return self._fault

    async def stands(self) -> None:
        """Wait until the link is up. Raises EngineFault if the server refuses us and waiting will not mend it."""
        await self._settled.wait()
        if self._wire is None:
            raise EngineFault("refused", self._fault)

    def call(self, args: Args, done: Answered) -> None:
        """Send a command; `done` gets the reply or an EngineFault, never inside this call."""
        wire = self._wire
        if wire is not None and not wire.congested and not wire.silent:
            wire.call(args, done)
            return
        self._recorder.count("redis_errors", "down")
        why = self.fault or f"redis: {self._where} does not keep up"
        self._loop.call_soon(done, EngineFault("down", why))

    def tell(self, args: Args) -> None:
        """Send a command that is answered by pushes; dropped while the link is down."""
        if self._wire is not None:
            self._wire.tell(args)

    def abort(self, reason: str) -> None:
        """Drop the connection, if there is one; another is dialled at once."""
        if self._wire is not None:
            self._wire.abort(reason)

    def sweep(self, now: float) -> None:
        """Enforce deadlines; call it a few times a second."""
        if self._wire is not None:
            self._wire.sweep(now)
            self._note_silence(self.fault)

    async def run(self) -> None:
        """Keep the link up until cancelled; then close it, answering whatever is in flight."""
        tries = 0
        while True:
            wire, refusal = self._new_wire(), None
            born = self._clock()
            try:
                await self._dial(wire)
                self._up(wire)
                await asyncio.shield(wire.gone)
            except asyncio.CancelledError:
                self._closing = True
                raise
            except (OSError, EngineFault) as error:
                refusal = error if isinstance(error, EngineFault) else None
                self._failed(f"redis: {plainly(error, self._where, DIAL_TIMEOUT)}; retrying")
                if refusal is not None and _final(refusal):
                    self._settled.set()
            finally:
                await wire.close()
            tries = 0 if self._clock() - born > STEADY else tries + 1
            await asyncio.sleep(_pause(tries, refusal))

    # --- inside

    def _new_wire(self) -> Wire:
        def lost(why: str) -> None:
            if self._wire is wire:
                self._wire = None
                self._settled.clear()
                self.went_down(why)
                if self._closing:
                    self._fault = "redis: closed"
                else:
                    self._failed(f"redis: lost {self._where} ({why}); retrying")

        wire = Wire(
            clock=self._clock,
            timeout=self._timeout,
            recorder=self._recorder,
            pushed=self.pushed,
            lost=lost,
        )
        wire.astray, wire.untold = self.astray, self.untold
        return wire

    async def _dial(self, wire: Wire) -> None:
        """Connect, log in, and make sure that this is the server to write to."""
        async with asyncio.timeout(DIAL_TIMEOUT):
            self._where = self.name
            address = await self._locate()
            self.address, self._where = address, str(address)
            await greet(wire, address, self.role)
            if address.db:
                await wire.ask("SELECT", address.db)
            role = await wire.ask("ROLE")
            if role[0] != b"master":
                raise EngineFault("readonly", "is a replica, not the primary")
            await self._prepare(wire)

    def _up(self, wire: Wire) -> None:
        wire.must_stand()  # it may have ended while the last answer was on its way to us
        if self.built:
            self._recorder.count("redis_reconnects", self.role)
        self.built += 1
        self._fault = self._logged = ""
        self._wire = wire
        self._settled.set()
        log.info("redis.link_up", role=self.role, address=self._where)
        self.came_up()

    def _note_silence(self, line: str) -> None:
        """Log when a link that is up stops working, and when it works again."""
        if line != self._logged:
            self._logged = line
            if line:
                log.warning("redis.link_silent", role=self.role, why=line)
            else:
                log.info("redis.link_answers", role=self.role, address=self._where)

    def _failed(self, line: str) -> None:
        """Note a state; logged when it differs from the one before, not once per try."""
        self._fault = self.last_fault = line
        if line != self._logged:
            self._logged = line
            log.warning("redis.link_down", role=self.role, why=line)


def _pause(tries: int, refusal: EngineFault | None) -> float:
    """Return how long to wait before dialling again: with jitter, so that nodes do not come back all at once.

    A server that answers with a refusal is not helped by haste. One that turned out to be a replica is: its primary
    may be elsewhere by now.
    """
    if refusal is not None and refusal.kind not in _ELSEWHERE:
        return random.uniform(*REFUSED)  # noqa: S311 - not a secret
    return random.uniform(0, min(BACKOFF_MAX, BACKOFF * 2 ** min(tries, 10)))  # noqa: S311 - not a secret


def _final(refusal: EngineFault) -> bool:
    """Whether only the operator can mend this: a wrong password, a missing permission or database."""
    return refusal.detail.startswith(_FINAL) and "max number of clients" not in refusal.detail
