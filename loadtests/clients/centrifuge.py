"""One client for a whole run, over as many connections as it takes; it lives as an SDK does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.types import Position
from loadtests.clients.backoff import Backoff
from loadtests.clients.codes import INSUFFICIENT, TEMPORARY, final, reason
from loadtests.clients.conversation import RESUBSCRIBE, Conversation
from loadtests.clients.ground import Ground
from loadtests.clients.link import GONE, HandshakeError
from loadtests.clients.voice import Voice
from loadtests.oracle import Log
from loadtests.scenarios.contract import RefusedError

GRACE: Final = 10.0  # seconds after a ping was due, until a client gives its connection up
GOODBYE: Final = 2.0  # seconds for a connection to end that was closed


class CentrifugeClient:
    """See `scenarios.contract.Client`."""

    def __init__(self, ground: Ground, number: int, channels: Sequence[str], *, slow: bool = False) -> None:
        self.number = number
        self.user = f"load-{ground.run}-{number}"
        self.id = ""
        self.slow = slow
        self._timed = not slow
        self._ground = ground
        self.logs: dict[str, Log] = {it: Log(self.user, it, ground.ledger, timed=not slow) for it in channels}
        self.closes: Counter[int] = Counter()
        self.barred: Counter[str] = Counter()  # what it was refused for good after it had come, by why
        self.member: Callable[[str, str, bool], None] | None = None
        self.refusal = ""  # the newest
        self._wanted: dict[str, None] = dict.fromkeys(channels)
        self._recoverable: set[str] = set()
        self._voice = Voice(ground, number)
        self._talk: Conversation | None = None  # stands from the upgrade to the loss of the link
        self._connected = False
        self._away = True  # by its own will
        self._own_doing = True  # that it lost its connection
        self._lost = 0.0  # when, on the monotonic clock; 0: nothing to come back from
        self._silent = 0
        self._over: RefusedError | None = None  # it was told not to come back
        self._backoff = Backoff(ground.rng)
        self._arriving: asyncio.Task[None] | None = None

    # --- what scenarios ask

    @property
    def connected(self) -> bool:
        """See the contract."""
        return self._connected

    @property
    def standing(self) -> bool:
        """Whether it is where it wants to be: away, or subscribed to everything; or told not to come back."""
        if self._away or self._over is not None:
            return True
        return self._connected and all(self.logs[it].listening for it in self._wanted)

    @property
    def pending(self) -> int:
        """How many answers to publications are still to come."""
        return self._talk.pending if self._talk is not None else 0

    async def open(self) -> None:
        """See the contract. Raises RefusedError: it was told not to come, or may not subscribe."""
        if self._away:
            self._away = False
            self._lost = time.monotonic() if self.id else 0.0
            self._arrive(0.0)
        while self._arriving is not None:
            await asyncio.wait({self._arriving})
        if self._over is not None:
            raise self._over

    async def subscribe(self, channel: str) -> None:
        """See the contract."""
        self._wanted[channel] = None
        await self._subscribe(self._spoken(), channel)

    async def unsubscribe(self, channel: str) -> None:
        """See the contract."""
        self._wanted.pop(channel, None)
        await self._spoken().ask({"unsubscribe": {"channel": channel}})
        self.logs[channel].away(willing=True)

    async def leave(self) -> None:
        """See the contract."""
        self._go()
        if self._talk is None or (link := self._talk.link) is None:
            return
        link.close()
        await asyncio.wait({link.lost}, timeout=GOODBYE)
        link.cut()

    def cut(self, *, stay_away: bool = False) -> None:
        """See the contract."""
        if stay_away:
            self._go()
        self._own_doing = True
        if self._talk is not None and self._talk.link is not None:
            self._talk.link.cut()

    def hurry(self) -> None:
        """See the contract."""
        self.slow = False
        if self._talk is not None and self._talk.link is not None:
            self._talk.link.read(True)

    def publish(self, channel: str, due: int) -> bool:
        """See the contract."""
        if self._talk is None or not self._connected:
            self._voice.swallow(channel, due, willing=self._own_doing)
            return False
        self._voice.say(self._talk, channel, due)
        return True

    async def ask(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """See the contract."""
        reply = await self._spoken().ask(command)
        result: Mapping[str, Any] = reply.get(next(iter(command)), {})
        return result

    # --- what the stage and the conversation ask

    def look(self) -> None:
        """Called once a second: give up a connection that went silent; let a slow client read a little."""
        if self._talk is None or (link := self._talk.link) is None:
            return
        if self.slow:
            link.read(True)
            return
        self._silent = 0 if link.heard else self._silent + 1
        link.heard = False
        if self._talk.ping and self._silent > self._talk.ping + GRACE:
            self._ground.meters.remark(f"connections were given up since no ping came for {self._silent} s")
            link.cut()

    def read_something(self) -> None:
        """A message came: a slow client has read enough for this second."""
        if self.slow and self._connected and self._talk is not None and self._talk.link is not None:
            self._talk.link.read(False)

    def unsubscribed(self, channel: str, code: int) -> None:
        """The server ended a subscription."""
        if (log := self.logs.get(channel)) is None:
            return
        self._ground.meters.refused(str(code))
        if code in RESUBSCRIBE:
            log.told("unsubscribed")
            self._ground.spawn(self._resubscribe(channel))
        else:
            log.away()
            self._give_up(channel, f"unsubscribed with {code}")

    # --- inside

    def _give_up(self, channel: str, why: str) -> None:
        self._wanted.pop(channel, None)
        self.barred[why] += 1

    def _spoken(self) -> Conversation:
        if self._talk is None or not self._connected:
            raise RefusedError(0, "not connected")
        return self._talk

    def _go(self) -> None:
        self._away = self._own_doing = True
        if self._arriving is not None:
            self._arriving.cancel()

    def _arrive(self, wait: float) -> None:
        self._arriving = asyncio.get_running_loop().create_task(self._come(wait))
        self._arriving.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        if current := self._arriving is task:
            self._arriving = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._ground.spawn(_raise(error))
        elif current and self._talk is None and not self._away and self._over is None:
            self._arrive(self._backoff.next())  # it was lost again before this was called

    async def _come(self, wait: float) -> None:
        """Connect and subscribe to everything, and try again until it stands, or is told not to."""
        while True:
            await asyncio.sleep(wait)
            try:
                await self._once()
            except (OSError, HandshakeError, RefusedError) as error:
                wait = self._refused(error)
                if self._over is not None:
                    return
            else:
                return

    async def _once(self) -> None:
        ground, began = self._ground, time.monotonic()
        talk = Conversation(self, ground, timed=self._timed)
        link = await ground.dial.open(
            self.number, told=talk.told, ended=lambda code: self._ended(talk, code), slow=self.slow
        )
        if not link.open:
            raise HandshakeError(0, "hung up after the handshake")
        talk.link, self._talk = link, talk
        try:
            result = await talk.connect(ground.token(self.user, self.number))
            self._stands(str(result.get("client", "")), began)
            if self._wanted:
                await asyncio.gather(*(self._subscribe(talk, channel) for channel in list(self._wanted)))
        except BaseException:
            link.cut()
            raise
        self._complete()

    def _stands(self, ident: str, began: float) -> None:
        self.id, self._connected = ident, True
        self._ground.meters.connected += 1
        self._ground.meters.took("connect", int((time.monotonic() - began) * 1e6))

    def _complete(self) -> None:
        self._backoff.succeeded()
        if self._lost:
            self._ground.meters.took("recover", int((time.monotonic() - self._lost) * 1e6))
        self._lost, self._own_doing = 0.0, False
        self.read_something()

    async def _subscribe(self, talk: Conversation, channel: str) -> None:
        ground = self._ground
        log = self.logs.get(channel)
        if log is None:
            log = self.logs[channel] = Log(self.user, channel, ground.ledger, timed=self._timed)
        known = channel in self._recoverable
        since = log.position if known else None
        held = None if since is None else Position(since.offset, since.epoch)
        late = not self._own_doing
        if await talk.subscribe(channel, log, since=held, recovery=ground.recovery, late=late):
            self._recoverable.add(channel)

    async def _resubscribe(self, channel: str) -> None:
        backoff, talk = Backoff(self._ground.rng), self._talk
        while talk is not None and talk is self._talk and self._connected and channel in self._wanted:
            try:
                await self._subscribe(talk, channel)
            except RefusedError as error:
                self._ground.meters.refused(str(error.code))
                self.refusal = str(error)
                if error.code not in TEMPORARY:
                    self._give_up(channel, self.refusal)
                    return
                await asyncio.sleep(backoff.next())
            else:
                return

    def _refused(self, error: OSError | HandshakeError | RefusedError) -> float:
        """Note why it could not come; returns how long to wait. Sets `_over` where there is no use in trying again."""
        self.refusal = str(error) or type(error).__name__
        self._ground.meters.refused(reason(error))
        self._ground.meters.count("errors")
        if isinstance(error, RefusedError) and error.code not in TEMPORARY:
            self._over = error
            if self.id:
                self.barred[self.refusal] += 1
        return self._backoff.next() + (error.retry_after if isinstance(error, HandshakeError) else 0.0)

    def _ended(self, talk: Conversation, code: int) -> None:
        talk.over()
        if self._talk is not talk:
            return
        self._talk, self._silent = None, 0
        for log in self.logs.values():
            if code == INSUFFICIENT and log.listening:
                log.told("disconnected")
            else:
                log.away(willing=self._own_doing)
        if self._connected:
            self._connected = False
            self._ground.meters.connected -= 1
            self._lost = self._lost or time.monotonic()
        if not self._own_doing or code not in {GONE, 1000}:
            self.closes[code] += 1
            self._ground.meters.closed(code)
        if final(code):
            self._over = RefusedError(code, f"closed with {code}")
        elif not self._away and self._arriving is None:
            self._arrive(self._backoff.next())


async def _raise(error: BaseException) -> None:
    raise error
